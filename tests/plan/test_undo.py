"""Which changes an undo takes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar

import aiosqlite
import pytest

from aflamingock._change import change
from aflamingock._flamingock import Flamingock
from aflamingock._pipeline import Pipeline
from aflamingock._plan.undo import check_selection, plan_undo
from aflamingock._records import AuditEntry
from aflamingock._states import AuditState, TxStrategy
from aflamingock.exceptions import ConfigurationError, RollbackFailedError
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.plan.kit import WithoutRollback, change_of, pipeline_of

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _applied(*ids: str) -> dict[str, AuditEntry]:
    """Return a history in which the changes were applied in this order, an hour apart."""
    return {
        id: AuditEntry(
            service="s",
            execution_id="e",
            change_id=id,
            sequence=2 * number,
            state=AuditState.APPLIED,
            created_at=_NOON + timedelta(hours=number),
        )
        for number, id in enumerate(ids, start=1)
    }


def _with_state(id: str, state: str, **values) -> dict[str, AuditEntry]:
    entry = AuditEntry(
        service="s", execution_id="e", change_id=id, sequence=90, state=AuditState(state), **values
    )
    return {id: entry}


_ABC = pipeline_of(*map(change_of, "abc"))


def _ids(pipeline: Pipeline, last: dict[str, AuditEntry], **selection) -> list[str]:
    return [change.id for change in plan_undo(pipeline, last, **selection)]


class TestSelection:
    @pytest.mark.parametrize(
        ("count", "chosen"), [(1, ["c"]), (2, ["c", "b"]), (9, ["c", "b", "a"])]
    )
    def test_the_last_ones_go_newest_first(self, count, chosen):
        assert _ids(_ABC, _applied("a", "b", "c"), count=count) == chosen

    def test_the_order_is_that_of_the_log_and_not_of_the_code(self):
        assert _ids(_ABC, _applied("c", "a", "b"), count=2) == ["b", "a"]

    def test_only_applied_changes_count(self):
        last = _applied("a", "b") | _with_state("c", "ROLLED_BACK")

        assert _ids(_ABC, last, count=1) == ["b"]

    def test_nothing_applied_is_nothing_to_undo(self):
        assert _ids(_ABC, {}, count=1) == []

    def test_to_keeps_the_named_change(self):
        assert _ids(_ABC, _applied("a", "b", "c"), to="a") == ["c", "b"]

    def test_to_the_last_one_is_nothing_to_undo(self):
        assert _ids(_ABC, _applied("a", "b", "c"), to="c") == []

    def test_to_may_name_a_change_that_is_gone_from_the_code(self):
        assert _ids(_ABC, _applied("gone", "a", "b"), to="gone") == ["b", "a"]

    def test_since_takes_what_was_applied_then_or_later(self):
        assert _ids(_ABC, _applied("a", "b", "c"), since=_NOON + timedelta(hours=2)) == ["c", "b"]

    def test_since_compares_moments_and_not_wall_clocks(self):
        moment = (_NOON + timedelta(hours=3)).astimezone(timezone(timedelta(hours=9)))

        assert _ids(_ABC, _applied("a", "b", "c"), since=moment) == ["c"]

    def test_a_named_change_goes_alone(self):
        assert _ids(_ABC, _applied("a", "b", "c"), change_id="b") == ["b"]

    def test_one_that_was_marked_as_applied_can_be_undone(self):
        assert _ids(_ABC, _with_state("b", "MANUAL_MARKED_AS_APPLIED"), change_id="b") == ["b"]

    def test_one_whose_undo_did_not_commit_can_be_undone_again(self):
        last = _with_state("b", "ROLLBACK_FAILED", tx_strategy=TxStrategy.TX_SHARED)

        assert _ids(_ABC, last, change_id="b") == ["b"]


class TestRefusal:
    @pytest.mark.parametrize("selection", [{"to": "b"}, {"change_id": "b"}])
    def test_a_change_that_the_log_does_not_know_is_named(self, selection):
        with pytest.raises(ConfigurationError, match="'b' is not applied .the audit log does not"):
            plan_undo(_ABC, _applied("a"), **selection)

    @pytest.mark.parametrize("state", ["ROLLED_BACK", "FAILED", "STARTED", "ROLLBACK_FAILED"])
    @pytest.mark.parametrize("name", ["to", "change_id"])
    def test_a_change_that_is_not_applied_is_refused_with_its_state(self, name: str, state: str):
        selection: dict[str, Any] = {name: "b"}
        with pytest.raises(ConfigurationError, match=f"'b' is not applied .its state is {state}."):
            plan_undo(_ABC, _with_state("b", state), **selection)

    def test_a_missing_rollback_is_refused_with_file_and_line(self):
        change = change_of("b", cls=WithoutRollback, file="changes/b.py", line=7)
        with pytest.raises(ConfigurationError, match="WithoutRollback has no rollback") as refused:
            plan_undo(pipeline_of(change), _applied("b"), count=1)

        assert (refused.value.file, refused.value.line) == ("changes/b.py", 7)

    def test_a_change_that_is_gone_from_the_code_is_refused(self):
        with pytest.raises(ConfigurationError, match="'gone' cannot be undone: it is gone"):
            plan_undo(_ABC, _applied("a", "gone"), count=1)

    def test_what_is_not_chosen_may_be_gone(self):
        assert _ids(_ABC, _applied("gone", "a"), count=1) == ["a"]

    def test_every_fault_is_named_at_once(self):
        pipeline = pipeline_of(change_of("a", cls=WithoutRollback))
        with pytest.raises(ConfigurationError) as refused:
            plan_undo(pipeline, _applied("a", "gone"), count=2)

        assert len(refused.value.faults) == 2
        assert "'a'" in str(refused.value)
        assert "'gone'" in str(refused.value)


class TestDependents:
    _PIPELINE = pipeline_of(change_of("a"), change_of("b", depends_on=("a",)))

    def test_a_change_that_an_applied_one_needs_is_refused(self):
        with pytest.raises(ConfigurationError, match="'a' cannot be undone alone.*'b' depends"):
            plan_undo(self._PIPELINE, _applied("a", "b"), change_id="a")

    def test_both_together_can_be_undone(self):
        assert _ids(self._PIPELINE, _applied("a", "b"), count=2) == ["b", "a"]

    def test_the_dependent_one_can_be_undone(self):
        assert _ids(self._PIPELINE, _applied("a", "b"), change_id="b") == ["b"]

    def test_one_that_is_not_applied_needs_nothing(self):
        last = _applied("a") | _with_state("b", "ROLLED_BACK")

        assert _ids(self._PIPELINE, last, change_id="a") == ["a"]


class TestCheckSelection:
    _NOTHING: ClassVar[dict[str, Any]] = dict.fromkeys(("count", "to", "since", "change_id"))

    @pytest.mark.parametrize(
        "given", [{"count": 1}, {"to": "a"}, {"since": _NOON}, {"change_id": "a"}]
    )
    def test_one_says_what_to_undo(self, given):
        check_selection(**self._NOTHING | given)

    @pytest.mark.parametrize("given", [{}, {"count": 1, "to": "a"}, {"since": _NOON, "count": 1}])
    def test_none_and_several_are_refused(self, given):
        with pytest.raises(ConfigurationError, match="give exactly one of last=, to=, since="):
            check_selection(**self._NOTHING | given)

    @pytest.mark.parametrize("count", [0, -1, 1.5, "1"])
    def test_a_count_is_one_or_more(self, count):
        with pytest.raises(ConfigurationError, match=r"undo\(last=.*\): give a number of 1 or"):
            check_selection(**self._NOTHING | {"count": count})

    def test_a_time_has_a_zone(self):
        with pytest.raises(ConfigurationError, match="give a time with a time zone"):
            check_selection(**self._NOTHING | {"since": datetime(2026, 3, 1)})


def _transactional(id: str, *, fails: bool = False) -> type:
    class Transactional:
        async def execute(self, db: aiosqlite.Connection) -> None:
            await db.execute(f"CREATE TABLE {id} (x)")

        async def rollback(self, db: aiosqlite.Connection) -> None:
            if fails:
                raise LookupError

            await db.execute(f"DROP TABLE {id}")

    return change(id=id, author="ann", order=id, target_system="db")(Transactional)


async def test_an_undo_that_failed_does_not_make_a_change_the_newest_one(tmp_path):
    target = SQLiteTargetSystem("db", tmp_path / "shop.db")
    flamingock = Flamingock(
        changes=[_transactional("a", fails=True), _transactional("b")],
        audit_store=SQLiteAuditStore.from_target_system(target),
        target_systems=[target],
    )
    await flamingock.run()
    with pytest.raises(RollbackFailedError):
        await flamingock.undo(change_id="a")

    last = await flamingock.undo(last=1, dry_run=True)
    assert [report.change_id for report in last.changes()] == ["b"]
    after = await flamingock.undo(to="a", dry_run=True)
    assert [report.change_id for report in after.changes()] == ["b"]
