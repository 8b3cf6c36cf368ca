"""The simulated world: one time, one source of chance, and what happened."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from .process import Process


class World:
    """
    Time and chance, the same for the same seed.

    :ivar now: the true time in seconds; processes see it through clocks of their own
    :ivar trace: what happened, in order
    :ivar violations: which rules were broken, and how
    :ivar is_calm: whether faults are over
    :ivar current: the process that runs just now
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(f"aflamingock {seed}")
        self.now = 0.0
        self.numbers = count()
        self.trace: list[tuple[Any, ...]] = []
        self.violations: list[str] = []
        self.is_calm = False
        self.current: Process | None = None
        self.processes: list[Process] = []
        self.when_ended: list[Callable[[Process], object]] = []
        self._events: list[tuple[float, int, Callable[[], object]]] = []

    def at(self, moment: float, callback: Callable[[], object]) -> None:
        """Call *callback* at a time."""
        heapq.heappush(self._events, (max(moment, self.now), next(self.numbers), callback))

    def after(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call *callback* after a while."""
        self.at(self.now + seconds, callback)

    def run(self, *, until: Callable[[], bool], within: float, steps: int = 200_000) -> bool:
        """
        Let time pass.

        :param until: when it is enough
        :param within: how many seconds may pass at the most
        :return: whether *until* came true
        """
        end = self.now + within
        while not until():
            if not self._events or self._events[0][0] > end or steps == 0:
                return False

            steps -= 1
            self.now, _, callback = heapq.heappop(self._events)
            callback()

        return True

    def pass_time(self, seconds: float) -> None:
        """Let time pass, whatever happens."""
        end = self.now + seconds
        self.run(until=lambda: False, within=seconds)
        self.now = end

    def chance(self, probability: float) -> bool:
        """Draw whether something happens."""
        return self.random.random() < probability

    def note(self, who: Process | str | None, what: str, *facts: object) -> None:
        """Write down what happened."""
        name = who.name if isinstance(who, Process) else who or "-"
        self.trace.append((round(self.now, 4), name, what, *facts))

    def violated(self, rule: str, sentence: str, error: BaseException | None = None) -> None:
        """Write down that a rule was broken."""
        self.violations.append(f"{rule}: {sentence}")
        self.note(None, "VIOLATION", rule, sentence)

    def process_ended(self, process: Process) -> None:
        """Tell who wants to know of the end of a process."""
        for told in self.when_ended:
            told(process)
