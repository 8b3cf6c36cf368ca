"""Runs that are cut off: by a cancellation, or because the lease is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import anyio.from_thread
import pytest

from aflamingock import (
    AuditState,
    ChangeApplied,
    ChangeFailedError,
    Flamingock,
    change,
    run_changes,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.execution.cut import ALL_CUTS, Cut
from tests.kit import entries, history, last_state, lease_of, rows, step, steps, take_lease

TAKEN_BACK = ["a STARTED", "a FAILED", "a ROLLBACK_STARTED", "a ROLLED_BACK"]


class TestWithoutTransaction:
    @ALL_CUTS
    async def test_the_change_is_rolled_back_and_the_lease_given_back(
        self, store: MemoryAuditStore, done: list[str], cut: Cut
    ) -> None:
        begun = anyio.Event()

        async def body() -> None:
            begun.set()
            await anyio.sleep_forever()

        async def take_back() -> None:
            await anyio.sleep(0.02)
            done.append("to its end")

        changes = [step("a", done, body=body, rollback=take_back), step("b", done)]
        await cut(lambda: run_changes(changes, audit_store=store), begun)

        assert done == ["a", "not a", "to its end"]
        assert await history(store) == TAKEN_BACK
        assert "interrupted" in ((await entries(store))[1].error_trace or "")
        lease = await lease_of(store)
        assert lease is not None
        assert lease.released
        await run_changes(steps("ab", done), audit_store=store)
        assert done[3:] == ["a", "b"]

    @ALL_CUTS
    async def test_a_change_that_swallows_the_cancellation_is_rolled_back_all_the_same(
        self, store: MemoryAuditStore, done: list[str], cut: Cut
    ) -> None:
        begun = anyio.Event()

        async def body() -> None:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                done.append("swallowed")

        changes = [step("a", done, body=body), step("b", done)]
        await cut(lambda: run_changes(changes, audit_store=store), begun)
        assert done == ["a", "swallowed", "not a"]
        assert await history(store) == TAKEN_BACK

    async def test_a_cancellation_between_two_changes_withdraws_the_second(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        flamingock = Flamingock(changes=steps("ab", done), audit_store=store)
        with anyio.CancelScope() as scope:
            flamingock.on(ChangeApplied, lambda event: scope.cancel())
            await flamingock.run()

        assert done == ["a"]
        assert await history(store) == ["a STARTED", "a APPLIED", "b STARTED", "b ROLLED_BACK"]

    async def test_a_cancellation_of_the_changes_own_is_a_failure(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        async def body() -> None:
            raise asyncio.CancelledError("of its own")

        with pytest.raises(ChangeFailedError) as caught:
            await run_changes([step("a", done, body=body)], audit_store=store)

        assert isinstance(caught.value.__cause__, RuntimeError)
        assert await history(store) == TAKEN_BACK

    async def test_a_plain_function_is_waited_for(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        begun, go_on = anyio.Event(), anyio.Event()

        @change(id="a", author="tests", order="a")
        class Plain:
            def execute(self) -> None:
                anyio.from_thread.run_sync(begun.set)
                anyio.from_thread.run(go_on.wait)
                done.append("to its end")

            def rollback(self) -> None:
                done.append("not a")

        async with anyio.create_task_group() as outer:
            scope = anyio.CancelScope()

            async def work() -> None:
                with scope:
                    await run_changes([Plain], audit_store=store)

            outer.start_soon(work)
            await begun.wait()
            scope.cancel()
            await anyio.sleep(0.02)
            assert done == []
            go_on.set()

        assert done == ["to its end", "not a"]
        assert await history(store) == TAKEN_BACK

    async def test_a_waiting_run_ends_at_once(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        await take_lease(store)
        with anyio.move_on_after(0.1) as scope:
            await run_changes(steps("a", done), audit_store=store)

        assert scope.cancelled_caught
        assert await entries(store) == []


class SlowMarkers(SQLiteTargetSystem):
    """Takes its time to remove a marker, and says when it begins to."""

    def __init__(self, path: Path) -> None:
        super().__init__("shop", path)
        self.removing = anyio.Event()

    async def remove_marker(self, key: str) -> None:
        self.removing.set()
        await anyio.sleep(0.02)
        await super().remove_marker(key)


class TestWithTransaction:
    @pytest.mark.parametrize("method", ["execute", "rollback"])
    @ALL_CUTS
    async def test_what_is_closed_already_is_not_called_interrupted(
        self, tmp_path: Path, cut: Cut, method: str
    ) -> None:
        @change(id="a", author="tests", order="a", target_system="shop")
        class Row:
            async def execute(self, db: aiosqlite.Connection) -> None:
                await db.execute("CREATE TABLE effect (id)")

            async def rollback(self, db: aiosqlite.Connection) -> None:
                await db.execute("DROP TABLE effect")

        store = SQLiteAuditStore(tmp_path / "log.db")
        shop = SlowMarkers(tmp_path / "shop.db")
        flamingock = Flamingock(changes=Row, audit_store=store, target_systems=[shop])
        if method == "rollback":
            await flamingock.run()
            shop.removing = anyio.Event()
            await cut(lambda: flamingock.undo(last=1), shop.removing)
            assert await last_state(store, "a") is AuditState.ROLLED_BACK
            return

        await cut(flamingock.run, shop.removing)
        assert await last_state(store, "a") is AuditState.APPLIED

    @pytest.mark.parametrize("log", ["shop.db", "log.db"])
    @ALL_CUTS
    async def test_nothing_is_left_and_the_change_has_failed(
        self, tmp_path: Path, cut: Cut, log: str
    ) -> None:
        shop = SQLiteTargetSystem("shop", tmp_path / "shop.db")
        store = SQLiteAuditStore(tmp_path / log)
        begun = anyio.Event()

        @change(id="a", author="tests", order="a", target_system="shop")
        class Row:
            async def execute(self, db: aiosqlite.Connection) -> None:
                await db.execute("CREATE TABLE effect (id)")
                begun.set()
                await anyio.sleep_forever()

            async def rollback(self, db: aiosqlite.Connection) -> None:
                raise AssertionError("The transaction rolls back.")

        flamingock = Flamingock(changes=Row, audit_store=store, target_systems=[shop])
        await cut(flamingock.run, begun)
        assert await history(store) == ["a STARTED", "a FAILED"]
        assert rows(tmp_path / "shop.db", "SELECT * FROM sqlite_master WHERE name = 'effect'") == []
        lease = await lease_of(store)
        assert lease is not None
        assert lease.released

    @pytest.mark.parametrize("log", ["shop.db", "log.db"])
    async def test_a_cancellation_between_two_changes_begins_no_second(
        self, tmp_path: Path, log: str
    ) -> None:
        def row(id: str) -> type:
            @change(id=id, author="tests", order=id, target_system="shop")
            class Row:
                async def execute(self, db: aiosqlite.Connection) -> None:
                    await db.execute(f"CREATE TABLE {id} (id)")

            return Row

        store = SQLiteAuditStore(tmp_path / log)
        shop = SQLiteTargetSystem("shop", tmp_path / "shop.db")
        flamingock = Flamingock(
            changes=[row("a"), row("b")], audit_store=store, target_systems=[shop]
        )
        with anyio.CancelScope() as scope:
            flamingock.on(ChangeApplied, lambda event: scope.cancel())
            await flamingock.run()

        log_now = await history(store)
        assert [line for line in log_now if line.startswith("a")] == ["a STARTED", "a APPLIED"]
        assert log_now[2:] in ([], ["b STARTED", "b ROLLED_BACK"])


class Slow(MemoryAuditStore):
    """A store that takes a moment to write the entry that ends an attempt, and tells of it."""

    def __init__(self, state: AuditState, *, late: bool) -> None:
        super().__init__()
        self.writing = anyio.Event()
        self._state = state
        self._late = late

    async def append(self, entries: Any, *, session: None = None) -> None:
        await super().append(entries, session=session)
        if any(entry.state is self._state and entry.change_id for entry in entries):
            if self._late:
                await anyio.sleep(0.01)

            self.writing.set()
            if not self._late:
                await anyio.sleep(0.05)


@pytest.mark.parametrize("late", [False, True])
class TestWhileTheEndIsWritten:
    @ALL_CUTS
    async def test_an_applied_change_stays_applied(
        self, done: list[str], cut: Cut, late: bool
    ) -> None:
        store = Slow(AuditState.APPLIED, late=late)

        await cut(lambda: run_changes(steps("a", done), audit_store=store), store.writing)

        assert await history(store) == ["a STARTED", "a APPLIED", "CHECKPOINT"]
        assert done == ["a"]

    @ALL_CUTS
    async def test_a_rolled_back_change_stays_rolled_back(
        self, done: list[str], cut: Cut, late: bool
    ) -> None:
        store = Slow(AuditState.ROLLED_BACK, late=late)
        flamingock = Flamingock(changes=steps("a", done), audit_store=store)
        await flamingock.run()

        await cut(lambda: flamingock.undo(last=1), store.writing)

        assert (await history(store))[-2:] == ["a ROLLBACK_STARTED", "a ROLLED_BACK"]
        assert done == ["a", "not a"]
