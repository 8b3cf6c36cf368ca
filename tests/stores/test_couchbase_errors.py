"""The Couchbase store out of reach, out of rights, busy, and without an answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import anyio
import anyio.to_thread
import pytest
from couchbase.exceptions import CouchbaseException
from couchbase.management.collections import CreateCollectionSettings

from aflamingock.exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    AuditStoreIndexError,
    AuditStorePermissionError,
    ConfigurationError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.stores.couchbase import CouchbaseAuditStore
from aflamingock.targets import _couchbase as plumbing
from aflamingock.testing._log import chain
from tests.servers import free_port
from tests.servers.couchbase.fixtures import (
    ADMINISTRATOR,
    BUCKET,
    READER,
    WRITER,
    cluster,
    connected,
    couchbase_server,
    couchbase_url,
    impatient,
    scope_name,
)
from tests.servers.couchbase.proxy import CouchbaseProxy
from tests.servers.proxy import Exchange
from tests.stores.couchbase import make, store
from tests.stores.kit import ENTRIES, FIRST, last_numbers

__all__ = [
    "cluster",
    "couchbase_server",
    "couchbase_url",
    "impatient",
    "make",
    "scope_name",
    "store",
]


async def test_writing_into_what_is_missing_is_told(make, impatient):
    async with make() as store:
        for call in (store.append(ENTRIES), store.swap_record(None, FIRST)):
            with pytest.raises(AuditStoreError, match=r"A collection is missing.*create\(\)"):
                await call


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


async def test_a_collection_that_is_refused_is_told_with_the_commands(couchbase_server, scope_name):
    async def refuse(exchange: Exchange) -> None:
        body = b'{"errors":{"_":"Maximum number of collections has been reached"}}'
        head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(body)
        await exchange.reply(head + body)

    proxy = CouchbaseProxy(couchbase_server)
    proxy.plan("POST .*flamingockIssues", refuse)
    try:
        async with CouchbaseAuditStore.from_url(proxy.url, BUCKET, scope_name=scope_name) as store:
            with pytest.raises(AuditStoreIndexError, match="Failed to create audit") as error:
                await store.create()

            assert isinstance(error.value.__cause__, CouchbaseException)
            assert f"--create-collection {scope_name}.flamingockIssues" in str(error.value)
            await store.create()
    finally:
        await anyio.to_thread.run_sync(proxy.stop)


async def test_a_collection_whose_documents_expire_is_refused(cluster, make, scope_name):
    collections = cluster.bucket(BUCKET).collections()
    lasting = CreateCollectionSettings(max_expiry=timedelta(days=30))
    await collections.create_scope(scope_name)
    await collections.create_collection(scope_name, "flamingockAuditLog", lasting)
    with pytest.raises(AuditStoreIndexError, match="'flamingockAuditLog' .* expire after 30 days"):
        await make().open()


async def test_who_may_not_look_at_collections_takes_them_to_be_there(
    couchbase_server, store, scope_name
):
    url = couchbase_server.url(*WRITER)
    async with CouchbaseAuditStore.from_url(url, BUCKET, scope_name=scope_name) as other:
        await other.append(ENTRIES)
        assert await other.swap_record(None, FIRST)
        with pytest.raises(AuditStorePermissionError):
            await other.verify_schema()

    assert await last_numbers(store) == [3, 2, 1]


async def test_a_cluster_that_was_closed_is_told(couchbase_url, scope_name):
    async with connected(couchbase_url) as cluster:
        store = CouchbaseAuditStore(cluster, BUCKET, scope_name=scope_name)
        await store.open()
        await store.create()

    with pytest.raises(AuditStoreConnectionError, match="RuntimeError"):
        await last_numbers(store)

    await store.aclose()
    with pytest.raises(AuditStoreConnectionError, match="RuntimeError"):
        await store.open()


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


async def test_an_entry_that_is_too_large_is_refused(store):
    with pytest.raises(AuditStoreError, match="refused: "):
        await store.append(chain(1, error_trace="x" * 21_000_000))

    await store.append(ENTRIES[:1])
    assert await last_numbers(store) == [1]


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


async def test_a_cluster_of_another_event_loop_is_refused(cluster):
    store = CouchbaseAuditStore(cluster, BUCKET)
    with pytest.raises(ConfigurationError, match="another event loop"):
        await anyio.to_thread.run_sync(anyio.run, store.open)
