"""What touches the target: execute, roll back, commit, and settling what was left unfinished."""

from __future__ import annotations

from collections.abc import Iterator

from .lease_steps import STEP_OF
from .log_steps import APPEND, appended, closed
from .state import (
    ABORTED,
    APPLIED,
    COMMIT,
    COMMITTED,
    EXECUTE,
    EXECUTE_ON,
    FAILED,
    READ,
    RELEASE,
    REMOVE,
    ROLL_BACK,
    ROLL_BACK_ON,
    ROLLBACK_FAILED,
    ROLLBACK_STARTED,
    ROLLED_BACK,
    STARTED,
    Entry,
    Model,
    Runner,
    State,
    ended,
    moved,
)


def execute(model: Model, state: State, index: int, runner: Runner) -> Iterator[State]:
    assert isinstance(state.target, tuple)
    if runner.step == EXECUTE:
        after = runner._replace(step=EXECUTE_ON)
        target = (1, state.target[1])
        yield moved(state, index, after, target=target, executions=state.executions + 1)
        return

    yield moved(state, index, runner._replace(step=APPLIED), target=(state.target[0], 1))
    if state.failures:
        yield moved(state, index, runner._replace(step=FAILED), failures=state.failures - 1)


def roll_back(model: Model, state: State, index: int, runner: Runner) -> Iterator[State]:
    assert isinstance(state.target, tuple)
    if runner.step == ROLL_BACK:
        target = (state.target[0], 0)
        yield moved(state, index, runner._replace(step=ROLL_BACK_ON), target=target)
        return

    yield moved(state, index, runner._replace(step=ROLLED_BACK), target=(0, state.target[1]))
    if state.failures:
        failed = runner._replace(step=ROLLBACK_FAILED)
        yield moved(state, index, failed, failures=state.failures - 1)


def commit(model: Model, state: State, index: int, runner: Runner) -> Iterator[State]:
    opened = opened_by(runner)
    committed = commit_arrives(model, state, runner.read, opened)
    if committed is None:
        yield moved(state, index, ended(runner))
    elif model.is_shared and model.rules.commit_entry_with_effect:
        yield moved(committed, index, runner._replace(step=RELEASE, read=len(committed.log)))
    elif model.is_shared or model.rules.keep_marker_until_applied:
        yield moved(committed, index, runner._replace(step=closing_state(opened)))
    else:
        yield moved(committed, index, runner._replace(step=REMOVE))

    failed = FAILED if opened.state == STARTED else ROLLBACK_FAILED
    if state.losses:
        sent = state.in_flight | {(COMMIT, runner.read, opened)}
        step = READ if model.rules.unknown_is_not_failed else failed
        after = runner._replace(step=step, opened=() if step == READ else opened)
        yield moved(state, index, after, in_flight=sent, losses=state.losses - 1)

    if state.failures:
        yield moved(state, index, runner._replace(step=failed), failures=state.failures - 1)


def closing_state(opened: Entry) -> str:
    """Return the state that closes an attempt."""
    return APPLIED if opened.state == STARTED else ROLLED_BACK


def commit_arrives(model: Model, state: State, read: int, opened: Entry) -> State | None:
    """Return the state after a commit that the database accepts, ``None`` if it refuses it."""
    assert isinstance(state.target, int)
    target = state.target + (1 if opened.state == STARTED else -1)
    if model.is_shared:
        if not model.rules.commit_entry_with_effect:
            return state._replace(target=target)

        if model.rules.append_at_next_number and len(state.log) != read:
            return None

        closing = opened._replace(state=closing_state(opened))
        return appended(model, state._replace(target=target), closing)

    if (opened, ABORTED) in state.markers and model.rules.refuse_commit_after_claim:
        return None

    return state._replace(target=target, markers=state.markers | {(opened, COMMITTED)})


def claim(model: Model, state: State, index: int, runner: Runner) -> Iterator[State]:
    opened = opened_by(runner)
    undone = opened.state == ROLLBACK_STARTED
    if (opened, COMMITTED) in state.markers:
        yield moved(state, index, runner._replace(step=ROLLED_BACK if undone else APPLIED))
        return

    if model.rules.claim_marker:
        state = claim_arrives(model, state, opened)

    step = RELEASE if runner.undoes else STARTED
    yield moved(state, index, runner._replace(step=ROLLBACK_FAILED if undone else step))


def claim_arrives(model: Model, state: State, key: Entry) -> State:
    """Return the state after a claim; a marker that stands already is left as it is."""
    if (key, COMMITTED) in state.markers:
        return state

    in_flight = state.in_flight
    if model.rules.refuse_commit_after_claim:
        # what can have no effect any more is forgotten, so that fewer states are different
        in_flight = frozenset(item for item in in_flight if item[0] == APPEND or item[2] != key)

    return state._replace(markers=state.markers | {(key, ABORTED)}, in_flight=in_flight)


def remove_marker(model: Model, state: State, index: int, runner: Runner) -> Iterator[State]:
    entry = opened_by(runner)
    markers = state.markers - {(entry, COMMITTED)}
    if not model.rules.keep_marker_until_applied:
        yield moved(state, index, runner._replace(step=closing_state(entry)), markers=markers)
        return

    yield moved(state, index, closed(runner, closing_state(entry)), markers=markers)


def opened_by(runner: Runner) -> Entry:
    """Return the entry that the attempt of a runner began with."""
    assert isinstance(runner.opened, Entry)
    return runner.opened


def verify(model: Model, state: State, index: int, runner: Runner) -> Iterator[State]:
    opened = opened_by(runner)
    if state.target == (0, 0):
        # an execution before this answer has surely left nothing behind
        yield moved(state, index, runner._replace(step=STARTED), executions=0)
        return

    in_doubt = STEP_OF[model.in_doubt[opened.state]]
    step = APPLIED if state.target == (1, 1) else in_doubt
    yield moved(state, index, runner._replace(step=step))
