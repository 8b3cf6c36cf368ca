"""The SQLite store beside transactions of others, and within those of a target."""

from __future__ import annotations

import aiosqlite
import pytest

from aflamingock.exceptions import FlamingockError, SequenceConflictError, SystemBusyError
from aflamingock.stores import _sqlite as plumbing
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.stores.kit import ENTRIES, FIRST, SECOND, check_shared_transaction, last_numbers, query


async def test_the_lease_is_renewed_while_a_transaction_holds_the_log(store, path):
    await store.swap_record(None, FIRST)
    async with aiosqlite.connect(path, isolation_level=None) as other:
        await other.execute("BEGIN EXCLUSIVE")
        async with store.open_side_channel() as channel:
            assert await channel.swap_record(FIRST, SECOND)

        with pytest.raises(SystemBusyError, match=r"audit\.db is locked"):
            await store.append(ENTRIES)

        await other.execute("ROLLBACK")

    await store.append(ENTRIES)


async def test_a_locked_lease_is_busy(store, path):
    await store.swap_record(None, FIRST)
    async with aiosqlite.connect(f"{path}.lease", isolation_level=None) as other:
        await other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SystemBusyError, match=r"audit\.db\.lease is locked"):
            await store.swap_record(FIRST, SECOND)


async def test_creation_gives_up_on_a_file_that_is_locked(path, monkeypatch):
    monkeypatch.setattr(plumbing, "_CREATION_TIME", 0.6)
    async with aiosqlite.connect(path, isolation_level=None) as other:
        await other.execute("BEGIN EXCLUSIVE")
        async with SQLiteAuditStore(path) as store:
            with pytest.raises(SystemBusyError):
                await store.create()

            with pytest.raises(SystemBusyError):
                await store.last("shop", 1)


async def test_entries_are_part_of_the_transaction_of_a_target(path):
    target = SQLiteTargetSystem("db", path)
    async with target, SQLiteAuditStore.from_target_system(target) as store:
        await store.create()
        await check_shared_transaction(store, target)


async def test_a_taken_number_ends_the_transaction_of_a_target(path):
    target = SQLiteTargetSystem("db", path)
    async with target, SQLiteAuditStore.from_target_system(target) as store:
        await store.create()
        await store.append(ENTRIES[:2])

        async def change() -> None:
            async with target.transaction() as session:
                await session.execute("CREATE TABLE effect (x)")
                await store.append(ENTRIES[1:2], session=session)

        with pytest.raises(SequenceConflictError) as error:
            await change()

        assert error.value.sequence == 2
        assert error.value.state is ENTRIES[1].state
        async with target.transaction() as session:
            tables = await query(session, "SELECT name FROM sqlite_master WHERE name = 'effect'")

        assert tables == []


async def test_no_entry_is_written_where_the_transaction_has_been_ended(path):
    target = SQLiteTargetSystem("db", path)
    async with target, SQLiteAuditStore.from_target_system(target) as store:
        await store.create()

        async def change() -> None:
            async with target.transaction() as session:
                await session.set_authorizer(None)
                await session.rollback()
                await store.append(ENTRIES, session=session)

        with pytest.raises(FlamingockError, match="ended by a statement"):
            await change()

        assert await last_numbers(store) == []
