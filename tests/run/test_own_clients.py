"""A target system of a URL makes its own client, which the store beside it uses as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import InvalidOperation

from aflamingock import (
    AuditEntry,
    AuditState,
    ConfigurationError,
    Flamingock,
    TxStrategy,
    change,
)
from aflamingock.abc import AuditStore, TargetSystem
from aflamingock.stores.dynamodb import DynamoDBAuditStore
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.targets.dynamodb import DynamoDBTargetSystem, TransactWriteItems
from aflamingock.targets.mongodb import MongoDBTargetSystem
from tests.servers import dynamodb, mongodb
from tests.targets import dynamodb as kit

mongodb_url, mongodb_name = mongodb.mongodb_url, mongodb.mongodb_name
excused = mongodb.excused
dynamodb_url, dynamodb_client = dynamodb.dynamodb_url, dynamodb.dynamodb_client
dynamodb_prefix, table = dynamodb.dynamodb_prefix, kit.table


async def run_twice(
    changes: Sequence[type], store: AuditStore[Any], target: TargetSystem
) -> list[AuditEntry]:
    """Run the first change, and then both; all is closed in between. Return what was applied."""
    for count in (1, 2):
        flamingock = Flamingock(changes=changes[:count], audit_store=store, target_systems=[target])
        assert len((await flamingock.run()).applied) == 1

    async with flamingock:
        entries = [entry async for entry in flamingock.audit.entries() if entry.change_id]

    return [entry for entry in entries if entry.state is AuditState.APPLIED]


async def test_a_mongodb_target_of_a_url_shares_its_transactions_and_closes_its_client(
    excused: None, mongodb_url: str, mongodb_name: str
) -> None:
    with MongoClient[dict[str, Any]](mongodb_url) as client:
        client[mongodb_name].create_collection("users")

    def writing(id: str) -> type:
        @change(id=id, author="tests", order=id, target_system="db")
        class Write:
            async def execute(self, db: Any) -> None:
                await db.users.insert_one({"name": id})

        return Write

    target = MongoDBTargetSystem.from_url("db", mongodb_url, mongodb_name)
    store = MongoDBAuditStore.from_target_system(target)

    applied = await run_twice([writing("a"), writing("b")], store, target)

    assert [entry.tx_strategy for entry in applied] == [TxStrategy.TX_SHARED] * 2
    assert isinstance(target.client, AsyncMongoClient)
    with pytest.raises(InvalidOperation, match="after close"):
        await target.client.admin.command("ping")

    with MongoClient[dict[str, Any]](mongodb_url) as client:
        assert client[mongodb_name].users.count_documents({}) == 2


async def test_a_store_of_another_url_client_does_not_share(
    excused: None, mongodb_url: str, mongodb_name: str
) -> None:
    target = MongoDBTargetSystem.from_url("db", mongodb_url, mongodb_name)
    beside = MongoDBAuditStore.from_url(mongodb_url, mongodb_name)

    assert not beside.shares(target)
    assert not MongoDBAuditStore(target.client, mongodb_name).shares(target)


@pytest.fixture
def dynamodb_target(
    monkeypatch: pytest.MonkeyPatch, dynamodb_url: str, dynamodb_prefix: str
) -> DynamoDBTargetSystem:
    """A target with a session of its own, whose settings are read from files."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")

    url = f"dynamodb://{dynamodb.REGION}?endpoint_url={dynamodb_url}"
    markers = f"{dynamodb_prefix}markers"
    return DynamoDBTargetSystem.from_url("db", url, marker_repository_name=markers)


async def test_a_dynamodb_target_of_a_url_shares_its_transactions(
    dynamodb_target: DynamoDBTargetSystem, dynamodb_prefix: str, table: str
) -> None:
    def writing(id: str) -> type:
        @change(id=id, author="tests", order=id, target_system="db")
        class Write:
            async def execute(self, items: TransactWriteItems) -> None:
                kit.put(items, table, id)

        return Write

    store = DynamoDBAuditStore.from_target_system(dynamodb_target, table_prefix=dynamodb_prefix)

    applied = await run_twice([writing("a"), writing("b")], store, dynamodb_target)

    assert [entry.tx_strategy for entry in applied] == [TxStrategy.TX_SHARED] * 2


@pytest.mark.parametrize("url", ["postgresql://me:secret@host/db", "mongodb://me:se/cret@host"])
def test_what_is_no_url_of_mongodb_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="no URL of MongoDB") as error:
        MongoDBTargetSystem.from_url("db", url, "shop")

    assert "cret" not in str(error.value)
