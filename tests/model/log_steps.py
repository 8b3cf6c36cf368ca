"""Compare-and-append: at the next number or not at all, and what comes after an entry."""

from __future__ import annotations

from collections.abc import Iterator

from .state import (
    COMMIT,
    EXECUTE,
    FAILED,
    LOOK_UP,
    READ,
    REFUSED,
    RELEASE,
    REMOVE,
    ROLL_BACK,
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

APPEND = "append"


def append(model: Model, state: State, index: int, runner: Runner) -> Iterator[State]:
    entry = pending_entry(state, runner)
    is_free = len(state.log) == runner.read
    if is_free or not model.rules.append_at_next_number:
        yield _landed(model, appended(model, state, entry), index, runner, entry)
    else:
        yield _refused(model, state, index, runner)

    if state.losses:
        sent = state.in_flight | {(APPEND, runner.read, entry)}
        after = runner._replace(step=LOOK_UP + runner.step)
        yield moved(state, index, after, in_flight=sent, losses=state.losses - 1)

    if runner.step == STARTED and not model.rules.await_started:
        sent = state.in_flight | {(APPEND, runner.read, entry)}
        after = after_entry(model, runner._replace(read=runner.read + 1), entry)
        yield moved(state, index, after, in_flight=sent)


def look_up(model: Model, state: State, index: int, runner: Runner) -> Iterator[State]:
    entry = pending_entry(state, runner)
    later = state.log[runner.read :]
    asking = runner._replace(step=entry.state)
    if entry in later:
        yield _landed(model, state, index, asking, entry)
    elif later and model.rules.append_at_next_number:
        yield _refused(model, state, index, asking)
    else:
        yield moved(state, index, asking)


def pending_entry(state: State, runner: Runner) -> Entry:
    """Return the entry that a runner is about to append."""
    step = runner.step.removeprefix(LOOK_UP)
    if step == STARTED:
        attempt = state.log[runner.read - 1].attempt + 1 if runner.read else 1
    else:
        assert isinstance(runner.opened, Entry)
        attempt = runner.opened.attempt

    return Entry(runner.epoch, step, attempt)


def _landed(model: Model, state: State, index: int, runner: Runner, entry: Entry) -> State:
    read = runner.read + 1 if model.rules.append_at_next_number else len(state.log)
    return moved(state, index, after_entry(model, runner._replace(read=read), entry))


def appended(model: Model, state: State, entry: Entry) -> State:
    """Return the state with one more entry."""
    log = (*state.log, entry)
    executions = 0 if entry.state == ROLLED_BACK else state.executions
    in_flight = state.in_flight
    if in_flight and model.is_fenced:
        # what can never arrive any more is forgotten, so that fewer states are different
        late = (APPEND, COMMIT) if model.is_shared else (APPEND,)
        in_flight = frozenset(
            item for item in in_flight if item[0] not in late or item[1] >= len(log)
        )

    return state._replace(log=log, executions=executions, in_flight=in_flight)


def _refused(model: Model, state: State, index: int, runner: Runner) -> State:
    given = model.settings
    faults = (given.expiries, given.kills, given.losses)
    if faults == (state.expiries, state.kills, state.losses):
        return moved(state, index, runner._replace(step=REFUSED))

    if not model.rules.never_number_anew:
        return moved(state, index, runner._replace(read=len(state.log)))

    if runner.step in (STARTED, ROLLBACK_STARTED):
        return moved(state, index, runner._replace(step=READ, opened=()))

    return moved(state, index, ended(runner))


def after_entry(model: Model, runner: Runner, entry: Entry) -> Runner:
    """Return the runner after its entry was acknowledged."""
    if entry.state == STARTED:
        return runner._replace(step=EXECUTE if model.is_non_tx else COMMIT, opened=entry)

    if entry.state == ROLLBACK_STARTED:
        return runner._replace(step=ROLL_BACK if model.is_non_tx else COMMIT, opened=entry)

    if entry.state == FAILED:
        if not model.is_non_tx:
            return runner._replace(step=RELEASE, opened=())

        step = ROLLBACK_STARTED if model.rules.announce_rollback else ROLL_BACK
        return runner._replace(step=step)

    is_marked = not (model.is_non_tx or model.is_shared)
    if is_marked and entry.state != ROLLBACK_FAILED and model.rules.keep_marker_until_applied:
        return runner._replace(step=REMOVE)

    return closed(runner, entry.state)


def closed(runner: Runner, state: str) -> Runner:
    """Return the runner after an attempt: a run goes on only with what it found unfinished."""
    if state == ROLLED_BACK and not runner.undoes:
        return runner._replace(step=STARTED, opened=())

    return runner._replace(step=RELEASE, opened=())
