"""Ctrl-C at any moment of a command: once, and twice."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.forker import INTERRUPTED, Forker
from tests.shop import STEPS, check_truth, effects_of, new_shop

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here"),
]

BOUND = 10.0
LONGEST_RUN = 0.6
"""Seconds; by then most runs are over."""


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    made = Forker()
    yield made
    made.close()


def check_end(folder: Path, ended: dict[str, Any], told: str) -> None:
    assert ended["seconds"] < BOUND, told
    assert ended["code"] in (0, INTERRUPTED), told
    if ended["code"] == 0:
        assert effects_of(folder) == list(STEPS), told

    for word in ("Traceback", "Warning", "Exception"):
        assert word not in told


@pytest.mark.parametrize("seed", range(5))
def test_ctrl_c_at_any_moment_ends_a_command_in_order(
    forker: Forker, tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)
    for attempt in range(6):
        folder = new_shop(tmp_path / str(attempt))
        moment = moments.uniform(0, LONGEST_RUN)

        ended = forker.interrupt("apply", folder, (signal.SIGINT, moment))

        told = f"{ended} at {moment:.3f} s: {(folder / 'output.txt').read_text()}"
        check_end(folder, ended, told)
        anyio.run(partial(check_truth, folder, in_order=True, told=told))


@pytest.mark.parametrize("seed", range(5))
def test_ctrl_c_twice_at_any_moments_ends_a_command_with_a_true_log(
    forker: Forker, tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)
    for attempt in range(4):
        folder = new_shop(tmp_path / str(attempt))
        first, second = moments.uniform(0, LONGEST_RUN), moments.uniform(0, 0.05)

        ended = forker.interrupt("apply", folder, (signal.SIGINT, first), (signal.SIGINT, second))

        told = f"{ended} at {first:.3f} s: {(folder / 'output.txt').read_text()}"
        check_end(folder, ended, told)
        anyio.run(partial(check_truth, folder, in_order=False, told=told))
