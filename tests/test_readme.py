from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from aflamingock.cli import main
from tests.asgi.protocol import get, served

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (?P<path>[\w/]+\.py)\n")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to write a page's files to, and to run its code in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in {path.name for path in tmp_path.iterdir()}:
            del sys.modules[name]


def blocks(page: Path, language: str) -> list[tuple[str, int]]:
    """Return the code of a page's blocks, each with the line that it begins on."""
    text = page.read_text("utf-8")
    return [
        (found["code"], text.count("\n", 0, found.start("code")))
        for found in BLOCK.finditer(text)
        if found["language"] == language
    ]


def write_files(page: Path, project: Path) -> None:
    """Write all blocks that begin with a file's name."""
    for code, _ in blocks(page, "python"):
        write_file(code, project)


def write_file(code: str, project: Path) -> bool:
    """Write a block if it begins with a file's name, and say whether it does."""
    named = FILE.match(code)
    if named is None:
        return False

    path = project / named["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code, "utf-8")
    compile(code, str(path), "exec")
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_python_runs(page: Path, project: Path) -> None:
    namespace: dict[str, object] = {"__name__": page.stem}
    for code, line in blocks(page, "python"):
        if not write_file(code, project):
            exec(compile("\n" * line + code, str(page), "exec"), namespace)

    for written in project.rglob("test_*.py"):
        run_pytest(written, project)


def run_pytest(file: Path, project: Path) -> None:
    """Run a page's own tests, away from the settings of this project."""
    command = ["-m", "pytest", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", "-q"]
    run = subprocess.run(
        [sys.executable, *command, f"--rootdir={project}", str(file)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_commands_of_the_readme_run(project: Path) -> None:
    page = ROOT / "README.md"
    write_files(page, project)
    lines = [line for code, _ in blocks(page, "sh") for line in code.splitlines()]
    commands = [line.split() for line in lines if line.startswith("aflamingock ")]
    assert commands
    for _, *arguments in commands:
        run = subprocess.run(
            [sys.executable, "-m", "aflamingock", *arguments],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{arguments}: {run.stdout}{run.stderr}"


async def test_the_asgi_application_of_the_readme_serves(project: Path) -> None:
    write_files(ROOT / "README.md", project)
    app = import_module("shop.main").app

    async with served(app) as server:
        assert server.answer == "lifespan.startup.complete"
        assert (await get(app, "/readyz", state=dict(server.state)))[0] == 200


def failing_change(project: Path, number: int) -> None:
    """Write a change that fails while there is a file ``broken``, and then needs a person."""
    text = (
        "from pathlib import Path\nfrom aflamingock import change\n\n\n"
        f'@change(id="c{number}", author="tests")\nclass Change:\n'
        "    def execute(self):\n        assert not Path('broken').exists()\n\n"
        "    def rollback(self):\n        assert not Path('broken').exists()\n"
    )
    (project / "changes" / f"_000{number}__c.py").write_text(text, "utf-8")


def test_the_commands_of_the_guide_for_operators_do_what_it_says(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "changes").mkdir()
    failing_change(project, 1)
    (project / "pyproject.toml").write_text('[tool.aflamingock]\nchanges = "changes"\n', "utf-8")
    lines = [
        line
        for code, _ in blocks(ROOT / "docs" / "operations.md", "sh")
        for line in code.splitlines()
    ]
    for line in lines:
        if line.startswith("export "):
            monkeypatch.setenv(*line.removeprefix("export ").split("="))
            assert main(["audit", "verify-schema"]) == 3
            assert main(["apply"]) == 0
        elif line.startswith("aflamingock audit fix"):
            number = len(list((project / "changes").glob("*.py"))) + 1
            failing_change(project, number)
            (project / "broken").touch()
            assert main(["apply"]) == 1
            (project / "broken").unlink()
            assert main(shlex.split(line.replace("CHANGE", f"c{number}"))[1:]) == 0
            assert main(["apply"]) == 0
        else:
            assert main(shlex.split(line)[1:]) == 0, line

    assert capsys.readouterr().out.count("ROLLED_BACK") >= 3
    assert main(["validate"]) == 0


@pytest.mark.parametrize("session", ["quickstart", "tests"])
def test_the_readme_has_the_commands_that_set_everything_up(session: str) -> None:
    lines = [line for code, _ in blocks(ROOT / "README.md", "sh") for line in code.splitlines()]

    assert f"python3 -m pip install nox && python3 -m nox -s {session}" in lines
    assert f"def {session}(" in (ROOT / "noxfile.py").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_command_line_exists_with_its_options(page: Path) -> None:
    lines = [line for code, _ in blocks(page, "sh") for line in code.splitlines()]
    for _, *arguments in (shlex.split(line) for line in lines if line.startswith("aflamingock ")):
        assert main([*arguments, "--help"]) == 0, arguments
