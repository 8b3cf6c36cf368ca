"""The Couchbase store within the transactions of a target, and in a run."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Annotated

import anyio
import pytest
from acouchbase.collection import AsyncCollection
from acouchbase.transactions import AttemptContext

from aflamingock import Flamingock, Named, change
from aflamingock.exceptions import FlamingockError, SequenceConflictError, SystemBusyError
from aflamingock.stores.couchbase import CouchbaseAuditStore
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets._couchbase_transaction import TransactionContext, options_of
from aflamingock.testing._log import chain
from aflamingock.testing._patience import insist
from tests.servers.couchbase.fixtures import (
    BUCKET,
    cluster,
    connected,
    couchbase_server,
    couchbase_url,
    scope_name,
)
from tests.stores.couchbase import TAIL, effects, make, numbers, shared, store
from tests.stores.kit import ENTRIES, last_numbers

__all__ = ["cluster", "couchbase_server", "couchbase_url", "make", "scope_name", "shared", "store"]

STAGING = "MUTATE_IN"


async def work(target, store, entries=ENTRIES[:1], key="effect") -> None:
    async with target.transaction() as session:
        await session.insert(target.objects(session)["collection"], key, {})
        await store.append(entries, session=session)


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


async def test_what_a_transaction_writes_is_durable(couchbase_server, shared):
    target, store = shared
    await store.append(ENTRIES[:1])
    couchbase_server.forget()
    await work(target, store, ENTRIES[1:])
    staged = [call for call in couchbase_server.calls() if call.operation == STAGING]
    assert len(staged) >= 5
    assert all(call.is_durable for call in staged)


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


async def test_a_transaction_that_was_left_behind_is_tidied_up(
    couchbase_url, scope_name, cluster, store
):
    staged = anyio.Event()

    async def die(native) -> None:
        await store.append(chain(2, author="dead")[1:], session=TransactionContext(native))
        staged.set()
        await anyio.sleep_forever()

    await store.append(ENTRIES[:1])
    async with connected(couchbase_url, cleanup_window=timedelta(seconds=1)) as other:
        task = asyncio.create_task(cluster.transactions.run(die, options_of(0.5)))
        await staged.wait()
        task.cancel()  # the SDK neither commits nor rolls back then, as if it had been killed
        async with CouchbaseAuditStore(other, BUCKET, scope_name=scope_name) as successor:
            assert await last_numbers(successor) == [1]
            await insist(lambda: successor.append(ENTRIES[1:]))

    assert [entry async for entry in store.entries("shop")] == ENTRIES


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
