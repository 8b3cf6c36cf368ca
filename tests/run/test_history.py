"""How a run takes a code that does not fit its history, and what the entries tell."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from aflamingock import (
    AuditState,
    DriftError,
    Flamingock,
    HistoryError,
    ManualInterventionError,
    OutOfOrderError,
    PendingChangesError,
    RunStatus,
    run_changes,
)
from aflamingock.stores.memory import MemoryAuditStore
from tests.change_files import text_of, write
from tests.kit import WRITES, calls_of, entries, entry, history, lease_of, leave, step, steps


class TestDrift:
    EDITED = text_of("one").replace("...", "print('edited')")

    @pytest.fixture
    async def folder(self, tmp_path: Path, store: MemoryAuditStore) -> Path:
        """A folder with a change that was edited after it was applied, and a new one."""
        write(tmp_path, {"_0001__one.py": text_of("one")})
        await run_changes(tmp_path, audit_store=store)
        write(tmp_path, {"_0001__one.py": self.EDITED, "_0002__two.py": text_of("two")})
        return tmp_path

    async def test_an_edited_change_is_an_error_before_anything_runs(
        self, store: MemoryAuditStore, folder: Path
    ) -> None:
        calls = calls_of(store)
        with pytest.raises(DriftError, match="'one'.*_0001__one.py") as caught:
            await run_changes(folder, audit_store=store)

        assert len(caught.value.faults) == 1
        assert caught.value.report is not None
        assert not calls.keys() & WRITES
        with pytest.raises(DriftError):
            await Flamingock(changes=folder, audit_store=store).validate()

    async def test_it_may_be_a_warning(
        self, store: MemoryAuditStore, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        report = await run_changes(folder, audit_store=store, on_drift="warn")
        assert [one.change_id for one in report.applied] == ["two"]
        (warning,) = report.warnings
        assert "'one'" in warning
        assert [one.getMessage() for one in caplog.records].count(warning) == 1

    async def test_it_may_be_ignored(
        self, store: MemoryAuditStore, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        report = await run_changes(folder, audit_store=store, on_drift="ignore")
        assert [one.change_id for one in report.applied] == ["two"]
        assert report.warnings == ()
        assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []

    async def test_layout_and_comments_are_no_drift(
        self, store: MemoryAuditStore, tmp_path: Path
    ) -> None:
        write(tmp_path, {"_0001__one.py": text_of("one")})
        await run_changes(tmp_path, audit_store=store)
        write(tmp_path, {"_0001__one.py": "# A remark.\n\n" + text_of("one")})
        report = await run_changes(tmp_path, audit_store=store)
        assert report.status is RunStatus.NOTHING_TO_DO


class TestOutOfOrder:
    async def test_a_change_inserted_before_applied_ones_is_an_error(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        await run_changes(steps("ac", done), audit_store=store)
        calls = calls_of(store)
        with pytest.raises(OutOfOrderError, match="'b'.*before 'c'"):
            await run_changes(steps("abc", done), audit_store=store)

        assert done == ["a", "c"]
        assert not calls.keys() & WRITES

    @pytest.mark.parametrize(("tolerated", "number"), [("warn", 1), ("ignore", 0)])
    async def test_it_may_be_tolerated(
        self, store: MemoryAuditStore, done: list[str], tolerated: Any, number: int
    ) -> None:
        await run_changes(steps("ac", done), audit_store=store)
        report = await run_changes(steps("abc", done), audit_store=store, on_out_of_order=tolerated)
        assert done == ["a", "c", "b"]
        assert len(report.warnings) == number

    async def test_drift_and_order_are_told_together(
        self, store: MemoryAuditStore, tmp_path: Path
    ) -> None:
        write(tmp_path, {"_0002__two.py": text_of("two")})
        await run_changes(tmp_path, audit_store=store)
        edited = text_of("two").replace("...", "print()")
        write(tmp_path, {"_0001__one.py": text_of("one"), "_0002__two.py": edited})
        with pytest.raises(HistoryError) as caught:
            await run_changes(tmp_path, audit_store=store)

        assert len(caught.value.faults) == 2


class TestUnknown:
    async def test_an_applied_change_that_is_gone_is_a_warning(
        self, store: MemoryAuditStore, done: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        await run_changes(steps("abc", done), audit_store=store)
        report = await run_changes(steps("ad", done), audit_store=store)
        assert done == ["a", "b", "c", "d"]
        assert ["'b'" in report.warnings[0], "'c'" in report.warnings[1]] == [True, True]
        assert "'b' is applied, but is gone from the code" in caplog.text

    async def test_a_rolled_back_deployment_starts(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        await run_changes(steps("abc", done), audit_store=store)
        report = await run_changes(steps("a", done), audit_store=store)
        assert report.status is RunStatus.NOTHING_TO_DO
        plan = await Flamingock(changes=steps("a", done), audit_store=store).plan()
        assert plan.unknown == ("b", "c")


class TestProfiles:
    async def test_only_active_changes_run_and_the_others_are_not_missed(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        changes = [
            step("a", done),
            step("b", done, profiles=("test",)),
            step("c", done, profiles=("test", "prod")),
        ]
        await run_changes(changes, audit_store=store, profiles=["prod"])
        assert done == ["a", "c"]
        report = await run_changes(changes, audit_store=store)
        assert done == ["a", "c"]
        assert report.warnings == ()

    async def test_other_profiles_are_another_pipeline(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        changes = [step("a", done), step("b", done, profiles=("test",))]
        await run_changes(changes, audit_store=store)
        await run_changes(changes, audit_store=store, profiles=["test"])
        assert done == ["a", "b"]


class TestLooking:
    async def test_a_plan_says_what_a_run_would_do_and_writes_nothing(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        await run_changes(steps("ab", done), audit_store=store)
        await leave(store, entry("c", AuditState.STARTED))
        calls = calls_of(store)
        plan = await Flamingock(changes=steps("abcd", done), audit_store=store).plan()
        assert [planned.action for planned in plan.changes()] == [
            *("SKIP", "SKIP", "MANUAL_INTERVENTION", "APPLY")
        ]
        assert [planned.change.id for planned in plan.pending] == ["d"]
        assert [planned.change.id for planned in plan.blocked] == ["c"]
        assert not calls.keys() & (WRITES | {"read_record"})
        assert done == ["a", "b"]

    async def test_a_plan_on_nothing_creates_nothing(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        plan = await Flamingock(changes=steps("ab", done), audit_store=store).plan()
        assert len(plan.pending) == 2
        assert await lease_of(store) is None

    async def test_validate_raises_what_is_pending(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        flamingock = Flamingock(changes=steps("abc", done), audit_store=store)
        calls = calls_of(store)
        with pytest.raises(PendingChangesError, match="3 changes are pending: 'a', 'b', 'c'") as c:
            await flamingock.validate()

        assert [planned.change.id for planned in c.value.plan.pending] == ["a", "b", "c"]
        assert not calls.keys() & (WRITES | {"read_record"})
        await flamingock.run()
        calls.clear()
        await flamingock.validate()
        assert calls == {"last": 1}

    async def test_validate_raises_what_needs_a_person(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        await leave(store, entry("a", AuditState.STARTED))
        with pytest.raises(ManualInterventionError, match="'a'") as caught:
            await Flamingock(changes=steps("ab", done), audit_store=store).validate()

        assert [issue.change_id for issue in caught.value.issues] == ["a"]
        assert await history(store) == ["a STARTED"]


class TestEntries:
    async def test_they_tell_where_a_change_comes_from(
        self, store: MemoryAuditStore, tmp_path: Path
    ) -> None:
        more = 'tags=["pii", "slow"], metadata={"ticket": 42}'
        write(tmp_path / "changes", {"_0001__one.py": text_of("one", more)})
        flamingock = Flamingock(
            changes=tmp_path / "changes",
            audit_store=store,
            service="shop",
            environment="prod",
            metadata={"build": "1.2", "ticket": 1},
        )
        assert (flamingock.service, flamingock.environment) == ("shop", "prod")
        await flamingock.run()
        log = await entries(store, "shop")
        for one in log[:2]:
            assert (one.change_id, one.change_order, one.author) == ("one", "0001", "team")
            assert one.metadata == {"build": "1.2", "ticket": 42, "tags": ["pii", "slow"]}
            assert one.source_file == "changes/_0001__one.py"
            assert (one.invoked_method, one.rollback_available) == ("execute", False)
            assert (one.invoked_class or "").endswith(".Cone")
            assert (one.checksum or "").startswith("1:")
            assert (one.stage_id, one.target_system_id) == ("default", None)

        assert {one.environment for one in log} == {"prod"}
        assert len({one.initiated_by for one in log}) == 1
        assert log[0].initiated_by
        assert log[0].execution_hostname
        assert log[2].metadata == {"build": "1.2", "ticket": 1}
        assert log[2].system_change

    async def test_a_run_has_one_execution_id(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        first = await run_changes(steps("a", done), audit_store=store)
        second = await run_changes(steps("ab", done), audit_store=store)
        ids = [one.execution_id for one in await entries(store)]
        assert ids == [first.execution_id] * 3 + [second.execution_id] * 3
        assert first.execution_id != second.execution_id
