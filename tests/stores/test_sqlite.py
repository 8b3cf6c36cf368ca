"""The SQLite store passes the suite, and what is special about it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import aiosqlite
import anyio
import pytest
from anyio.to_thread import run_sync

from aflamingock.abc import AuditStore
from aflamingock.exceptions import AuditStoreError, AuditStoreSchemaError, ConfigurationError
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from aflamingock.testing import AuditStoreSuite
from tests.stores.kit import (
    ENTRIES,
    FIRST,
    check_that_it_must_be_open,
    last_numbers,
    names_in,
    query,
)


class TestSQLiteAuditStore(AuditStoreSuite):
    @pytest.fixture
    def make_store(self, tmp_path):
        return lambda: SQLiteAuditStore(tmp_path / "audit.db")


class TestInTheFileOfATarget(AuditStoreSuite):
    """The same in somebody's file that is in the older journal mode, under other names."""

    @pytest.fixture
    def make_store(self, tmp_path):
        path = tmp_path / "shop.db"
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE users (id)")
        connection.close()

        def make() -> AuditStore:
            return SQLiteAuditStore.from_target_system(
                SQLiteTargetSystem("shop", path),
                audit_repository_name="select",
                lock_repository_name="lock",
                issue_repository_name="issue",
            )

        return make


async def read_everything(store) -> None:
    assert list(await store.last("shop", 8)) == []
    assert [entry async for entry in store.entries("shop")] == []
    assert await store.read_record("k") is None
    assert list(await store.issues("shop")) == []


async def test_opening_and_reading_create_no_file(tmp_path, path):
    async with SQLiteAuditStore(path) as store:
        await read_everything(store)
        assert await run_sync(names_in, tmp_path) == []

    assert await run_sync(names_in, tmp_path) == []


async def test_nothing_is_in_a_file_of_somebody_else(tmp_path, path):
    async with aiosqlite.connect(path) as other:
        await other.execute("CREATE TABLE users (id)")

    async with SQLiteAuditStore(path) as store:
        await read_everything(store)

    assert await run_sync(names_in, tmp_path) == ["audit.db"]


async def test_what_is_missing_is_told_with_its_file_and_can_be_created_by_hand(path):
    async with SQLiteAuditStore(path, auto_create=False) as store:
        with pytest.raises(AuditStoreError, match="CREATE TABLE"):
            await store.create()

        commands = await store.verify_schema()
        assert len(commands) == 5
        for command in commands:
            async with aiosqlite.connect(command.partition("; -- in ")[2]) as other:
                await other.execute(command)

        assert await store.verify_schema() == []
        await store.create()
        await store.append(ENTRIES)
        assert await store.swap_record(None, FIRST)


async def test_an_index_that_is_missing_is_created(store, path):
    async with aiosqlite.connect(path) as other:
        await other.execute("DROP INDEX flamingockAuditLog_change")

    [command] = await store.verify_schema()
    assert command.startswith("CREATE INDEX")
    await store.create()
    assert await store.verify_schema() == []


async def test_what_others_create_later_is_found(path):
    async with SQLiteAuditStore(path) as reader:
        await read_everything(reader)
        async with SQLiteAuditStore(path) as writer:
            await writer.create()
            await writer.append(ENTRIES)
            await writer.swap_record(None, FIRST)

        assert await last_numbers(reader) == [3, 2, 1]
        assert await reader.read_record(FIRST.key) is not None


async def test_a_new_file_is_in_wal_mode_and_durable(store, path):
    for name in (path, f"{path}.lease"):
        async with aiosqlite.connect(name) as other:
            assert await query(other, "PRAGMA journal_mode") == [("wal",)]

    connection = await store._log._connected()
    assert await query(connection, "PRAGMA synchronous") == [(2,)]


async def test_a_file_with_tables_keeps_its_journal_mode(path):
    async with aiosqlite.connect(path) as other:
        await other.execute("CREATE TABLE users (id)")
        async with SQLiteAuditStore(path) as store:
            await store.create()

        assert await query(other, "PRAGMA journal_mode") == [("delete",)]


async def test_many_who_begin_at_once_share_one_connection(store, path):
    await store.append(ENTRIES)
    async with SQLiteAuditStore(path) as fresh, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(fresh.last, "shop", 1)


async def test_tables_are_named_as_asked(path):
    async with SQLiteAuditStore(path, issue_repository_name="Faelle") as store:
        await store.create()

    async with aiosqlite.connect(path) as other:
        rows = await other.execute_fetchall(
            "SELECT name FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
        )
        [(columns,)] = await other.execute_fetchall(
            "SELECT count(*) FROM pragma_table_info('flamingockAuditLog')"
        )

    assert [name for (name,) in rows] == [
        "Faelle",
        "Faelle_status",
        "flamingockAuditLog",
        "flamingockAuditLog_change",
    ]
    assert columns == len(ENTRIES[0].to_document())


async def test_writing_before_creation_says_what_to_do(path):
    async with SQLiteAuditStore(path) as store:
        for _ in range(2):
            for write in (store.append(ENTRIES), store.swap_record(None, FIRST)):
                with pytest.raises(AuditStoreSchemaError, match=r"has no such table.*create"):
                    await write

            for name in (path, f"{path}.lease"):
                async with aiosqlite.connect(name) as other:
                    await other.execute("CREATE TABLE IF NOT EXISTS users (id)")


CREATE = """
import asyncio, sys
from aflamingock.exceptions import SequenceConflictError
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.testing._log import chain
from aflamingock.testing._patience import insist

async def main():
    async with SQLiteAuditStore(sys.argv[1]) as store:
        await store.create()
        try:
            await insist(lambda: store.append(chain(1)))
            print("won")
        except SequenceConflictError:
            print("lost")

input()
asyncio.run(main())
"""


@pytest.mark.processes
async def test_eight_processes_create_at_once_and_one_writes_first(path):
    def start() -> list[str]:
        command = [sys.executable, "-W", "error", "-c", CREATE, str(path)]
        processes = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
            )
            for _ in range(8)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

        outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
        assert [process.returncode for process in processes] == [0] * 8
        return sorted(outputs)

    assert await run_sync(start) == ["lost"] * 7 + ["won"]


def test_a_store_says_what_it_can():
    assert SQLiteAuditStore.exclusive_transactions
    assert SQLiteAuditStore.single_host
    assert not MemoryAuditStore.exclusive_transactions


def test_its_name_is_short():
    assert repr(SQLiteAuditStore("audit.db")) == "SQLiteAuditStore('audit.db')"


@pytest.mark.parametrize("name", ["", "a-b", 'a"b', "a" * 56, "SQLITE_x", "FlamingockLOCK"])
def test_an_odd_name_of_a_repository_is_refused(name):
    with pytest.raises(ConfigurationError, match="repositor"):
        SQLiteAuditStore("audit.db", audit_repository_name=name)


def test_the_markers_and_the_log_cannot_have_one_name():
    with pytest.raises(ConfigurationError, match="different names"):
        SQLiteAuditStore.from_target_system(
            SQLiteTargetSystem("db", "x.db", marker_repository_name="flamingockIssues")
        )


async def test_it_must_be_open(path):
    await check_that_it_must_be_open(SQLiteAuditStore(path))
