"""The databases that chaos goes on in: each started for it, and ended after it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import anyio

from tests.network.dynamodb import DynamoDBSystem
from tests.network.mongodb import ElectingSystem, MongoDBSystem
from tests.network.sql import SQLSystem
from tests.network.system import System
from tests.servers import mariadb, mongodb, postgresql
from tests.servers.dynamodb import DynamoDBServer
from tests.servers.replica_set import ReplicaSet


@contextmanager
def _postgresql() -> Iterator[System]:
    with postgresql._running() as server:
        name = f"chaos_{uuid.uuid4().hex}"
        anyio.run(postgresql.execute, server, f"CREATE DATABASE {name}")
        yield SQLSystem(server.set(database=name))


@contextmanager
def _mariadb() -> Iterator[System]:
    with mariadb._running() as server:
        name = f"chaos_{uuid.uuid4().hex}"
        anyio.run(postgresql.execute, server, f"CREATE DATABASE {name}")
        yield SQLSystem(server.set(database=name))


@contextmanager
def _mongodb(driver: Literal["pymongo", "motor"], **options: Any) -> Iterator[System]:
    with ExitStack() as stack:
        server = mongodb.MongoDBServer(stack, "--replSet", "rs0", "--oplogSize", "16")
        server.initiate()
        url = f"mongodb://{server.address}/"
        yield MongoDBSystem(url, f"chaos_{uuid.uuid4().hex}", driver, **options)


@contextmanager
def _elections() -> Iterator[System]:
    with ExitStack() as stack:
        replica_set = ReplicaSet(stack)
        yield ElectingSystem(replica_set, f"chaos_{uuid.uuid4().hex}")
        print(f"elections: {replica_set.elections - 1} primaries were lost")


@contextmanager
def _dynamodb() -> Iterator[System]:
    server = DynamoDBServer()
    try:
        yield DynamoDBSystem(server.url, f"chaos-{uuid.uuid4().hex}-")
    finally:
        server.stop()


PLACES: dict[str, Callable[[], AbstractContextManager[System]]] = {
    "postgresql": _postgresql,
    "mariadb": _mariadb,
    "pymongo": partial(_mongodb, "pymongo", retryWrites=False),
    "motor": partial(_mongodb, "motor"),
    "elections": _elections,
    "dynamodb": _dynamodb,
}
