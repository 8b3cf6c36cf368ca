"""What must hold in every state: the invariants of RELIABILITY, as far as one change shows them."""

from __future__ import annotations

from collections.abc import Iterator

from aflamingock import Action, Recovery

from .state import (
    APPLIED,
    AWAY,
    EXECUTE_ON,
    FAILED,
    REFUSED,
    ROLL_BACK_ON,
    ROLLBACK_FAILED,
    ROLLBACK_STARTED,
    ROLLED_BACK,
    STARTED,
    TOUCHES,
    Entry,
    Model,
    Runner,
    State,
)

Work = list[Runner]

_STANDS = {None: 0, FAILED: 0, ROLLED_BACK: 0, APPLIED: 1, ROLLBACK_FAILED: 1}
_STANDS_SHARED = _STANDS | {STARTED: 0, ROLLBACK_STARTED: 1}
_MAY_START = (Action.APPLY, Action.RESOLVE_MARKER, Action.VERIFY)
_MAY_FOLLOW = {
    APPLIED: {STARTED},
    FAILED: {STARTED},
    ROLLBACK_STARTED: {APPLIED, FAILED, ROLLBACK_STARTED, ROLLBACK_FAILED},
    ROLLED_BACK: {ROLLBACK_STARTED},
    ROLLBACK_FAILED: {ROLLBACK_STARTED},
}
_IN_DOUBT = {STARTED, FAILED, ROLLBACK_STARTED, ROLLBACK_FAILED}


def violation(model: Model, state: State) -> str | None:
    """Return what contradicts an invariant, ``None`` if nothing does."""
    work = [runner for runner in state.runners if runner.step not in AWAY]
    return next(_found(model, state, work), None)


def _found(model: Model, state: State, work: Work) -> Iterator[str]:
    yield from _log(model, state)
    yield from _lease(state, work)
    if model.is_non_tx:
        yield from _halves(model, state, work)
    else:
        yield from _effect(model, state)


def _log(model: Model, state: State) -> Iterator[str]:
    # each entry is looked at when it is the last one
    if not state.log:
        return

    *_, last = state.log
    before = state.log[-2] if len(state.log) > 1 else None
    if before and last.epoch < before.epoch:
        yield f"I1: {last.state} of epoch {last.epoch} follows epoch {before.epoch}"

    if last.state == STARTED:
        action = model.actions[before and before.state]
        if action not in _MAY_START:
            yield f"I4: STARTED again, although the last entry asks for {action}"
    elif before is None or before.state not in _predecessors(model, last):
        yield f"I4: {last.state} follows {before and before.state}"
    elif before.attempt != last.attempt:
        yield f"I4: {last.state} of attempt {last.attempt} follows attempt {before.attempt}"


def _predecessors(model: Model, last: Entry) -> set[str]:
    if last.state == APPLIED and model.settings.has_verify:
        return _IN_DOUBT

    return _MAY_FOLLOW[last.state]


def _lease(state: State, work: Work) -> Iterator[str]:
    epochs = {runner.epoch for runner in work}
    if len(epochs) < len(work):
        yield "I2: an epoch was granted twice"

    for runner in work:
        if not runner.is_overdue and state.lease[:2] != (runner.epoch, True):
            yield f"I3: epoch {runner.epoch} has lost its lease before its time"

        if runner.step == REFUSED:
            yield f"I9: epoch {runner.epoch} was refused, though nobody has failed"


def _effect(model: Model, state: State) -> Iterator[str]:
    if state.target not in (0, 1):
        yield f"I4: the effect stands {state.target} times"

    last = state.log[-1].state if state.log else None
    expected = (_STANDS_SHARED if model.is_shared else _STANDS).get(last)
    if expected is not None and state.target != expected:
        yield f"I4: the log ends with {last}, and the effect stands {state.target} times"


def _halves(model: Model, state: State, work: Work) -> Iterator[str]:
    given = model.settings
    if given.recovery is Recovery.MANUAL_INTERVENTION and state.executions > 1:
        yield "I5: the change was executed again, and nobody was asked"

    if given.pauses_are_bounded and sum(runner.step in TOUCHES for runner in work) > 1:
        yield "I5: two runners are at the change"

    if not state.log and state.target != (0, 0):
        yield "I6: the target was touched, and the log knows nothing of it"

    for runner in work:
        if runner.step in (EXECUTE_ON, ROLL_BACK_ON) and not _is_announced(state, runner):
            yield f"I6: epoch {runner.epoch} is at the target, and the log does not say so"

    last = state.log[-1].state if state.log else None
    if not work and not state.in_flight:
        if last == APPLIED and state.target != (1, 1):
            yield f"I4: the log ends with APPLIED, and the target is {state.target}"
        elif last == ROLLED_BACK and state.target != (0, 0):
            yield f"I7: the log ends with ROLLED_BACK, and the target is {state.target}"


def _is_announced(state: State, runner: Runner) -> bool:
    expected = STARTED if runner.step == EXECUTE_ON else ROLLBACK_STARTED
    opened = runner.opened
    return isinstance(opened, Entry) and opened.state == expected and opened in state.log
