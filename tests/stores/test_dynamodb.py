"""The DynamoDB store passes the suite, and what is special about it."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from typing import Any

import aioboto3  # type: ignore[import-untyped]  # aioboto3 has no types
import pytest
from anyio.to_thread import run_sync

from aflamingock._records import Record
from aflamingock.exceptions import (
    AuditStoreError,
    AuditStoreSchemaError,
    ConfigurationError,
    SequenceConflictError,
)
from aflamingock.stores.dynamodb import DynamoDBAuditStore
from aflamingock.testing import AuditStoreSuite
from aflamingock.testing._log import chain
from tests.stores import dynamodb as kit
from tests.stores.kit import ENTRIES, FIRST, SECOND, check_that_it_must_be_open, last_numbers

make = kit.make
store = kit.store
faulty = kit.faulty


class TestDynamoDBAuditStore(AuditStoreSuite):
    @pytest.fixture
    def make_store(self, make):
        return make


async def test_tables_are_billed_and_named_as_asked(make, dynamodb_client, dynamodb_prefix):
    def described(name: str) -> dict[str, Any]:
        table = dynamodb_client.describe_table(TableName=dynamodb_prefix + name)
        description: dict[str, Any] = table["Table"]
        return description

    async with (
        make() as first,
        make(billing_mode="PAY_PER_REQUEST", audit_repository_name="free") as second,
        make(read_capacity_units=10, write_capacity_units=2, lock_repository_name="locks") as third,
    ):
        for store in (first, second, third):
            await store.create()

    for name in ("flamingockAuditLog", "flamingockLock", "flamingockIssues"):
        throughput = described(name)["ProvisionedThroughput"]
        assert (throughput["ReadCapacityUnits"], throughput["WriteCapacityUnits"]) == (5, 5)

    assert described("free")["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    throughput = described("locks")["ProvisionedThroughput"]
    assert (throughput["ReadCapacityUnits"], throughput["WriteCapacityUnits"]) == (10, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"billing_mode": "PAY_PER_REQUEST", "read_capacity_units": 5}, "capacity_units"),
        ({"billing_mode": "PAY_PER_REQUEST", "write_capacity_units": 5}, "capacity_units"),
        ({"billing_mode": "FREE"}, "billing_mode='FREE'"),
        ({"read_capacity_units": 0}, "0 capacity units"),
        ({"audit_repository_name": "a b"}, "'a b' cannot name"),
        ({"lock_repository_name": "ab"}, "'ab' cannot name"),
        ({"table_prefix": "a/"}, "cannot name"),
        ({"table_prefix": "a" * 250}, "cannot name"),
        ({"issue_repository_name": "flamingockLock"}, "different names"),
        ({"endpoint_url": "localhost:8000"}, "endpoint_url"),
        ({"endpoint_url": "http://"}, "endpoint_url"),
        ({"endpoint_url": "http://["}, "endpoint_url"),
        ({"endpoint_url": "http://user:secret@localhost"}, "endpoint_url"),
    ],
)
def test_odd_options_are_refused(dynamodb_session, options, message):
    with pytest.raises(ConfigurationError, match=message) as refused:
        DynamoDBAuditStore(dynamodb_session, **options)

    assert "secret" not in str(refused.value)


def test_a_session_of_another_library_is_refused():
    with pytest.raises(ConfigurationError, match=r"aioboto3\.Session"):
        DynamoDBAuditStore(object())


def test_a_region_is_needed(monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)

    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(ConfigurationError, match="region_name="):
        DynamoDBAuditStore(aioboto3.Session())


async def test_it_must_be_open(make):
    await check_that_it_must_be_open(make())


def test_its_name_is_short(dynamodb_session):
    store = DynamoDBAuditStore(dynamodb_session, region_name="eu-west-1", table_prefix="x-")

    assert repr(store) == "DynamoDBAuditStore(DynamoDB in eu-west-1, 'x-flamingockAuditLog')"


def test_a_url_names_region_endpoint_and_profile(monkeypatch, tmp_path):
    config = tmp_path / "config"
    config.write_text("[profile shop]\nregion = eu-south-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    store = DynamoDBAuditStore.from_url(
        "dynamodb://eu-north-1?endpoint_url=http://127.0.0.1:8000", table_prefix="x-"
    )
    other = DynamoDBAuditStore.from_url("dynamodb://?profile_name=shop")

    assert "eu-north-1 at http://127.0.0.1:8000, 'x-" in repr(store)
    assert "eu-south-1" in repr(other)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://eu-north-1",
        "dynamodb://key:secret@eu-north-1",
        "dynamodb://eu-north-1/table",
        "dynamodb://eu-north-1?secret=1",
    ],
)
def test_an_odd_url_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigurationError, match="dynamodb://REGION") as refused:
        DynamoDBAuditStore.from_url(url)

    assert "secret" not in str(refused.value)


async def test_without_auto_create_the_commands_are_told(make, dynamodb_client):
    async with make(auto_create=False) as store:
        with pytest.raises(AuditStoreError, match="auto_create=False") as missing:
            await store.create()

        commands = await store.verify_schema()
        assert len(commands) == 3
        for command in commands:
            assert command in str(missing.value)
            assert command.startswith("aws dynamodb create-table --region eu-west-1")
            definition = json.loads(command.partition("--cli-input-json '")[2].rstrip("'"))
            await run_sync(partial(dynamodb_client.create_table, **definition))

        assert await store.verify_schema() == []
        await store.create()
        await store.append(ENTRIES)


async def test_writing_before_creation_says_what_to_do(make):
    async with make() as store:
        for entries in (ENTRIES, ENTRIES[:1]):
            with pytest.raises(AuditStoreSchemaError, match=r"no such table.*create\(\)"):
                await store.append(entries)

        with pytest.raises(AuditStoreSchemaError, match=r"create\(\)"):
            await store.swap_record(None, FIRST)


async def test_a_call_is_one_round_trip(faulty, dynamodb_proxy):
    await faulty.append(ENTRIES)
    await faulty.append(chain(4)[3:])
    await faulty.last("shop", 8)
    await faulty.swap_record(None, FIRST)
    await faulty.swap_record(FIRST, SECOND)

    assert dynamodb_proxy.calls == [
        "TransactWriteItems",
        "PutItem",
        "Query",
        "PutItem",
        "PutItem",
    ]


async def test_entries_that_stand_in_part_are_a_conflict(store):
    await store.append(ENTRIES[:2])
    await store.append(ENTRIES[:2])
    with pytest.raises(SequenceConflictError) as refused:
        await store.append(ENTRIES)

    assert refused.value.sequence == 1
    assert await last_numbers(store) == [2, 1]


async def test_long_entries_are_read_over_many_pages(store):
    entries = chain(20, error_trace="x" * 150_000)
    await store.append(entries)

    assert [entry async for entry in store.entries("shop")] == entries
    assert list(await store.last("shop", 12)) == entries[:7:-1]


async def test_records_have_no_age(store):
    await store.swap_record(None, Record(key="k", value={}, age=5.0))
    record = await store.read_record("k")

    assert record is not None
    assert record.age is None


async def test_a_stale_read_can_be_asked_for(make, store):
    await store.append(ENTRIES)
    async with make(consistent_read=False) as other:
        assert await last_numbers(other) == [3, 2, 1]


async def test_importing_it_loads_no_other_driver():
    code = """
import sys
import aflamingock.stores.dynamodb
drivers = {"aiosqlite", "sqlalchemy", "pymongo", "motor", "couchbase", "acouchbase", "aioboto3"}
print(sorted(drivers & sys.modules.keys()))
"""

    def run() -> str:
        command = [sys.executable, "-W", "error", "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert await run_sync(run) == "[]\n"
