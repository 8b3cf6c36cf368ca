"""Undo: what it rolls back, records, refuses and leaves alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from aflamingock import (
    AuditState,
    ChangeFailedError,
    ChangeStatus,
    ConfigurationError,
    Flamingock,
    LockLostError,
    LockOptions,
    LockTimeoutError,
    ManualInterventionError,
    RollbackFailedError,
    RunStatus,
)
from aflamingock.stores.memory import MemoryAuditStore
from tests.kit import (
    WRITES,
    calls_of,
    entries,
    history,
    last_state,
    lease_of,
    raising,
    step,
    steps,
    take_lease,
)
from tests.run.kit import applied


class TestWithoutTransaction:
    async def test_the_last_ones_are_rolled_back_newest_first(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        flamingock = await applied(store, steps("abcd", done))
        report = await flamingock.undo(last=2)
        assert done[4:] == ["not d", "not c"]
        assert report.status is RunStatus.SUCCESS
        assert {one.change_id: one.status for one in report.changes()} == {
            "d": ChangeStatus.ROLLED_BACK,
            "c": ChangeStatus.ROLLED_BACK,
        }
        assert (await history(store))[9:] == [
            *("d ROLLBACK_STARTED", "d ROLLED_BACK", "c ROLLBACK_STARTED", "c ROLLED_BACK")
        ]
        assert {entry.attempt for entry in (await entries(store))[9:]} == {1}
        lease = await lease_of(store)
        assert lease is not None
        assert lease.released

    async def test_to_rolls_back_what_came_after(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        flamingock = await applied(store, steps("abcd", done))
        await flamingock.undo(to="b")
        assert done[4:] == ["not d", "not c"]

    async def test_since_rolls_back_what_was_applied_then_or_later(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        flamingock = await applied(store, steps("ab", done))
        await flamingock.undo(since=datetime.now(UTC) + timedelta(hours=1))
        assert done == ["a", "b"]
        await flamingock.undo(since=datetime.now(UTC) - timedelta(hours=1))
        assert done[2:] == ["not b", "not a"]

    async def test_one_alone(self, store: MemoryAuditStore, done: list[str]) -> None:
        flamingock = await applied(store, steps("abc", done))
        await flamingock.undo(change_id="b")
        assert done[3:] == ["not b"]
        assert await last_state(store, "b") is AuditState.ROLLED_BACK

    async def test_nothing_is_undone_over_a_change_in_doubt(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        broken = step("b", done, body=raising(OSError("stuck")), rollback=False)
        flamingock = Flamingock(changes=[step("a", done), broken], audit_store=store)
        with pytest.raises(ChangeFailedError):
            await flamingock.run()

        before = await history(store)
        with pytest.raises(ManualInterventionError, match="'b'"):
            await flamingock.undo(last=1)

        assert await history(store) == before
        await flamingock.undo(change_id="a")
        assert done[-1] == "not a"

    async def test_the_next_run_applies_it_again(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        flamingock = await applied(store, steps("ab", done))
        await flamingock.undo(last=1)
        report = await flamingock.run()
        assert done == ["a", "b", "not b", "b"]
        assert [one.change_id for one in report.applied] == ["b"]
        attempts = [entry.attempt for entry in await entries(store) if entry.change_id == "b"]
        assert attempts == [1, 1, 1, 1, 2, 2]

    async def test_more_than_there_is_undoes_all(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        flamingock = await applied(store, steps("ab", done))
        await flamingock.undo(last=10)
        again = await flamingock.undo(last=10)
        assert done[2:] == ["not b", "not a"]
        assert again.status is RunStatus.NOTHING_TO_DO

    async def test_a_dry_run_writes_nothing(self, store: MemoryAuditStore, done: list[str]) -> None:
        flamingock = await applied(store, steps("abc", done))
        before = await entries(store)
        calls = calls_of(store)
        report = await flamingock.undo(last=2, dry_run=True)
        assert report.status is RunStatus.DRY_RUN
        assert [one.change_id for one in report.with_status(ChangeStatus.WOULD_ROLL_BACK)] == [
            *("c", "b")
        ]
        assert not calls.keys() & WRITES
        assert done == ["a", "b", "c"]
        assert await entries(store) == before

    @pytest.mark.parametrize("dry_run", [False, True])
    async def test_one_that_lacks_rollback_is_refused_by_name_before_anything(
        self, store: MemoryAuditStore, done: list[str], dry_run: bool
    ) -> None:
        changes = [step("a", done), step("b", done, rollback=False), step("c", done)]
        flamingock = await applied(store, changes)
        calls = calls_of(store)
        with pytest.raises(ConfigurationError, match="'b' cannot be undone.*no rollback"):
            await flamingock.undo(last=3, dry_run=dry_run)

        assert not calls.keys() & WRITES
        assert done == ["a", "b", "c"]

    async def test_a_rollback_that_fails_ends_it(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        error = OSError("stuck")
        changes = [step("a", done), step("b", done, rollback=raising(error)), step("c", done)]
        flamingock = await applied(store, changes)
        with pytest.raises(RollbackFailedError, match="'b'.*OSError: stuck") as caught:
            await flamingock.undo(last=3)

        assert caught.value.__cause__ is error
        assert done[3:] == ["not c", "not b"]
        assert (await history(store))[-2:] == ["b ROLLBACK_STARTED", "b ROLLBACK_FAILED"]
        report = caught.value.report
        assert report is not None
        assert {one.change_id: one.status for one in report.changes()} == {
            "c": ChangeStatus.ROLLED_BACK,
            "b": ChangeStatus.ROLLBACK_FAILED,
            "a": ChangeStatus.NOT_REACHED,
        }
        assert [issue.change_id for issue in await flamingock.audit.issues()] == ["b"]

    async def test_a_cancellation_lets_the_rollback_end(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        begun = anyio.Event()

        async def slow() -> None:
            begun.set()
            await anyio.sleep(0.02)
            done.append("to its end")

        flamingock = await applied(store, steps("ab", done, rollback=slow))
        async with anyio.create_task_group() as tasks:

            async def work() -> None:
                await flamingock.undo(last=2)

            tasks.start_soon(work)
            await begun.wait()
            tasks.cancel_scope.cancel()

        assert done[2:] == ["not b", "to its end"]
        assert (await history(store))[-2:] == ["b ROLLBACK_STARTED", "b ROLLED_BACK"]

    async def test_nothing_is_written_once_the_lease_is_lost(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        async def loses() -> None:
            await take_lease(store, host="web-7")
            await anyio.sleep(10)

        changes = [step("a", done), step("b", done, rollback=loses)]
        flamingock = await applied(store, changes, lock=LockOptions(ttl=1))
        with pytest.raises(LockLostError, match="web-7"):
            await flamingock.undo(last=2)

        assert done[2:] == ["not b"]
        assert (await history(store))[-1] == "b ROLLBACK_STARTED"

    async def test_it_waits_for_the_lease_like_a_run(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        lock = LockOptions(timeout=0.05, retry_interval=0.01)
        flamingock = await applied(store, steps("a", done), lock=lock)
        await take_lease(store)
        with pytest.raises(LockTimeoutError):
            await flamingock.undo(last=1)

        assert done == ["a"]

    @pytest.mark.parametrize(
        ("selection", "message"),
        [
            ({}, "exactly one"),
            ({"last": 1, "to": "a"}, "exactly one"),
            ({"last": 0}, "1 or more"),
            ({"last": "2"}, "1 or more"),
            ({"since": datetime(2026, 1, 1)}, "time zone"),
            ({"to": "x"}, "'x' is not applied"),
            ({"change_id": "x"}, "'x' is not applied"),
        ],
    )
    async def test_a_wrong_selection_is_refused(
        self, store: MemoryAuditStore, done: list[str], selection: dict[str, Any], message: str
    ) -> None:
        flamingock = await applied(store, steps("a", done))
        with pytest.raises(ConfigurationError, match=message):
            await flamingock.undo(**selection)

        assert done == ["a"]
