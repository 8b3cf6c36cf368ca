"""``--store URL`` for every database, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import boto3  # type: ignore[import-untyped]  # boto3 has no types
import pytest

from aflamingock.cli._settings import STORE_VARIABLE
from tests.servers import dynamodb, free_port, sql

from .conftest import STORE, Project

REGION = "eu-central-1"  # nobody else's tables are there
TABLES = ("flamingockAuditLog", "flamingockLock", "flamingockIssues")
SQL_SCHEMES = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "postgresql+asyncpg": "postgresql",
    "mysql": "mariadb",
    "mariadb": "mariadb",
    "mysql+aiomysql": "mariadb",
    "mysql+asyncmy": "mariadb",
}
SECRET = "s3cret/p@ss:w0rd"
ESCAPED = quote(SECRET, safe="")


@pytest.fixture(autouse=True)
def excused_drivers(excused, blockbuster):
    sql.excuse_drivers(blockbuster)


@pytest.fixture
def dynamodb_tables(dynamodb_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the URL of a region without tables; its session comes from the environment."""
    for name, value in dynamodb.KEYS.items():
        monkeypatch.setenv(name.upper(), value)

    client: Any = boto3.client("dynamodb", REGION, endpoint_url=dynamodb_url)
    yield f"dynamodb://{REGION}?endpoint_url={dynamodb_url}"
    for table in TABLES:
        with suppress(client.exceptions.ResourceNotFoundException):
            client.delete_table(TableName=table)


@pytest.fixture(params=["sqlite", "sqlite+aiosqlite", *SQL_SCHEMES, "mongodb", "dynamodb"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store."""
    scheme: str = request.param
    if scheme.startswith("sqlite"):
        return f"{scheme}:///audit.db"

    if scheme == "dynamodb":
        return str(request.getfixturevalue("dynamodb_tables"))

    if scheme == "mongodb":
        server, _, options = request.getfixturevalue("mongodb_url").partition("/?")
        return f"{server}/{request.getfixturevalue('mongodb_name')}?{options}"

    found = request.getfixturevalue(f"{SQL_SCHEMES[scheme]}_url")
    text: str = found.set(drivername=scheme).render_as_string(hide_password=False)
    return text


def test_every_command_of_an_operator_works_with_the_url_alone(
    project: Project, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(1, "create-users")
    monkeypatch.setenv(STORE_VARIABLE, url)

    missing = project.call("audit", "verify-schema", "--json", options=[])
    empty = project.call("test-connection", "--audit-store", options=[])
    assert missing.code == 3
    assert missing.document["complete"] is False
    assert empty.code == 0
    assert f"{len(missing.document['missing'])} tables, coll" in empty.err
    assert "no entry of the service 'default'" in empty.err

    assert project.call("apply", options=["--changes", "changes"]).code == 0
    found = project.call("audit", "verify-schema", options=[])
    assert (found.code, found.out, found.err) == (0, "Nothing is missing.\n", "")
    for command in (
        ["test-connection", "--write"],
        ["audit", "permissions"],
        ["issue", "list"],
        ["lock", "status"],
    ):
        outcome = project.call(*command, options=["--store", url])
        assert (outcome.code, outcome.err) == (0, "")

    (entry,) = project.call("audit", "list", "--json", options=[]).document["entries"]
    assert (entry["changeId"], entry["state"]) == ("create-users", "APPLIED")


def test_what_is_missing_is_printed_to_be_run(project: Project) -> None:
    outcome = project.call("audit", "verify-schema", options=["--store", STORE])

    assert outcome.code == 3
    assert len(outcome.out.splitlines()) == 5
    assert all(line.startswith("CREATE ") for line in outcome.out.splitlines())
    assert "5 tables, collections or indexes are missing" in outcome.err
    assert not (project.folder / "audit.db").exists()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://user:secret@host/shop", "GRANT SELECT, INSERT ON"),
        ("mysql://user:secret@host/shop", "GRANT SELECT, INSERT ON"),
        ("mongodb://user:secret@host/shop", "createRole"),
        ("dynamodb://eu-west-1", "dynamodb:PutItem"),
        ("sqlite:///audit.db", "write the file"),
    ],
)
def test_the_least_rights_are_printed_without_a_server(
    project: Project, url: str, told: str
) -> None:
    outcome = project.call("audit", "permissions", options=["--store", url])

    assert (outcome.code, outcome.err) == (0, "")
    assert told in outcome.out
    document = project.call("audit", "permissions", "--json", options=["--store", url]).document
    assert document["permissions"] == outcome.out.rstrip("\n")


@pytest.fixture(params=["postgresql", "mysql", "mongodb", "mongodb-unescaped"])
def refused(request: pytest.FixtureRequest) -> str:
    """A URL with a password that is refused."""
    if request.param.startswith("mongodb"):
        server = request.getfixturevalue("guarded_mongodb")
        password = SECRET if request.param.endswith("unescaped") else ESCAPED
        return f"mongodb://admin:{password}@{server.address}/shop?directConnection=true"

    kind = SQL_SCHEMES[request.param]
    found, role = (request.getfixturevalue(f"{kind}_{name}") for name in ("url", "role"))
    text: str = found.set(
        drivername=request.param, username=role, password=SECRET
    ).render_as_string(hide_password=False)
    return text


@pytest.mark.parametrize("more", [[], ["--json"], ["-vv"]])
def test_a_password_that_is_refused_is_never_shown(
    project: Project, refused: str, more: list[str]
) -> None:
    outcome = project.call("test-connection", *more, options=["--store", refused])

    assert outcome.code == (2 if SECRET in refused else 6)
    shown = outcome.out + outcome.err
    assert [part for part in ("s3cret", "p@ss", "p%40ss", "w0rd") if part in shown] == []
    if more != ["-vv"]:
        assert "the password" in shown


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mysql+aiomysql", "dynamodb"])
@pytest.mark.parametrize("more", [[], ["--json"], ["-vv"]])
def test_a_server_that_is_down_is_exit_code_6(
    project: Project, dynamodb_tables: str, scheme: str, more: list[str]
) -> None:
    place = f"127.0.0.1:{free_port()}"
    url = f"{scheme}://me:{ESCAPED}@{place}/shop"
    if scheme == "dynamodb":
        url = f"dynamodb://eu-west-1?endpoint_url=http://{place}"

    outcome = project.call("audit", "list", *more, options=["--store", url])

    assert outcome.code == 6
    assert "Unable to connect to audit store" in outcome.out + outcome.err
    assert "s3cret" not in outcome.out + outcome.err
    if not more:
        assert outcome.err.count("\n") == 1
