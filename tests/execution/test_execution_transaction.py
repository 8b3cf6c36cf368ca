"""Changes in a transaction: with their entry in it, or with a marker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiosqlite
import anyio.to_thread
import pytest

from aflamingock import (
    AuditState,
    ChangeStatus,
    TxStrategy,
    change,
    run_changes,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.kit import entries, failure, history, rows


@pytest.fixture(params=["shared", "marker", "separate"])
def setting(
    request: pytest.FixtureRequest, tmp_path: Path, shop: SQLiteTargetSystem
) -> dict[str, Any]:
    """Where the log is: in the target's file, with or without common transactions, or not."""
    shared = SQLiteAuditStore.from_target_system(shop)
    store = SQLiteAuditStore(tmp_path / "log.db") if request.param == "marker" else shared
    mode = "separate" if request.param == "separate" else "shared"
    return {"audit_store": store, "target_systems": [shop], "transaction_mode": mode}


def row(id: str, *, then: str = "", fails: bool = False, **options: Any) -> type:
    """Return a change that inserts a row."""

    class Row:
        async def execute(self, db: aiosqlite.Connection) -> None:
            await db.execute("CREATE TABLE IF NOT EXISTS effect (id)")
            await db.execute("INSERT INTO effect VALUES (?)", (id,))
            if then == "COMMIT":
                await db.commit()
            elif then:
                await db.execute(then)

            if fails:
                raise ValueError(f"no {id}")

        async def rollback(self, db: aiosqlite.Connection) -> None:
            await db.execute("DELETE FROM effect WHERE id = ?", (id,))

    given = {"id": id, "author": "tests", "order": id, "target_system": "shop"}
    return change(**(given | options))(Row)


def effects(shop: SQLiteTargetSystem) -> list[str]:
    return [id for (id,) in rows(Path(shop.file.given), "SELECT id FROM effect")]


class TestWithTransaction:
    async def test_the_change_and_its_entry_stand_together(
        self, setting: dict[str, Any], shop: SQLiteTargetSystem
    ) -> None:
        await run_changes([row("a"), row("b")], **setting)
        assert effects(shop) == ["a", "b"]
        log = await entries(setting["audit_store"])
        assert [entry.state for entry in log] == [
            *(AuditState.STARTED, AuditState.APPLIED, AuditState.STARTED, AuditState.APPLIED),
            AuditState.APPLIED,
        ]
        is_shared = setting["transaction_mode"] == "shared" and setting["audit_store"].shares(shop)
        expected = TxStrategy.TX_SHARED if is_shared else TxStrategy.TX_SEPARATE_WITH_MARKER
        assert {entry.tx_strategy for entry in log[:4]} == {expected}
        assert {entry.transaction_flag for entry in log[:4]} == {True}
        assert rows(Path(shop.file.given), "SELECT * FROM flamingockMarkers") == []

    async def test_a_failure_leaves_nothing_and_rollback_is_not_called(
        self, setting: dict[str, Any], shop: SQLiteTargetSystem
    ) -> None:
        failed = await failure([row("a"), row("b", fails=True), row("c")], **setting)
        assert isinstance(failed.__cause__, ValueError)
        assert effects(shop) == ["a"]
        assert (await history(setting["audit_store"]))[-2:] == ["b STARTED", "b FAILED"]
        assert failed.report is not None
        assert [one.status for one in failed.report.changes()] == [
            *(ChangeStatus.APPLIED, ChangeStatus.FAILED, ChangeStatus.NOT_REACHED)
        ]
        await run_changes([row("a"), row("b"), row("c")], **setting)
        assert effects(shop) == ["a", "b", "c"]

    @pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK", "BEGIN"])
    async def test_a_commit_inside_is_refused_with_a_hint(
        self, setting: dict[str, Any], shop: SQLiteTargetSystem, statement: str
    ) -> None:
        failed = await failure([row("a", then=statement)], **setting)
        assert effects(shop) == []
        assert failed.__cause__ is not None
        assert any("transactional=False" in note for note in failed.__cause__.__notes__)
        trace = (await entries(setting["audit_store"]))[-1].error_trace
        assert "transactional=False" in (trace or "")

    async def test_one_without_transaction_commits_by_itself(
        self, setting: dict[str, Any], shop: SQLiteTargetSystem
    ) -> None:
        bad = row("a", then="COMMIT", fails=True, transactional=False)
        await failure([bad], **setting)
        assert effects(shop) == []
        states = ["a STARTED", "a FAILED", "a ROLLBACK_STARTED", "a ROLLED_BACK"]
        assert await history(setting["audit_store"]) == states
        assert {one.tx_strategy for one in await entries(setting["audit_store"])} == {
            TxStrategy.NON_TX
        }


async def test_a_marker_outlives_the_moment_in_which_applied_is_written(
    tmp_path: Path, shop: SQLiteTargetSystem
) -> None:
    markers: list[list[Any]] = []

    class Looking(MemoryAuditStore):
        async def append(self, entries: Any, *, session: None = None) -> None:
            if any(entry.state is AuditState.APPLIED and entry.change_id for entry in entries):
                path = Path(shop.file.given)
                query = "SELECT outcome FROM flamingockMarkers"
                markers.append(await anyio.to_thread.run_sync(rows, path, query))

            await super().append(entries, session=session)

    await run_changes([row("a")], audit_store=Looking(), target_systems=[shop])

    assert markers == [[("COMMITTED",)]]
