"""What the tests of the DynamoDB target have in common."""

from __future__ import annotations

from typing import Any

import pytest

from aflamingock.targets.dynamodb import DynamoDBTargetSystem, TransactWriteItems


@pytest.fixture
def table(dynamodb_client, dynamodb_prefix):
    """The name of a table with the key ``value``."""
    name = f"{dynamodb_prefix}data"
    dynamodb_client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "value", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "value", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


@pytest.fixture
def make(dynamodb_session, dynamodb_url, dynamodb_prefix):
    """A function that gives a target with the test's own markers."""

    def make(**options: Any) -> DynamoDBTargetSystem:
        defaults = {
            "endpoint_url": dynamodb_url,
            "marker_repository_name": f"{dynamodb_prefix}markers",
        }
        return DynamoDBTargetSystem("db", dynamodb_session, **(defaults | options))

    return make


@pytest.fixture
async def target(make):
    async with make() as target:
        yield target


@pytest.fixture
async def faulty(make, dynamodb_proxy):
    """A target behind the proxy, which has its table of markers."""
    async with make(endpoint_url=dynamodb_proxy.url) as faulty:
        await faulty.claim_marker("first", "c")
        dynamodb_proxy.requests.clear()
        yield faulty


def put(items: TransactWriteItems, table: str, value: str = "a", **more: Any) -> None:
    items.put(TableName=table, Item={"value": {"S": value}}, **more)


async def transact(target: DynamoDBTargetSystem, table: str, *, key: str | None = None) -> None:
    async with target.transaction() as items:
        put(items, table)
        if key is not None:
            await target.insert_marker(items, key, "change-1")


def values(client: Any, table: str) -> list[str]:
    return sorted(item["value"]["S"] for item in client.scan(TableName=table)["Items"])
