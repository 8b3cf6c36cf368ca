"""What the SQLite store says when it cannot work."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import contextmanager
from pathlib import Path

import aiosqlite
import anyio
import pytest
from anyio.to_thread import run_sync

from aflamingock.exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    AuditStoreIndexError,
    AuditStorePermissionError,
    UnknownOutcomeError,
)
from aflamingock.stores.sql import SQLAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.testing._log import chain
from tests.servers.sql import excuse_drivers
from tests.stores.kit import ENTRIES, last_numbers


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


@pytest.mark.parametrize(
    "kind", [SQLiteAuditStore, lambda path: SQLAuditStore.from_url(f"sqlite:///{path}")]
)
@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("CREATE TABLE flamingockAuditLog (service, sequence)", 'table "flamingockAuditLog"'),
        ("CREATE VIEW flamingockIssues AS SELECT 1", 'table "flamingockIssues"'),
        ("CREATE TABLE flamingockLock (token, recordKey PRIMARY KEY)", 'table "flamingockLock"'),
        (
            "DROP INDEX flamingockIssues_status; "
            "CREATE INDEX flamingockIssues_status ON flamingockIssues (error)",
            'index "flamingockIssues_status"',
        ),
    ],
)
async def test_a_table_or_index_of_another_shape_is_told(path, kind, statement, told, blockbuster):
    excuse_drivers(blockbuster)
    if statement.startswith("DROP"):
        async with SQLiteAuditStore(path) as store:
            await store.create()

    file = f"{path}.lease" if "Lock" in statement else path
    async with aiosqlite.connect(file) as other:
        await other.executescript(statement)

    async with kind(path) as store:
        for call in (store.create, store.verify_schema):
            with pytest.raises(AuditStoreIndexError, match="Failed to create") as error:
                await call()

            assert f"the {told} in {file} is there already" in str(error.value)
            assert str(error.value).endswith(f"; -- in {file}")


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
    resource = pytest.importorskip("resource", reason="files have no limit here")
    await store.append(ENTRIES[:1])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, hard))
    try:
        with pytest.raises(UnknownOutcomeError, match=r"audit\.db failed during a write"):
            await store.append(chain(3, error_trace="x" * 20_000)[1:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert await last_numbers(store) == [1]
