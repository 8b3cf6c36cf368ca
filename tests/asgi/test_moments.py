from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.forker import Forker
from tests.shop import check_truth, new_shop

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here"),
]

BOUND = 3.0
LONGEST_START = 0.9
"""Seconds; by then most starts are over, so that SIGTERM meets the running service."""


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    made = Forker()
    yield made
    made.close()


@pytest.mark.parametrize("seed", range(10))
def test_sigterm_at_any_moment_of_a_start_ends_it_with_a_true_log(
    forker: Forker, tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)
    for attempt in range(10):
        folder = new_shop(tmp_path / str(attempt))
        moment = moments.uniform(0, LONGEST_START)

        ended = forker.interrupt("serve", folder, (signal.SIGTERM, moment))

        told = f"{moment:.3f} s: {(folder / 'output.txt').read_text()}"
        assert ended["seconds"] < BOUND, told
        anyio.run(partial(check_truth, folder, in_order=True, told=told))
