"""The engine in a simulated world: nothing is lost, nothing is done twice, whatever goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .__main__ import check
from .mutants import MUTANTS, mutated
from .simulation import simulate

ROOT = Path(__file__).parents[2]
SEEDS = 2_000
AT_ONCE = 100
FOCUS = {"no epoch check": "granted", "a refused entry is numbered anew": "commit"}
"""Where to look for what comes of faults that seldom do harm."""
WITHIN = 800
"""How many seeds may pass at the most until a fault of the engine is found."""

REPLAY = "from tests.simulation.simulation import simulate; print(simulate({seed}).fingerprint)"


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_no_rule_is_broken(first: int) -> None:
    found = check(range(first, first + AT_ONCE))
    told = "\n".join(f"seed {seed}: {violation}" for seed, violation in found)
    assert not found, f"{told}\nSee it again: python -m tests.simulation --seed {found[0][0]}"


@pytest.mark.parametrize("seed", [1, 2, 3, 5, 8, 13])
def test_a_seed_is_always_the_same_story(seed: int) -> None:
    first, second = simulate(seed), simulate(seed)
    assert first.trace == second.trace
    assert len(first.trace) > 5


def test_a_seed_is_the_same_story_in_another_process() -> None:
    told = {_fingerprint(seed=21, hash_seed=hash_seed) for hash_seed in ("1", "2")}
    assert told == {simulate(21).fingerprint}


def _fingerprint(*, seed: int, hash_seed: str) -> str:
    command = [sys.executable, "-c", REPLAY.format(seed=seed)]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return ended.stdout.strip()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_fault_of_the_engine_is_found(name: str) -> None:
    with mutated(name):
        assert any(simulate(seed, FOCUS.get(name)).violations for seed in range(WITHIN))
