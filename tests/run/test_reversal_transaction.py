"""Undo of what was applied in a transaction."""

from __future__ import annotations

from pathlib import Path

import aiosqlite
import anyio
import pytest

from aflamingock import Flamingock, RollbackFailedError, RunStatus, change
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.kit import history, row, rows
from tests.run.kit import applied


@pytest.mark.parametrize("log", ["shop.db", "log.db"])
class TestWithTransaction:
    async def test_the_rollback_and_its_entry_stand_together(
        self, tmp_path: Path, log: str
    ) -> None:
        flamingock = await self.shop(tmp_path, log, row("a"), row("b"), row("c"))
        await flamingock.undo(last=2)
        assert self.effects(tmp_path) == ["a"]
        assert (await history(flamingock.audit_store))[-4:] == [
            *("c ROLLBACK_STARTED", "c ROLLED_BACK", "b ROLLBACK_STARTED", "b ROLLED_BACK")
        ]
        assert rows(tmp_path / "shop.db", "SELECT * FROM flamingockMarkers") == []

    async def test_a_rollback_that_fails_leaves_the_change_applied(
        self, tmp_path: Path, log: str
    ) -> None:
        flamingock = await self.shop(tmp_path, log, row("a"), row("b", fails=True))
        with pytest.raises(RollbackFailedError):
            await flamingock.undo(last=2)

        assert self.effects(tmp_path) == ["a", "b"]
        assert (await history(flamingock.audit_store))[-2:] == [
            *("b ROLLBACK_STARTED", "b ROLLBACK_FAILED")
        ]
        assert await flamingock.audit.issues() == ()
        assert (await flamingock.run()).status is RunStatus.NOTHING_TO_DO

    async def test_a_cancellation_leaves_the_change_applied_and_is_told(
        self, tmp_path: Path, log: str
    ) -> None:
        begun = anyio.Event()

        @change(id="b", author="tests", order="b", target_system="shop")
        class Slow:
            async def execute(self, db: aiosqlite.Connection) -> None:
                await db.execute("INSERT INTO effect VALUES ('b')")

            async def rollback(self, db: aiosqlite.Connection) -> None:
                await db.execute("DELETE FROM effect WHERE id = 'b'")
                begun.set()
                await anyio.sleep_forever()

        flamingock = await self.shop(tmp_path, log, row("a"), Slow)
        async with anyio.create_task_group() as tasks:

            async def undo() -> None:
                await flamingock.undo(last=1)

            tasks.start_soon(undo)
            await begun.wait()
            tasks.cancel_scope.cancel()

        assert self.effects(tmp_path) == ["a", "b"]
        assert (await history(flamingock.audit_store))[-2:] == [
            *("b ROLLBACK_STARTED", "b ROLLBACK_FAILED")
        ]
        assert (await flamingock.run()).status is RunStatus.NOTHING_TO_DO

    async def shop(self, folder: Path, log: str, *changes: type) -> Flamingock:
        target = SQLiteTargetSystem("shop", folder / "shop.db")
        store = SQLiteAuditStore(folder / log)
        return await applied(store, list(changes), target_systems=[target])

    def effects(self, folder: Path) -> list[str]:
        return [id for (id,) in rows(folder / "shop.db", "SELECT id FROM effect ORDER BY id")]
