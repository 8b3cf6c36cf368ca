"""The SQLite target passes the suite, and what is special about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import aiosqlite
import anyio
import anyio.to_thread
import pytest

from aflamingock.exceptions import ConfigurationError
from aflamingock.targets import _sqlite_place as place
from aflamingock.targets.sql import SQLTargetSystem
from aflamingock.targets.sqlite import SQLiteTargetSystem
from aflamingock.testing import TargetSystemSuite
from tests.servers.sql import excuse_drivers
from tests.targets.kit import check_that_it_must_be_open
from tests.targets.sqlite import rows, run, transact


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
    await check_that_it_must_be_open(SQLiteTargetSystem("db", path))


async def test_the_journal_mode_stays(path):
    async with SQLiteTargetSystem("db", path) as target:
        await target.claim_marker("k", "c")
        assert await run(target, "PRAGMA journal_mode") == [("delete",)]


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


async def test_a_transaction_holds_the_file_from_its_beginning_on(tmp_path):
    target = SQLiteTargetSystem("db", tmp_path / "target.db")
    async with target, target.transaction():
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await anyio.to_thread.run_sync(_begin_on, tmp_path / "target.db")


def _begin_on(path):
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")


@pytest.mark.parametrize(
    "make",
    [SQLiteTargetSystem, lambda id, path: SQLTargetSystem.from_url(id, f"sqlite:///{path}")],
)
async def test_a_network_file_system_is_warned_of(make, path, monkeypatch, caplog, blockbuster):
    excuse_drivers(blockbuster)
    async with make("db", path):
        pass

    assert caplog.messages == []
    monkeypatch.setattr(place, "_network_file_system", {str(path): "nfs"}.get)
    async with make("db", path):
        pass

    [told] = caplog.messages
    assert told.startswith(f"{path} lies on a network file system (nfs)")
