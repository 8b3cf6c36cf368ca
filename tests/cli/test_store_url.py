"""What ``--store`` says to a URL that cannot be used, and where else the URL may stand."""

from __future__ import annotations

import json
import sys

import pytest

from aflamingock.cli._settings import STORE_VARIABLE
from tests.servers import free_port, sql

from .conftest import STORE, Project


@pytest.fixture(autouse=True)
def excused_drivers(blockbuster):
    sql.excuse_drivers(blockbuster)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("audit.db", "no URL"),
        ("user:secret@host/db", "no URL"),
        ("oracle://user:secret@host/db", "oracle://"),
        ("postgresql+psycopg2://user:secret@host/db", "postgresql+psycopg2://"),
        ("sqlite:///", "sqlite:///relative.db"),
        ("sqlite://audit.db", "sqlite:///relative.db"),
        ("sqlite:///:memory:", "sqlite:///relative.db"),
        ("sqlite+aiosqlite:///:memory:", "path of a file"),
        ("mongodb://user:secret@host", "name the database"),
        ("mongodb://user:secret@host/?replicaSet=rs0", "name the database"),
        ("mongodb://user:12/secret@host/db", "name the database"),
        ("mongodb://[/db", "no URL of MongoDB"),
        ("postgresql://user:secret@host:port/db", "cannot be read"),
        ("postgresql://user:x@secret@host/db", "cannot be read"),
        ("couchbase://user:secret@host", "name the bucket"),
        ("couchbase://host/secret", "no URL of Couchbase"),
        ("dynamodb://user:secret@eu-west-1", "Credentials"),
        ("dynamodb://eu-west-1?profile_name=nobody", "nobody"),
        ("dynamodb://eu-west-1?endpoint_url=secret", "endpoint"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_sentence_that_does_not_repeat_it(
    project: Project, url: str, told: str
) -> None:
    outcome = project.call("audit", "list", options=["--store", url])

    assert outcome.code == 2
    assert told in outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert "secret" not in outcome.err


@pytest.mark.parametrize(
    ("url", "module", "packages"),
    [
        ("postgresql://host/db", "asyncpg", "'aflamingock[sql]' asyncpg"),
        ("postgresql+asyncpg://host/db", "sqlalchemy", "'aflamingock[sql]' asyncpg"),
        ("mysql+asyncmy://host/db", "asyncmy", "'aflamingock[sql]' asyncmy"),
        ("mysql+aiomysql://host/db", "aiomysql", "'aflamingock[sql]' aiomysql"),
        ("mongodb://host/db", "pymongo", "'aflamingock[mongodb]'"),
        ("mongodb://host/db", "bson", "'aflamingock[mongodb]'"),
        ("couchbase://me:word@host/shop", "couchbase", "'aflamingock[couchbase]'"),
        ("couchbase://me:word@host/shop", "acouchbase", "'aflamingock[couchbase]'"),
        ("dynamodb://eu-west-1", "aioboto3", "'aflamingock[dynamodb]'"),
        ("dynamodb://eu-west-1", "botocore", "'aflamingock[dynamodb]'"),
    ],
)
def test_a_missing_driver_is_one_sentence_with_the_command_that_installs_it(
    project: Project, monkeypatch: pytest.MonkeyPatch, url: str, module: str, packages: str
) -> None:
    for name in list(sys.modules):
        if name.startswith(("aflamingock.stores.", "aflamingock.targets.")):
            monkeypatch.delitem(sys.modules, name)
        elif name.partition(".")[0] == module:
            monkeypatch.setitem(sys.modules, name, None)

    monkeypatch.setitem(sys.modules, module, None)

    outcome = project.call("audit", "list", options=["--store", url])

    assert outcome.code == 2
    assert f"needs {'pymongo' if module == 'bson' else module}" in outcome.err
    assert outcome.err.endswith(f"python3 -m pip install {packages}\n")
    assert outcome.err.count("\n") == 1


def test_mysql_takes_the_driver_that_is_installed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "asyncmy", None)
    url = f"mysql://127.0.0.1:{free_port()}/shop"

    assert project.call("audit", "list", options=["--store", url]).code == 6


def test_the_store_may_stand_in_the_environment(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(1, "create-users")
    app = project.write_app("flamingock = made()")
    (project.folder / "pyproject.toml").write_text(
        f'[tool.aflamingock]\nchanges = "changes"\nstore = "{STORE}"\n', "utf-8"
    )
    monkeypatch.setenv(STORE_VARIABLE, "sqlite:///of-environment.db")

    assert project.call("apply", options=[]).code == 0
    assert (project.folder / "of-environment.db").exists()
    assert project.call("apply", options=["--store", "sqlite:///told.db"]).code == 0
    assert (project.folder / "told.db").exists()
    assert not (project.folder / "audit.db").exists()
    assert project.call("apply", options=["--app", app]).code == 0
    assert (project.folder / "audit.db").exists()


def test_the_store_of_the_environment_replaces_the_projects_app(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.folder / "pyproject.toml").write_text(
        '[tool.aflamingock]\napp = "no_such_app:flamingock"\n', "utf-8"
    )
    monkeypatch.setenv(STORE_VARIABLE, STORE)

    assert project.call("audit", "list", options=[]).code == 0
    outcome = project.call("apply", options=[])
    assert outcome.code == 2
    assert STORE_VARIABLE in outcome.err


@pytest.mark.parametrize(
    "line",
    [
        ["audit", "list", "postgresql://user:secret@host/db"],
        ["audit", "list", "--stor=postgresql://user:secret@host/db"],
        ["audit", "fix", "-c", "a", "-r", "postgresql://user:secret@host/db"],
    ],
)
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_password_at_the_wrong_place_is_not_shown(
    project: Project, line: list[str], more: list[str]
) -> None:
    outcome = project.call(*line, *more, options=[])

    assert outcome.code == 2
    assert "secret" not in outcome.out + outcome.err


@pytest.mark.parametrize("key", ["stor", "app"])
def test_a_password_in_a_faulty_pyproject_is_not_shown(project: Project, key: str) -> None:
    (project.folder / "pyproject.toml").write_text(
        f"[tool.aflamingock]\n{key} = {json.dumps('postgresql://user:secret@host/db')}\n", "utf-8"
    )

    outcome = project.call("audit", "list", options=[])

    assert outcome.code == 2
    assert "secret" not in outcome.err


def test_an_app_that_raises_with_its_url_does_not_show_the_password(project: Project) -> None:
    app = project.write_app("raise ValueError('postgresql://user:secret@host/db')")
    returning = project.write_app(
        "def flamingock(): raise ValueError('postgresql://user:secret@host/db')", name="calling"
    )

    for name in (app, returning):
        for more in ([], ["--json"], ["-vv"]):
            outcome = project.call("plan", *more, options=["--app", name])
            assert outcome.code != 0
            assert "secret" not in outcome.out + outcome.err
