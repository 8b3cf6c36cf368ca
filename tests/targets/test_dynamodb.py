"""The DynamoDB target passes the suite, and what is special about it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # it has no types

from aflamingock._states import MarkerOutcome
from aflamingock.exceptions import ConfigurationError, FlamingockError, LockLostError
from aflamingock.targets.dynamodb import DynamoDBTargetSystem, TransactWriteItems
from aflamingock.testing import TargetSystemSuite
from tests.targets import dynamodb as kit
from tests.targets.dynamodb import put, values
from tests.targets.kit import check_that_it_must_be_open

table = kit.table
make = kit.make
target = kit.target


class TestDynamoDBTargetSystem(TargetSystemSuite):
    @pytest.fixture
    def make_target(self, make, table):
        self.table = table
        return make

    async def write(self, objects, value):
        objects["items"].put(TableName=self.table, Item={"value": {"S": value}})
        with suppress(FlamingockError):
            await objects["items"].send()

    async def read(self, objects):
        answer = await objects["client"].scan(TableName=self.table, ConsistentRead=True)
        return [item["value"]["S"] for item in answer["Items"]]

    async def commit(self, objects):
        await objects["items"].send()

    async def roll_back(self, objects):
        await objects["client"].delete_table(TableName=self.table)


def test_its_name_is_short(dynamodb_session):
    target = DynamoDBTargetSystem("db", dynamodb_session, region_name="eu-west-2")

    assert repr(target) == "DynamoDBTargetSystem('db', DynamoDB in eu-west-2)"


def test_items_client_and_resource_are_offered(make):
    names = [offer.names for offer in make().offers()]

    assert names == [
        ("items", "transaction", "session"),
        ("client", "dynamodb"),
        ("resource", "db"),
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"busy_timeout": -1},
        {"busy_timeout": float("nan")},
        {"marker_repository_name": "a b"},
        {"endpoint_url": "ftp://localhost"},
    ],
)
def test_odd_options_are_refused(make, options):
    with pytest.raises(ConfigurationError):
        make(**options)


async def test_it_must_be_open(make):
    await check_that_it_must_be_open(make())


async def test_all_kinds_of_items_are_written_together(target, table, dynamodb_client):
    for value in ("old", "counted", "checked"):
        dynamodb_client.put_item(TableName=table, Item={"value": {"S": value}})

    async with target.transaction() as items:
        put(items, table, "new")
        items.delete(TableName=table, Key={"value": {"S": "old"}})
        items.update(
            TableName=table,
            Key={"value": {"S": "counted"}},
            UpdateExpression="SET #c = :one",
            ExpressionAttributeNames={"#c": "count"},
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
        items.condition_check(
            TableName=table,
            Key={"value": {"S": "checked"}},
            ConditionExpression="attribute_exists(#v)",
            ExpressionAttributeNames={"#v": "value"},
        )

    assert values(dynamodb_client, table) == ["checked", "counted", "new"]


async def test_what_is_read_in_a_transaction_was_there_before_it(target, table):
    async with target.transaction() as items:
        put(items, table)
        objects = target.objects(items)
        answer = await objects["client"].get_item(TableName=table, Key={"value": {"S": "a"}})
        found = await (await objects["resource"].Table(table)).scan()

    assert "Item" not in answer
    assert found["Items"] == []


async def test_client_and_resource_do_not_write_in_a_transaction(target, table, dynamodb_client):
    async with target.transaction() as items:
        objects = target.objects(items)
        with pytest.raises(FlamingockError, match="transactional=False"):
            await objects["client"].put_item(TableName=table, Item={"value": {"S": "a"}})

        with pytest.raises(FlamingockError, match="PutItem would stand at once"):
            await (await objects["resource"].Table(table)).put_item(Item={"value": "a"})

    assert values(dynamodb_client, table) == []


async def test_client_and_resource_write_outside_of_a_transaction(target, table, dynamodb_client):
    async with target.handles() as objects:
        await objects["client"].put_item(TableName=table, Item={"value": {"S": "a"}})
        await (await objects["resource"].Table(table)).put_item(Item={"value": "b"})
        put(objects["items"], table, "c")
        await objects["items"].send()

    assert values(dynamodb_client, table) == ["a", "b", "c"]


async def use_and_forget(target: DynamoDBTargetSystem, table: str) -> None:
    async with target.handles() as objects:
        items = objects["items"]
        assert isinstance(items, TransactWriteItems)
        put(items, table)


async def test_items_that_were_not_sent_are_told(target, table):
    with pytest.raises(FlamingockError, match=r"1 items were collected.*send\(\)"):
        await use_and_forget(target, table)


async def test_a_hundred_items_fit_with_the_marker(target, table, dynamodb_client):
    async with target.transaction() as items:
        for number in range(99):
            put(items, table, str(number))

        with pytest.raises(FlamingockError, match="transactional=False"):
            put(items, table, "99")

        await target.insert_marker(items, "k", "c")

    assert len(values(dynamodb_client, table)) == 99
    assert await target.claim_marker("k", "c") is MarkerOutcome.COMMITTED


async def test_a_refused_condition_is_told_with_its_item(target, table, dynamodb_client):
    async def change() -> None:
        async with target.transaction() as items:
            put(items, table)
            items.delete(
                TableName=table,
                Key={"value": {"S": "b"}},
                ConditionExpression="attribute_exists(#v)",
                ExpressionAttributeNames={"#v": "value"},
            )
            await target.insert_marker(items, "k", "c")

    with pytest.raises(ClientError, match="TransactionCanceledException") as refused:
        await change()

    [note] = refused.value.__notes__
    assert note.startswith("Item 2 of the transaction, Delete in table")
    assert values(dynamodb_client, table) == []
    assert await target.claim_marker("k", "c") is MarkerOutcome.ABORTED


async def test_what_the_driver_refuses_comes_out_as_it_is(target):
    async def change() -> None:
        async with target.transaction() as items:
            items.put(Table="misspelt")

    with pytest.raises(Exception, match="Unknown parameter") as refused:
        await change()

    assert type(refused.value).__name__ == "ParamValidationError"


async def test_a_claim_beats_a_refused_condition(target, table):
    await target.claim_marker("k", "c")

    async def change() -> None:
        async with target.transaction() as items:
            put(items, table, ConditionExpression="attribute_exists(nothing)")
            await target.insert_marker(items, "k", "change-1")

    with pytest.raises(LockLostError, match="change-1"):
        await change()
