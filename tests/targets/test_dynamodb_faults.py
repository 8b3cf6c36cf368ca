"""The DynamoDB target when calls are throttled, or their answers are lost."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # it has no types

from aflamingock._states import MarkerOutcome
from aflamingock.exceptions import FlamingockError, SystemBusyError, UnknownOutcomeError
from aflamingock.targets import _dynamodb_table as tables
from tests.servers.dynamodb_proxy import answered, cancelled, changed, error
from tests.servers.proxy import lost_answer, lost_call, pass_on
from tests.targets import dynamodb as kit
from tests.targets.dynamodb import put, transact, values

BUSY = error("ThrottlingException")
table = kit.table
make = kit.make
target = kit.target
faulty = kit.faulty


async def test_an_empty_transaction_sends_nothing(faulty, dynamodb_proxy):
    async with faulty.transaction() as items:
        pass

    assert dynamodb_proxy.calls == []
    with pytest.raises(FlamingockError, match="over"):
        put(items, "table")


@pytest.mark.parametrize(
    "faults",
    [
        [cancelled("TransactionConflict", "None"), cancelled("None", "ThrottlingError")],
        [BUSY, error("RequestLimitExceeded"), BUSY, BUSY],
    ],
)
async def test_a_commit_is_tried_again_while_it_is_busy(
    faulty, table, dynamodb_proxy, dynamodb_client, faults
):
    dynamodb_proxy.plan("TransactWriteItems", *faults)
    await transact(faulty, table)

    assert len(dynamodb_proxy.calls) == len(faults) + 1
    assert values(dynamodb_client, table) == ["a"]


async def test_a_commit_that_stays_busy_is_given_up(make, table, dynamodb_proxy, dynamodb_client):
    dynamodb_proxy.plan("TransactWriteItems", cancelled("TransactionConflict"))
    async with make(endpoint_url=dynamodb_proxy.url, busy_timeout=0) as target:
        with pytest.raises(SystemBusyError, match="TransactionCanceledException"):
            await transact(target, table)

    assert values(dynamodb_client, table) == []


async def test_a_commit_whose_answer_was_lost_is_recognised(
    faulty, table, dynamodb_proxy, dynamodb_client
):
    dynamodb_proxy.plan("TransactWriteItems", lost_answer)
    await transact(faulty, table, key="k")

    assert dynamodb_proxy.calls.count("TransactWriteItems") == 2
    assert await faulty.claim_marker("k", "c") is MarkerOutcome.COMMITTED


@pytest.mark.parametrize(
    ("faults", "outcome"),
    [
        ([lost_answer, lost_call, lost_call], MarkerOutcome.COMMITTED),
        ([lost_answer, BUSY, BUSY], MarkerOutcome.COMMITTED),
        ([lost_call, lost_call, lost_call], MarkerOutcome.ABORTED),
    ],
)
async def test_a_commit_without_an_answer_is_in_doubt(
    faulty, table, dynamodb_proxy, faults, outcome
):
    dynamodb_proxy.plan("TransactWriteItems", *faults)
    with pytest.raises(UnknownOutcomeError):
        await transact(faulty, table, key="k")

    assert await faulty.claim_marker("k", "c") is outcome


@pytest.mark.parametrize("fault", [BUSY, error("TransactionConflictException"), lost_call])
async def test_claiming_and_removing_may_be_tried_again(faulty, dynamodb_proxy, fault):
    dynamodb_proxy.plan("PutItem", *[fault] * 3)
    dynamodb_proxy.plan("DeleteItem", *[fault] * 3)
    with pytest.raises(SystemBusyError, match="harmless"):
        await faulty.claim_marker("k", "c")

    with pytest.raises(SystemBusyError, match="harmless"):
        await faulty.remove_marker("k")

    dynamodb_proxy.heal()
    assert await faulty.claim_marker("k", "c") is MarkerOutcome.ABORTED
    await faulty.remove_marker("k")


async def test_what_else_goes_wrong_comes_out_pass_on(faulty, dynamodb_proxy):
    dynamodb_proxy.plan("PutItem", error("ValidationException"))
    dynamodb_proxy.plan("DeleteItem", error("AccessDeniedException"))
    with pytest.raises(ClientError, match="ValidationException"):
        await faulty.claim_marker("k", "c")

    with pytest.raises(ClientError, match="AccessDeniedException"):
        await faulty.remove_marker("k")


creating = changed(lambda content: content.replace(b'"ACTIVE"', b'"CREATING"'))


async def test_the_table_of_the_markers_is_waited_for(make, dynamodb_proxy):
    dynamodb_proxy.plan("CreateTable", creating)
    dynamodb_proxy.plan("DescribeTable", pass_on, creating)
    async with make(endpoint_url=dynamodb_proxy.url) as target:
        await target.claim_marker("k", "c")

    assert dynamodb_proxy.calls[1:] == [
        "DescribeTable",
        "CreateTable",
        "DescribeTable",
        "DescribeTable",
        "PutItem",
    ]


async def test_a_table_that_somebody_else_creates_just_now_is_waited_for(make, dynamodb_proxy):
    dynamodb_proxy.plan("CreateTable", error("ResourceInUseException"))
    async with make(endpoint_url=dynamodb_proxy.url) as target:
        assert await target.claim_marker("k", "c") is MarkerOutcome.ABORTED


async def test_a_table_that_is_never_ready_is_busy(make, dynamodb_proxy, monkeypatch):
    monkeypatch.setattr(tables, "_CREATION_TIME", 0.2)
    dynamodb_proxy.plan("CreateTable", creating)
    dynamodb_proxy.plan("DescribeTable", *[creating] * 50)
    async with make(endpoint_url=dynamodb_proxy.url) as target, target.transaction() as items:
        with pytest.raises(SystemBusyError, match="TimeoutError"):
            await target.insert_marker(items, "k", "c")


async def test_tombstones_are_removed_after_a_day(
    make, dynamodb_client, dynamodb_prefix, dynamodb_proxy
):
    markers = f"{dynamodb_prefix}markers"
    page = {"Items": [], "LastEvaluatedKey": {"key": {"S": "a-young"}}}

    async with make(endpoint_url=dynamodb_proxy.url) as target:
        for key in ("a-young", "old"):
            await target.claim_marker(key, "c")

        async with target.transaction() as items:
            await target.insert_marker(items, "committed", "c")

        for key in ("old", "committed"):
            dynamodb_client.update_item(
                TableName=markers,
                Key={"key": {"S": key}},
                UpdateExpression="SET createdAt = :long_ago",
                ExpressionAttributeValues={":long_ago": {"S": "2024-02-29T12:00:00.000+00:00"}},
            )

        dynamodb_proxy.plan("Scan", answered(page))
        for _ in range(2):
            await target.remove_marker("other")

    found = dynamodb_client.scan(TableName=markers)["Items"]
    assert sorted(item["key"]["S"] for item in found) == ["a-young", "committed"]
    assert dynamodb_proxy.calls.count("Scan") == 2
