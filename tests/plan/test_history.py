"""What a plan finds in the history: unknown changes, edited ones, and inserted ones."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aflamingock._pipeline import LoadedStage, Pipeline
from aflamingock._plan.plan import Plan, make_plan
from tests.plan.kit import change_of, entry_of, last_of, pipeline_of


class TestUnknown:
    def test_an_applied_change_that_is_gone_is_listed_and_warned_of(self):
        plan = make_plan(pipeline_of(change_of("a")), last_of(entry_of("a"), entry_of("gone")))

        assert plan.unknown == ("gone",)
        assert plan.warnings == ("Change 'gone' is applied, but is gone from the code.",)
        assert plan.is_empty

    def test_one_that_is_not_applied_is_not_missed(self):
        gone = [
            entry_of("rolled-back", "ROLLED_BACK"),
            entry_of("by-hand", "MANUAL_MARKED_AS_ROLLED_BACK"),
        ]

        assert make_plan(pipeline_of(), last_of(*gone)).unknown == ()

    def test_one_that_the_profiles_leave_out_is_known(self):
        plan = make_plan(pipeline_of(inactive=frozenset({"other"})), last_of(entry_of("other")))

        assert plan.unknown == ()


class TestDrift:
    def _plan(self, state: str, stored: str | None, current: str | None) -> Plan:
        change = change_of("a", checksum=current, file="changes/a.py")
        moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
        entry = entry_of("a", state, checksum=stored, created_at=moment)
        return make_plan(pipeline_of(change), last_of(entry))

    def test_an_edit_of_an_applied_change_is_told_with_file_and_day(self):
        assert self._plan("APPLIED", "1:old", "1:new").drifted == (
            "Change 'a' (changes/a.py) was applied on 2026-03-01 and has been edited since. "
            "Take the edit back and write a new change.",
        )

    @pytest.mark.parametrize(
        ("state", "stored", "current"),
        [
            ("APPLIED", "1:old", "1:old"),
            ("APPLIED", "0:old", "1:new"),
            ("APPLIED", None, "1:new"),
            ("APPLIED", "1:old", None),
            ("ROLLED_BACK", "1:old", "1:new"),
            ("FAILED", "1:old", "1:new"),
        ],
    )
    def test_what_is_equal_unknown_or_not_applied_is_no_drift(self, state, stored, current):
        assert self._plan(state, stored, current).drifted == ()

    def test_a_new_change_is_no_drift(self):
        assert make_plan(pipeline_of(change_of("a", checksum="1:x")), {}).drifted == ()


class TestOutOfOrder:
    def test_a_new_change_before_an_applied_one_is_told(self):
        plan = make_plan(
            pipeline_of(change_of("a", file="a.py"), change_of("b"), change_of("c")),
            last_of(entry_of("b")),
        )

        assert plan.out_of_order == (
            "Change 'a' (a.py) is new, but stands before 'b', which is applied. "
            "Give it a later order.",
        )

    def test_each_new_change_names_the_applied_one_that_follows_next(self):
        plan = make_plan(
            pipeline_of(*map(change_of, "abcd")), last_of(entry_of("b", sequence=1), entry_of("d"))
        )

        assert len(plan.out_of_order) == 2
        told = sorted(plan.out_of_order)
        assert "'a'" in told[0]
        assert "'b'" in told[0]
        assert "'c'" in told[1]
        assert "'d'" in told[1]

    def test_changes_after_the_applied_ones_are_in_order(self):
        plan = make_plan(pipeline_of(change_of("a"), change_of("b")), last_of(entry_of("a")))

        assert plan.out_of_order == ()

    @pytest.mark.parametrize("state", ["ROLLED_BACK", "MANUAL_MARKED_AS_ROLLED_BACK"])
    def test_one_that_was_rolled_back_is_not_new(self, state):
        plan = make_plan(
            pipeline_of(change_of("a"), change_of("b")),
            last_of(entry_of("a", state), entry_of("b")),
        )

        assert plan.out_of_order == ()

    def test_one_before_a_change_that_is_rolled_back_is_in_order(self):
        plan = make_plan(
            pipeline_of(change_of("a"), change_of("b")), last_of(entry_of("b", "ROLLED_BACK"))
        )

        assert plan.out_of_order == ()

    def test_another_stage_does_not_count(self):
        pipeline = Pipeline(
            (LoadedStage("x", (change_of("a"),)), LoadedStage("y", (change_of("b"),)))
        )

        assert make_plan(pipeline, last_of(entry_of("b"))).out_of_order == ()
