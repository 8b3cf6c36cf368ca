"""Lost answers and lost races: what a run does that cannot know what has happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import anyio.lowlevel
import pytest

from aflamingock import (
    AuditEntry,
    AuditState,
    AuditStoreError,
    ChangeFailedError,
    ChangeStarted,
    ChangeStatus,
    Flamingock,
    LockLostError,
    LockOptions,
    LockTimeoutError,
    RunStatus,
    SequenceConflictError,
    SystemBusyError,
    UnknownOutcomeError,
    run_changes,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.kit import FailingStore, entries, entry, history, raising, row, rows, step, steps


class Losing(SQLiteTargetSystem):
    """
    A target whose next transactions end badly.

    :ivar ends: for each of them, ``committed`` or ``rolled back`` where the answer is lost, or
        ``busy``; those after them end well
    """

    def __init__(self, path: Path) -> None:
        super().__init__("shop", path)
        self.ends: list[str] = []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """Run a transaction, and lose the answer if it is told to."""
        end = self.ends.pop(0) if self.ends else ""
        if end == "busy":
            raise SystemBusyError("The shop is busy.")

        async with super().transaction() as session:
            yield session
            if end == "rolled back":
                raise UnknownOutcomeError("no answer")

        if end == "committed":
            raise UnknownOutcomeError("no answer")


class Filling(SQLiteAuditStore):
    """A log that, once it is full, takes only entries within a transaction."""

    is_full = False

    def fill(self) -> None:
        """Let the disk be full from now on."""
        self.is_full = True

    async def append(
        self, entries: Sequence[AuditEntry], *, session: aiosqlite.Connection | None = None
    ) -> None:
        """Append, unless the disk is full."""
        if self.is_full and session is None:
            raise AuditStoreError("The disk is full.")

        await super().append(entries, session=session)


@pytest.fixture
def shop(tmp_path: Path) -> Losing:
    return Losing(tmp_path / "shop.db")


@pytest.fixture(params=["shop.db", "log.db"])
def flamingock(request: pytest.FixtureRequest, tmp_path: Path, shop: Losing) -> Flamingock:
    """Two changes in transactions that share the log's, and that do not."""
    return Flamingock(
        changes=[row("a"), row("b")],
        audit_store=SQLiteAuditStore(tmp_path / request.param),
        target_systems=[shop],
        lock=LockOptions(timeout=0.2),
    )


def effects(shop: Losing) -> list[str]:
    return [id for (id,) in rows(Path(shop.file.given), "SELECT id FROM effect ORDER BY id")]


class TestCommit:
    async def test_one_that_was_done_is_found_to_be_done(
        self, flamingock: Flamingock, shop: Losing
    ) -> None:
        shop.ends = ["committed"]
        report = await flamingock.run()
        assert effects(shop) == ["a", "b"]
        assert [one.change_id for one in report.applied] == ["a", "b"]
        assert await history(flamingock.audit_store) == [
            *("a STARTED", "a APPLIED", "b STARTED", "b APPLIED", "CHECKPOINT")
        ]

    async def test_one_that_was_not_done_is_tried_again(
        self, flamingock: Flamingock, shop: Losing
    ) -> None:
        shop.ends = ["rolled back"]
        report = await flamingock.run()
        assert effects(shop) == ["a", "b"]
        assert len(report.applied) == 2
        assert await history(flamingock.audit_store) == [
            *("a STARTED", "a STARTED", "a APPLIED", "b STARTED", "b APPLIED", "CHECKPOINT")
        ]

    async def test_one_that_cannot_be_tried_again_is_in_doubt(
        self, tmp_path: Path, shop: Losing
    ) -> None:
        store = Filling(tmp_path / "shop.db")
        flamingock = Flamingock(
            changes=[row("a"), row("b")], audit_store=store, target_systems=[shop]
        )
        flamingock.on(ChangeStarted, lambda event: store.fill())
        shop.ends = ["rolled back"]
        with pytest.raises(AuditStoreError, match="disk is full") as caught:
            await flamingock.run()

        assert caught.value.report is not None
        assert [change.status for change in caught.value.report.changes()] == [
            *(ChangeStatus.IN_DOUBT, ChangeStatus.NOT_REACHED)
        ]

    async def test_an_undo_that_was_done_is_found_to_be_done(
        self, flamingock: Flamingock, shop: Losing
    ) -> None:
        await flamingock.run()
        shop.ends = ["committed"]
        report = await flamingock.undo(last=2)
        assert effects(shop) == []
        assert len(report.with_status(ChangeStatus.ROLLED_BACK)) == 2
        states = (await history(flamingock.audit_store))[-4:]
        assert states == ["b ROLLBACK_STARTED", "b ROLLED_BACK", "a ROLLBACK_STARTED", states[3]]
        assert states[3] == "a ROLLED_BACK"

    async def test_an_undo_that_was_not_done_is_tried_again(
        self, flamingock: Flamingock, shop: Losing
    ) -> None:
        await flamingock.run()
        shop.ends = ["rolled back"]
        await flamingock.undo(last=1)
        assert effects(shop) == ["a"]
        told = [state for state in await history(flamingock.audit_store) if "ROLL" in state]
        assert told[0] == "b ROLLBACK_STARTED"
        assert told[-2:] == ["b ROLLBACK_STARTED", "b ROLLED_BACK"]
        # a marker settles what became of the first try; a shared transaction needs no saying
        assert told[1:-2] == ([] if flamingock.audit_store.shares(shop) else ["b ROLLBACK_FAILED"])

    async def test_a_busy_target_is_waited_for(self, flamingock: Flamingock, shop: Losing) -> None:
        shop.ends = ["busy", "busy"]
        await flamingock.run()
        assert effects(shop) == ["a", "b"]
        assert (await history(flamingock.audit_store))[:2] == ["a STARTED", "a APPLIED"]

    async def test_one_that_stays_busy_is_told_and_not_failed(
        self, flamingock: Flamingock, shop: Losing
    ) -> None:
        shop.ends = ["busy"] * 1000
        with pytest.raises(LockTimeoutError, match="busy"):
            await flamingock.run()

        assert await history(flamingock.audit_store) == ["a STARTED"]
        shop.ends = []
        await flamingock.run()
        assert effects(shop) == ["a", "b"]

    async def test_a_marker_that_cannot_be_removed_is_a_warning(
        self, tmp_path: Path, shop: Losing, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = SQLiteAuditStore(tmp_path / "log.db")
        shop.ends = ["", "busy"]
        report = await run_changes([row("a")], audit_store=store, target_systems=[shop])
        assert report.status is RunStatus.SUCCESS
        assert "marker of change 'a' was not removed" in caplog.text


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
