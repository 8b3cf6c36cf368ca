"""Runs whose lease is lost while a change is at work."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import anyio.from_thread
import pytest

from aflamingock import (
    AuditState,
    ChangeStatus,
    LockLostError,
    LockOptions,
    RunStatus,
    change,
    run_changes,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.kit import entry, history, lease_of, rows, step, take_lease


class TestLostLease:
    LOCK = LockOptions(ttl=1)

    @pytest.mark.parametrize("kind", ["memory", "sqlite"])
    async def test_the_run_stops_and_writes_and_rolls_back_nothing(
        self, tmp_path: Path, done: list[str], kind: str
    ) -> None:
        store: Any = MemoryAuditStore() if kind == "memory" else SQLiteAuditStore(tmp_path / "a.db")

        async def body() -> None:
            await take_lease(store, host="web-7")
            await anyio.sleep(10)

        changes = [step("a", done), step("b", done, body=body), step("c", done)]
        async with store:
            with pytest.raises(LockLostError, match="web-7") as caught:
                await run_changes(changes, audit_store=store, lock=self.LOCK)

        assert done == ["a", "b"]
        assert await history(store) == ["a STARTED", "a APPLIED", "b STARTED"]
        assert caught.value.report is not None
        assert caught.value.report.status is RunStatus.LOCK_LOST
        assert [one.status for one in caught.value.report.changes()] == [
            *(ChangeStatus.APPLIED, ChangeStatus.IN_DOUBT, ChangeStatus.NOT_REACHED)
        ]
        lease = await lease_of(store)
        assert lease is not None
        assert (lease.host, lease.released) == ("web-7", False)

    async def test_a_change_that_swallows_its_end_does_not_go_on(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        async def body() -> None:
            await take_lease(store)
            for _ in range(3):
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError:
                    done.append("swallowed")

        changes = [step("a", done, body=body), step("b", done)]
        with pytest.raises(LockLostError):
            await run_changes(changes, audit_store=store, lock=self.LOCK)

        assert done == ["a", "swallowed", "swallowed", "swallowed"]
        assert await history(store) == ["a STARTED"]

    @pytest.mark.parametrize("log", ["shop.db", "log.db"])
    async def test_a_transaction_is_rolled_back(self, tmp_path: Path, log: str) -> None:
        shop = SQLiteTargetSystem("shop", tmp_path / "shop.db")
        store = SQLiteAuditStore(tmp_path / log)

        @change(id="a", author="tests", order="a", target_system="shop")
        class Row:
            async def execute(self, db: aiosqlite.Connection) -> None:
                await db.execute("CREATE TABLE effect (id)")
                await take_lease(store)
                await anyio.sleep(10)

        with pytest.raises(LockLostError):
            await run_changes(
                [Row], audit_store=store, target_systems=[shop], lock=LockOptions(ttl=1)
            )

        assert await history(store) == ["a STARTED"]
        assert rows(tmp_path / "shop.db", "SELECT * FROM sqlite_master WHERE name = 'effect'") == []

    async def test_a_change_that_blocks_the_loop_keeps_its_lease(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        async def body() -> None:
            end = time.monotonic() + 2
            while time.monotonic() < end:
                pass

        changes = [step("a", done, body=body)]
        await run_changes(changes, audit_store=store, lock=LockOptions(ttl=1.5))
        assert await history(store) == ["a STARTED", "a APPLIED", "CHECKPOINT"]

    async def test_a_later_epoch_in_the_log_ends_the_run(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        async def body() -> None:
            (last,) = await store.last("default", 1)
            later = entry("x", AuditState.STARTED)
            await store.append(
                [later.sealed(sequence=last.sequence + 1, previous=last.digest, epoch=9)]
            )

        with pytest.raises(LockLostError, match="epoch 9"):
            await run_changes([step("a", done, body=body)], audit_store=store)

        assert await history(store) == ["a STARTED", "x STARTED"]
        assert done == ["a"]
