"""The MongoDB store within the transactions of a target, and beside them."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest

from aflamingock.exceptions import FlamingockError, SequenceConflictError, SystemBusyError
from aflamingock.stores.mongodb import MongoDBAuditStore
from tests.stores import mongodb as kit
from tests.stores.kit import ENTRIES, FIRST, SECOND, check_shared_transaction, last_numbers
from tests.stores.mongodb import effects, side_channel, work

client = kit.client
shared = kit.shared


async def test_entries_are_part_of_the_transaction_of_a_target(shared):
    target, store = shared
    await check_shared_transaction(store, target)
    await work(target, store, ENTRIES[1:])
    assert await last_numbers(store) == [3, 2, 1]
    assert await effects(target) == 1


async def test_a_taken_number_ends_the_transaction_of_a_target(shared):
    target, store = shared
    await store.append(ENTRIES[:2])
    with pytest.raises(SequenceConflictError) as error:
        await work(target, store, ENTRIES[1:2])

    assert error.value.sequence == 2
    assert error.value.state is ENTRIES[1].state
    assert await effects(target) == 0


async def test_a_number_that_is_taken_meanwhile_ends_the_transaction_of_a_target(shared):
    target, store = shared

    async def change() -> None:
        async with target.transaction() as session:
            await target.objects(session)["db"].effects.insert_one({}, session=session)
            await store.append(ENTRIES[:2])
            await store.append(ENTRIES[1:], session=session)

    with pytest.raises(SequenceConflictError) as error:
        await change()

    assert error.value.sequence == 2
    assert await last_numbers(store) == [2, 1]
    assert await effects(target) == 0


async def test_another_transaction_with_the_same_number_is_busy(shared):
    target, store = shared

    async def outer() -> None:
        async with target.transaction() as session:
            await store.append(ENTRIES[:1], session=session)
            with pytest.raises(SystemBusyError, match="nothing was done"):
                await work(target, store)

    await outer()
    assert await last_numbers(store) == [1]
    assert await effects(target) == 0


async def test_no_entry_is_written_where_the_transaction_has_been_ended(shared):
    target, store = shared

    async def change() -> None:
        async with target.transaction() as session:
            await type(session).abort_transaction(session)
            await store.append(ENTRIES, session=session)

    with pytest.raises(FlamingockError, match="was ended by the code in it"):
        await change()

    assert await last_numbers(store) == []


async def test_what_the_store_does_by_itself_is_not_part_of_a_transaction(shared, mongodb_url):
    target, store = shared
    other = MongoDBAuditStore.from_url(mongodb_url, target.database_name)
    with suppress(ZeroDivisionError):
        async with other, target.transaction() as session:
            await target.objects(session)["db"].effects.insert_one({}, session=session)
            await store.append(ENTRIES[:1])
            await store.swap_record(None, FIRST)
            await other.append(ENTRIES[1:2])
            assert await last_numbers(other) == [2, 1]
            raise ZeroDivisionError

    assert await last_numbers(store) == [2, 1]
    assert await store.read_record(FIRST.key) is not None
    assert await effects(target) == 0


async def test_only_the_same_client_shares_transactions(shared, connect, mongodb_url):
    target, _ = shared
    assert MongoDBAuditStore(target.client, "other").shares(target)
    assert not MongoDBAuditStore(connect(mongodb_url), target.database_name).shares(target)
    assert not MongoDBAuditStore.from_url(mongodb_url, target.database_name).shares(target)


async def test_the_lease_is_renewed_while_a_transaction_is_open(shared):
    target, store = shared
    await store.swap_record(None, FIRST)
    async with target.transaction() as session:
        await store.append(ENTRIES, session=session)
        async with side_channel(store) as channel:
            assert await channel.swap_record(FIRST, SECOND)


async def test_many_append_at_one_number_while_a_transaction_holds_it(shared):
    target, store = shared
    refused = []

    async def append() -> None:
        with pytest.raises(SequenceConflictError) as error:
            await store.append(ENTRIES[:1])

        refused.append(error.value.sequence)

    async with anyio.create_task_group() as group, target.transaction() as session:
        await store.append(ENTRIES[:1], session=session)
        for _ in range(3):
            group.start_soon(append)

        await anyio.sleep(0.1)

    assert refused == [1, 1, 1]
    assert await last_numbers(store) == [1]
