"""Histories that violate nothing."""

from __future__ import annotations

import pytest

from .checker import violations
from .events import Commit, Died, Ended, Released
from .kit import (
    AGAIN,
    APPLIED,
    ATTEMPT,
    FAILED,
    LATER,
    LEASE,
    MARKED,
    RESOLVED_AS_ROLLED_BACK,
    RETRIED,
    ROLLBACK_STARTED,
    ROLLED_BACK,
    SHARED,
    STARTED,
    call,
    entry,
    executed,
    granted,
    history,
    rolled_back,
)

SOUND = {
    "applied": history(*ATTEMPT, events=[LEASE, *executed(1, 2)]),
    "failed and rolled back": history(
        entry(STARTED),
        *(entry(FAILED), entry(ROLLBACK_STARTED), entry(ROLLED_BACK)),
        events=[
            LEASE,
            call("execute", "began", 1),
            call("execute", "raised", 2),
            *rolled_back(3, 4),
        ],
    ),
    "not begun after all": history(entry(STARTED), entry(ROLLED_BACK), events=[LEASE]),
    "killed in a transaction": history(
        entry(STARTED, **SHARED),
        entry(STARTED, **SHARED, **AGAIN),
        entry(APPLIED, **SHARED, **AGAIN),
        events=[LEASE, call("execute", "began", 1), Died(time=2, runner="one")],
        commits=[Commit(change_id="a", method="execute", attempt=2)],
    ),
    "resolved by a marker": history(
        entry(STARTED, **MARKED),
        entry(APPLIED, **MARKED, **(AGAIN | {"attempt": 1}), metadata={"resolution": "marker"}),
        commits=[Commit(change_id="a", method="execute", attempt=1)],
    ),
    "resolved by a person": history(
        entry(STARTED),
        entry(RESOLVED_AS_ROLLED_BACK, **(AGAIN | {"attempt": 1})),
        entry(STARTED, **AGAIN),
        entry(APPLIED, **AGAIN),
        events=[
            *(LEASE, call("execute", "began", 1), Died(time=1.5, runner="one"), LATER),
            *executed(11, 12, runner="two", attempt=2, epoch=2),
        ],
    ),
    "tried again": history(
        entry(STARTED, **RETRIED),
        entry(STARTED, **RETRIED, **AGAIN),
        entry(APPLIED, **RETRIED, **AGAIN),
        events=[
            *(LEASE, call("execute", "began", 1), Died(time=1.5, runner="one"), LATER),
            *executed(11, 12, runner="two", attempt=2, epoch=2),
        ],
    ),
    "undone": history(
        entry(STARTED, **SHARED),
        entry(APPLIED, **SHARED),
        entry(ROLLBACK_STARTED, **SHARED),
        entry(ROLLED_BACK, **SHARED),
        commits=[
            Commit(change_id="a", method="execute", attempt=1),
            Commit(change_id="a", method="rollback", attempt=1),
        ],
    ),
    "a lease given back early": history(
        events=[LEASE, Released(time=5, runner="one", epoch=1), granted("two", 2, 6, 15)]
    ),
    "a person waited for": history(
        entry(STARTED), events=[Ended(time=1, runner="two", error="ManualInterventionError")]
    ),
}


@pytest.mark.parametrize("name", list(SOUND))
def test_a_sound_history_violates_nothing(name: str) -> None:
    assert violations(SOUND[name]) == []
