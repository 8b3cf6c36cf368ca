"""A database behind a proxy, for each kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest

from tests.network.dynamodb import DynamoDBSystem
from tests.network.mongodb import MongoDBSystem
from tests.network.sql import SQLSystem
from tests.network.system import System
from tests.servers import sql
from tests.servers.proxy import Proxy


@pytest.fixture(params=["postgresql", "mariadb", "pymongo", "motor", "dynamodb"])
def empty_system(request: pytest.FixtureRequest) -> System:
    """Give a database without anything in it."""
    return _SYSTEMS[request.param](request)


@pytest.fixture
async def system(empty_system: System) -> System:
    """Give a database with all that is written to."""
    await empty_system.prepare()
    return empty_system


def _sql(request: pytest.FixtureRequest, fixture: str) -> System:
    sql.excuse_drivers(request.getfixturevalue("blockbuster"))
    return SQLSystem(request.getfixturevalue(fixture))


def _mongodb(request: pytest.FixtureRequest, driver: Literal["pymongo", "motor"]) -> System:
    request.getfixturevalue("excused")
    url, name = request.getfixturevalue("mongodb_url"), request.getfixturevalue("mongodb_name")
    # the driver itself would try again a write whose answer is lost, and hide it from the store
    return MongoDBSystem(url, name, driver, retryWrites=False)


def _dynamodb(request: pytest.FixtureRequest) -> System:
    url, prefix = (request.getfixturevalue(f"dynamodb_{name}") for name in ("url", "prefix"))
    return DynamoDBSystem(url, prefix)


_SYSTEMS = {
    "postgresql": lambda request: _sql(request, "postgresql_url"),
    "mariadb": lambda request: _sql(request, "mariadb_url"),
    "pymongo": lambda request: _mongodb(request, "pymongo"),
    "motor": lambda request: _mongodb(request, "motor"),
    "dynamodb": _dynamodb,
}


@pytest.fixture
def proxy(system: System) -> Iterator[Proxy]:
    """A proxy before the database, without faults at first."""
    proxy = system.proxy()
    yield proxy
    proxy.stop()
