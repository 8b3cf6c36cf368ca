"""The SQLite store passes the suite, and what is special about it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import pytest
from anyio.to_thread import run_sync

from aflamingock._records import Record
from aflamingock.abc import AuditStore
from aflamingock.exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    AuditStorePermissionError,
    ConfigurationError,
    FlamingockError,
    SequenceConflictError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.stores import _sqlite as plumbing
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.plain import NonTransactionalTargetSystem
from aflamingock.targets.sqlite import SQLiteTargetSystem
from aflamingock.testing import AuditStoreSuite
from aflamingock.testing._log import chain

ENTRIES = chain(3)
FIRST = Record(key="lease:shop", value={"number": 1})
SECOND = Record(key="lease:shop", value={"number": 2})


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


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.db"


@pytest.fixture
async def store(path):
    async with SQLiteAuditStore(path) as store:
        await store.create()
        yield store


async def query(connection: aiosqlite.Connection, statement: str) -> list[Any]:
    return list(await connection.execute_fetchall(statement))


async def last_numbers(store) -> list[int]:
    return [entry.sequence for entry in await store.last("shop", 9)]


async def read_everything(store) -> None:
    assert list(await store.last("shop", 8)) == []
    assert [entry async for entry in store.entries("shop")] == []
    assert await store.read_record("k") is None
    assert list(await store.issues("shop")) == []


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


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
            with pytest.raises(AuditStoreError, match=r"audit\.db has no such table.*create"):
                await store.append(ENTRIES)

            async with aiosqlite.connect(path) as other:
                await other.execute("CREATE TABLE IF NOT EXISTS users (id)")


async def test_the_first_swap_creates_the_file_of_the_leases_only(tmp_path, path):
    async with SQLiteAuditStore(path) as store:
        assert not await store.swap_record(FIRST, SECOND)
        assert await run_sync(names_in, tmp_path) == []

        assert await store.swap_record(None, FIRST)

    assert await run_sync(names_in, tmp_path) == ["audit.db.lease"]


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
        with suppress(ZeroDivisionError):
            async with target.transaction() as session:
                await store.append(ENTRIES[:1], session=session)
                raise ZeroDivisionError

        assert await last_numbers(store) == []
        async with target.transaction() as session:
            await store.append(ENTRIES[:1], session=session)
            assert await last_numbers(store) == []

        assert await last_numbers(store) == [1]


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


async def test_a_missing_folder_is_named(tmp_path):
    async with SQLiteAuditStore(tmp_path / "missing" / "audit.db") as store:
        for call in (store.create(), store.last("shop", 1), store.append(ENTRIES)):
            with pytest.raises(
                AuditStoreConnectionError,
                match=r"Unable to connect to audit store: the folder .*missing does not exist",
            ) as error:
                await call

            assert isinstance(error.value.__cause__, sqlite3.OperationalError)


async def test_a_folder_in_the_place_of_the_file_is_named(path):
    await anyio.Path(path).mkdir()
    async with SQLiteAuditStore(path) as store:
        with pytest.raises(AuditStoreConnectionError, match="not a file"):
            await store.create()


async def test_a_file_that_is_no_database_is_named(path):
    await anyio.Path(path).write_text("Dear diary, " * 100)
    async with SQLiteAuditStore(path) as store:
        for call in (store.create(), store.last("shop", 1)):
            with pytest.raises(
                AuditStoreConnectionError,
                match=r"Unable to connect to audit store: .*audit\.db is not a SQLite database",
            ) as error:
                await call

            assert isinstance(error.value.__cause__, sqlite3.DatabaseError)


@contextmanager
def ordinary_user():
    """Give up the rights of root, for which there are no permissions."""
    if os.geteuid() != 0:
        yield
        return

    try:
        os.seteuid(65534)
    except OSError as exc:
        pytest.skip(f"cannot be another user: {exc}")

    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """Return a folder that every user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


async def test_a_folder_that_may_not_be_written_is_named(open_folder):
    open_folder.chmod(0o555)
    with ordinary_user():
        async with SQLiteAuditStore(open_folder / "audit.db") as store:
            with pytest.raises(
                AuditStorePermissionError,
                match=r"Insufficient permissions to create collections/tables: .*audit\.db cannot",
            ) as error:
                await store.create()

    assert isinstance(error.value.__cause__, sqlite3.OperationalError)


async def test_a_file_that_may_not_be_written_is_named_and_can_be_read(open_folder):
    path = open_folder / "audit.db"
    async with aiosqlite.connect(path) as other:
        await other.execute("CREATE TABLE users (id)")

    async with SQLiteAuditStore(path) as store:
        await store.create()
        await store.append(ENTRIES)

    await run_sync(path.chmod, 0o444)
    with ordinary_user():
        async with SQLiteAuditStore(path) as store:
            assert await last_numbers(store) == [3, 2, 1]
            with pytest.raises(AuditStorePermissionError, match=r"audit\.db cannot be written"):
                await store.append(chain(4)[3:])


async def test_a_full_disk_is_named_and_nothing_is_written(store):
    connection = await store._log._connected()
    await connection.execute("PRAGMA max_page_count=1")
    with pytest.raises(AuditStoreError, match=r"disk of the audit store .*audit\.db is full"):
        await store.append(chain(3, error_trace="x" * 20_000))

    await connection.execute("PRAGMA max_page_count=100000")
    assert await last_numbers(store) == []


async def test_a_damaged_file_is_named(store, path):
    await store.append(chain(300))
    await store.aclose()
    async with await anyio.open_file(path, "r+b") as file:
        for page in range(2, 60):
            await file.seek(page * 4096)
            await file.write(b"\xff" * 4096)

    await store.open()
    with pytest.raises(AuditStoreError, match=r"audit\.db is damaged"):
        await store.last("shop", 300)


async def test_another_error_passes_its_text_on(store):
    connection = await store._log._connected()
    await connection.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON flamingockAuditLog "
        "BEGIN SELECT raise(ABORT, 'append-only {x}'); END"
    )
    with pytest.raises(AuditStoreError, match=r"audit\.db refused: append-only \{x\}"):
        await store.append(ENTRIES)


async def test_a_disk_that_fails_leaves_the_outcome_open(store):
    """SQLite reports a write beyond the limit of a file's size as an error of the disk."""
    resource = pytest.importorskip("resource")
    await store.append(ENTRIES[:1])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, hard))
    try:
        with pytest.raises(UnknownOutcomeError, match=r"audit\.db failed during a write"):
            await store.append(chain(3, error_trace="x" * 20_000)[1:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert await last_numbers(store) == [1]


@pytest.mark.parametrize(
    "name",
    ["a b.db", "100%.db", "a%20b.db", "q?mode=memory", "a#b.db", "ü🦩.db", "a'b\"c.db", "\n"],
)
async def test_odd_names_of_files_are_names(tmp_path, name):
    async with SQLiteAuditStore(str(tmp_path / name)) as store:
        await store.create()
        await store.append(ENTRIES)

    found = await run_sync(names_in, tmp_path)
    assert found == sorted([name, f"{name}.lease"])


async def test_a_name_that_is_no_unicode_is_a_name(tmp_path):
    name = os.fsdecode(b"caf\xe9.db")
    try:
        await anyio.Path(tmp_path / "caf\udce9").write_text("")
    except OSError:
        pytest.skip("the file system takes Unicode only")

    async with SQLiteAuditStore(tmp_path / name) as store:
        await store.create()
        assert await anyio.Path(tmp_path / name).exists()


async def test_a_relative_path_stays_where_it_was_when_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with SQLiteAuditStore("audit.db") as store:
        other = tmp_path / "other"
        await anyio.Path(other).mkdir()
        await run_sync(monkeypatch.chdir, other)
        await store.create()

    assert await anyio.Path(tmp_path / "audit.db").exists()


async def test_a_link_leads_to_the_same_log_and_lease(tmp_path, path):
    link = tmp_path / "link.db"
    await anyio.Path(link).symlink_to(path)
    async with SQLiteAuditStore(link) as one, SQLiteAuditStore(path) as other:
        await one.create()
        await one.swap_record(None, FIRST)
        await one.append(ENTRIES)

        assert not await other.swap_record(None, SECOND)
        assert await last_numbers(other) == [3, 2, 1]


async def test_a_transaction_is_shared_with_a_target_in_the_same_file(tmp_path, path):
    link = tmp_path / "link.db"
    await anyio.Path(link).symlink_to(path)
    target = SQLiteTargetSystem("db", path)
    linked = SQLiteTargetSystem("db", link)
    other = SQLiteTargetSystem("db", tmp_path / "other.db")
    async with SQLiteAuditStore(path) as store, target, linked, other:
        assert store.shares(target)
        assert store.shares(linked)
        assert SQLiteAuditStore.from_target_system(linked).shares(linked)
        assert not store.shares(other)
        assert not store.shares(NonTransactionalTargetSystem("plain"))


def test_a_transaction_is_shared_before_anything_is_open(tmp_path, path):
    link = tmp_path / "link.db"
    link.symlink_to(path)

    assert SQLiteAuditStore(link).shares(SQLiteTargetSystem("db", path))
    assert not SQLiteAuditStore(link).shares(SQLiteTargetSystem("db", tmp_path / "other.db"))


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


@pytest.mark.parametrize("bad", ["", ":memory:", "file:x.db", "a\0b"])
def test_what_is_no_path_of_a_file_is_refused(bad):
    with pytest.raises(ConfigurationError):
        SQLiteAuditStore(bad)


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
    store = SQLiteAuditStore(path)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="not open"):
            await store.last("shop", 1)

        await store.open()
        await store.aclose()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/mnt/share/audit.db", "nfs4"),
        ("/mnt/share/local/audit.db", None),
        ("/mnt/with blank/audit.db", "cifs"),
        ("/mnt/shared/audit.db", None),
        ("/mnt/host/audit.db", None),
        ("relative", None),
    ],
)
def test_a_network_file_system_is_told_by_the_mounts(tmp_path, path, kind):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "overlay / overlay rw 0 0\n"
        "server:/x /mnt/share nfs4 rw 0 0\n"
        "/dev/sda1 /mnt/share/local ext4 rw 0 0\n"
        "//server/x /mnt/with\\040blank cifs rw 0 0\n"
        "host /mnt/host 9p rw 0 0\n"
    )

    assert plumbing._network_file_system(path, str(mounts)) == kind


def test_where_no_mounts_are_known_nothing_is_refused(tmp_path):
    assert plumbing._network_file_system("/x", str(tmp_path / "missing")) is None


async def test_a_network_file_system_is_refused(store, monkeypatch):
    monkeypatch.setattr(plumbing, "_network_file_system", lambda path: "nfs")
    with pytest.raises(AuditStoreError, match="network file system"):
        await store.create()
