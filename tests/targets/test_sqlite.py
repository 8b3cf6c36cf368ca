"""The SQLite target passes the suite, and what is special about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import aiosqlite
import anyio
import pytest

from aflamingock._states import MarkerOutcome
from aflamingock.exceptions import (
    ConfigurationError,
    FlamingockError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.targets import sqlite as module
from aflamingock.targets.sqlite import SQLiteTargetSystem
from aflamingock.testing import TargetSystemSuite


async def connection_of(objects: Mapping[str, Any]) -> aiosqlite.Connection:
    db: aiosqlite.Connection = objects["db"]
    await db.execute("CREATE TABLE IF NOT EXISTS written (value TEXT)")
    return db


class TestSQLiteTargetSystem(TargetSystemSuite):
    @pytest.fixture
    def make_target(self, tmp_path):
        return lambda: SQLiteTargetSystem("db", tmp_path / "target.db")

    async def write(self, objects, value):
        db = await connection_of(objects)
        await db.execute("INSERT INTO written VALUES (?)", (value,))

    async def read(self, objects):
        db = await connection_of(objects)
        return [value for (value,) in await db.execute_fetchall("SELECT value FROM written")]

    async def commit(self, objects):
        await objects["db"].commit()

    async def roll_back(self, objects):
        await objects["db"].rollback()


class TestInAnOlderJournalMode(TestSQLiteTargetSystem):
    """The same with a file that is in WAL mode; SQLite's default is the mode before it."""

    @pytest.fixture
    def make_target(self, tmp_path):
        path = tmp_path / "target.db"
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode=WAL")

        connection.close()
        return lambda: SQLiteTargetSystem("db", path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "target.db"


@pytest.fixture
async def target(path):
    async with SQLiteTargetSystem("db", path, busy_timeout=0.1) as target:
        await run(target, "CREATE TABLE t (x UNIQUE)")
        yield target


Step = Callable[[aiosqlite.Connection], Awaitable[object]]


def sql(statement: str) -> Step:
    return lambda session: session.execute(statement)


async def transact(target: SQLiteTargetSystem, *steps: Step) -> None:
    async with target.transaction() as session:
        for step in steps:
            await step(session)


async def run(target: SQLiteTargetSystem, statement: str) -> list[Any]:
    async with target.handles() as objects:
        db = objects["db"]
        assert isinstance(db, aiosqlite.Connection)
        return list(await db.execute_fetchall(statement))


async def rows(target) -> list[int]:
    return [x for (x,) in await run(target, "SELECT x FROM t ORDER BY x")]


async def test_no_file_appears_until_it_is_used(path):
    async with SQLiteTargetSystem("db", path) as target:
        target.offers()
        assert not await anyio.Path(path).exists()

        async with target.handles():
            assert await anyio.Path(path).exists()


def test_a_connection_is_offered_under_three_names():
    [offer] = SQLiteTargetSystem("db", "target.db").offers()

    assert offer.type is aiosqlite.Connection
    assert offer.names == ("db", "connection", "session")


def test_its_name_is_short():
    assert repr(SQLiteTargetSystem("db", "target.db")) == "SQLiteTargetSystem('db', 'target.db')"


@pytest.mark.parametrize("bad", ["", ":memory:", "file:x.db", "FILE:x.db?mode=memory", "a\0b"])
def test_what_is_no_path_of_a_file_is_refused(bad):
    with pytest.raises(ConfigurationError):
        SQLiteTargetSystem("db", bad)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 3601])
def test_an_odd_busy_timeout_is_refused(seconds):
    with pytest.raises(ConfigurationError, match="busy_timeout"):
        SQLiteTargetSystem("db", "x.db", busy_timeout=seconds)


@pytest.mark.parametrize("name", ["", "a-b", 'a"b', "1a", "a" * 56, "sqlite_x", "ä", "a\n"])
def test_an_odd_name_of_the_markers_is_refused(name):
    with pytest.raises(ConfigurationError, match="repository"):
        SQLiteTargetSystem("db", "x.db", marker_repository_name=name)


async def test_a_missing_folder_is_named(tmp_path):
    async with SQLiteTargetSystem("db", tmp_path / "missing" / "target.db") as target:
        with pytest.raises(ConfigurationError, match=r"target\.db cannot be opened") as error:
            async with target.handles():
                pass

    assert isinstance(error.value.__cause__, sqlite3.OperationalError)


async def test_a_file_that_is_no_database_is_named(path):
    await anyio.Path(path).write_text("Dear diary, " * 100)
    async with SQLiteTargetSystem("db", path) as target:
        with pytest.raises(ConfigurationError, match="not a database"):
            async with target.transaction():
                pass


async def test_it_must_be_open(path):
    target = SQLiteTargetSystem("db", path)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="not open"):
            async with target.handles():
                pass

        await target.open()
        await target.aclose()


async def test_the_journal_mode_stays(path):
    async with SQLiteTargetSystem("db", path) as target:
        await target.claim_marker("k", "c")
        assert await run(target, "PRAGMA journal_mode") == [("delete",)]


@pytest.mark.parametrize(
    "end",
    [
        lambda db: db.commit(),
        lambda db: db.rollback(),
        lambda db: db.execute("COMMIT"),
        lambda db: db.execute("end"),
        lambda db: db.execute("ROLLBACK"),
        lambda db: db.execute("BEGIN"),
        lambda db: db.executescript("INSERT INTO t VALUES (2)"),
        lambda db: db.execute("VACUUM"),
    ],
)
async def test_what_would_end_the_transaction_fails_with_a_hint(target, end):
    with pytest.raises(sqlite3.DatabaseError) as error:
        await transact(target, sql("INSERT INTO t VALUES (1)"), end)

    assert "transactional=False" in error.value.__notes__[0]
    assert await rows(target) == []


async def test_other_errors_get_no_hint(target):
    with pytest.raises(sqlite3.IntegrityError) as error:
        await transact(target, sql("INSERT INTO t VALUES (1), (1)"))

    assert not hasattr(error.value, "__notes__")


async def test_savepoints_and_tables_are_allowed(target):
    await transact(
        target,
        sql("SAVEPOINT s"),
        sql("INSERT INTO t VALUES (1)"),
        sql("ROLLBACK TO s"),
        sql("INSERT INTO t VALUES (2)"),
        sql("RELEASE s"),
        sql("CREATE TABLE other (y)"),
        sql("CREATE INDEX i ON other (y)"),
    )

    assert await rows(target) == [2]


async def test_a_transaction_that_a_statement_has_ended_is_not_taken_for_committed(target):
    async def hide_the_end(session):
        with suppress(sqlite3.IntegrityError):
            await session.execute("INSERT OR ROLLBACK INTO t VALUES (1), (1)")

    async def insert_marker(session):
        await target.insert_marker(session, "k", "c")

    for steps in ([hide_the_end], [hide_the_end, insert_marker]):
        with pytest.raises(FlamingockError, match="ended by a statement"):
            await transact(target, sql("INSERT INTO t VALUES (1)"), *steps)

    assert await rows(target) == []
    assert await target.claim_marker("k", "c") is MarkerOutcome.ABORTED


async def test_a_connection_that_a_change_closes_harms_nobody(target):
    async with target.handles() as objects:
        await objects["db"].close()

    with pytest.raises(FlamingockError, match="ended by a statement"):
        await transact(target, sql("INSERT INTO t VALUES (1)"), lambda session: session.close())

    with anyio.CancelScope() as scope:
        async with target.handles() as objects:
            await objects["db"].close()
            scope.cancel()
            await anyio.sleep_forever()

    assert await rows(target) == []


async def test_a_locked_file_is_busy_at_once(target, path):
    async with aiosqlite.connect(path, isolation_level=None) as other:
        await other.execute("BEGIN IMMEDIATE")
        for use in (
            target.transaction().__aenter__,
            lambda: target.claim_marker("k", "c"),
            lambda: target.remove_marker("k"),
        ):
            with pytest.raises(SystemBusyError, match=r"target\.db is locked"):
                await use()

        await other.execute("ROLLBACK")

    assert await target.claim_marker("k", "c") is MarkerOutcome.ABORTED


async def test_a_file_that_is_locked_for_readers_is_busy(path):
    async with aiosqlite.connect(path, isolation_level=None) as other:
        await other.execute("BEGIN EXCLUSIVE")
        async with SQLiteTargetSystem("db", path) as target:
            with pytest.raises(SystemBusyError):
                await target.transaction().__aenter__()


async def test_a_commit_that_readers_prevent_is_rolled_back(target, path):
    async with aiosqlite.connect(path, isolation_level=None) as reader:
        await reader.executescript("BEGIN")
        await reader.execute_fetchall("SELECT * FROM t")
        with pytest.raises(SystemBusyError, match="rolled back"):
            await transact(target, sql("INSERT INTO t VALUES (1)"))

        await reader.execute("ROLLBACK")

    assert await rows(target) == []


async def test_a_constraint_that_the_commit_refuses_passes_unchanged(target):
    await run(target, "PRAGMA foreign_keys=ON")
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        await transact(
            target,
            sql("CREATE TABLE child (x REFERENCES t (x) DEFERRABLE INITIALLY DEFERRED)"),
            sql("INSERT INTO child VALUES (7)"),
        )

    assert await rows(target) == []


async def test_a_commit_that_does_not_end_is_of_unknown_outcome(target, monkeypatch):
    monkeypatch.setattr(module, "CLOSING_TIME", -0.1)
    with pytest.raises(UnknownOutcomeError, match=r"target\.db"):
        await transact(target, sql("INSERT INTO t VALUES (1)"))


async def test_a_commit_that_the_disk_fails_is_of_unknown_outcome(target):
    """SQLite reports a write beyond the limit of a file's size as an error of the disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(UnknownOutcomeError, match=r"target\.db"):
            await transact(target, sql("INSERT INTO t VALUES (zeroblob(100000))"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert await rows(target) == []


async def test_a_file_that_is_damaged_meanwhile_is_an_error_of_the_driver(target, path):
    await anyio.Path(path).write_text("Dear diary, " * 1000)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        await target.claim_marker("k", "c")


async def test_a_statement_on_its_way_is_over_when_the_block_is(target):
    """A cancelled statement would otherwise go on in its thread, and keep the file locked."""
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    for use in (target.transaction, target.handles):
        with anyio.CancelScope() as scope:
            async with use() as used, anyio.create_task_group() as group:
                session = used["db"] if isinstance(used, dict) else used
                await session.execute("INSERT INTO t VALUES (1)")
                group.start_soon(session.execute, endless)
                await anyio.sleep(0.05)
                scope.cancel()

        assert await rows(target) == ([1] if use == target.handles else [])


async def test_a_cursor_that_an_error_keeps_alive_keeps_nothing_locked(target, path):
    async with target.handles() as objects:
        await objects["db"].executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(9)])

    kept = []
    with suppress(ZeroDivisionError):
        async with target.transaction() as session:
            cursor = await session.execute("SELECT * FROM t")
            kept.append(cursor)
            await cursor.fetchone()
            raise ZeroDivisionError

    async with aiosqlite.connect(path, isolation_level=None, timeout=0.1) as other:
        await other.execute("INSERT INTO t VALUES (-1)")

    assert len(kept) == 1


async def test_a_transaction_left_open_outside_is_rolled_back(target):
    async with target.handles() as objects:
        await objects["db"].execute("BEGIN")
        await objects["db"].execute("INSERT INTO t VALUES (1)")

    assert await rows(target) == []


async def test_settings_of_a_change_do_not_leak(target):
    async with target.handles() as objects:
        db = objects["db"]
        db.row_factory = sqlite3.Row
        db.text_factory = bytes
        await db.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)

    async with target.handles() as objects:
        again = objects["db"]
        assert again is db
        [row] = await again.execute_fetchall("SELECT 'text'")
        assert row == ("text",)
        [(synchronous,)] = await again.execute_fetchall("PRAGMA synchronous")
        assert synchronous == 2
        again.isolation_level = "DEFERRED"

    async with target.handles() as objects:
        assert objects["db"] is not db
        assert objects["db"].isolation_level is None


async def test_few_connections_are_kept(target):
    async with anyio.create_task_group() as group:
        barrier = anyio.Event()

        async def use():
            async with target.handles():
                await barrier.wait()

        for _ in range(9):
            group.start_soon(use)

        await anyio.sleep(0.05)
        barrier.set()

    assert await rows(target) == []


async def test_tombstones_are_removed_after_a_day(target, path):
    await target.claim_marker("old", "c")
    await target.claim_marker("young", "c")
    async with target.transaction() as session:
        await target.insert_marker(session, "committed", "c")

    async with aiosqlite.connect(path, isolation_level=None) as db:
        await db.execute(
            "UPDATE flamingockMarkers SET createdAt = "
            "strftime('%Y-%m-%dT%H:%M:%fZ', createdAt, '-1441 minutes') WHERE key != 'young'"
        )
        await target.remove_marker("other")
        keys = await db.execute_fetchall("SELECT key FROM flamingockMarkers ORDER BY key")

    assert [key for (key,) in keys] == ["committed", "young"]


async def test_a_trigger_on_the_markers_is_not_taken_for_a_claim(target):
    await target.claim_marker("k", "c")
    async with target.handles() as objects:
        await objects["db"].execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON flamingockMarkers "
            "BEGIN SELECT raise(ABORT, 'no more markers'); END"
        )

    with pytest.raises(sqlite3.IntegrityError, match="no more markers"):
        await transact(target, lambda session: target.insert_marker(session, "l", "c"))


async def test_a_table_of_somebody_else_is_not_taken_for_the_markers(target):
    await run(target, "CREATE TABLE flamingockMarkers (x)")
    for use in (target.claim_marker("k", "c"), target.remove_marker("k")):
        with pytest.raises(sqlite3.OperationalError, match="column"):
            await use
