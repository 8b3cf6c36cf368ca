"""Each invariant has histories that violate it, and it alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aflamingock import AuditEntry

from .checker import violations
from .events import Appended, Commit, Died, Ended, Event, Released, Renewed, from_line, to_line
from .kit import (
    AGAIN,
    APPLIED,
    ATTEMPT,
    CHECKPOINT,
    FAILED,
    LATER,
    LEASE,
    MARKED,
    RESOLVED_AS_APPLIED,
    RETRIED,
    ROLLBACK_FAILED,
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
    sealed,
)


def only(found: list[str], *beginnings: str) -> None:
    assert len(found) == len(beginnings), found
    for text, beginning in zip(found, beginnings, strict=True):
        assert text.startswith(beginning), found


def test_a_number_that_is_missing_violates_i1() -> None:
    first, _, third = sealed(*ATTEMPT, entry(ROLLBACK_STARTED))
    found = violations(replace(history(), entries=[first, third]))
    only(found, "I1: entry 2 has the number 3", "I1: entry 3 (a ROLLBACK_STARTED", "I11")


def test_an_entry_of_an_older_epoch_violates_i1() -> None:
    only(violations(history(*ATTEMPT, CHECKPOINT, entry(STARTED, "b"))), "I1", "I10")


def test_an_entry_that_was_rewritten_violates_i1() -> None:
    log = sealed(*ATTEMPT)
    log[0] = replace(log[0], author="somebody else")
    only(violations(replace(history(), entries=log)), "I1: entry 1")


def test_an_entry_that_was_written_twice_violates_i1() -> None:
    started = entry(STARTED)
    again = entry(ROLLED_BACK, entry_id=started.entry_id)
    only(violations(history(started, again)), "I1: entry 2")


def test_an_epoch_that_was_granted_twice_violates_i2() -> None:
    events = [granted("one", 1, 0, 9), granted("two", 1, 10, 19)]
    only(violations(history(events=events)), "I2: epoch 1 was granted to one and two")


def test_a_later_grant_with_a_lower_epoch_violates_i2() -> None:
    events = [granted("one", 2, 0, 9), granted("two", 1, 10, 19)]
    only(violations(history(events=events)), "I2: epoch 1 was granted after epoch 2")


def test_two_holders_at_once_violate_i3() -> None:
    events = [
        granted("one", 1, 0, 9),
        Renewed(time=5, runner="one", epoch=1, until=12),
        granted("two", 2, 10, 19),
    ]
    only(violations(history(events=events)), "I3: one (epoch 1) and two (epoch 2)")
    assert violations(history(events=events, clocks_agree=False)) == []
    assert violations(history(events=[*events, Died(time=9.5, runner="one")])) == []


@pytest.mark.parametrize(
    "commits",
    [
        ["execute", "execute"],
        ["execute", "rollback", "rollback", "execute"],
    ],
)
def test_an_effect_that_stands_twice_violates_i4(commits: list[Any]) -> None:
    left = [Commit(change_id="a", method=method, attempt=1) for method in commits]
    log = (entry(STARTED, **SHARED), entry(APPLIED, **SHARED))
    assert violations(history(*log, commits=left))[0].startswith("I4: the effect of 'a' stands")


@pytest.mark.parametrize("strategy", [SHARED, MARKED])
def test_applied_without_an_effect_violates_i4(strategy: dict[str, Any]) -> None:
    log = (entry(STARTED, **strategy), entry(APPLIED, **strategy))
    only(violations(history(*log)), "I4: the log ends with APPLIED")


def test_an_effect_that_the_log_does_not_tell_violates_i4() -> None:
    left = [Commit(change_id="a", method="execute", attempt=1)]
    log = (entry(STARTED, **SHARED), entry(FAILED, **SHARED))
    only(violations(history(*log, commits=left)), "I4: the log ends with FAILED")
    assert violations(history(*log, commits=left, is_over=False)) == []


def test_an_effect_of_another_attempt_violates_i4() -> None:
    left = [Commit(change_id="a", method="execute", attempt=1)]
    log = [entry(state, **SHARED, **values) for state, values in ((STARTED, {}), (STARTED, AGAIN))]
    found = violations(history(*log, entry(APPLIED, **SHARED, **AGAIN), commits=left))
    only(found, "I4: attempt 1 of 'a' was committed, not 2")


def test_an_applied_change_that_is_started_again_violates_i4() -> None:
    log = [entry(state, **SHARED) for state in (STARTED, APPLIED)]
    again = entry(STARTED, **SHARED, **AGAIN)
    left = [Commit(change_id="a", method="execute", attempt=1)]
    found = violations(history(*log, again, commits=left, is_over=False))
    only(found, "I4: entry 3 (a STARTED, attempt 2) follows entry 2 (a APPLIED, attempt 1)")


def test_applied_without_an_execution_violates_i4() -> None:
    assert violations(history(*ATTEMPT)) == []
    only(violations(history(*ATTEMPT, events=[LEASE])), "I4: the log ends with APPLIED")


def test_a_change_in_doubt_that_is_started_without_a_person_violates_i5() -> None:
    found = violations(history(entry(STARTED), entry(STARTED, **AGAIN)))
    only(found, "I5: entry 2 (a STARTED, attempt 2) follows")
    verified = history(entry(STARTED), entry(STARTED, **AGAIN), verified=frozenset("a"))
    assert violations(verified) == []


def test_an_attempt_that_is_executed_twice_violates_i5() -> None:
    events = [LEASE, *executed(1, 2), *executed(3, 4)]
    only(violations(history(*ATTEMPT, events=events)), "I5: attempt 1 of 'a' was executed 2 times")


def test_an_execution_during_another_one_violates_i5() -> None:
    log = [entry(STARTED, **RETRIED), entry(STARTED, **RETRIED, **AGAIN)]
    zombie = executed(1, 11.5)
    events = [LEASE, *zombie, LATER, *executed(11, 12, runner="two", attempt=2, epoch=2)]
    done = entry(APPLIED, **RETRIED, **AGAIN)
    only(violations(history(*log, done, events=events)), "I5: two began to execute 'a' while one")
    assert violations(history(*log, done, events=events, pauses_are_bounded=False)) == []


def test_an_execution_without_started_violates_i6() -> None:
    only(violations(history(events=[LEASE, *executed(1, 2)])), "I6: one began to execute")


def test_an_execution_before_started_is_acknowledged_violates_i6() -> None:
    log = history(*ATTEMPT)
    told = [
        Appended(time=time, runner="one", entry_id=e.entry_id, sequence=e.sequence, digest=e.digest)
        for e, time in zip(log.entries, (1.5, 3), strict=True)
    ]
    found = violations(replace(log, events=[LEASE, *executed(1, 2), *told]))
    only(found, "I6: one began to execute attempt 1 of 'a' before its STARTED was acknowledged")
    assert violations(replace(log, events=[LEASE, *executed(1.6, 2), *told])) == []


def test_an_outcome_without_started_violates_i6() -> None:
    only(violations(history(entry(FAILED))), "I6: entry 1 (a FAILED, attempt 1)")


def test_rolled_back_without_a_rollback_violates_i7() -> None:
    log = (entry(STARTED), entry(FAILED), entry(ROLLBACK_STARTED), entry(ROLLED_BACK))
    raised = [call("execute", "began", 1), call("execute", "raised", 2)]
    cut_off = [*raised, call("rollback", "began", 3)]
    for events in (raised, cut_off):
        only(
            violations(history(*log, events=[LEASE, *events])), "I7: the log ends with ROLLED_BACK"
        )


def test_a_rollback_after_the_end_of_the_lease_violates_i7() -> None:
    log = (entry(STARTED), entry(FAILED), entry(ROLLBACK_STARTED), entry(ROLLED_BACK))
    raised = [call("execute", "began", 1), call("execute", "raised", 2)]
    late = [LEASE, *raised, *rolled_back(9.5, 10)]
    only(violations(history(*log, events=late)), "I7: one began to rollback 'a' 0.500 s after")
    assert violations(history(*log, events=late, pauses_are_bounded=False)) == []


def test_an_execution_without_a_lease_violates_i7() -> None:
    events = [granted("two", 1, 0, 9), *executed(1, 2)]
    only(violations(history(*ATTEMPT, events=events)), "I7: one began to execute 'a' without")


def test_an_acknowledged_entry_that_is_lost_or_changed_violates_i8() -> None:
    log = history(*ATTEMPT)
    lost = Appended(time=1, runner="one", entry_id="gone", sequence=3, digest="x")
    changed = replace(lost, entry_id=log.entries[0].entry_id, sequence=1)
    events = [LEASE, *executed(2, 3), lost, changed]
    only(violations(replace(log, events=events)), "I8: entry 3 of one", "I8: entry 1 of one")


def test_a_lock_that_is_stuck_violates_i9() -> None:
    stuck = Ended(time=5, runner="one", error="LockTimeoutError", text="still held")
    only(violations(history(events=[stuck])), "I9: the last run was ended by LockTimeoutError")
    late = {"calm_since": 1.0, "progress_within": 3.0}
    done = Ended(time=5, runner="one")
    only(violations(history(events=[done], **late)), "I9: no run has come to its end within 3 s")
    assert violations(history(events=[replace(done, time=4)], **late)) == []


def test_a_change_that_begins_before_the_one_before_it_violates_i10() -> None:
    found = violations(history(entry(STARTED, "b"), entry(APPLIED, "b")))
    only(found, "I10: entry 1 (b STARTED, attempt 1) stands before 'a' is applied")


def test_a_checkpoint_before_the_last_change_violates_i10() -> None:
    only(violations(history(*ATTEMPT, CHECKPOINT)), "I10: entry 3 (CHECKPOINT")


@pytest.mark.parametrize(
    "log",
    [
        [entry(STARTED), entry(APPLIED, execution_id="run 2")],
        [entry(STARTED), entry(FAILED, attempt=2)],
        [entry(STARTED), entry(ROLLBACK_STARTED)],
        [entry(STARTED), entry(FAILED), entry(APPLIED)],
        [entry(STARTED), entry(FAILED), entry(ROLLED_BACK)],
        [entry(STARTED), entry(ROLLBACK_FAILED)],
        [entry(STARTED), entry(APPLIED), entry(RESOLVED_AS_APPLIED)],
    ],
)
def test_an_entry_that_may_not_follow_violates_i11(log: list[AuditEntry]) -> None:
    only(violations(history(*log)), "I11: entry")


def test_an_exception_that_is_not_public_violates_i11() -> None:
    ended = Ended(time=1, runner="one", error="KeyError", text="'a'", is_public=False)
    only(violations(history(events=[ended], is_over=False)), "I11: one was ended by KeyError: 'a'")


def test_a_secret_violates_i12_wherever_it_stands() -> None:
    told = "password=hunter2"
    everywhere = history(
        entry(STARTED, error_trace=told),
        events=[Ended(time=1, runner="one", text=told)],
        texts=["a line of a log", told],
        secrets=["hunter2"],
    )
    only(violations(everywhere), "I12", "I12", "I12")


def test_every_event_can_be_written_as_a_line() -> None:
    events: list[Event] = [
        LEASE,
        Renewed(time=1, runner="one", epoch=1, until=12),
        *executed(1, 2),
        Appended(time=1, runner="one", entry_id="an id", sequence=1, digest="x"),
        Released(time=2, runner="one", epoch=1),
        Ended(time=3, runner="one", error="LockLostError", text="lost\nagain"),
        Died(time=4, runner="one"),
    ]

    lines = [to_line(event) for event in events]

    assert all(line.count("\n") == 1 for line in lines)
    assert [from_line(line) for line in lines] == events
