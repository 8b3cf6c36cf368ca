"""What follows from the last entry of a change: the whole table, written out."""

from __future__ import annotations

from itertools import product

import pytest

from aflamingock._plan.decision import Action, after_doubt, is_applied, is_drift, next_action
from aflamingock._records import AuditEntry
from aflamingock._states import AuditState, Recovery, TxStrategy

_A, _S, _M = Action.APPLY, Action.SKIP, Action.RESOLVE_MARKER
_V, _R, _P = Action.VERIFY, Action.ROLL_BACK, Action.MANUAL_INTERVENTION

# The last four columns: with verify and MANUAL_INTERVENTION, with verify and ALWAYS_RETRY,
# without verify and MANUAL_INTERVENTION, without verify and ALWAYS_RETRY.
_TABLE = [
    ("STARTED", "TX_SHARED", _A, _A, _A, _A),
    ("APPLIED", "TX_SHARED", _S, _S, _S, _S),
    ("FAILED", "TX_SHARED", _A, _A, _A, _A),
    ("ROLLBACK_STARTED", "TX_SHARED", _S, _S, _S, _S),
    ("ROLLED_BACK", "TX_SHARED", _A, _A, _A, _A),
    ("ROLLBACK_FAILED", "TX_SHARED", _S, _S, _S, _S),
    ("MANUAL_MARKED_AS_APPLIED", "TX_SHARED", _S, _S, _S, _S),
    ("MANUAL_MARKED_AS_ROLLED_BACK", "TX_SHARED", _A, _A, _A, _A),
    ("STARTED", "TX_SEPARATE_WITH_MARKER", _M, _M, _M, _M),
    ("APPLIED", "TX_SEPARATE_WITH_MARKER", _S, _S, _S, _S),
    ("FAILED", "TX_SEPARATE_WITH_MARKER", _A, _A, _A, _A),
    ("ROLLBACK_STARTED", "TX_SEPARATE_WITH_MARKER", _M, _M, _M, _M),
    ("ROLLED_BACK", "TX_SEPARATE_WITH_MARKER", _A, _A, _A, _A),
    ("ROLLBACK_FAILED", "TX_SEPARATE_WITH_MARKER", _S, _S, _S, _S),
    ("MANUAL_MARKED_AS_APPLIED", "TX_SEPARATE_WITH_MARKER", _S, _S, _S, _S),
    ("MANUAL_MARKED_AS_ROLLED_BACK", "TX_SEPARATE_WITH_MARKER", _A, _A, _A, _A),
    ("STARTED", "NON_TX", _V, _V, _P, _A),
    ("APPLIED", "NON_TX", _S, _S, _S, _S),
    ("FAILED", "NON_TX", _V, _V, _P, _A),
    ("ROLLBACK_STARTED", "NON_TX", _V, _V, _P, _R),
    ("ROLLED_BACK", "NON_TX", _A, _A, _A, _A),
    ("ROLLBACK_FAILED", "NON_TX", _V, _V, _P, _A),
    ("MANUAL_MARKED_AS_APPLIED", "NON_TX", _S, _S, _S, _S),
    ("MANUAL_MARKED_AS_ROLLED_BACK", "NON_TX", _A, _A, _A, _A),
    ("STARTED", "TX_SEPARATE_NO_MARKER", _V, _V, _P, _A),
    ("APPLIED", "TX_SEPARATE_NO_MARKER", _S, _S, _S, _S),
    ("FAILED", "TX_SEPARATE_NO_MARKER", _V, _V, _P, _A),
    ("ROLLBACK_STARTED", "TX_SEPARATE_NO_MARKER", _V, _V, _P, _R),
    ("ROLLED_BACK", "TX_SEPARATE_NO_MARKER", _A, _A, _A, _A),
    ("ROLLBACK_FAILED", "TX_SEPARATE_NO_MARKER", _V, _V, _P, _A),
    ("MANUAL_MARKED_AS_APPLIED", "TX_SEPARATE_NO_MARKER", _S, _S, _S, _S),
    ("MANUAL_MARKED_AS_ROLLED_BACK", "TX_SEPARATE_NO_MARKER", _A, _A, _A, _A),
]


def _entry(state: str, strategy: str) -> AuditEntry:
    return AuditEntry(
        service="s",
        execution_id="e",
        change_id="c",
        state=AuditState(state),
        tx_strategy=TxStrategy(strategy),
    )


def test_the_table_leaves_no_case_out():
    assert len(_TABLE) == 32
    assert {row[:2] for row in _TABLE} == {*product(AuditState, TxStrategy)}


@pytest.mark.parametrize(
    ("state", "strategy", "verify_manual", "verify_retry", "manual", "retry"), _TABLE
)
def test_each_state_has_its_action(state, strategy, verify_manual, verify_retry, manual, retry):
    entry = _entry(state, strategy)
    found = [
        next_action(entry, has_verify=has_verify, recovery=recovery)
        for has_verify in (True, False)
        for recovery in (Recovery.MANUAL_INTERVENTION, Recovery.ALWAYS_RETRY)
    ]

    assert found == [verify_manual, verify_retry, manual, retry]


@pytest.mark.parametrize("recovery", Recovery)
@pytest.mark.parametrize("has_verify", [False, True])
def test_a_change_without_an_entry_is_applied(has_verify, recovery):
    assert next_action(None, has_verify=has_verify, recovery=recovery) is Action.APPLY


@pytest.mark.parametrize(
    ("state", "manual", "retry"),
    [
        ("STARTED", Action.MANUAL_INTERVENTION, Action.APPLY),
        ("FAILED", Action.MANUAL_INTERVENTION, Action.APPLY),
        ("ROLLBACK_STARTED", Action.MANUAL_INTERVENTION, Action.ROLL_BACK),
        ("ROLLBACK_FAILED", Action.MANUAL_INTERVENTION, Action.APPLY),
    ],
)
def test_a_doubt_that_verify_leaves_is_decided_by_the_recovery(state, manual, retry):
    assert after_doubt(AuditState(state), Recovery.MANUAL_INTERVENTION) is manual
    assert after_doubt(AuditState(state), Recovery.ALWAYS_RETRY) is retry


# In which strategies the effect of a change stands for sure after a state.
_STANDS = {
    "STARTED": set(),
    "APPLIED": {"NON_TX", "TX_SHARED", "TX_SEPARATE_WITH_MARKER", "TX_SEPARATE_NO_MARKER"},
    "FAILED": set(),
    "ROLLBACK_STARTED": {"TX_SHARED"},
    "ROLLED_BACK": set(),
    "ROLLBACK_FAILED": {"TX_SHARED", "TX_SEPARATE_WITH_MARKER"},
    "MANUAL_MARKED_AS_APPLIED": {
        "NON_TX",
        "TX_SHARED",
        "TX_SEPARATE_WITH_MARKER",
        "TX_SEPARATE_NO_MARKER",
    },
    "MANUAL_MARKED_AS_ROLLED_BACK": set(),
}


@pytest.mark.parametrize("state", AuditState)
def test_a_change_is_applied_only_where_its_effect_stands_for_sure(state):
    found = {strategy for strategy in TxStrategy if is_applied(_entry(state, strategy))}

    assert found == _STANDS[state]


def test_a_change_without_an_entry_is_not_applied():
    assert not is_applied(None)


@pytest.mark.parametrize(
    ("stored", "current", "drift"),
    [
        ("1:aa", "1:aa", False),
        ("1:aa", "1:bb", True),
        ("1:aa", "2:bb", False),
        ("1:aa", None, False),
        (None, "1:aa", False),
        (None, None, False),
    ],
)
def test_only_two_sums_of_one_algorithm_tell_of_an_edit(stored, current, drift):
    assert is_drift(stored, current) is drift


@pytest.mark.parametrize("action", Action)
def test_the_name_of_an_action_is_its_value(action):
    assert action.name == action.value
