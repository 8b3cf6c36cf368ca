"""Empty databases on the servers of the tests, removed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from blockbuster import BlockBuster
from sqlalchemy import URL

from tests.databases import FAMILIES, Place
from tests.servers import sql
from tests.servers.dynamodb import delete_tables
from tests.servers.postgresql import execute


class Places:
    """
    Makes places, which are removed when it is closed; to be called outside of event loops.

    :param request: gives the servers
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._stack = ExitStack()

    def __call__(self, kind: str, folder: Path) -> Place:
        """
        Return an empty place.

        :param kind: one of :data:`tests.databases.DATABASES`
        :param folder: where files go
        """
        name = f"test_{uuid4().hex[:16]}"
        make: Callable[[str, str, Path], Place] = getattr(self, f"_{kind}")
        return make(kind, name, folder)

    def close(self) -> None:
        """Remove them all."""
        self._stack.close()

    def _sqlite(self, kind: str, name: str, folder: Path) -> Place:
        return Place(kind=kind, url=str(folder / f"{name}.db"))

    def _sqlalchemy(self, kind: str, name: str, folder: Path) -> Place:
        return Place(kind=kind, url=f"sqlite+aiosqlite:///{folder / name}.db")

    def _postgresql(self, kind: str, name: str, folder: Path) -> Place:
        server = self._request.getfixturevalue("postgresql_server")
        return self._in_sql(kind, server, name, removal=f"DROP DATABASE {name} WITH (FORCE)")

    def _mariadb(self, kind: str, name: str, folder: Path) -> Place:
        server = self._request.getfixturevalue("mariadb_server")
        return self._in_sql(kind, server, name, removal=f"DROP DATABASE {name}")

    def _in_sql(self, kind: str, server: URL, name: str, *, removal: str) -> Place:
        anyio.run(execute, server, f"CREATE DATABASE {name}")
        self._stack.callback(anyio.run, execute, server, removal)
        url = server.set(database=name).render_as_string(hide_password=False)
        return Place(kind=kind, url=url)

    def _mongodb(self, kind: str, name: str, folder: Path) -> Place:
        url = self._request.getfixturevalue("mongodb_url")
        self._stack.callback(_drop, url, name)
        return Place(kind=kind, url=url, name=name)

    _motor = _mongodb

    def _dynamodb(self, kind: str, name: str, folder: Path) -> Place:
        url = self._request.getfixturevalue("dynamodb_url")
        client = self._request.getfixturevalue("dynamodb_client")
        self._stack.callback(delete_tables, client, f"{name}-")
        return Place(kind=kind, url=url, name=f"{name}-")

    def _couchbase(self, kind: str, name: str, folder: Path) -> Place:
        from tests.servers.couchbase.fixtures import drop_scope, url_of_server

        url = url_of_server(self._request.config)
        self._stack.callback(anyio.run, drop_scope, url, name)
        return Place(kind=kind, url=url, name=name)


def _drop(url: str, name: str) -> None:
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](url) as client:
        client.drop_database(name)


@pytest.fixture(params=FAMILIES)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, excused: None, blockbuster: BlockBuster
) -> Iterator[Place]:
    """An empty place of each family; a module that uses it takes over the servers as well."""
    sql.excuse_drivers(blockbuster)
    places = Places(request)
    yield places(request.param, tmp_path)
    places.close()
