"""A marker that cannot be removed, once the log has its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import aiosqlite
import anyio
import anyio.lowlevel
import pytest

from aflamingock import AuditEntry, RunStatus, _retry, change, run_changes
from aflamingock._execution import attempt
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.kit import entries, history, leave, rows


@change(id="a", author="tests", order="1", target_system="shop")
class A:
    async def execute(self, db: aiosqlite.Connection) -> None:
        await db.execute("CREATE TABLE IF NOT EXISTS effect (id)")
        await db.execute("INSERT INTO effect VALUES ('a')")


class Stuck(SQLiteTargetSystem):
    """A target that does not answer when it is asked to remove a marker."""

    def __init__(self, path: Path) -> None:
        super().__init__("shop", path)
        self.is_asked = anyio.Event()

    async def remove_marker(self, key: str) -> None:
        self.is_asked.set()
        await anyio.sleep_forever()


class Broken(SQLiteTargetSystem):
    """A target that raises an error of its driver then."""

    async def remove_marker(self, key: str) -> None:
        await anyio.lowlevel.checkpoint()
        raise ConnectionResetError("The server has gone away.")


@pytest.fixture
def store(tmp_path: Path) -> SQLiteAuditStore:
    return SQLiteAuditStore(tmp_path / "log.db")


async def test_an_applied_change_stays_so_if_it_is_cut_off(
    store: SQLiteAuditStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_FORGOTTEN_WITHIN", 0.1)
    target = Stuck(tmp_path / "shop.db")
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await run_changes([A], audit_store=store, target_systems=[target])

        tasks.start_soon(run)
        await target.is_asked.wait()
        tasks.cancel_scope.cancel()

    assert (await history(store))[:2] == ["a STARTED", "a APPLIED"]
    assert "a FAILED" not in await history(store)
    again = SQLiteTargetSystem("shop", tmp_path / "shop.db")
    await run_changes([A], audit_store=store, target_systems=[again])
    assert rows(tmp_path / "shop.db", "SELECT id FROM effect") == [("a",)]


async def test_a_settled_change_is_no_failure_of_the_run(
    store: SQLiteAuditStore, tmp_path: Path
) -> None:
    target = Broken("shop", tmp_path / "shop.db")
    first = await run_changes([A], audit_store=store, target_systems=[target])
    assert first.status is RunStatus.SUCCESS

    # as if the run had ended before its APPLIED
    opened = (await entries(store))[0]
    other = SQLiteAuditStore(tmp_path / "other.db")
    await leave(other, opened)
    report = await run_changes([A], audit_store=other, target_systems=[target])
    assert report.status is RunStatus.SUCCESS
    assert (await history(other))[:2] == ["a STARTED", "a APPLIED"]
    assert rows(tmp_path / "shop.db", "SELECT id FROM effect") == [("a",)]


class SilentOnce(SQLiteTargetSystem):
    """A target that does not answer when it is first asked to insert a marker."""

    asked = 0

    async def insert_marker(self, session: aiosqlite.Connection, key: str, change_id: str) -> None:
        self.asked += 1
        if self.asked == 1:
            await anyio.sleep_forever()

        await super().insert_marker(session, key, change_id)


class SilentStore(SQLiteAuditStore):
    """A store that does not answer when it is first asked to append within a transaction."""

    asked = 0

    async def append(self, entries: Sequence[AuditEntry], *, session: Any = None) -> None:
        self.asked += session is not None
        if session is not None and self.asked == 1:
            await anyio.sleep_forever()

        await super().append(entries, session=session)


@pytest.mark.parametrize("mode", ["shared", "separate"])
async def test_the_last_statement_of_a_transaction_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Literal["shared", "separate"]
) -> None:
    monkeypatch.setattr(_retry, "ANSWERS_WITHIN", 1.0)
    target = SilentOnce("shop", tmp_path / "shop.db")
    store = SilentStore.from_target_system(target)
    with anyio.fail_after(30):
        report = await run_changes(
            [A], audit_store=store, target_systems=[target], transaction_mode=mode
        )

    assert report.status is RunStatus.SUCCESS
    assert (await history(store))[:3] == ["a STARTED", "a STARTED", "a APPLIED"]
    assert rows(tmp_path / "shop.db", "SELECT id FROM effect") == [("a",)]
