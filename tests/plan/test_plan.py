"""The plan of a pipeline against a history."""

from __future__ import annotations

import json

import pytest

from aflamingock._pipeline import LoadedStage, Pipeline
from aflamingock._plan.decision import Action
from aflamingock._plan.plan import PlannedChange, make_plan, plan_change
from aflamingock._states import AuditState, Recovery, TxStrategy
from tests.plan.kit import (
    WithoutRollback,
    WithRollback,
    WithVerify,
    actions_of,
    change_of,
    entry_of,
    last_of,
    pipeline_of,
)


def test_every_change_of_every_stage_gets_its_action_in_order():
    pipeline = Pipeline(
        (
            LoadedStage("one", (change_of("a"), change_of("b"))),
            LoadedStage("two", (change_of("c"),)),
            LoadedStage("empty", ()),
        )
    )
    plan = make_plan(pipeline, last_of(entry_of("a"), entry_of("c", "ROLLED_BACK")))

    assert [stage.name for stage in plan.stages] == ["one", "two", "empty"]
    assert list(actions_of(plan).items()) == [
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
    stored_manual = entry_of("a", "FAILED", recovery_strategy=Recovery.MANUAL_INTERVENTION)
    stored_retry = entry_of("b", "FAILED", recovery_strategy=Recovery.ALWAYS_RETRY)
    plan = make_plan(
        pipeline_of(change_of("a", recovery=Recovery.ALWAYS_RETRY), change_of("b")),
        last_of(stored_manual, stored_retry),
    )

    assert actions_of(plan) == {"a": Action.APPLY, "b": Action.MANUAL_INTERVENTION}


def test_the_tx_strategy_is_the_stored_one():
    entry = entry_of("a", "STARTED", tx_strategy=TxStrategy.TX_SEPARATE_WITH_MARKER)
    plan = make_plan(pipeline_of(change_of("a", transactional=False)), last_of(entry))

    assert actions_of(plan) == {"a": Action.RESOLVE_MARKER}


def test_a_change_with_verify_is_asked():
    plan = make_plan(pipeline_of(change_of("a", cls=WithVerify)), last_of(entry_of("a", "STARTED")))

    assert actions_of(plan) == {"a": Action.VERIFY}


class TestRunAlways:
    def test_it_is_applied_again(self):
        plan = make_plan(pipeline_of(change_of("a", run_always=True)), last_of(entry_of("a")))

        assert actions_of(plan) == {"a": Action.APPLY}
        assert [planned.reason for planned in plan.pending] == ["It is applied in every run."]

    @pytest.mark.parametrize(
        ("state", "repeated"),
        [("APPLIED", True), ("MANUAL_MARKED_AS_APPLIED", True), ("ROLLED_BACK", False)],
    )
    def test_it_is_repeated_where_it_is_applied(self, state, repeated):
        planned = plan_change(change_of("a", run_always=True), entry_of("a", state))

        assert planned.action is Action.APPLY
        assert planned.is_repeated is repeated

    def test_a_change_that_is_new_or_done_is_not_repeated(self):
        assert not plan_change(change_of("a", run_always=True), None).is_repeated
        assert not plan_change(change_of("a"), entry_of("a")).is_repeated

    def test_it_is_done_once_the_same_run_has_applied_it(self):
        plan = make_plan(
            pipeline_of(change_of("a", run_always=True)),
            last_of(entry_of("a", execution_id="this")),
            execution_id="this",
        )

        assert plan.is_empty

    def test_it_needs_a_person_like_any_other(self):
        plan = make_plan(
            pipeline_of(change_of("a", run_always=True)), last_of(entry_of("a", "FAILED"))
        )

        assert actions_of(plan) == {"a": Action.MANUAL_INTERVENTION}

    def test_an_edit_of_it_is_no_drift(self):
        change = change_of("a", run_always=True, checksum="1:new")

        assert (
            make_plan(pipeline_of(change), last_of(entry_of("a", checksum="1:old"))).drifted == ()
        )


class TestSummary:
    def test_pending_is_what_a_run_would_work_on(self):
        entries = [
            entry_of("applied"),
            entry_of("blocked", "FAILED"),
            entry_of("marker", "STARTED", tx_strategy=TxStrategy.TX_SEPARATE_WITH_MARKER),
            entry_of("verified", "STARTED"),
            entry_of("back", "ROLLBACK_STARTED"),
        ]
        plan = make_plan(
            pipeline_of(
                change_of("applied"),
                change_of("blocked"),
                change_of("marker"),
                change_of("verified", cls=WithVerify),
                change_of("back", recovery=Recovery.ALWAYS_RETRY),
                change_of("new"),
            ),
            last_of(*entries),
        )

        assert [p.change.id for p in plan.pending] == ["marker", "verified", "back", "new"]
        assert [p.change.id for p in plan.blocked] == ["blocked"]
        assert not plan.is_empty

    def test_a_plan_is_empty_when_everything_is_applied(self):
        assert make_plan(pipeline_of(change_of("a")), last_of(entry_of("a"))).is_empty

    def test_a_plan_without_changes_is_empty(self):
        assert make_plan(pipeline_of(), {}).is_empty

    def test_a_plan_with_a_blocked_change_alone_is_not_empty(self):
        plan = make_plan(pipeline_of(change_of("a")), last_of(entry_of("a", "FAILED")))

        assert not plan.pending
        assert not plan.is_empty

    def test_only_the_stage_of_a_blocked_change_is_blocked(self):
        pipeline = Pipeline(
            (LoadedStage("x", (change_of("a"),)), LoadedStage("y", (change_of("b"),)))
        )
        plan = make_plan(pipeline, last_of(entry_of("b", "FAILED")))

        assert [stage.is_blocked for stage in plan.stages] == [False, True]


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
    entry = state and entry_of("a", state)
    planned = plan_change(change_of("a", recovery=Recovery.ALWAYS_RETRY), entry)

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
    entry = entry_of("a", "STARTED", tx_strategy=strategy)

    assert plan_change(change_of("a", cls=cls), entry).reason == reason


def test_a_plan_reads_as_json():
    change = change_of(
        "a", cls=WithoutRollback, target_system="db", file="a.py", tags=("slow",), order="0001"
    )
    plan = make_plan(pipeline_of(change), last_of(entry_of("a", "FAILED"), entry_of("gone")))

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
    planned = PlannedChange(change=change_of("a"), action=Action.APPLY, state=None, reason="")

    assert planned.to_dict()["state"] is None
