"""The plan of a pipeline against a history."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from aflamingock._change import Change
from aflamingock._pipeline import LoadedStage, Pipeline
from aflamingock._plan.decision import Action
from aflamingock._plan.plan import Plan, PlannedChange, make_plan, plan_change
from aflamingock._records import AuditEntry
from aflamingock._states import AuditState, Recovery, TxStrategy


class WithoutRollback:
    async def execute(self) -> None:
        """Do nothing."""


class WithRollback(WithoutRollback):
    async def rollback(self) -> None:
        """Do nothing."""


class WithVerify(WithRollback):
    async def verify(self) -> None:
        """Tell nothing."""


def _change(id: str, **values) -> Change:
    given: dict[str, Any] = {"author": "ann", "order": id, "cls": WithRollback, "id": id}
    return Change(**given | values)


def _entry(id: str, state: str = "APPLIED", **values) -> AuditEntry:
    given: dict[str, Any] = {"service": "s", "execution_id": "before", "change_id": id}
    return AuditEntry(state=AuditState(state), **given | {"sequence": 1} | values)


def _pipeline(*changes: Change, inactive: frozenset[str] = frozenset()) -> Pipeline:
    return Pipeline((LoadedStage("main", changes),), inactive)


def _last(*entries: AuditEntry) -> dict[str, AuditEntry]:
    return {entry.change_id or "": entry for entry in entries}


def _actions(plan: Plan) -> dict[str, Action]:
    return {planned.change.id: planned.action for planned in plan.changes()}


def test_every_change_of_every_stage_gets_its_action_in_order():
    pipeline = Pipeline(
        (
            LoadedStage("one", (_change("a"), _change("b"))),
            LoadedStage("two", (_change("c"),)),
            LoadedStage("empty", ()),
        )
    )
    plan = make_plan(pipeline, _last(_entry("a"), _entry("c", "ROLLED_BACK")))

    assert [stage.name for stage in plan.stages] == ["one", "two", "empty"]
    assert list(_actions(plan).items()) == [
        ("a", Action.SKIP),
        ("b", Action.APPLY),
        ("c", Action.APPLY),
    ]
    assert [planned.state for planned in plan.changes()] == [
        AuditState.APPLIED,
        None,
        AuditState.ROLLED_BACK,
    ]


def test_the_recovery_is_that_of_todays_code():
    stored_manual = _entry("a", "FAILED", recovery_strategy=Recovery.MANUAL_INTERVENTION)
    stored_retry = _entry("b", "FAILED", recovery_strategy=Recovery.ALWAYS_RETRY)
    plan = make_plan(
        _pipeline(_change("a", recovery=Recovery.ALWAYS_RETRY), _change("b")),
        _last(stored_manual, stored_retry),
    )

    assert _actions(plan) == {"a": Action.APPLY, "b": Action.MANUAL_INTERVENTION}


def test_the_tx_strategy_is_the_stored_one():
    entry = _entry("a", "STARTED", tx_strategy=TxStrategy.TX_SEPARATE_WITH_MARKER)
    plan = make_plan(_pipeline(_change("a", transactional=False)), _last(entry))

    assert _actions(plan) == {"a": Action.RESOLVE_MARKER}


def test_a_change_with_verify_is_asked():
    plan = make_plan(_pipeline(_change("a", cls=WithVerify)), _last(_entry("a", "STARTED")))

    assert _actions(plan) == {"a": Action.VERIFY}


class TestRunAlways:
    def test_it_is_applied_again(self):
        plan = make_plan(_pipeline(_change("a", run_always=True)), _last(_entry("a")))

        assert _actions(plan) == {"a": Action.APPLY}
        assert [planned.reason for planned in plan.pending] == ["It is applied in every run."]

    @pytest.mark.parametrize(
        ("state", "repeated"),
        [("APPLIED", True), ("MANUAL_MARKED_AS_APPLIED", True), ("ROLLED_BACK", False)],
    )
    def test_it_is_repeated_where_it_is_applied(self, state, repeated):
        planned = plan_change(_change("a", run_always=True), _entry("a", state))

        assert planned.action is Action.APPLY
        assert planned.is_repeated is repeated

    def test_a_change_that_is_new_or_done_is_not_repeated(self):
        assert not plan_change(_change("a", run_always=True), None).is_repeated
        assert not plan_change(_change("a"), _entry("a")).is_repeated

    def test_it_is_done_once_the_same_run_has_applied_it(self):
        plan = make_plan(
            _pipeline(_change("a", run_always=True)),
            _last(_entry("a", execution_id="this")),
            execution_id="this",
        )

        assert plan.is_empty

    def test_it_needs_a_person_like_any_other(self):
        plan = make_plan(_pipeline(_change("a", run_always=True)), _last(_entry("a", "FAILED")))

        assert _actions(plan) == {"a": Action.MANUAL_INTERVENTION}

    def test_an_edit_of_it_is_no_drift(self):
        change = _change("a", run_always=True, checksum="1:new")

        assert make_plan(_pipeline(change), _last(_entry("a", checksum="1:old"))).drifted == ()


class TestSummary:
    def test_pending_is_what_a_run_would_work_on(self):
        entries = [
            _entry("applied"),
            _entry("blocked", "FAILED"),
            _entry("marker", "STARTED", tx_strategy=TxStrategy.TX_SEPARATE_WITH_MARKER),
            _entry("verified", "STARTED"),
            _entry("back", "ROLLBACK_STARTED"),
        ]
        plan = make_plan(
            _pipeline(
                _change("applied"),
                _change("blocked"),
                _change("marker"),
                _change("verified", cls=WithVerify),
                _change("back", recovery=Recovery.ALWAYS_RETRY),
                _change("new"),
            ),
            _last(*entries),
        )

        assert [p.change.id for p in plan.pending] == ["marker", "verified", "back", "new"]
        assert [p.change.id for p in plan.blocked] == ["blocked"]
        assert not plan.is_empty

    def test_a_plan_is_empty_when_everything_is_applied(self):
        assert make_plan(_pipeline(_change("a")), _last(_entry("a"))).is_empty

    def test_a_plan_without_changes_is_empty(self):
        assert make_plan(_pipeline(), {}).is_empty

    def test_a_plan_with_a_blocked_change_alone_is_not_empty(self):
        plan = make_plan(_pipeline(_change("a")), _last(_entry("a", "FAILED")))

        assert not plan.pending
        assert not plan.is_empty

    def test_only_the_stage_of_a_blocked_change_is_blocked(self):
        pipeline = Pipeline((LoadedStage("x", (_change("a"),)), LoadedStage("y", (_change("b"),))))
        plan = make_plan(pipeline, _last(_entry("b", "FAILED")))

        assert [stage.is_blocked for stage in plan.stages] == [False, True]


class TestUnknown:
    def test_an_applied_change_that_is_gone_is_listed_and_warned_of(self):
        plan = make_plan(_pipeline(_change("a")), _last(_entry("a"), _entry("gone")))

        assert plan.unknown == ("gone",)
        assert plan.warnings == ("Change 'gone' is applied, but is gone from the code.",)
        assert plan.is_empty

    def test_one_that_is_not_applied_is_not_missed(self):
        gone = [
            _entry("rolled-back", "ROLLED_BACK"),
            _entry("by-hand", "MANUAL_MARKED_AS_ROLLED_BACK"),
        ]

        assert make_plan(_pipeline(), _last(*gone)).unknown == ()

    def test_one_that_the_profiles_leave_out_is_known(self):
        plan = make_plan(_pipeline(inactive=frozenset({"other"})), _last(_entry("other")))

        assert plan.unknown == ()


class TestDrift:
    def _plan(self, state: str, stored: str | None, current: str | None) -> Plan:
        change = _change("a", checksum=current, file="changes/a.py")
        moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
        entry = _entry("a", state, checksum=stored, created_at=moment)
        return make_plan(_pipeline(change), _last(entry))

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
        assert make_plan(_pipeline(_change("a", checksum="1:x")), {}).drifted == ()


class TestOutOfOrder:
    def test_a_new_change_before_an_applied_one_is_told(self):
        plan = make_plan(
            _pipeline(_change("a", file="a.py"), _change("b"), _change("c")), _last(_entry("b"))
        )

        assert plan.out_of_order == (
            "Change 'a' (a.py) is new, but stands before 'b', which is applied. "
            "Give it a later order.",
        )

    def test_each_new_change_names_the_applied_one_that_follows_next(self):
        plan = make_plan(
            _pipeline(*map(_change, "abcd")), _last(_entry("b", sequence=1), _entry("d"))
        )

        assert len(plan.out_of_order) == 2
        told = sorted(plan.out_of_order)
        assert "'a'" in told[0]
        assert "'b'" in told[0]
        assert "'c'" in told[1]
        assert "'d'" in told[1]

    def test_changes_after_the_applied_ones_are_in_order(self):
        plan = make_plan(_pipeline(_change("a"), _change("b")), _last(_entry("a")))

        assert plan.out_of_order == ()

    @pytest.mark.parametrize("state", ["ROLLED_BACK", "MANUAL_MARKED_AS_ROLLED_BACK"])
    def test_one_that_was_rolled_back_is_not_new(self, state):
        plan = make_plan(
            _pipeline(_change("a"), _change("b")), _last(_entry("a", state), _entry("b"))
        )

        assert plan.out_of_order == ()

    def test_one_before_a_change_that_is_rolled_back_is_in_order(self):
        plan = make_plan(_pipeline(_change("a"), _change("b")), _last(_entry("b", "ROLLED_BACK")))

        assert plan.out_of_order == ()

    def test_another_stage_does_not_count(self):
        pipeline = Pipeline((LoadedStage("x", (_change("a"),)), LoadedStage("y", (_change("b"),))))

        assert make_plan(pipeline, _last(_entry("b"))).out_of_order == ()


_TELLING = {
    None: "It was never applied.",
    "STARTED": "It was started, and surely did not happen or may be repeated.",
    "ROLLED_BACK": "Its last state is ROLLED_BACK.",
    "APPLIED": "Its last state is APPLIED.",
    "ROLLBACK_STARTED": (
        "Its rollback was left unfinished; it is rolled back, then applied again."
    ),
}


@pytest.mark.parametrize("state", _TELLING)
def test_the_reason_says_what_the_history_holds(state):
    entry = state and _entry("a", state)
    planned = plan_change(_change("a", recovery=Recovery.ALWAYS_RETRY), entry)

    assert planned.reason == _TELLING[state]


@pytest.mark.parametrize(
    ("cls", "strategy", "reason"),
    [
        (
            WithRollback,
            TxStrategy.TX_SEPARATE_WITH_MARKER,
            "The marker in the target system tells whether it was committed.",
        ),
        (
            WithVerify,
            TxStrategy.NON_TX,
            "It was left unfinished; its verify tells what really happened.",
        ),
        (
            WithRollback,
            TxStrategy.NON_TX,
            "It was left unfinished; a person has to say what became of it.",
        ),
    ],
)
def test_the_reason_says_who_decides(cls, strategy, reason):
    entry = _entry("a", "STARTED", tx_strategy=strategy)

    assert plan_change(_change("a", cls=cls), entry).reason == reason


def test_a_plan_reads_as_json():
    change = _change(
        "a", cls=WithoutRollback, target_system="db", file="a.py", tags=("slow",), order="0001"
    )
    plan = make_plan(_pipeline(change), _last(_entry("a", "FAILED"), _entry("gone")))

    assert json.loads(json.dumps(plan.to_dict())) == {
        "stages": [
            {
                "name": "main",
                "changes": [
                    {
                        "changeId": "a",
                        "order": "0001",
                        "author": "ann",
                        "targetSystem": "db",
                        "file": "a.py",
                        "tags": ["slow"],
                        "action": "MANUAL_INTERVENTION",
                        "state": "FAILED",
                        "reason": "It was left unfinished; a person has to say what became of it.",
                        "rollbackAvailable": False,
                    }
                ],
            }
        ],
        "pending": 0,
        "blocked": 1,
        "unknown": ["gone"],
        "drifted": [],
        "outOfOrder": [],
        "warnings": ["Change 'gone' is applied, but is gone from the code."],
    }


def test_a_change_without_an_entry_has_no_state():
    planned = PlannedChange(change=_change("a"), action=Action.APPLY, state=None, reason="")

    assert planned.to_dict()["state"] is None
