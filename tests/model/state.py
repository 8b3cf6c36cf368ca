"""
The state of a service with one change, as the model sees it.

States are plain tuples of small values, for a million of them are compared and kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aflamingock import Action, AuditEntry, AuditState, MarkerOutcome, Recovery, TxStrategy
from aflamingock._plan.decision import after_doubt, next_action

STARTED, APPLIED = AuditState.STARTED.value, AuditState.APPLIED.value
FAILED, ROLLED_BACK = AuditState.FAILED.value, AuditState.ROLLED_BACK.value
ROLLBACK_STARTED = AuditState.ROLLBACK_STARTED.value
ROLLBACK_FAILED = AuditState.ROLLBACK_FAILED.value
COMMITTED, ABORTED = MarkerOutcome.COMMITTED.value, MarkerOutcome.ABORTED.value

# The steps of a runner are the states that it appends next, and these.
IDLE, DONE = "idle", "done"
TAKE, READ, RELEASE = "take the lease", "read the log", "release"
EXECUTE, EXECUTE_ON = "execute", "execute on"
ROLL_BACK, ROLL_BACK_ON = "roll back", "roll back on"
COMMIT, CLAIM, REMOVE, VERIFY = "commit", "claim the marker", "remove the marker", "verify"
LOOK_UP = "look up "
REFUSED = "was refused though nobody failed"

APPENDS = tuple(state.value for state in AuditState if not state.name.startswith("MANUAL"))
TOUCHES = frozenset({EXECUTE, EXECUTE_ON, ROLL_BACK, ROLL_BACK_ON})
AWAY = frozenset({IDLE, DONE, TAKE})


class Entry(NamedTuple):
    """An entry of the log; within it no two are the same, for an epoch belongs to one runner."""

    epoch: int
    state: str
    attempt: int


class Runner(NamedTuple):
    """
    A runner. Which one it is does not matter, so runners are kept sorted.

    :ivar step: what it does next
    :ivar undoes: whether it wants to undo the change
    :ivar epoch: of its lease; before that, of the lease that it has seen
    :ivar read: the number of the last entry that it knows
    :ivar opened: the entry that its attempt began with, if it has begun one
    :ivar is_overdue: whether its lease may be taken over, or was when it was seen
    """

    step: str
    undoes: bool
    epoch: int = 0
    read: int = 0
    opened: Entry | tuple[()] = ()
    is_overdue: bool = False


class Lease(NamedTuple):
    """
    The lease. No two writes have both its epoch and *is_held* in common: they are its token.

    :ivar is_dead: whether it may be taken over although it is held
    """

    epoch: int = 0
    is_held: bool = False
    is_dead: bool = False


class State(NamedTuple):
    """
    Everything.

    :ivar target: how often the effect stands, or which of its two halves do without transactions
    :ivar markers: the keys of the markers, with what they say
    :ivar in_flight: what was sent by a process that has died, or whose answer is lost; it may
        arrive at any time, or never
    :ivar executions: how often the change was begun since it was rolled back last
    """

    lease: Lease
    log: tuple[Entry, ...]
    target: int | tuple[int, int]
    markers: frozenset[tuple[Entry, str]]
    in_flight: frozenset[tuple[str, int, Entry]]
    runners: tuple[Runner, ...]
    executions: int
    expiries: int
    kills: int
    losses: int
    failures: int


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules of the protocol; each can be left out."""

    read_after_grant: bool = True  # R1
    append_at_next_number: bool = True  # R2
    stop_at_higher_epoch: bool = True  # R3
    await_started: bool = True  # R4
    never_number_anew: bool = True
    commit_entry_with_effect: bool = True
    swap_what_was_read: bool = True
    check_owner_on_release: bool = True
    dead_leases_end: bool = True
    claim_marker: bool = True
    keep_marker_until_applied: bool = True
    refuse_commit_after_claim: bool = True
    unknown_is_not_failed: bool = True
    announce_rollback: bool = True


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    What may happen.

    :ivar undoing: how many of the runners want to undo the change
    :ivar expiries: how often a living runner may be stopped beyond the end of its lease
    :ivar kills: how often a runner may be killed at work; another is started in its place
    :ivar losses: how many answers may be lost
    :ivar failures: how often the change's code may fail
    :ivar pauses_are_bounded: whether a runner makes no step any more once its lease is over
    """

    strategy: TxStrategy
    recovery: Recovery = Recovery.MANUAL_INTERVENTION
    has_verify: bool = False
    runners: int = 2
    undoing: int = 0
    expiries: int = 0
    kills: int = 0
    losses: int = 0
    failures: int = 0
    pauses_are_bounded: bool = False
    rules: Rules = field(default_factory=Rules)


class Model:
    """
    The settings, and what the planner of aflamingock itself decides under them.

    :ivar actions: what a run does, by the last state of the change
    :ivar in_doubt: the same where ``verify`` cannot tell
    :ivar is_fenced: whether an entry can only arrive at its own number
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rules = settings.rules
        self.is_non_tx = settings.strategy is TxStrategy.NON_TX
        self.is_shared = settings.strategy is TxStrategy.TX_SHARED
        self.actions: dict[str | None, Action] = {None: self._action(None)}
        self.actions |= {state.value: self._action(state) for state in AuditState}
        self.in_doubt = {state.value: after_doubt(state, settings.recovery) for state in AuditState}
        fences = (self.rules.append_at_next_number, self.rules.commit_entry_with_effect)
        self.is_fenced = all(fences)

    def initial(self) -> State:
        """Return the state before anything has happened."""
        given = self.settings
        running = given.runners - given.undoing
        return State(
            lease=Lease(),
            log=(),
            target=(0, 0) if self.is_non_tx else 0,
            markers=frozenset(),
            in_flight=frozenset(),
            runners=(Runner(IDLE, False),) * running + (Runner(IDLE, True),) * given.undoing,
            executions=0,
            expiries=given.expiries,
            kills=given.kills,
            losses=given.losses,
            failures=given.failures,
        )

    def _action(self, state: AuditState | None) -> Action:
        given = self.settings
        entry = None
        if state is not None:
            strategy = given.strategy
            entry = AuditEntry(service="", execution_id="", state=state, tx_strategy=strategy)

        return next_action(entry, has_verify=given.has_verify, recovery=given.recovery)


def moved(state: State, index: int, runner: Runner, **changes: Any) -> State:
    """Return the state after a step of one runner."""
    runners = [*state.runners[:index], runner, *state.runners[index + 1 :]]
    runners.sort()
    return state._replace(runners=tuple(runners), **changes)


def ended(runner: Runner) -> Runner:
    """Return the runner that is started in the place of one that has ended or died."""
    return Runner(IDLE, runner.undoes)
