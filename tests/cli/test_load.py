from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import STORE, Project


@pytest.mark.parametrize(
    "text",
    [
        "flamingock = made()",
        "def flamingock(): return made()",
        "async def flamingock(): return made()",
        "class shop: flamingock = made()\nflamingock = lambda: shop.flamingock",
    ],
)
def test_an_app_is_a_flamingock_or_what_returns_one(project: Project, text: str) -> None:
    project.write(1, "create-users")
    app = project.write_app(text)

    assert project.call("apply", options=["--app", app]).code == 0
    assert project.effects == ["create-users"]


def test_an_app_may_be_opened_and_closed_around_a_command(project: Project) -> None:
    project.write(1, "create-users")
    app = project.write_app(
        "from contextlib import asynccontextmanager\nfrom pathlib import Path\n"
        "@asynccontextmanager\nasync def flamingock():\n"
        "    try: yield made()\n"
        "    finally: Path(__file__).with_name('closed').touch()\n"
    )

    assert project.call("apply", options=["--app", app]).code == 0
    assert project.effects == ["create-users"]
    assert (project.folder / "closed").exists()


def test_an_app_may_be_an_attribute_of_an_attribute(project: Project) -> None:
    project.write_app("class shop:\n    flamingock = made()")

    assert project.call("plan", options=["--app", "shop_app:shop.flamingock"]).code == 0


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("shop_app", "MODULE:NAME"),
        (":flamingock", "MODULE:NAME"),
        ("no_such_app:flamingock", "no module 'no_such_app'"),
        ("shop_app.sub:flamingock", "no module 'shop_app.sub'"),
        ("shop_app:flamingo", "'shop_app' has no 'flamingo'. It has 'flamingock'."),
        ("shop/app.py:flamingock", "MODULE:NAME"),
        ("shop_app:number", "this is a int"),
        ("shop_app:needy", "this is a function"),
        ("shop_app:returns_number", "this is a int"),
        ("broken_app:flamingock", "SyntaxError"),
        ("needing_app:flamingock", "No module named 'no_such_driver'"),
        (".relative:flamingock", "cannot be imported"),
    ],
)
def test_a_mistyped_app_gets_one_sentence(project: Project, app: str, told: str) -> None:
    project.write_app(
        "flamingock = made()\nnumber = 3\ndef needy(x): pass\ndef returns_number(): return 3\n"
    )
    (project.folder / "broken_app.py").write_text("def (", "utf-8")
    (project.folder / "needing_app.py").write_text("import no_such_driver", "utf-8")

    outcome = project.call("plan", options=["--app", app])

    assert outcome.code == 2
    assert told in outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert "Traceback" in project.call("plan", "-v", options=["--app", app]).err


def test_an_app_that_raises_is_told_with_what_it_raised(project: Project) -> None:
    project.write_app("def flamingock(): raise KeyError('no url')")

    outcome = project.call("plan", options=["--app", "shop_app:flamingock"])

    assert outcome.code == 1
    assert "KeyError" in outcome.err


def test_the_app_may_stand_in_pyproject(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(1, "create-users")
    project.write_app("flamingock = made()")
    (project.folder / "pyproject.toml").write_text(
        '[tool.aflamingock]\napp = "shop_app:flamingock"\n', "utf-8"
    )

    assert project.call("apply", options=[]).code == 0
    monkeypatch.chdir(project.changes)
    assert project.call("--json", "plan", options=[]).code == 0


def test_changes_and_store_may_stand_in_pyproject(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(1, "create-users")
    (project.folder / "pyproject.toml").write_text(
        f'[tool.aflamingock]\nchanges = "changes"\nstore = "{STORE}"\nservice = "shop"\n', "utf-8"
    )
    (project.folder / "below").mkdir()
    monkeypatch.chdir(project.folder / "below")

    assert project.call("apply", options=[]).code == 0
    assert (project.folder / "audit.db").exists()
    assert project.call("status", "--json", options=[]).document["service"] == "shop"


def test_the_command_line_goes_before_pyproject(project: Project) -> None:
    project.write(1, "create-users")
    (project.folder / "pyproject.toml").write_text(
        '[tool.aflamingock]\napp = "no_such_app:flamingock"\n', "utf-8"
    )

    assert project.call("plan").code == 0
    assert project.call("plan", options=[]).code == 2
    app = project.write_app("flamingock = made()")
    assert project.call("plan", options=["--app", app]).code == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tool.aflamingock]\napp = 3\n", "app = 3"),
        ('[tool.aflamingock]\nap = "x:y"\n', "ap = 'x:y'"),
        ("[tool.aflamingock\n", "cannot be read"),
    ],
)
def test_a_faulty_pyproject_is_named(project: Project, text: str, told: str) -> None:
    (project.folder / "pyproject.toml").write_text(text, "utf-8")

    outcome = project.call("plan", options=[])

    assert outcome.code == 2
    assert told in outcome.err
    assert "pyproject.toml" in outcome.err


def test_a_pyproject_of_something_else_is_no_matter(project: Project) -> None:
    (project.folder / "pyproject.toml").write_text("[tool.other]\n", "utf-8")

    assert project.call("plan").code == 0


def test_options_may_stand_after_the_command(project: Project) -> None:
    project.write(1, "create-users")

    assert project.call("apply", *project.options, "--service", "a", options=[]).code == 0
    assert project.call("--service", "b", "validate", *project.options, options=[]).code == 3
    assert project.call("--service", "b", "validate", "--service", "a").code == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "No audit store"),
        (["--changes", "changes"], "No audit store"),
        (["--store", STORE], "No changes"),
        (["--store", STORE, "--changes", "changes/none"], "no folder 'changes/none'"),
        (["--store", STORE, "--changes", "no.package"], "no.package"),
        (["--app", "x:y", "--store", STORE], "stands for itself"),
    ],
)
def test_what_is_missing_is_named(project: Project, options: list[str], told: str) -> None:
    outcome = project.call("plan", options=options)

    assert outcome.code == 2
    assert told in outcome.err


def test_an_absolute_path_is_a_store(project: Project, tmp_path: Path) -> None:
    project.write(1, "create-users")
    store = f"sqlite:///{tmp_path / 'elsewhere.db'}"

    assert project.call("apply", options=["--changes", "changes", "--store", store]).code == 0
    assert (tmp_path / "elsewhere.db").exists()


@pytest.mark.parametrize("kind", ["ValueError", "ModuleNotFoundError"])
def test_the_sentence_of_an_app_that_cannot_be_imported_ends_once(
    project: Project, kind: str
) -> None:
    app = project.write_app(f"raise {kind}('There is no url.')")

    outcome = project.call("plan", options=["--app", app])

    assert outcome.err.endswith(f"cannot be imported: {kind}: There is no url.\n")
