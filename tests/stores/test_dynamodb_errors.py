"""What the DynamoDB store says when DynamoDB refuses, or does not answer."""

from __future__ import annotations

import json
import socket
from functools import partial
from typing import Any

import aioboto3  # type: ignore[import-untyped]  # aioboto3 has no types
import anyio
import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # it has no types

from aflamingock.exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    AuditStoreIndexError,
    AuditStorePermissionError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.stores.dynamodb import DynamoDBAuditStore
from aflamingock.targets import _dynamodb as calls
from aflamingock.testing._log import chain
from tests.servers import dynamodb as server
from tests.servers.dynamodb_proxy import cancelled, changed, error
from tests.servers.proxy import lost_answer, lost_call
from tests.stores import dynamodb as kit
from tests.stores.dynamodb import THROTTLED
from tests.stores.kit import ENTRIES, FIRST, SECOND, last_numbers

make = kit.make
store = kit.store
faulty = kit.faulty


@pytest.mark.parametrize("name", ["flamingockAuditLog", "flamingockLock", "flamingockIssues"])
async def test_a_table_with_other_keys_is_refused(make, dynamodb_client, dynamodb_prefix, name):
    dynamodb_client.create_table(
        TableName=f"{dynamodb_prefix}{name}",
        KeySchema=[{"AttributeName": "partitionKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "partitionKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    async with make() as store:
        with pytest.raises(AuditStoreIndexError, match="Failed to create audit store indexes"):
            await store.create()


async def test_a_global_table_is_refused(faulty, dynamodb_proxy):
    def with_replica(content):
        answer = json.loads(content)
        answer["Table"]["Replicas"] = [{"RegionName": "eu-west-2"}]
        return json.dumps(answer).encode()

    dynamodb_proxy.plan("DescribeTable", changed(with_replica))
    with pytest.raises(AuditStoreError, match="flamingockAuditLog is a global table"):
        await faulty.create()


async def test_an_endpoint_where_nobody_listens_is_unreachable(make):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        async with make(endpoint_url=url) as store:
            for call in (partial(store.last, "shop", 8), store.create):
                with (
                    anyio.fail_after(15),
                    pytest.raises(
                        AuditStoreConnectionError, match="Unable to connect to audit store"
                    ) as refused,
                ):
                    await call()

                assert refused.value.__cause__ is not None
                assert "test" not in str(refused.value)


async def test_an_endpoint_that_does_not_answer_is_unreachable(make, monkeypatch):
    assert calls.TIME_LIMIT < 15
    monkeypatch.setattr(calls, "TIME_LIMIT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with make(endpoint_url=url) as store:
            with pytest.raises(AuditStoreConnectionError, match="Unable to connect"):
                await store.last("shop", 8)

            with pytest.raises(UnknownOutcomeError, match="may have been done"):
                await store.append(ENTRIES)


@pytest.mark.parametrize("is_known", [False, True])
async def test_wrong_keys_are_told(guarded_dynamodb, is_known):
    keys = guarded_dynamodb.new_keys() if is_known else server.KEYS
    session = aioboto3.Session(**keys | {"aws_secret_access_key": "wrong"})
    async with DynamoDBAuditStore(session, endpoint_url=guarded_dynamodb.url) as store:
        with pytest.raises(AuditStoreConnectionError, match="credentials"):
            await store.last("shop", 8)


async def test_no_keys_at_all_are_told(make, monkeypatch, tmp_path, blockbuster):
    # The driver looks for a small file, once for each session.
    blockbuster.functions["os.stat"].can_block_in("botocore/configloader.py", "raw_config_parse")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)

    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))

    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    session = aioboto3.Session(region_name="eu-west-1")
    async with DynamoDBAuditStore(session, endpoint_url="http://127.0.0.1:9") as store:
        with pytest.raises(AuditStoreConnectionError, match="credentials"):
            await store.append(ENTRIES)


async def test_a_user_without_rights_is_told_what_to_grant(guarded_dynamodb):
    user = aioboto3.Session(**guarded_dynamodb.new_keys())
    async with DynamoDBAuditStore(user, endpoint_url=guarded_dynamodb.url) as store:
        for call in (store.create, partial(store.append, ENTRIES), partial(store.last, "shop", 1)):
            with pytest.raises(AuditStorePermissionError, match="Insufficient permissions") as no:
                await call()

            assert '"dynamodb:PutItem"' in str(no.value)


async def test_the_printed_rights_suffice(guarded_dynamodb, dynamodb_prefix):
    def store_of(statements: Any = None) -> DynamoDBAuditStore:
        session = aioboto3.Session(**guarded_dynamodb.new_keys(statements))
        return DynamoDBAuditStore(
            session, endpoint_url=guarded_dynamodb.url, table_prefix=dynamodb_prefix
        )

    statements = json.loads(store_of().permissions())["Statement"]
    names = {name.rpartition("/")[2] for one in statements for name in one["Resource"]}
    assert names == {
        f"{dynamodb_prefix}{name}"
        for name in ("flamingockAuditLog", "flamingockLock", "flamingockIssues")
    }
    # The emulator knows actions, but no single tables.
    async with store_of([one | {"Resource": "*"} for one in statements]) as store:
        await store.create()
        await store.append(ENTRIES[:1])
        assert await store.swap_record(None, FIRST)
        assert await store.read_record(FIRST.key) is not None
        assert list(await store.issues("shop")) == []
        assert await last_numbers(store) == [1]


async def test_throttling_is_tried_again(faulty, dynamodb_proxy):
    dynamodb_proxy.plan("PutItem", THROTTLED, error("RequestLimitExceeded"))
    await faulty.append(ENTRIES[:1])

    assert dynamodb_proxy.calls == ["PutItem"] * 3
    assert await last_numbers(faulty) == [1]


async def test_lasting_throttling_is_busy(faulty, dynamodb_proxy):
    dynamodb_proxy.plan("PutItem", *[error("ThrottlingException")] * 3)
    dynamodb_proxy.plan("Query", *[THROTTLED] * 3)
    with pytest.raises(SystemBusyError, match="nothing was done"):
        await faulty.append(ENTRIES[:1])

    with pytest.raises(SystemBusyError, match="ProvisionedThroughputExceededException"):
        await faulty.last("shop", 8)

    assert await last_numbers(faulty) == []


@pytest.mark.parametrize(
    "fault",
    [
        cancelled("TransactionConflict", "None", "None"),
        cancelled("None", "ThrottlingError", "ProvisionedThroughputExceeded"),
    ],
)
async def test_a_transaction_in_conflict_with_another_is_busy(faulty, dynamodb_proxy, fault):
    dynamodb_proxy.plan("TransactWriteItems", fault)
    with pytest.raises(SystemBusyError):
        await faulty.append(ENTRIES)

    assert await last_numbers(faulty) == []
    await faulty.append(ENTRIES)


async def test_a_put_in_conflict_with_a_transaction_is_busy(faulty, dynamodb_proxy):
    dynamodb_proxy.plan("PutItem", error("TransactionConflictException"))
    with pytest.raises(SystemBusyError):
        await faulty.swap_record(None, FIRST)

    assert await faulty.swap_record(None, FIRST)


async def test_an_answer_that_was_lost_is_looked_up_by_the_next_try(faulty, dynamodb_proxy):
    for operation in ("PutItem", "TransactWriteItems"):
        dynamodb_proxy.plan(operation, lost_answer)

    await faulty.append(ENTRIES[:1])
    await faulty.append(ENTRIES[1:])
    assert await last_numbers(faulty) == [3, 2, 1]

    dynamodb_proxy.plan("PutItem", lost_answer)
    assert await faulty.swap_record(None, FIRST)
    dynamodb_proxy.plan("PutItem", lost_answer)
    assert await faulty.swap_record(FIRST, SECOND)


@pytest.mark.parametrize(
    "faults",
    [
        [lost_answer, lost_call, lost_call],
        [lost_answer, THROTTLED, THROTTLED],
        [lost_call, error("InternalServerError", status=500), THROTTLED],
    ],
)
async def test_that_an_answer_was_lost_is_not_forgotten(faulty, dynamodb_proxy, faults):
    dynamodb_proxy.plan("PutItem", *faults)
    with pytest.raises(UnknownOutcomeError, match="may have been done"):
        await faulty.append(ENTRIES[:1])

    await faulty.append(ENTRIES[:1])
    assert await last_numbers(faulty) == [1]


async def test_what_the_server_refuses_is_told(store):
    with pytest.raises(AuditStoreError, match="ValidationException") as refused:
        await store.append(chain(1, error_trace="x" * 500_000))

    assert isinstance(refused.value.__cause__, ClientError)


async def test_a_right_that_is_lacking_to_create_is_told(make, dynamodb_proxy):
    dynamodb_proxy.plan("CreateTable", error("AccessDeniedException"))
    async with make(endpoint_url=dynamodb_proxy.url) as store:
        with pytest.raises(AuditStorePermissionError, match="dynamodb:CreateTable"):
            await store.create()
