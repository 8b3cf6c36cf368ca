"""Before and after the work: take the lease, read the log and plan, give the lease back."""

from __future__ import annotations

from collections.abc import Iterator

from aflamingock import Action

from .state import (
    CLAIM,
    DONE,
    IDLE,
    READ,
    RELEASE,
    ROLLBACK_STARTED,
    STARTED,
    TAKE,
    VERIFY,
    Lease,
    Model,
    Runner,
    State,
    ended,
    moved,
)

STEP_OF = {
    Action.APPLY: STARTED,
    Action.SKIP: RELEASE,
    Action.RESOLVE_MARKER: CLAIM,
    Action.VERIFY: VERIFY,
    Action.ROLL_BACK: ROLLBACK_STARTED,
    Action.MANUAL_INTERVENTION: RELEASE,
}
"""Where a run goes on, by what the planner says."""


def look_at_lease(model: Model, state: State, index: int, runner: Runner) -> Iterator[State]:
    epoch, is_held, is_dead = state.lease
    if is_dead or not is_held:
        yield moved(state, index, runner._replace(step=TAKE, epoch=epoch, is_overdue=is_held))


def take_lease(model: Model, state: State, index: int, runner: Runner) -> Iterator[State]:
    if model.rules.swap_what_was_read and state.lease[:2] != (runner.epoch, runner.is_overdue):
        yield moved(state, index, runner._replace(step=IDLE, epoch=0, is_overdue=False))
        return

    holder = Runner(READ, runner.undoes, runner.epoch + 1, runner.read)
    if not model.rules.read_after_grant:
        holder = planned(model, state, holder)

    yield moved(state, index, holder, lease=Lease(runner.epoch + 1, True))


def read_log(model: Model, state: State, index: int, runner: Runner) -> Iterator[State]:
    log, epoch = state.log, runner.epoch
    if model.rules.stop_at_higher_epoch and any(entry.epoch > epoch for entry in log):
        yield moved(state, index, ended(runner))
        return

    yield moved(state, index, planned(model, state, runner._replace(read=len(log))))


def planned(model: Model, state: State, runner: Runner) -> Runner:
    """Return the runner at the step that follows from what it has read."""
    last = state.log[runner.read - 1] if runner.read else None
    action = model.actions[last and last.state]
    step = STEP_OF[action]
    if runner.undoes and action is not Action.RESOLVE_MARKER:
        step = ROLLBACK_STARTED if action is Action.SKIP else RELEASE

    return runner._replace(step=step, opened=last or ())


def release(model: Model, state: State, index: int, runner: Runner) -> Iterator[State]:
    lease = state.lease
    if lease[:2] == (runner.epoch, True) or not model.rules.check_owner_on_release:
        lease = Lease(lease.epoch)

    yield moved(state, index, Runner(DONE, runner.undoes), lease=lease)
