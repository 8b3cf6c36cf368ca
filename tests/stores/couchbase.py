"""What the tests of the Couchbase store have in common."""

from __future__ import annotations

import pytest

from aflamingock.stores.couchbase import CouchbaseAuditStore
from aflamingock.targets.couchbase import CouchbaseTargetSystem
from tests.servers.couchbase.fixtures import BUCKET

TAIL = "tail::shop"


@pytest.fixture
def make(cluster, scope_name):
    """A function that gives another handle on one store, which is empty at first."""
    return lambda **options: CouchbaseAuditStore(cluster, BUCKET, scope_name=scope_name, **options)


@pytest.fixture
async def store(make):
    async with make() as store:
        await store.create()
        yield store


@pytest.fixture
async def shared(cluster, scope_name, store):
    """A target and a store of one scope."""
    target = CouchbaseTargetSystem(
        "db", cluster, BUCKET, scope_name=scope_name, collection_name="effects"
    )
    await cluster.bucket(BUCKET).collections().create_collection(scope_name, "effects")
    async with target, CouchbaseAuditStore.from_target_system(target) as other:
        yield target, other


async def effects(target, *keys) -> list[str]:
    """Return which of the documents are there."""
    async with target.handles() as objects:
        found = [key for key in keys if (await objects["collection"].exists(key)).exists]

    return found


async def numbers(store, **options) -> list[int]:
    """Return the numbers of the entries."""
    return [entry.sequence async for entry in store.entries("shop", **options)]
