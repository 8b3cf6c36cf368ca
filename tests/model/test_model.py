"""
Every state of the protocol: none violates an invariant, and each rule is needed.

One change, two or three runners, every order of their steps; a lease may end at any moment, a
runner be killed between any two steps, what it sent arrive late or never, an answer be lost.
"""

from __future__ import annotations

from typing import Any

import pytest

from aflamingock import Recovery, TxStrategy

from .search import search
from .state import Rules, Settings

SHARED: dict[str, Any] = {"strategy": TxStrategy.TX_SHARED}
MARKED: dict[str, Any] = {"strategy": TxStrategy.TX_SEPARATE_WITH_MARKER}
MANUAL: dict[str, Any] = {"strategy": TxStrategy.NON_TX}
RETRIED = MANUAL | {"recovery": Recovery.ALWAYS_RETRY}
VERIFIED = MANUAL | {"has_verify": True}
BOUNDED: dict[str, Any] = {"pauses_are_bounded": True}

FAULTS: dict[str, Any] = {"expiries": 1, "kills": 1}
FAILING: dict[str, Any] = FAULTS | {"failures": 1}
LOSSES: dict[str, Any] = {"expiries": 2, "kills": 1, "losses": 1, "failures": 1}
TWICE: dict[str, Any] = {"expiries": 2, "kills": 2}
MANY: dict[str, Any] = {"expiries": 3, "kills": 3}
UNDO: dict[str, Any] = {"runners": 3, "undoing": 1, "expiries": 1, "kills": 1, "failures": 1}

SPACES: dict[str, tuple[int, dict[str, Any]]] = {
    "marker, three expiries, three kills": (377_523, MARKED | MANY),
    "marker, three runners": (40_663, MARKED | {"runners": 3, "expiries": 2, "kills": 1}),
    "marker, lost answers": (128_636, MARKED | LOSSES),
    "marker, undo": (73_987, MARKED | UNDO),
    "shared, three expiries, three kills": (82_180, SHARED | MANY),
    "shared, three runners": (63_103, SHARED | {"runners": 3, "expiries": 2, "kills": 2}),
    "shared, lost answers": (45_043, SHARED | LOSSES),
    "shared, undo": (23_358, SHARED | UNDO),
    "manual, three of all": (163_775, MANUAL | MANY | {"runners": 3}),
    "manual, lost answers": (33_585, MANUAL | LOSSES),
    "manual, undo": (39_549, MANUAL | UNDO),
    "retry, bounded pauses": (141_896, RETRIED | TWICE | {"failures": 1} | BOUNDED),
    "retry, bounded pauses, undo": (68_552, RETRIED | UNDO | BOUNDED),
    "verify, bounded pauses": (133_368, VERIFIED | MANY | BOUNDED),
    "verify, bounded pauses, failures": (13_551, VERIFIED | FAILING | {"runners": 3} | BOUNDED),
    "verify and retry, bounded pauses": (
        18_487,
        VERIFIED | RETRIED | FAILING | {"runners": 3} | BOUNDED,
    ),
}


@pytest.mark.timeout(600)  # on a machine with much else to do
@pytest.mark.parametrize("name", list(SPACES))
def test_no_state_violates_an_invariant(name: str) -> None:
    states, settings = SPACES[name]

    result = search(Settings(**settings))

    assert result.violation is None, result.story()
    assert result.states == states  # a space that shrinks by mistake would prove less


def test_a_million_states_are_looked_at() -> None:
    assert sum(states for states, _ in SPACES.values()) >= 1_000_000


MUTANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "R1 and R2": (
        "I",
        {"read_after_grant": False, "append_at_next_number": False},
        MARKED,
    ),
    "R1": ("I9", {"read_after_grant": False}, MANUAL),
    "R2, shared": ("I", {"append_at_next_number": False}, SHARED | FAULTS),
    "R2, marker": ("I", {"append_at_next_number": False}, MARKED | FAULTS),
    "R2, manual": ("I", {"append_at_next_number": False}, MANUAL | FAULTS),
    "R3, shared": ("I1", {"stop_at_higher_epoch": False}, SHARED | FAULTS),
    "R3, marker": ("I1", {"stop_at_higher_epoch": False}, MARKED | FAULTS),
    "R3, manual": ("I1", {"stop_at_higher_epoch": False}, MANUAL | FAILING),
    "R4, marker": ("I4", {"await_started": False}, MARKED | FAULTS),
    "R4, manual": ("I6", {"await_started": False}, MANUAL | FAULTS),
    "an entry refused is never numbered anew": ("I", {"never_number_anew": False}, MANUAL | FAULTS),
    "the entry is in the transaction": ("I4", {"commit_entry_with_effect": False}, SHARED | FAULTS),
    "a lease is swapped for the one that was read": ("I2", {"swap_what_was_read": False}, MARKED),
    "the owner alone releases": (
        "I3",
        {"check_owner_on_release": False},
        SHARED | FAULTS | {"runners": 3},
    ),
    "the lease of the dead ends": ("I9", {"dead_leases_end": False}, SHARED | FAULTS),
    "a marker is claimed, not only read": ("I4", {"claim_marker": False}, MARKED | FAULTS),
    "a claimed marker refuses the commit": (
        "I4",
        {"refuse_commit_after_claim": False},
        MARKED | FAULTS,
    ),
    "a marker stays until APPLIED is durable": (
        "I4",
        {"keep_marker_until_applied": False},
        MARKED | FAULTS,
    ),
    "an unknown outcome is not FAILED": (
        "I4",
        {"unknown_is_not_failed": False},
        MARKED | {"losses": 1},
    ),
    "ROLLBACK_STARTED comes before the rollback": (
        "I6",
        {"announce_rollback": False},
        MANUAL | FAILING,
    ),
}


@pytest.mark.parametrize("name", list(MUTANTS))
def test_without_the_rule_a_state_violates_an_invariant(name: str) -> None:
    invariant, left_out, settings = MUTANTS[name]

    result = search(Settings(**settings, rules=Rules(**left_out)))

    assert result.violation is not None, f"{result.states} states, and no violation"
    assert result.violation.startswith(invariant), result.story()
    last, end = result.trace[-2:]
    assert last != end
    assert result.violation in result.story()


@pytest.mark.parametrize(
    ("settings", "invariant"),
    [
        (RETRIED | FAILING, "I7"),
        (VERIFIED | FAULTS, "I5"),
        (VERIFIED | RETRIED | FAILING, "I7"),
    ],
    ids=["retry", "verify", "verify and retry"],
)
def test_without_bounded_pauses_no_lock_protects_what_has_no_transaction(
    settings: dict[str, Any], invariant: str
) -> None:
    result = search(Settings(**settings))

    assert result.violation is not None
    assert result.violation.startswith(invariant), result.story()


def test_each_rule_is_left_out_once() -> None:
    left_out = {rule for _, rules, _ in MUTANTS.values() for rule in rules}

    assert left_out == set(Rules.__dataclass_fields__)
