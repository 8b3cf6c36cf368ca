"""The log of the Couchbase store: its segments, and its entries within transactions."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import anyio
import pytest
from acouchbase.collection import AsyncCollection
from acouchbase.transactions import AttemptContext

from aflamingock import Flamingock, Named, change
from aflamingock.exceptions import (
    AuditStoreError,
    FlamingockError,
    SequenceConflictError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.stores._couchbase_log import SEGMENT
from aflamingock.stores.couchbase import CouchbaseAuditStore
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets.couchbase import CouchbaseTargetSystem
from aflamingock.testing._log import chain
from tests.servers.couchbase.fixtures import (
    BUCKET,
    cluster,
    couchbase_server,
    couchbase_url,
    impatient,
    scope_name,
)
from tests.stores.kit import ENTRIES, last_numbers

__all__ = ["cluster", "couchbase_server", "couchbase_url", "impatient", "scope_name"]

STAGING, TAIL = "MUTATE_IN", "tail::shop"


@pytest.fixture
def make(cluster, scope_name):
    return lambda: CouchbaseAuditStore(cluster, BUCKET, scope_name=scope_name)


@pytest.fixture
async def store(make):
    async with make() as store:
        await store.create()
        yield store


@pytest.fixture
async def target(cluster, scope_name):
    target = CouchbaseTargetSystem(
        "db", cluster, BUCKET, scope_name=scope_name, collection_name="effects"
    )
    async with target:
        bucket = cluster.bucket(BUCKET)
        await bucket.collections().create_collection(scope_name, "effects")
        yield target


@pytest.fixture
async def shared(store, target):
    async with CouchbaseAuditStore.from_target_system(target) as other:
        yield target, other


@pytest.fixture
def log(cluster, store, scope_name):
    return cluster.bucket(BUCKET).scope(scope_name).collection("flamingockAuditLog")


async def numbers(store, **options) -> list[int]:
    return [entry.sequence async for entry in store.entries("shop", **options)]


async def test_a_long_log_is_sealed_in_segments(couchbase_server, store, log):
    entries = chain(5 * SEGMENT + 3)
    for entry in entries:
        await store.append([entry])

    tail = (await log.get(TAIL)).content_as[dict]
    assert SEGMENT <= len(tail["entries"]) < 2 * SEGMENT + 1
    assert tail["sealed"] * SEGMENT + len(tail["entries"]) == len(entries)
    assert len((await log.get("log::shop::1")).content_as[dict]["entries"]) == SEGMENT
    for after in (0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, len(entries) - 1):
        assert await numbers(store, after=after) == list(range(after + 1, len(entries) + 1))

    couchbase_server.forget()
    assert len(await store.last("shop", SEGMENT)) == SEGMENT
    assert [operation for operation, _, _ in couchbase_server.document_calls()] == ["LOOKUP_IN"]
    assert len(await store.last("shop", 999)) == len(entries)


async def test_who_died_after_sealing_leaves_no_trace(couchbase_server, store, make, impatient):
    entries = chain(3 * SEGMENT)
    for start in range(0, 2 * SEGMENT, SEGMENT):
        await store.append(entries[start : start + SEGMENT])

    with (
        couchbase_server.failing("REPLACE", "drop", times=99),
        pytest.raises(UnknownOutcomeError),
    ):
        await store.append([chain(3 * SEGMENT, author="dead")[2 * SEGMENT]])

    async with make() as other:
        assert await numbers(other) == list(range(1, 2 * SEGMENT + 1))
        await other.append(entries[2 * SEGMENT :])
        assert [entry async for entry in other.entries("shop")] == entries


async def test_a_segment_that_has_disappeared_is_told(store, log):
    entries = chain(3 * SEGMENT)
    for start in range(0, len(entries), SEGMENT):
        await store.append(entries[start : start + SEGMENT])

    await log.remove("log::shop::1")
    with pytest.raises(AuditStoreError, match="Segment 1 .* 'shop' has disappeared"):
        await numbers(store)


async def test_an_entry_whose_answer_was_lost_is_recognised(store, make):
    await store.append(ENTRIES[:2])
    async with make() as other:
        await other.append(ENTRIES)
        assert await numbers(other) == [1, 2, 3]


async def work(target, store, entries=ENTRIES[:1], key="effect") -> None:
    async with target.transaction() as session:
        await session.insert(target.objects(session)["collection"], key, {})
        await store.append(entries, session=session)


async def effects(target, *keys) -> list[str]:
    async with target.handles() as objects:
        found = [key for key in keys if (await objects["collection"].exists(key)).exists]

    return found


async def test_it_shares_the_transactions_of_its_cluster(shared, store, cluster):
    target, other = shared

    assert other.shares(target)
    assert store.shares(target)
    assert not MemoryAuditStore().shares(target)
    assert not CouchbaseAuditStore.from_url("couchbase://a:b@c", "x").shares(target)


async def test_entries_are_part_of_the_transaction_of_a_target(shared):
    target, store = shared
    with suppress(ZeroDivisionError):
        async with target.transaction() as session:
            await store.append(ENTRIES[:1], session=session)
            raise ZeroDivisionError

    assert await last_numbers(store) == []
    async with target.transaction() as session:
        await store.append(ENTRIES[:1], session=session)
        assert await last_numbers(store) == []

    assert await last_numbers(store) == [1]
    await work(target, store, ENTRIES[1:])
    assert await last_numbers(store) == [3, 2, 1]
    assert await effects(target, "effect") == ["effect"]


async def test_a_taken_number_ends_the_transaction_of_a_target(shared):
    target, store = shared
    await store.append(ENTRIES[:2])
    with pytest.raises(SequenceConflictError) as error:
        await work(target, store, chain(2, author="zombie")[1:])

    assert error.value.sequence == 2
    assert error.value.state is ENTRIES[1].state
    assert await effects(target, "effect") == []


async def test_a_number_that_is_taken_meanwhile_ends_the_transaction_of_a_target(shared, store):
    target, other = shared
    await store.append(ENTRIES[:1])
    found = []

    async def change() -> None:
        async with target.transaction() as session:
            log = store._keyspace.collection("flamingockAuditLog")
            found.append(await session.get(log, TAIL))
            await store.append(ENTRIES[1:])
            await session.insert(target.objects(session)["collection"], "effect", {})
            await other.append(chain(2, author="zombie")[1:], session=session)

    with pytest.raises(SequenceConflictError) as error:
        await change()

    assert error.value.sequence == 2
    assert await last_numbers(store) == [3, 2, 1]
    assert await effects(target, "effect") == []


async def test_a_successor_waits_for_a_transaction_that_holds_the_end_of_the_log(shared, store):
    target, other = shared
    await store.append(ENTRIES[:1])
    successor = chain(2, author="successor")[1:]
    async with target.transaction() as session:
        await other.append(ENTRIES[1:2], session=session)
        with pytest.raises(SystemBusyError, match="holds the end of the log"):
            await store.append(successor)

    with pytest.raises(SequenceConflictError):
        await store.append(successor)

    assert await last_numbers(store) == [2, 1]


async def test_a_successor_goes_on_after_a_transaction_that_was_rolled_back(shared, store):
    target, other = shared
    await store.append(ENTRIES[:1])
    with suppress(ZeroDivisionError):
        async with target.transaction() as session:
            await other.append(chain(2, author="zombie")[1:], session=session)
            raise ZeroDivisionError

    await store.append(ENTRIES[1:])
    assert [entry async for entry in store.entries("shop")] == ENTRIES


async def test_what_is_committed_is_seen_before_the_server_has_tidied_up(
    couchbase_server, shared, store
):
    target, other = shared
    await store.append(ENTRIES[:1])
    with couchbase_server.failing(STAGING, "refuse", key=TAIL, skip=1, status="NO_ACCESS"):
        await work(target, other, ENTRIES[1:2])

    assert await last_numbers(store) == [2, 1]
    assert await numbers(store, after=1) == [2]
    with pytest.raises(SequenceConflictError):
        await store.append(chain(2, author="successor")[1:])


async def test_another_transaction_with_the_same_number_is_busy(shared):
    target, store = shared
    await store.append(ENTRIES[:1])
    async with target.transaction() as session:
        await store.append(ENTRIES[1:2], session=session)
        with pytest.raises(SystemBusyError, match="nothing was done"):
            await work(target, store, chain(2, author="zombie")[1:])

    assert await last_numbers(store) == [2, 1]
    assert await effects(target, "effect") == []


async def test_plain_appends_and_transactions_at_once_make_one_history(shared, store):
    target, other = shared
    await store.append(ENTRIES[:1])
    won = []

    async def append(author: str, *, within: bool) -> None:
        for sequence in range(2, 7):
            entry = chain(sequence, author=author)[-1]
            with suppress(SequenceConflictError, SystemBusyError, FlamingockError):
                if within:
                    await work(target, other, [entry], key=f"{author}{sequence}")
                else:
                    await store.append([entry])

                won.append((sequence, author))

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: append("plain", within=False))
        group.start_soon(lambda: append("transaction", within=True))

    log = [(entry.sequence, entry.author) async for entry in store.entries("shop", after=1)]
    assert log == sorted(won)
    for sequence in range(2, 7):
        there = await effects(target, f"transaction{sequence}")
        assert bool(there) == ((sequence, "transaction") in won)


async def test_no_entry_is_written_after_a_transaction(shared):
    target, store = shared
    async with target.transaction() as session:
        pass

    with pytest.raises(FlamingockError, match="over"):
        await store.append(ENTRIES[:1], session=session)


@change(id="add-a", author="shop-team", order="1", target_system="db")
class AddA:
    async def execute(self, session: AttemptContext, collection: AsyncCollection) -> None:
        await session.insert(collection, "a", {"by": "execute"})

    async def rollback(self, session: AttemptContext, collection: AsyncCollection) -> None:
        await session.remove(await session.get(collection, "a"))


@change(id="add-b", author="shop-team", order="2", target_system="db", transactional=False)
class AddB:
    async def execute(self, collection, name: Annotated[str, Named("name")]) -> None:
        await collection.insert(name, {})

    async def rollback(self, collection, name: Annotated[str, Named("name")]) -> None:
        await collection.remove(name)


@pytest.mark.parametrize("transaction_mode", ["shared", "separate"])
async def test_a_run_and_its_undo(shared, transaction_mode):
    target, store = shared
    flamingock = Flamingock(
        changes=[AddA, AddB],
        audit_store=store,
        target_systems=[target],
        dependencies={"name": "b"},
        transaction_mode=transaction_mode,
    )
    async with flamingock:
        await flamingock.run()
        assert await effects(target, "a", "b") == ["a", "b"]
        await flamingock.validate()
        await flamingock.undo(last=2)
        assert await effects(target, "a", "b") == []
        strategies = {
            entry.tx_strategy.value
            async for entry in flamingock.audit.entries()
            if entry.change_id == "add-a"
        }

    shared_or_not = "SHARED" if transaction_mode == "shared" else "SEPARATE_WITH_MARKER"
    assert strategies == {f"TX_{shared_or_not}"}
