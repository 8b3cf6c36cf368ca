"""Simulate many seeds (``--seeds 20000``), or one and tell its story (``--seed 7``)."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from .simulation import simulate

_AT_ONCE = 50


def check(seeds: Sequence[int]) -> list[tuple[int, str]]:
    """Return what is wrong with the seeds: each with its first violation."""
    outcomes = (simulate(seed) for seed in seeds)
    return [(each.seed, each.violations[0]) for each in outcomes if each.violations]


def main() -> int:
    """Print what was found, and how to see it again."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--seed", type=int, help="only this one, and print all that happens")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if given.seed is not None:
        outcome = simulate(given.seed)
        print(outcome)
        return 1 if outcome.violations else 0

    started = time.monotonic()
    parts = [
        range(first, min(first + _AT_ONCE, given.first + given.seeds))
        for first in range(given.first, given.first + given.seeds, _AT_ONCE)
    ]
    with ProcessPoolExecutor(given.processes) as pool:
        bad = [found for part in pool.map(check, parts) for found in part]

    for seed, violation in bad:
        print(f"seed {seed}: {violation}")

    took = time.monotonic() - started
    print(f"{given.seeds} seeds from {given.first} on, {len(bad)} bad, {took:.0f} s.")
    if bad:
        print(f"See one again: python -m tests.simulation --seed {bad[0][0]}")

    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
