"""Runs that are killed or stopped at a point, and what comes after them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .kit import LONG, Project
from .process import Runner

_AT_ONCE = 4


def points(*steps: str) -> list[str]:
    return [f"{side} {step}" for step in steps for side in ("before", "after")]


SHARED = points("create", "grant", *["STARTED", "APPLIED", "commit"] * 2, "CHECKPOINT", "release")
MARKED = points(
    *("create", "grant", "STARTED"),
    *("commit", "APPLIED STARTED", "commit"),  # the change's, and the removal of its marker
    *("commit", "APPLIED CHECKPOINT", "commit", "release"),
)
ALONE = points("create", "grant", "STARTED", "APPLIED STARTED", "APPLIED CHECKPOINT", "release")
UNDO_SHARED = points("grant", "ROLLBACK_STARTED", "ROLLED_BACK", "commit", "release")
UNDO_MARKED = points("grant", "ROLLBACK_STARTED", "commit", "ROLLED_BACK", "commit", "release")

DONE = {tuple(SHARED): 16, tuple(MARKED): 16, tuple(ALONE): 10}
"""From which point on the last change is applied, and known to be."""

STATES = {
    "CHECKPOINT": ["CHECKPOINT"],
    "APPLIED STARTED": ["APPLIED 1", "STARTED 1"],
    "APPLIED CHECKPOINT": ["APPLIED 1", "CHECKPOINT"],
    "release": [],
    "commit": [],
}

NewProject = Callable[[str], Project]
Prepare = Callable[[Project], None]


class Interruption:
    """
    A run that is killed at a point, or stopped there.

    :param prepare: writes the changes
    :param options: of the run
    """

    def __init__(
        self, project: Project, number: signal.Signals, prepare: Prepare, **options: object
    ) -> None:
        self.project = project
        self._number = number
        self._prepare = prepare
        self._options = options

    def come_to_pass(self, point: int, passed: Sequence[str]) -> None:
        """Start the run; once more, with a longer lease, if the machine was too busy for it."""
        for ttl in (4.0, 12.0):
            self._prepare(self.project)
            self.ttl, self.first = ttl, self._start(point, ttl)
            if "LockLostError" not in self.first.output:
                break

            self.project.clear()

        assert self.first.points == passed[:point], self.first.output
        self._name = passed[point - 1]
        self.is_over = point >= DONE.get(tuple(passed), len(passed) + 1)

    def _start(self, point: int, ttl: float) -> Runner:
        is_seen = self._number == signal.SIGKILL and self.project.is_on_one_host
        lock = self.project.lock if is_seen else LONG | {"ttl": ttl}
        first = self.project.start(
            point=point, signal=self._number.name, lock=lock, **self._options
        )
        if self._number == signal.SIGKILL:
            assert first.end() < 0 or "LockLostError" in first.output, first.output
        else:
            first.wait_until(
                lambda: first.has_ended or (first.is_stopped and len(first.points) >= point)
            )

        return first

    def follow(self, *, ends_with: int = 0) -> None:
        """Let another run come after it; then the first goes on, if it was stopped."""
        second = self.project.start()
        second.wait_until(lambda: second.has_ended or second.has_said("locked by somebody else's"))
        log = self.project.log() if second.has_ended else None
        if not self.first.has_ended:
            self._go_on(ends_with)

        assert second.end() == ends_with, second.output
        if log is not None:
            assert self.project.log() in (log, log + self._on_its_way(ends_with))

    def _on_its_way(self, ends_with: int) -> list[str]:
        """Return what the first may still write, if it was about to and nobody took its lease."""
        if self._name == "after commit" and self.is_over:
            return ["CHECKPOINT"]

        is_writing = self._name.startswith("before ") and (ends_with == 4 or self.is_over)
        return STATES[self._name.removeprefix("before ")] if is_writing else []

    def _go_on(self, ends_with: int) -> None:
        had_lease = "after grant" in self.first.points
        # an entry that was under way may be answered before the end of the lease is noticed
        may_end_well = self.is_over or "CHECKPOINT" in self._on_its_way(ends_with)
        self.first.send(signal.SIGCONT)
        code = self.first.end()
        if not had_lease:
            assert self.first.has_said("ended NOTHING_TO_DO"), self.first.output
        elif code != 0 or not may_end_well:
            assert code == 5, self.first.output
            assert self.first.has_said("raised LockLostError"), self.first.output


def interrupt_at_each(
    new_project: NewProject,
    layout: str,
    number: signal.Signals,
    passed: Sequence[str],
    prepare: Prepare,
    **options: object,
) -> Mapping[str, tuple[Interruption, int]]:
    """Interrupt a run at each point, in a project of its own, and wait until all leases are old."""
    cases = {
        f"point {point}, {name}": (
            Interruption(new_project(layout), number, prepare, **options),
            point,
        )
        for point, name in enumerate(passed, 1)
    }
    beside_each_other(lambda case, point: case.come_to_pass(point, passed), cases)
    time.sleep(max(case.ttl for case, _ in cases.values()))
    return cases


def beside_each_other(check: Callable[..., None], cases: Mapping[str, Sequence[Any]]) -> None:
    """
    Check cases in several threads, for most of them wait most of the time.

    :param cases: the arguments of each case, by its name
    :raises ExceptionGroup: if some have failed; each error has the name of its case as a note
    """
    errors = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        calls = {name: pool.submit(check, *arguments) for name, arguments in cases.items()}
        for name, call in calls.items():
            if isinstance(error := call.exception(), Exception):
                error.add_note(f"This was {name}.")
                errors.append(error)

    if errors:
        raise ExceptionGroup(f"{len(errors)} of {len(cases)} cases have failed", errors)
