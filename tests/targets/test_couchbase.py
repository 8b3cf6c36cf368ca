"""The Couchbase target passes the suite, and what is special about it."""

from __future__ import annotations

import pytest
from couchbase.exceptions import DocumentNotFoundException

from aflamingock.exceptions import FlamingockError
from aflamingock.targets.couchbase import CouchbaseTargetSystem
from aflamingock.testing import TargetSystemSuite
from tests.servers.couchbase.fixtures import (
    BUCKET,
    cluster,
    couchbase_server,
    couchbase_url,
    scope_name,
)

__all__ = ["cluster", "couchbase_server", "couchbase_url", "scope_name"]

# Nothing is found by a query: what the suite writes is asked for by name.
VALUES = [*"abc", *map(str, range(10)), *(f"k{number}" for number in range(10))]


@pytest.fixture
async def place(cluster, scope_name):
    """A scope with a collection, as the options of a target."""
    bucket = cluster.bucket(BUCKET)
    await bucket.collections().create_scope(scope_name)
    await bucket.collections().create_collection(scope_name, "written")
    return {"scope_name": scope_name, "collection_name": "written"}


@pytest.fixture
def make(cluster, place):
    return lambda **options: CouchbaseTargetSystem("db", cluster, BUCKET, **place, **options)


class TestCouchbaseTargetSystem(TargetSystemSuite):
    @pytest.fixture
    def make_target(self, make):
        return make

    async def write(self, objects, value):
        try:
            await objects["session"].insert(objects["collection"], value, {"value": value})
        except FlamingockError:
            await objects["collection"].insert(value, {"value": value})

    async def read(self, objects):
        return [value for value in VALUES if await _is_there(objects["collection"], value)]

    async def commit(self, objects):
        await objects["session"]._commit()

    async def roll_back(self, objects):
        await objects["session"]._rollback()


async def _is_there(collection, key) -> bool:
    try:
        await collection.get(key)
    except DocumentNotFoundException:
        return False

    return True
