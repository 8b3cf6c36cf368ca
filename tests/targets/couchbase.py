"""What the tests of the Couchbase target have in common."""

from __future__ import annotations

import pytest
from couchbase.exceptions import DocumentNotFoundException

from aflamingock.targets.couchbase import CouchbaseTargetSystem
from tests.servers.couchbase.fixtures import BUCKET

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


async def is_there(collection, key) -> bool:
    try:
        await collection.get(key)
    except DocumentNotFoundException:
        return False

    return True


@pytest.fixture
async def target(make):
    async with make() as target:
        yield target


async def rows(target) -> list[str]:
    async with target.handles() as objects:
        return [value for value in VALUES if await is_there(objects["collection"], value)]


async def insert(target, session, key) -> None:
    await session.insert(target.objects(session)["collection"], key, {})
