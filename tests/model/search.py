"""Every state that can be reached, and the shortest way to one that should not be."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .faults import arrivals, killed, lease_ends
from .invariants import violation
from .lease_steps import look_at_lease, read_log, release, take_lease
from .log_steps import append, look_up
from .state import (
    APPENDS,
    CLAIM,
    COMMIT,
    DONE,
    EXECUTE,
    EXECUTE_ON,
    IDLE,
    LOOK_UP,
    READ,
    RELEASE,
    REMOVE,
    ROLL_BACK,
    ROLL_BACK_ON,
    TAKE,
    VERIFY,
    Model,
    Runner,
    Settings,
    State,
)
from .work_steps import claim, commit, execute, remove_marker, roll_back, verify

Step = Callable[[Model, State, int, Runner], Iterator[State]]

_STEPS: dict[str, Step] = {
    IDLE: look_at_lease,
    TAKE: take_lease,
    READ: read_log,
    EXECUTE: execute,
    EXECUTE_ON: execute,
    ROLL_BACK: roll_back,
    ROLL_BACK_ON: roll_back,
    COMMIT: commit,
    CLAIM: claim,
    REMOVE: remove_marker,
    VERIFY: verify,
    RELEASE: release,
    **dict.fromkeys(APPENDS, append),
    **{LOOK_UP + state: look_up for state in APPENDS},
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """
    What a search has found.

    :ivar states: how many states were reached
    :ivar violation: what should not be, ``None`` if there is no such state
    :ivar trace: the shortest way to it
    """

    states: int
    violation: str | None = None
    trace: tuple[State, ...] = ()

    def story(self) -> str:
        """Tell the trace: what each step has changed."""
        lines = [f"{self.violation} (the shortest of all ways, after {self.states} states)"]
        for before, after in zip(self.trace, self.trace[1:], strict=False):
            lines.append("  " + ", ".join(_changes(before, after)))

        return "\n".join(lines)


def search(settings: Settings) -> Result:
    """Look at all states, nearest first (breadth-first search), until one should not be."""
    model = Model(settings)
    initial = model.initial()
    came_from: dict[State, State | None] = {initial: None}
    waiting = deque([initial])
    while waiting:
        state = waiting.popleft()
        found = violation(model, state)
        following = () if found else tuple(successors(model, state))
        if not (found or following or all(runner.step == DONE for runner in state.runners)):
            found = "I9: nobody can go on, and nobody is done"

        if found:
            trace = tuple(_back(came_from, state))[::-1]
            return Result(states=len(came_from), violation=found, trace=trace)

        for after in following:
            if after not in came_from:
                came_from[after] = state
                waiting.append(after)

    return Result(states=len(came_from))


def successors(model: Model, state: State) -> Iterator[State]:
    """Yield the states that may come next: each is one atomic step away."""
    yield from lease_ends(model, state)
    yield from arrivals(model, state)
    for index, runner in enumerate(state.runners):
        is_twin = index > 0 and runner == state.runners[index - 1]
        if runner.step != DONE and not is_twin:
            yield from _STEPS[runner.step](model, state, index, runner)
            yield from killed(model, state, index, runner)


def _back(came_from: dict[State, State | None], state: State) -> Iterator[State]:
    at: State | None = state
    while at is not None:
        yield at
        at = came_from[at]


def _changes(before: State, after: State) -> Iterator[str]:
    were, are = Counter(before.runners), Counter(after.runners)
    for one, other in zip((were - are).elements(), (are - were).elements(), strict=True):
        yield f"the runner of epoch {other.epoch or one.epoch}: {one.step} -> {other.step}"

    for entry in after.log[len(before.log) :]:
        yield f"appended {entry.state} (epoch {entry.epoch}, attempt {entry.attempt})"

    for name in ("lease", "target", "markers"):
        if getattr(before, name) != getattr(after, name):
            yield f"{name}: {getattr(after, name)}"

    for kind, _, entry in before.in_flight - after.in_flight:
        yield f"in flight no more: {kind} of epoch {entry.epoch}"

    for kind, _, entry in after.in_flight - before.in_flight:
        yield f"in flight: {kind} of epoch {entry.epoch}"
