"""Lost races, and logs that take no more: what a run does with entries that are refused."""

from __future__ import annotations

from collections.abc import Sequence

import anyio.lowlevel
import pytest

from aflamingock import (
    AuditEntry,
    AuditState,
    AuditStoreError,
    ChangeFailedError,
    ChangeStatus,
    Flamingock,
    LockLostError,
    SequenceConflictError,
    run_changes,
)
from aflamingock.stores.memory import MemoryAuditStore
from tests.kit import FailingStore, entries, entry, history, raising, step, steps


class Overtaken(MemoryAuditStore):
    """
    A store into which a zombie writes just before somebody else.

    :ivar zombies: for each of the next appends the change of which the zombie writes APPLIED
        first; ``None`` where it does not
    """

    def __init__(self, *zombies: str | None) -> None:
        super().__init__()
        self.zombies = list(zombies)

    async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
        """Let the zombie write first."""
        id = self.zombies.pop(0) if self.zombies else None
        if id is not None:
            written = entry(id, AuditState.APPLIED, execution_id="zombie")
            sequence, epoch = entries[0].sequence, entries[0].epoch - 1
            await super().append([written.sealed(sequence=sequence, previous="", epoch=epoch)])

        await super().append(entries)


class TestRace:
    async def test_a_zombies_last_entry_is_taken_into_account(self, done: list[str]) -> None:
        store = Overtaken("a")
        report = await run_changes(steps("ab", done), audit_store=store)
        assert done == ["b"]
        assert [one.status for one in report.changes()] == [
            *(ChangeStatus.ALREADY_APPLIED, ChangeStatus.APPLIED)
        ]
        assert [one.sequence for one in await entries(store)] == [1, 2, 3, 4]

    async def test_an_undo_that_was_overtaken_is_tried_again(self, done: list[str]) -> None:
        store = Overtaken()
        flamingock = Flamingock(changes=steps("ab", done), audit_store=store)
        await flamingock.run()
        store.zombies = ["x"]
        await flamingock.undo(last=2)
        assert done[2:] == ["not b", "not a"]

    @pytest.mark.parametrize("name", ["run", "undo"])
    async def test_who_is_overtaken_again_and_again_gives_up(
        self, done: list[str], name: str
    ) -> None:
        store = Overtaken()
        await run_changes(steps("a", done), audit_store=store)
        flamingock = Flamingock(changes=steps("ab", done), audit_store=store)
        store.zombies = ["x"] * 5
        with pytest.raises(LockLostError, match="has written to the audit log"):
            await (flamingock.run() if name == "run" else flamingock.undo(last=1))

        assert done == ["a"]
        assert store.zombies == []

    async def test_an_end_that_was_overtaken_stops_the_run(self, done: list[str]) -> None:
        store = Overtaken(None, "x")
        with pytest.raises(LockLostError) as caught:
            await run_changes(steps("ab", done), audit_store=store)

        assert isinstance(caught.value.__cause__, SequenceConflictError)
        assert done == ["a"]
        assert await history(store) == ["a STARTED", "x APPLIED"]


async def test_what_a_change_raised_is_not_lost_if_it_cannot_be_recorded(
    done: list[str],
) -> None:
    store = FailingStore(None, AuditStoreError("The disk is full."))
    error = ValueError("no")
    with pytest.raises(ChangeFailedError) as caught:
        await run_changes([step("a", done, body=raising(error))], audit_store=store)

    assert caught.value.__cause__ is error
    assert any("The disk is full" in note for note in error.__notes__)
    assert done == ["a"]
    assert await history(store) == ["a STARTED"]


async def test_a_change_that_was_executed_has_not_failed_if_that_cannot_be_recorded(
    done: list[str],
) -> None:
    store = FailingStore(None, AuditStoreError("The disk is full."))

    with pytest.raises(AuditStoreError, match="disk is full"):
        await run_changes([step("a", done)], audit_store=store)

    assert done == ["a"]
    assert await history(store) == ["a STARTED"]


async def test_a_rollback_runs_although_its_issue_cannot_be_kept(
    done: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Forgetful(FailingStore):
        async def save_issue(self, issue: object) -> None:
            await anyio.lowlevel.checkpoint()
            raise AuditStoreError("The disk is full.")

    store = Forgetful()
    bad = step("a", done, body=raising(ValueError("no")), rollback=raising(OSError("stuck")))
    with pytest.raises(ChangeFailedError):
        await run_changes([bad], audit_store=store)

    assert "issue of change 'a' was not recorded" in caplog.text
    assert (await history(store))[-1] == "a ROLLBACK_FAILED"
