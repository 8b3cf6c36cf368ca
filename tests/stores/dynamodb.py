"""What the tests of the DynamoDB store have in common."""

from __future__ import annotations

from typing import Any

import pytest

from aflamingock.stores.dynamodb import DynamoDBAuditStore
from tests.servers.dynamodb_proxy import error

THROTTLED = error("ProvisionedThroughputExceededException")


@pytest.fixture
def make(dynamodb_session, dynamodb_url, dynamodb_prefix):
    """A function that gives a store on the test's own tables."""

    def make(**options: Any) -> DynamoDBAuditStore:
        defaults = {"endpoint_url": dynamodb_url, "table_prefix": dynamodb_prefix}
        return DynamoDBAuditStore(dynamodb_session, **(defaults | options))

    return make


@pytest.fixture
async def store(make):
    async with make() as store:
        await store.create()
        yield store


@pytest.fixture
async def faulty(store, make, dynamodb_proxy):
    """The same store behind the proxy."""
    async with make(endpoint_url=dynamodb_proxy.url) as faulty:
        yield faulty
