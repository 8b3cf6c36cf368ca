"""What is to happen in one schedule: all of it follows from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

Mode = Literal["shared", "separate", "marker", "verify", "retry", "manual"]
"""How changes and entries are tied together; the first three are transactions."""

MODES: tuple[Mode, ...] = ("shared", "separate", "marker", "verify", "retry", "manual")
BOUNDED: frozenset[Mode] = frozenset({"verify", "retry"})
"""Where no lock can help against a runner that is stopped beyond its lease (DESIGN 7.6)."""

LAST_POINT = 40
FIRST_SECONDS = 0.4


@dataclass(frozen=True, kw_only=True)
class Fault:
    """
    Something that happens to a worker.

    :ivar stops_for: seconds, ``None`` if it is killed
    :ivar point: at which of its points, counted from 1; ``None`` to use *after*
    :ivar after: how many seconds after its start
    """

    stops_for: float | None
    point: int | None
    after: float


@dataclass(frozen=True, kw_only=True)
class Worker:
    """
    One process.

    :ivar seed: of what its changes do: how long they take, and where they fail
    :ivar starts_after: seconds after the start of the schedule
    """

    seed: int
    starts_after: float
    undoes: bool
    fails: bool
    fault: Fault | None


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """
    Some workers that meet faults; then one without faults makes an end.

    :ivar ttl: of the lease, in seconds
    """

    seed: int
    mode: Mode
    ttl: float
    workers: tuple[Worker, ...]

    @property
    def pauses_are_bounded(self) -> bool:
        """Whether nobody is stopped beyond the end of its lease."""
        return self.mode in BOUNDED


def schedule(seed: int, *, single_host: bool, mode: Mode | None = None) -> Schedule:
    """
    Return the schedule of a seed.

    :param single_host: whether the dead are seen to be dead at once
    :param mode: the only one; by default the seed chooses
    """
    random = Random(seed)
    chosen = random.choice(MODES)
    mode = mode or chosen
    bounded = mode in BOUNDED
    ttl = 1.0
    if bounded:
        ttl = 60.0 if single_host else 3.0

    workers = tuple(_worker(random, bounded) for _ in range(random.randint(2, 3)))
    return Schedule(seed=seed, mode=mode, ttl=ttl, workers=workers)


def _worker(random: Random, bounded: bool) -> Worker:
    return Worker(
        seed=random.getrandbits(32),
        starts_after=random.uniform(0, 0.1),
        undoes=random.random() < 0.15,
        fails=random.random() < 0.3,
        fault=_fault(random, bounded) if random.random() < 0.9 else None,
    )


def _fault(random: Random, bounded: bool) -> Fault:
    stops_for = None
    if random.random() < 0.4:
        stops_for = random.uniform(0.02, 0.2) if bounded else random.choice([0.1, 0.8, 1.1, 1.5])

    point = random.randint(1, LAST_POINT) if random.random() < 0.7 else None
    return Fault(stops_for=stops_for, point=point, after=random.uniform(0, FIRST_SECONDS))
