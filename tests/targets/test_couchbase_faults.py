"""The transactions of the Couchbase target when something goes wrong."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import anyio
import anyio.to_thread
import pytest
from couchbase.exceptions import (
    CouchbaseException,
    DocumentNotFoundException,
    TransactionOperationFailed,
)
from couchbase.transactions import TransactionKeyspace

from aflamingock import ChangeFailedError, Flamingock, change
from aflamingock._states import MarkerOutcome
from aflamingock.exceptions import (
    FlamingockError,
    LockLostError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets.couchbase import CouchbaseTargetSystem
from tests.servers.couchbase.fixtures import (
    BUCKET,
    READER,
    cluster,
    connected,
    couchbase_server,
    couchbase_url,
    impatient,
    scope_name,
)
from tests.servers.couchbase.proxy import CouchbaseProxy
from tests.targets.couchbase import insert, make, place, rows, target

__all__ = [
    "cluster",
    "couchbase_server",
    "couchbase_url",
    "impatient",
    "make",
    "place",
    "scope_name",
    "target",
]

RECORD = "_txn:atr"  # where the SDK keeps whether a transaction is committed


async def test_an_error_that_a_change_hides_is_not_taken_for_committed(target):
    async def change() -> None:
        async with target.transaction() as session:
            collection = target.objects(session)["collection"]
            found = await session.get(collection, "a")
            await collection.upsert("a", {"by": "somebody else"})
            await insert(target, session, "b")
            with suppress(TransactionOperationFailed):
                await session.replace(found, {"by": "change"})

    async with target.handles() as objects:
        await objects["collection"].insert("a", {})

    with pytest.raises(FlamingockError, match="code in it has hidden, and is rolled back") as error:
        await change()

    assert isinstance(error.value.__cause__, TransactionOperationFailed)
    assert await rows(target) == ["a"]


async def test_a_transaction_that_takes_too_long_is_rolled_back_and_told(make):
    async def change() -> None:
        async with quick.transaction() as session:
            await insert(quick, session, "a")
            await anyio.sleep(1.1)

    async with make(transaction_timeout=1) as quick:
        with pytest.raises(FlamingockError, match="longer than its timeout of 1 s"):
            await change()

        assert await rows(quick) == []


async def test_a_block_is_not_run_again_when_its_commit_has_failed(couchbase_server, target):
    runs = []

    async def change() -> None:
        async with target.transaction() as session:
            runs.append(1)
            await insert(target, session, "a")

    with (
        couchbase_server.failing("MUTATE_IN", "refuse", key=RECORD, skip=1, status="NO_ACCESS"),
        pytest.raises(UnknownOutcomeError, match="may or may not have been done"),
    ):
        await change()

    assert runs == [1]
    assert await rows(target) == []


async def test_a_commit_that_is_not_answered_is_of_unknown_outcome(couchbase_server, make):
    async def change() -> None:
        async with quick.transaction() as session:
            await insert(quick, session, "a")
            await quick.insert_marker(session, "k", "c")

    async with make(transaction_timeout=2) as quick:
        with (
            couchbase_server.failing("MUTATE_IN", "lose", key=RECORD, skip=1, times=99),
            pytest.raises(UnknownOutcomeError),
        ):
            await change()

        assert await quick.claim_marker("k", "c") is MarkerOutcome.COMMITTED


async def test_an_operation_on_its_way_when_the_change_is_cut_off_is_not_done(
    couchbase_server, target
):
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    with (
        couchbase_server.failing("MUTATE_IN", "slow", key="a", seconds=0.3),
        anyio.move_on_after(0.1) as scope,
    ):
        async with target.transaction() as session:
            await insert(target, session, "a")
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert await rows(target) == []
    async with target.transaction() as session:
        await insert(target, session, "a")

    assert await rows(target) == ["a"]
    assert told == []


async def test_a_write_that_collides_fails_the_change(target):
    @change(id="a", author="tests", order="1", target_system="db")
    class Change:
        async def execute(self, session, collection) -> None:
            found = await session.get(collection, "a")
            await collection.upsert("a", {"by": "somebody else"})
            await session.replace(found, {"by": "change"})

    async with target.handles() as objects:
        await objects["collection"].insert("a", {})

    flamingock = Flamingock(
        changes=[Change], audit_store=MemoryAuditStore(), target_systems=[target]
    )
    with pytest.raises(ChangeFailedError) as error:
        await flamingock.run()

    assert isinstance(error.value.__cause__, TransactionOperationFailed)


async def test_a_claim_after_the_beginning_wins(target):
    async def change() -> None:
        async with target.transaction() as session:
            await insert(target, session, "a")
            assert await target.claim_marker("k", "c") is MarkerOutcome.ABORTED
            await target.insert_marker(session, "k", "c")

    with pytest.raises(LockLostError, match="'c'"):
        await change()

    assert await rows(target) == []


async def test_a_marker_in_an_open_transaction_is_busy(target):
    await target.claim_marker("other", "c")
    async with target.transaction() as session:
        await target.insert_marker(session, "k", "c")
        with pytest.raises(SystemBusyError, match="a transaction of somebody else holds it"):
            await target.claim_marker("k", "c")

        with pytest.raises(SystemBusyError, match="Try again"):
            async with target.transaction() as second:
                await target.insert_marker(second, "k", "c")

    assert await target.claim_marker("k", "c") is MarkerOutcome.COMMITTED


async def test_a_server_that_does_not_answer_is_busy(couchbase_server, target, impatient):
    await target.claim_marker("k", "c")
    with (
        couchbase_server.failing("LOOKUP_IN", "drop", key="k", times=99),
        pytest.raises(SystemBusyError),
    ):
        await target.claim_marker("k", "c")


async def test_a_server_that_is_away_at_the_first_claim_is_busy(couchbase_server, place, impatient):
    proxy = CouchbaseProxy(couchbase_server)
    try:
        async with (
            connected(proxy.url) as cluster,
            CouchbaseTargetSystem("db", cluster, BUCKET, **place) as target,
        ):
            await anyio.to_thread.run_sync(proxy.refuse)
            with pytest.raises(SystemBusyError, match="the server is away"):
                await target.claim_marker("k", "c")
    finally:
        await anyio.to_thread.run_sync(proxy.stop)


async def test_who_may_not_create_the_collection_of_the_markers_is_told(couchbase_server, place):
    async with (
        connected(couchbase_server.url(*READER)) as cluster,
        CouchbaseTargetSystem("db", cluster, BUCKET, **place) as reader,
    ):
        with pytest.raises(CouchbaseException):
            await reader.claim_marker("k", "c")


async def test_a_transaction_that_cannot_be_begun_is_told(couchbase_url, place):
    async with connected(couchbase_url) as other:
        closed = CouchbaseTargetSystem("db", other, BUCKET, **place)
        await closed.open()

    with pytest.raises(SystemBusyError, match="could not be begun, and nothing was done"):
        await closed.transaction().__aenter__()

    await closed.aclose()


async def seen_in_a_transaction(target, *keys) -> list[str]:
    found = []
    async with target.transaction() as session:
        for key in keys:
            with suppress(DocumentNotFoundException):
                await session.get(target.objects(session)["collection"], key)
                found.append(key)

    return found


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="the SDK 4.6.3 loses it")
async def test_what_is_committed_survives_when_the_sdk_cannot_read_it_to_tidy_up(
    couchbase_server, make
):
    records = TransactionKeyspace(bucket=BUCKET, scope="_default", collection="_default")
    tidying = {"cleanup_window": timedelta(seconds=1), "metadata_collection": records}
    keys = ("torn-1", "torn-2")
    async with make(transaction_timeout=1) as target:
        refused = {"key": "torn-", "how": "refuse", "status": "NO_ACCESS", "times": 99}
        with couchbase_server.failing("MUTATE_IN", skip=2, **refused):
            async with target.transaction() as session:
                for key in keys:
                    await insert(target, session, key)

        assert await seen_in_a_transaction(target, *keys) == list(keys)
        couchbase_server.forget()
        with couchbase_server.failing("LOOKUP_IN", **(refused | {"key": "torn-2"})):
            async with connected(couchbase_server.url(), **tidying) as other:
                _ = other.transactions  # begins with it
                # a share of the work is that of clients that have left, until they are forgotten
                with anyio.fail_after(90):
                    while ("INSERT", "torn-1", True) not in couchbase_server.calls():  # noqa: ASYNC110 - a process
                        await anyio.sleep(0.1)

                await anyio.sleep(0.5)

        assert await seen_in_a_transaction(target, *keys) == list(keys)
