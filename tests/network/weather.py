"""Faults of the network, drawn at random for what passes through a proxy."""

from __future__ import annotations

import random
import re

from tests.servers.proxy import (
    Fault,
    delay,
    lost_answer,
    lost_call,
    pass_on,
    silent_answer,
    silent_call,
)

# Values, because statements are prepared once and then called by their numbers.
_WRITES = {
    "commit": re.compile(rb"(?<!AUTO)COMMIT\b|commitTransaction|TransactWriteItems\b.*effects"),
    "append": re.compile(rb"STARTED|APPLIED|FAILED|ROLLED_BACK"),
    "lease": re.compile(rb"released\W+(?:true|false)"),
    "marker": re.compile(rb"COMMITTED|ABORTED"),
}


def kind_of(request: bytes) -> str | None:
    """Return what a request writes, or nothing if it only reads."""
    return next((kind for kind, pattern in _WRITES.items() if pattern.search(request)), None)


class Weather:
    """
    Draws a fault for each request.

    :param draw: the random numbers of this runner
    :param severity: how likely a fault is
    """

    def __init__(self, draw: random.Random, severity: float) -> None:
        self._draw = draw
        self._severity = severity

    def __call__(self, request: bytes) -> Fault:
        """Return what happens to a request."""
        writes = kind_of(request) is not None
        if self._draw.random() >= self._severity * (1.0 if writes else 0.15):
            return pass_on

        if writes:
            faults, weights = [lost_answer, lost_call, silent_answer, silent_call], [10, 2, 1, 0.5]
        else:
            faults, weights = [lost_answer, lost_call, silent_answer], [2, 2, 0.3]

        late = delay(self._draw.choice([0.05, 0.3, 1.0, 2.5]))
        return self._draw.choices([*faults, late], [*weights, 2])[0]
