"""A store that cannot be used ends the command line with code 6, and a sentence that helps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from tests.servers import free_port
from tests.servers.couchbase.fixtures import (
    ADMINISTRATOR,
    BUCKET,
    READER,
    CouchbaseServer,
    couchbase_server,
)
from tests.servers.mongodb import ADMIN
from tests.servers.sql import query

from .conftest import ROOT

__all__ = ["couchbase_server"]

pytestmark = pytest.mark.processes

APP = """
from aflamingock import Flamingock
from aflamingock.stores.{module} import {name} as Store

flamingock = Flamingock(changes="changes", audit_store=Store.from_url({arguments}))
"""
CHANGE = """
from aflamingock import change

@change(id="a", author="tests")
class A:
    async def execute(self):
        raise AssertionError
"""
CONNECT = "Unable to connect to audit store"
RIGHTS = "Insufficient permissions to create collections/tables"


def sql(url: object, *, options: str = "") -> str:
    text = url.render_as_string(hide_password=False)  # type: ignore[attr-defined]  # a URL
    arguments = f"{text!r}{options}"
    return APP.format(module="sql", name="SQLAuditStore", arguments=arguments)


def mongo(url: str, *, options: str = "") -> str:
    arguments = f"{url!r}, 'test_{uuid4().hex[:16]}'{options}"
    return APP.format(module="mongodb", name="MongoDBAuditStore", arguments=arguments)


def dynamo(url: str, *, options: str = "") -> str:
    arguments = f"'dynamodb://eu-west-1?endpoint_url={url}'{options}"
    return APP.format(module="dynamodb", name="DynamoDBAuditStore", arguments=arguments)


def couchbase(url: str, *, options: str = "") -> str:
    arguments = f"{url!r}, {BUCKET!r}, scope_name='test_{uuid4().hex[:16]}'{options}"
    return APP.format(module="couchbase", name="CouchbaseAuditStore", arguments=arguments)


def apply(folder: Path, app: str, **environment: str) -> tuple[int, str]:
    """Apply through the command line; return its code and what it has said."""
    (folder / "changes").mkdir()
    (folder / "changes" / "_0001__a.py").write_text(CHANGE)
    (folder / "app.py").write_text(app)
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    done = subprocess.run(
        [sys.executable, "-m", "aflamingock", "--app", "app:flamingock", "apply"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | keys | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "mongodb", "dynamodb", "couchbase"])
def test_a_server_that_is_not_there(tmp_path: Path, kind: str) -> None:
    from sqlalchemy import URL

    port = free_port()
    app = {
        "postgresql": sql(URL.create("postgresql", "me", "secret", "127.0.0.1", port, "shop")),
        "mariadb": sql(URL.create("mysql+asyncmy", "me", "secret", "127.0.0.1", port, "shop")),
        "mongodb": mongo(f"mongodb://me:secret@127.0.0.1:{port}"),
        "dynamodb": dynamo(f"http://127.0.0.1:{port}"),
        "couchbase": couchbase(f"couchbase://me:secret@127.0.0.1:{port}"),
    }[kind]

    code, told = apply(tmp_path, app)

    assert code == 6, told
    assert f"{CONNECT}: " in told
    assert "erify" in told
    assert "secret" not in told


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
@pytest.mark.parametrize("case", ["password", "rights", "tables"])
def test_a_sql_database_that_does_not_let_us(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, case: str
) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    role = request.getfixturevalue(f"{kind}_role")
    if kind == "mariadb":  # without any right on it, the database itself is refused
        anyio.run(query, url, f"GRANT SHOW VIEW ON {url.database}.* TO {role}")

    app, words = {
        "password": (sql(url.set(username=role, password="secret")), CONNECT),
        "rights": (sql(url.set(username=role, password=role)), RIGHTS),
        "tables": (sql(url, options=", auto_create=False"), "auto_create=False forbids"),
    }[case]

    code, told = apply(tmp_path, app)

    assert code == 6, told
    assert words in told
    assert "secret" not in told


@pytest.mark.parametrize("case", ["password", "rights", "tables"])
def test_a_mongodb_that_does_not_let_us(
    request: pytest.FixtureRequest, tmp_path: Path, case: str
) -> None:
    if case == "tables":
        app = mongo(request.getfixturevalue("mongodb_url"), options=", auto_create=False")
        words = "auto_create"
    else:
        server, name = request.getfixturevalue("guarded_mongodb"), f"user_{uuid4().hex[:8]}"
        with server.client(*ADMIN) as client:
            client.admin.command("createUser", name, pwd=name, roles=[])

        is_known = case == "rights"
        app = mongo(server.url(name, name if is_known else "secret"))
        words = RIGHTS if is_known else CONNECT

    code, told = apply(tmp_path, app)

    assert code == 6, told
    assert words in told
    assert "secret" not in told


@pytest.mark.parametrize("case", ["password", "rights", "tables"])
def test_a_dynamodb_that_does_not_let_us(
    request: pytest.FixtureRequest, tmp_path: Path, case: str
) -> None:
    keys = {}
    if case == "tables":
        url = request.getfixturevalue("dynamodb_url")
        options = f", auto_create=False, table_prefix='{uuid4().hex}'"
        app, words = dynamo(url, options=options), "auto_create=False"
    else:
        server = request.getfixturevalue("guarded_dynamodb")
        app, words = dynamo(server.url), RIGHTS if case == "rights" else CONNECT
        keys = {name.upper(): value for name, value in server.new_keys().items()}
        if case == "password":
            keys["AWS_SECRET_ACCESS_KEY"] = "secret"

    code, told = apply(tmp_path, app, **keys)

    assert code == 6, told
    assert words in told
    assert "secret" not in told


@pytest.mark.parametrize("case", ["password", "rights", "tables"])
def test_a_couchbase_that_does_not_let_us(
    couchbase_server: CouchbaseServer, tmp_path: Path, case: str
) -> None:
    app, words = {
        "password": (couchbase(couchbase_server.url(ADMINISTRATOR[0], "secret")), CONNECT),
        "rights": (couchbase(couchbase_server.url(*READER)), RIGHTS),
        "tables": (couchbase(couchbase_server.url(), options=", auto_create=False"), "auto_create"),
    }[case]

    code, told = apply(tmp_path, app)

    assert code == 6, told
    assert words in told
    assert "secret" not in told
