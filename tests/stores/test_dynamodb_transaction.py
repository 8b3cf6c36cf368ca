"""The DynamoDB store within the transactions of a target, and in a run."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from aflamingock import Flamingock, Named, change
from aflamingock.exceptions import ConfigurationError, FlamingockError, SequenceConflictError
from aflamingock.stores.dynamodb import DynamoDBAuditStore
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets.dynamodb import DynamoDBTargetSystem, TransactWriteItems
from aflamingock.testing._log import chain
from tests.servers.dynamodb_proxy import cancelled, error
from tests.servers.proxy import lost_answer
from tests.stores import dynamodb as kit
from tests.stores.dynamodb import THROTTLED
from tests.stores.kit import ENTRIES, check_shared_transaction

make = kit.make
store = kit.store


@pytest.fixture
async def shared(store, dynamodb_session, dynamodb_url, dynamodb_prefix):
    """A target and a store of the same place."""
    target = DynamoDBTargetSystem("db", dynamodb_session, endpoint_url=dynamodb_url)
    other = DynamoDBAuditStore.from_target_system(target, table_prefix=dynamodb_prefix)
    async with target, other:
        yield target, other


async def test_it_shares_the_transactions_of_the_same_place(shared, store, dynamodb_session):
    target, other = shared
    elsewhere = DynamoDBTargetSystem("db", dynamodb_session, region_name="eu-west-2")

    assert other.shares(target)
    assert store.shares(target)
    assert not store.shares(elsewhere)
    assert not MemoryAuditStore().shares(target)


def test_the_markers_and_the_log_cannot_have_one_name(dynamodb_session):
    target = DynamoDBTargetSystem("db", dynamodb_session, marker_repository_name="flamingockLock")
    with pytest.raises(ConfigurationError, match="different names"):
        DynamoDBAuditStore.from_target_system(target)


async def test_entries_are_part_of_the_transaction_of_a_target(shared):
    target, store = shared
    await check_shared_transaction(store, target)


async def test_a_taken_number_ends_the_transaction_of_a_target(shared):
    target, store = shared
    await store.append(ENTRIES[:2])

    async def change() -> None:
        async with target.transaction() as items:
            await target.insert_marker(items, "k", "change-1")
            await store.append(chain(2, author="zombie")[1:], session=items)

    with pytest.raises(SequenceConflictError) as refused:
        await change()

    assert refused.value.sequence == 2
    assert refused.value.state is ENTRIES[1].state
    assert (await target.claim_marker("k", "change-1")).value == "ABORTED"


async def test_no_entry_is_collected_after_a_transaction(shared):
    target, store = shared
    async with target.transaction() as items:
        pass

    with pytest.raises(FlamingockError, match="over"):
        await store.append(ENTRIES[:1], session=items)


@change(id="add-a", author="shop-team", order="1", target_system="db")
class AddA:
    async def execute(
        self, items: TransactWriteItems, table: Annotated[str, Named("table")]
    ) -> None:
        items.put(TableName=table, Item={"recordKey": {"S": "a"}})


@change(id="add-b", author="shop-team", order="2", target_system="db", transactional=False)
class AddB:
    async def execute(self, client: Any, table: Annotated[str, Named("table")]) -> None:
        await client.put_item(TableName=table, Item={"recordKey": {"S": "b"}})


@pytest.mark.parametrize("transaction_mode", ["shared", "separate"])
async def test_a_run_survives_throttling_and_conflicts(
    transaction_mode, dynamodb_session, dynamodb_client, dynamodb_prefix, dynamodb_proxy
):
    dynamodb_proxy.plan("Query", *[THROTTLED] * 3)
    dynamodb_proxy.plan("PutItem", *[error("TransactionConflictException")] * 3)
    dynamodb_proxy.plan("TransactWriteItems", cancelled("TransactionConflict"), lost_answer)
    target = DynamoDBTargetSystem(
        "db",
        dynamodb_session,
        endpoint_url=dynamodb_proxy.url,
        marker_repository_name=f"{dynamodb_prefix}markers",
    )
    store = DynamoDBAuditStore.from_target_system(target, table_prefix=dynamodb_prefix)
    table = f"{dynamodb_prefix}flamingockLock"
    flamingock = Flamingock(
        changes=[AddA, AddB],
        audit_store=store,
        target_systems=[target],
        dependencies={"table": table},
        transaction_mode=transaction_mode,
    )
    async with flamingock:
        await flamingock.run()
        # a call that its driver has given up is one, and the driver does not repeat a conflict
        assert int((await flamingock.health())["retries"]) >= 4
        states = [
            (entry.change_id, entry.state.value)
            async for entry in flamingock.audit.entries()
            if entry.change_id
        ]

    assert states == [
        ("add-a", "STARTED"),
        ("add-a", "APPLIED"),
        ("add-b", "STARTED"),
        ("add-b", "APPLIED"),
    ]
    found = dynamodb_client.scan(TableName=table)["Items"]
    assert {"a", "b"} < {item["recordKey"]["S"] for item in found}
