"""The Couchbase store passes the suite, and what is special about it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from typing import Any

import anyio
import pytest
from couchbase.exceptions import CouchbaseException

from aflamingock import Flamingock, change
from aflamingock._records import Record
from aflamingock.exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    AuditStorePermissionError,
    ConfigurationError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.stores.couchbase import CouchbaseAuditStore
from aflamingock.targets import _couchbase as plumbing
from aflamingock.targets.couchbase import CouchbaseTargetSystem
from aflamingock.testing import AuditStoreSuite
from tests.servers import free_port
from tests.servers.couchbase.fixtures import (
    ADMINISTRATOR,
    BUCKET,
    READER,
    cluster,
    couchbase_server,
    couchbase_url,
    impatient,
    scope_name,
)
from tests.stores.kit import ENTRIES, FIRST, SECOND, last_numbers

__all__ = ["cluster", "couchbase_server", "couchbase_url", "impatient", "scope_name"]


CHANGE = """
from aflamingock import change

@change(id="a", author="tests")
class A:
    async def execute(self):
        pass
"""


class TestCouchbaseAuditStore(AuditStoreSuite):
    @pytest.fixture
    def make_store(self, cluster, scope_name):
        return lambda: CouchbaseAuditStore(cluster, BUCKET, scope_name=scope_name)


class TestWithOtherNames(AuditStoreSuite):
    """The same under other names, in the scope of a target."""

    @pytest.fixture
    def make_store(self, cluster, scope_name):
        def make() -> CouchbaseAuditStore:
            return CouchbaseAuditStore.from_target_system(
                CouchbaseTargetSystem("db", cluster, BUCKET, scope_name=scope_name),
                audit_repository_name="log",
                lock_repository_name="lock",
                issue_repository_name="issue",
            )

        return make


@pytest.fixture
def make(cluster, scope_name):
    return lambda **options: CouchbaseAuditStore(cluster, BUCKET, scope_name=scope_name, **options)


@pytest.fixture
async def store(make):
    async with make() as store:
        await store.create()
        yield store


async def test_the_cluster_of_a_user_stays_open_and_that_of_the_store_does_not(
    cluster, couchbase_url, scope_name, make
):
    async with make() as store:
        await store.create()

    bucket = cluster.bucket(BUCKET)
    assert await bucket.collections().get_all_scopes()
    store = CouchbaseAuditStore.from_url(couchbase_url, BUCKET, scope_name=scope_name)
    for _ in range(2):
        async with store:
            await store.create()
            assert await last_numbers(store) == []
            own = store._keyspace.cluster

        with pytest.raises(RuntimeError, match="closed"):
            await own.bucket(BUCKET).on_connect()


async def test_each_operation_is_one_round_trip(couchbase_server, store, make):
    async with make() as other:
        couchbase_server.forget()
        await store.last("shop", 8)
        await store.append(ENTRIES[:1])
        await store.append(ENTRIES[1:])
        await store.swap_record(None, FIRST)
        await store.swap_record(FIRST, SECOND)
        await store.read_record(FIRST.key)
        assert await last_numbers(other) == [3, 2, 1]

    operations = [operation for operation, _, _ in couchbase_server.document_calls()]
    assert operations == [
        *("LOOKUP_IN", "INSERT", "REPLACE"),
        *("INSERT", "REPLACE", "GET"),
        "LOOKUP_IN",
    ]


async def test_every_write_is_durable(couchbase_server, store):
    couchbase_server.forget()
    await store.append(ENTRIES)
    await store.swap_record(None, FIRST)
    await store.swap_record(FIRST, SECOND)
    writes = [c for c in couchbase_server.calls() if c.operation in ("INSERT", "REPLACE")]
    assert [call.is_durable for call in writes] == [True] * 3


async def test_a_start_with_nothing_to_do_is_one_read(couchbase_server, make, tmp_path):
    (tmp_path / "_0001__a.py").write_text(CHANGE)
    for _ in range(2):
        couchbase_server.forget()
        await Flamingock(changes=tmp_path, audit_store=make()).run()

    assert [call[:2] for call in couchbase_server.document_calls()] == [
        ("LOOKUP_IN", "tail::default")
    ]


async def test_what_is_missing_is_told_as_commands(make, scope_name):
    async with make(issue_repository_name="Faelle") as store:
        commands = await store.verify_schema()
        await store.create()
        assert await store.verify_schema() == []

    manage = "couchbase-cli collection-manage --cluster HOST --username ADMINISTRATOR"
    assert all(command.startswith(manage) for command in commands)
    assert [command.rpartition(f"--bucket {BUCKET} ")[2] for command in commands] == [
        f"--create-scope {scope_name}",
        f"--create-collection {scope_name}.flamingockAuditLog",
        f"--create-collection {scope_name}.flamingockLock",
        f"--create-collection {scope_name}.Faelle",
    ]


async def test_opening_and_reading_create_nothing(cluster, make, scope_name):
    async with make() as store:
        assert await last_numbers(store) == []
        assert [entry async for entry in store.entries("shop")] == []
        assert await store.read_record("k") is None
        assert list(await store.issues("shop")) == []

    scopes = await cluster.bucket(BUCKET).collections().get_all_scopes()
    assert scope_name not in [scope.name for scope in scopes]


async def test_what_others_create_is_seen(make):
    async with make() as early, make() as creator:
        await creator.create()
        await creator.append(ENTRIES)
        assert await last_numbers(early) == [3, 2, 1]


async def test_what_is_missing_is_named_where_nothing_may_be_created(make):
    async with make(auto_create=False) as store:
        with pytest.raises(AuditStoreError, match=r"auto_create is off.*\n.*--create-scope"):
            await store.create()

        async with make() as creator:
            await creator.create()

        await store.create()


async def test_writing_into_what_is_missing_is_told(make, impatient):
    async with make() as store:
        for call in (store.append(ENTRIES), store.swap_record(None, FIRST)):
            with pytest.raises(AuditStoreError, match=r"A collection is missing.*create\(\)"):
                await call


async def test_the_roles_are_told_per_collection(make, scope_name):
    roles = make().permissions()

    assert f"scope_admin[{BUCKET}:{scope_name}]" in roles
    assert f"data_writer[{BUCKET}:{scope_name}:flamingockAuditLog]" in roles


async def test_an_unreachable_server_is_told(impatient):
    store = CouchbaseAuditStore.from_url(f"couchbase://me:secret@127.0.0.1:{free_port()}", BUCKET)
    with pytest.raises(AuditStoreConnectionError, match="Unable to connect.* Verify") as error:
        await store.open()

    assert isinstance(error.value.__cause__, CouchbaseException)
    assert "secret" not in str(error.value)


def test_an_unreachable_server_is_waited_for_less_than_15_seconds():
    assert 2 <= plumbing.PATIENCE <= 6


async def test_a_wrong_password_is_told(couchbase_server):
    url = couchbase_server.url(ADMINISTRATOR[0], "wr:ng")
    with pytest.raises(AuditStoreConnectionError, match="not accept the user or the") as error:
        await CouchbaseAuditStore.from_url(url, BUCKET).open()

    assert "wr:ng" not in str(error.value)


async def test_an_unknown_bucket_is_told(couchbase_server, cluster):
    with pytest.raises(AuditStoreConnectionError, match="there is no bucket 'other'"):
        await CouchbaseAuditStore(cluster, "other").open()


async def test_a_missing_right_is_told(couchbase_server, store, scope_name):
    url = couchbase_server.url(*READER)
    async with CouchbaseAuditStore.from_url(url, BUCKET, scope_name=scope_name) as other:
        assert await last_numbers(other) == []
        for call in (other.append(ENTRIES), other.swap_record(None, FIRST)):
            with pytest.raises(AuditStorePermissionError, match=r"Insufficient.*permissions\(\)"):
                await call

    async with CouchbaseAuditStore.from_url(url, BUCKET, scope_name=f"{scope_name}_2") as other:
        with pytest.raises(AuditStorePermissionError):
            await other.create()


@pytest.mark.parametrize(
    ("write", "how"),
    [
        (lambda store: store.append(ENTRIES[:1]), "lose"),
        (lambda store: store.append(ENTRIES[:1]), "drop"),
        (lambda store: store.swap_record(None, FIRST), "lose"),
    ],
)
async def test_a_lost_answer_leaves_a_doubt_and_may_be_written_again(
    couchbase_server, store, impatient, write, how
):
    with (
        couchbase_server.failing("INSERT", how, times=99),
        pytest.raises(UnknownOutcomeError, match="may or may not have been done"),
    ):
        await write(store)

    assert await write(store) in (None, True)
    assert await last_numbers(store) in ([1], [])


async def test_a_read_that_is_not_answered_is_a_failed_connection(
    couchbase_server, store, impatient
):
    with (
        couchbase_server.failing("LOOKUP_IN", "drop", times=99),
        pytest.raises(AuditStoreConnectionError),
    ):
        await last_numbers(store)


@pytest.mark.parametrize("status", ["TEMPORARY_FAILURE", "LOCKED"])
async def test_a_busy_server_is_asked_again_and_told(couchbase_server, store, impatient, status):
    with couchbase_server.failing("INSERT", "refuse", status=status, times=2):
        await store.append(ENTRIES[:1])

    with (
        couchbase_server.failing("REPLACE", "refuse", status=status, times=99),
        pytest.raises((SystemBusyError, UnknownOutcomeError)),
    ):
        await store.append(ENTRIES[1:])


async def test_writes_that_cannot_be_durable_are_told(couchbase_server, store):
    with (
        couchbase_server.failing("INSERT", "refuse", status="DURABILITY_IMPOSSIBLE"),
        pytest.raises(AuditStoreError, match="refused: DurabilityImpossible.* too few nodes"),
    ):
        await store.append(ENTRIES)


async def test_a_record_that_was_touched_by_others_is_replaced(cluster, store, scope_name):
    await store.swap_record(None, FIRST)
    records = cluster.bucket(BUCKET).scope(scope_name).collection("flamingockLock")
    key = f"record::{FIRST.key}"
    locked = await records.get_and_lock(key, timedelta(seconds=5))
    await records.unlock(key, locked.cas)
    assert await store.swap_record(FIRST, SECOND)


async def test_a_swap_whose_answer_was_lost_is_recognised(store, make):
    await store.swap_record(None, FIRST)
    await store.swap_record(FIRST, SECOND)
    assert await store.swap_record(FIRST, SECOND)
    async with make() as other:
        assert await other.swap_record(FIRST, SECOND)
        assert await other.swap_record(None, SECOND)
        assert not await other.swap_record(None, FIRST)


async def test_long_names_have_keys(store):
    name = "ä" * 190
    record = Record(key=name, value={})
    assert await store.swap_record(None, record)
    assert (await store.read_record(name)).token == record.token


async def test_a_cancelled_operation_does_not_disturb_the_loop(couchbase_server, store):
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    with couchbase_server.failing("LOOKUP_IN", "slow", seconds=0.3, times=3):
        for _ in range(2):
            with anyio.move_on_after(0.05) as scope:
                await last_numbers(store)

            assert scope.cancelled_caught

        task = asyncio.create_task(last_numbers(store))
        await anyio.sleep(0.05)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    assert await last_numbers(store) == []
    assert told == []


async def test_the_lease_is_renewed_in_the_loop_with_one_warning(store, caplog):
    @change(id="a", author="tests", order="1")
    class Change:
        async def execute(self) -> None:
            pass

    assert store.open_side_channel() is None
    with caplog.at_level(logging.WARNING, logger="aflamingock"):
        await Flamingock(changes=[Change], audit_store=store).run()

    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        f"{store!r} cannot be opened a second time"
    ]


async def test_a_cluster_of_another_event_loop_is_refused(cluster):
    store = CouchbaseAuditStore(cluster, BUCKET)
    with pytest.raises(ConfigurationError, match="another event loop"):
        await anyio.to_thread.run_sync(anyio.run, store.open)


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://me:se/cret@host",
        "couchbase://host",
        "couchbase://me:secret@",
        "couchbase://me:secret@host/bucket",
        "couchbase://me:secret@[host",
        "",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigurationError, match="no URL of Couchbase") as error:
        CouchbaseAuditStore.from_url(url, BUCKET)

    assert "cret" not in str(error.value)


@pytest.mark.parametrize("name", ["", "a b", "_a", "%a", "a.b", "ä", "a" * 252, "flamingockLock"])
def test_an_odd_name_of_a_repository_is_refused(name):
    with pytest.raises(ConfigurationError, match="repositor"):
        CouchbaseAuditStore.from_url("couchbase://a:b@c", "x", audit_repository_name=name)


@pytest.mark.parametrize(("bucket", "scope"), [("", "s"), ("a b", "s"), ("b", "_s"), ("b", "")])
def test_an_odd_name_of_a_place_is_refused(bucket, scope):
    with pytest.raises(ConfigurationError, match="name"):
        CouchbaseAuditStore.from_url("couchbase://a:b@c", bucket, scope_name=scope)


async def test_the_markers_and_the_log_cannot_have_one_name(cluster):
    target = CouchbaseTargetSystem("db", cluster, "x", marker_repository_name="flamingockIssues")
    with pytest.raises(ConfigurationError, match="different names"):
        CouchbaseAuditStore.from_target_system(target)


async def test_it_must_be_open(make, scope_name):
    store = make()
    assert repr(store) == f"CouchbaseAuditStore('{BUCKET}.{scope_name}')"
    for _ in range(2):
        for call in (store.last("shop", 1), store.create(), store.verify_schema()):
            with pytest.raises(ConfigurationError, match="not open"):
                await call

        await store.open()
        await store.aclose()
