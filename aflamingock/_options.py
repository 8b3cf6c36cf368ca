"""The settings of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .exceptions import ConfigurationError

OnHistory = Literal["error", "warn", "ignore"]
"""What to do where the code does not fit the history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockOptions:
    """
    The times of the lock, in seconds.

    :param ttl: how long a lease stands after each renewal, 1 to 3600; it is renewed every ttl/6
    :param timeout: how long to wait for a lease that another runner holds
    :param retry_interval: how long to wait between two looks at it, on average
    :param on_timeout: when the wait is over, ``"raise"`` an error or ``"skip"`` the run
    :raises ConfigurationError: if a value is out of its range
    """

    ttl: float = 60.0
    timeout: float = 180.0
    retry_interval: float = 1.0
    on_timeout: Literal["raise", "skip"] = "raise"

    def __post_init__(self) -> None:
        """Check the values."""
        _require(1 <= self.ttl <= 3600, "ttl", self.ttl, "1 to 3600 seconds")
        _require(
            self.timeout >= 0 and math.isfinite(self.timeout),
            "timeout",
            self.timeout,
            "0 seconds or more, and finite",
        )
        _require(
            0 < self.retry_interval <= 60,
            "retry_interval",
            self.retry_interval,
            "above 0, up to 60 seconds",
        )
        _require(
            self.on_timeout in ("raise", "skip"),
            "on_timeout",
            self.on_timeout,
            '"raise" or "skip"',
        )


def _require(fits: bool, name: str, value: object, wanted: str) -> None:
    if not fits:
        raise ConfigurationError(f"LockOptions({name}={value!r}): give {wanted}.")
