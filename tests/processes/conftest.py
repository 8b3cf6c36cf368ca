"""Projects whose processes and databases do not outlive their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster
from pymongo import MongoClient

from tests.places import Places
from tests.servers import dynamodb, mariadb, mongodb, once, postgresql, sql

from .kit import Project
from .process import nursery

MAX_TRANSACTION = "transactionLifetimeLimitSeconds"

postgresql_server, mariadb_server = postgresql.postgresql_server, mariadb.mariadb_server
replica_set, excused = mongodb.mongodb_url, mongodb.excused
dynamodb_url, dynamodb_client = dynamodb.dynamodb_url, dynamodb.dynamodb_client


@pytest.fixture
def mongodb_url(replica_set: str) -> Iterator[str]:
    """The URL of a replica set, which soon ends the transaction of a process that was killed."""
    with MongoClient[dict[str, Any]](replica_set) as client:
        usual = client.admin.command({"getParameter": 1, MAX_TRANSACTION: 1})[MAX_TRANSACTION]
        client.admin.command({"setParameter": 1, MAX_TRANSACTION: 3})
        yield replica_set
        client.admin.command({"setParameter": 1, MAX_TRANSACTION: usual})


@pytest.fixture
def new_project(
    tmp_path: Path, request: pytest.FixtureRequest, excused: None, blockbuster: BlockBuster
) -> Iterator[Callable[..., Project]]:
    """A function that makes projects; to be called by the thread of the test."""
    sql.excuse_drivers(blockbuster)
    numbers = count(1)
    with ExitStack() as stack:
        places = Places(request)
        stack.callback(places.close)

        def make(layout: str = "one file") -> Project:
            folder = tmp_path / str(next(numbers))
            project = Project(folder, once(request.config, nursery), places, layout)
            stack.callback(project.close)
            return project

        yield make


@pytest.fixture
def project(new_project: Callable[..., Project]) -> Project:
    """A project on SQLite, unless the test gives it another layout."""
    return new_project()
