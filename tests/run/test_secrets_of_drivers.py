"""Passwords in the URLs and keys of real drivers: they come out nowhere, whatever goes wrong."""

from __future__ import annotations

import gc
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
from blockbuster import BlockBuster
from sqlalchemy import URL

from aflamingock.cli import main
from aflamingock.stores import _mongodb as mongodb_store
from aflamingock.targets import _couchbase, _mongodb
from tests.run.driver_sources import APP, CALLS, CHANGE, KINDS, REFUSED_MONGODB, REFUSED_SQL, STORES
from tests.servers import free_port
from tests.servers.couchbase import fixtures as couchbase
from tests.servers.mongodb import ADMIN

pytestmark = pytest.mark.processes

couchbase_server = couchbase.couchbase_server

WORD = "hunter2"
SECRET = f"{WORD}/{WORD}:{WORD}@{WORD} {WORD}%20{WORD}"


class Credentials:
    """A place that does not let us in, for its URL or its key holds :data:`SECRET`."""

    def __init__(self, url: str, key: str = "") -> None:
        self.values = {"url": url, "key": key, "secret": SECRET}


def unreachable(kind: str) -> Credentials:
    host = f"127.0.0.1:{free_port()}"
    password = quote(SECRET, safe="")
    return Credentials(
        {
            "postgresql": f"postgresql+asyncpg://me:{password}@{host}/shop",
            "mariadb": f"mysql+asyncmy://me:{password}@{host}/shop",
            "mongodb": f"mongodb://me:{password}@{host}/",
            "motor": f"mongodb://me:{password}@{host}/",
            "dynamodb": f"http://{host}",
            "couchbase": f"couchbase://me:{password}@{host}",
        }[kind],
        "key",
    )


def refusing(kind: str, request: pytest.FixtureRequest) -> Credentials:
    if kind in ("postgresql", "mariadb"):
        url: URL = request.getfixturevalue(f"{kind}_url")
        role = request.getfixturevalue(f"{kind}_role")
        url = url.set(username=role, password=SECRET)
        return Credentials(url.render_as_string(hide_password=False))

    if kind in ("mongodb", "motor"):
        server, name = request.getfixturevalue("guarded_mongodb"), f"user_{uuid4().hex[:8]}"
        with server.client(*ADMIN) as client:
            client.admin.command("createUser", name, pwd=name, roles=[])

        return Credentials(server.url(name, quote(SECRET, safe="")))

    if kind == "dynamodb":
        moto = request.getfixturevalue("guarded_dynamodb")
        return Credentials(moto.url, moto.new_keys()["aws_access_key_id"])

    return Credentials(request.getfixturevalue("couchbase_server").url(password=SECRET))


Tell = Callable[[], str]


@pytest.fixture
def told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    blockbuster: BlockBuster,
) -> Iterator[Tell]:
    """A folder to work in; gives all that was said, printed and logged since."""
    blockbuster.deactivate()  # drivers look around as they begin
    for module in (_mongodb, mongodb_store, _couchbase):
        monkeypatch.setattr(module, "PATIENCE", 1.6)

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "app", raising=False)
    (tmp_path / "changes").mkdir()
    caplog.set_level(logging.DEBUG, "aflamingock")

    def tell() -> str:
        captured = capsys.readouterr()
        logged = "".join(f"{record.__dict__}" for record in caplog.records if is_ours(record))
        return captured.out + captured.err + logged

    yield tell
    with warnings.catch_warnings(action="ignore"):  # of clients that an app leaves open
        gc.collect()


def is_ours(record: logging.LogRecord) -> bool:
    return record.name.startswith("aflamingock")


def check(everything: str) -> None:
    """Make sure that no part of the secret was said."""
    said = [line for line in everything.splitlines() if WORD in line]
    assert said == []


@pytest.mark.parametrize("case", ["unreachable", "refusing"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_does_not_let_us_in_tells_no_password(
    request: pytest.FixtureRequest, told: Tell, kind: str, case: str
) -> None:
    place = unreachable(kind) if case == "unreachable" else refusing(kind, request)
    body = STORES[kind].strip().replace("\n", "\n    ")
    Path("app.py").write_text(APP.format(body="    " + body, **place.values))
    Path("changes/_0001__a.py").write_text(
        "from aflamingock import change\n\n"
        "@change(id='a', author='tests')\nclass A:\n    async def execute(self): ...\n"
    )

    for command in (["apply", "-vv"], ["status", "--json"])[: 1 if case == "unreachable" else 2]:
        assert main(["--app", "app:flamingock", *command]) == 6

    everything = told()
    assert "'status': 'down'" in everything
    assert "Unable to connect to audit store" in everything
    check(everything)


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_of_a_driver_in_a_change_is_told_without_the_password(
    request: pytest.FixtureRequest, told: Tell, kind: str
) -> None:
    place = refusing(kind, request)
    code = CHANGE.format(connect=CALLS[kind].strip(), **place.values)

    everything = told_of_failure(code, told)

    assert "no way into" in everything
    check(everything)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "mongodb"])
def test_stored_values_in_the_error_of_a_driver_are_not_told(
    request: pytest.FixtureRequest, told: Tell, kind: str
) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    if kind == "mongodb":
        name = request.getfixturevalue("mongodb_name")
        code = REFUSED_MONGODB.format(url=url, name=name)
    else:
        code = REFUSED_SQL.format(url=url.render_as_string(hide_password=False))

    everything = told_of_failure(code, told)

    assert "they were refused" in everything
    check(everything)


def told_of_failure(code: str, told: Tell) -> str:
    """Return all that is told of a change that fails."""
    Path("changes/_0001__a.py").write_text(code)
    options = ["--changes", "changes", "--store", "sqlite:///audit.db"]

    assert main([*options, "apply", "-v"]) == 1
    assert main([*options, "apply", "--json"]) == 4
    for more in (["audit", "list", "--history", "--extended"], ["issue", "get"], ["status"]):
        assert main([*options, *more]) == 0
        assert main([*options, *more, "--json"]) == 0

    return told()
