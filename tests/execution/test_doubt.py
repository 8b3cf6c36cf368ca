"""Lost answers: what a run does that cannot know what has happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import pytest

from aflamingock import (
    AuditEntry,
    AuditStoreError,
    ChangeStarted,
    ChangeStatus,
    Flamingock,
    LockOptions,
    LockTimeoutError,
    RunStatus,
    SystemBusyError,
    UnknownOutcomeError,
    run_changes,
)
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.kit import history, row, rows


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
