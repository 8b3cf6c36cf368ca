"""What may go wrong: a lease ends, a process is killed, what was sent arrives late or never."""

from __future__ import annotations

from collections.abc import Iterator

from .log_steps import APPEND, appended, pending_entry
from .state import ABORTED, APPENDS, AWAY, CLAIM, COMMIT, Entry, Model, Runner, State, ended, moved
from .work_steps import claim_arrives, commit_arrives, opened_by


def lease_ends(model: Model, state: State) -> Iterator[State]:
    """Let the lease be dead to others; its holder, if it lives, may not know."""
    epoch, is_held, is_dead = state.lease
    if is_dead or not is_held:
        return

    lease = state.lease._replace(is_dead=True)
    holders = [
        (index, runner)
        for index, runner in enumerate(state.runners)
        if runner.step not in AWAY and runner.epoch == epoch
    ]
    if not holders and model.rules.dead_leases_end:
        yield state._replace(lease=lease)

    for index, runner in holders if state.expiries else ():
        rest = state.expiries - 1
        if model.settings.pauses_are_bounded:
            sent = _sent(model, state, runner)
            yield moved(state, index, ended(runner), lease=lease, in_flight=sent, expiries=rest)
        else:
            overdue = runner._replace(is_overdue=True)
            yield moved(state, index, overdue, lease=lease, expiries=rest)


def killed(model: Model, state: State, index: int, runner: Runner) -> Iterator[State]:
    """Let a runner die, and another one start in its place; what it has just sent is on its way."""
    if state.kills and runner.step not in AWAY:
        sent = _sent(model, state, runner)
        yield moved(state, index, ended(runner), in_flight=sent, kills=state.kills - 1)


def _sent(model: Model, state: State, runner: Runner) -> frozenset[tuple[str, int, Entry]]:
    if runner.step in APPENDS:
        # an append that would be refused now can never arrive
        if model.is_fenced and len(state.log) > runner.read:
            return state.in_flight

        return state.in_flight | {(APPEND, runner.read, pending_entry(state, runner))}

    if runner.step in (COMMIT, CLAIM):
        opened = opened_by(runner)
        if model.rules.refuse_commit_after_claim and (opened, ABORTED) in state.markers:
            return state.in_flight

        return state.in_flight | {(runner.step, runner.read, opened)}

    return state.in_flight


def arrivals(model: Model, state: State) -> Iterator[State]:
    """Let what is on its way arrive, or be lost."""
    for item in state.in_flight:
        kind, read, entry = item
        rest = state._replace(in_flight=state.in_flight - {item})
        yield rest
        if kind == APPEND:
            if len(state.log) == read or not model.rules.append_at_next_number:
                yield appended(model, rest, entry)
        elif kind == COMMIT:
            committed = commit_arrives(model, rest, read, entry)
            if committed is not None:
                yield committed
        else:
            yield claim_arrives(model, rest, entry)
