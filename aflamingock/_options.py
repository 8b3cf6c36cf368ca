"""The settings of a run."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Literal, Self

from .exceptions import ConfigurationError

OnHistory = Literal["error", "warn", "ignore"]
"""What to do where the code does not fit the history."""

_TINY = sys.float_info.min
_FINITE = sys.float_info.max


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
        name = "LockOptions"
        _require_number(name, "ttl", self.ttl, 1, 3600, "1 to 3600 seconds")
        _require_number(name, "timeout", self.timeout, 0, _FINITE, "0 seconds or more, and finite")
        _require_number(
            name, "retry_interval", self.retry_interval, _TINY, 60, "above 0, up to 60 seconds"
        )
        _require(
            name,
            self.on_timeout in ("raise", "skip"),
            "on_timeout",
            self.on_timeout,
            '"raise" or "skip"',
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """
    How long to pause before a store is asked again that could surely do nothing, in seconds.

    Pauses have full jitter: each is anything up to the value that follows from these.

    :param initial: the first pause
    :param maximum: the longest pause
    :param factor: by how much each pause is longer than the one before it
    :raises ConfigurationError: if a value is out of its range
    """

    initial: float = 0.02
    maximum: float = 1.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        """Check the values."""
        name = "RetryPolicy"
        _require_number(name, "initial", self.initial, _TINY, 60, "above 0, up to 60 seconds")
        _require_number(
            name, "maximum", self.maximum, self.initial, 60, "initial or more, up to 60 seconds"
        )
        _require_number(name, "factor", self.factor, 1, 10, "1 to 10")

    @classmethod
    def exponential_backoff(
        cls, *, initial: float = 0.1, maximum: float = 5.0, factor: float = 2.0
    ) -> Self:
        """Return a policy whose pauses grow; the parameters are those of the class."""
        return cls(initial=initial, maximum=maximum, factor=factor)

    @classmethod
    def fixed(cls, seconds: float) -> Self:
        """Return a policy whose pauses do not grow."""
        return cls(initial=seconds, maximum=seconds, factor=1.0)

    def pause(self, tries: int) -> float:
        """
        Return the pause, before jitter, after a number of tries.

        :param tries: how many tries there were, from 1 on
        """
        steps = min(tries - 1, 64)  # more would overflow, and is the maximum anyway
        return min(self.initial * self.factor**steps, self.maximum)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """
    How entries get into the audit store.

    Whatever is chosen, a change never starts, and a run never ends, before its own entries are
    durable.

    :param batch_size: how many entries go into one call of the store at the most, 1 to 1,000
    :param async_writes: whether the entries of stages that run at the same time are written
        together, while one stage waits for its own
    :param retry: how to try again
    :raises ConfigurationError: if a value is out of its range
    """

    batch_size: int = 100
    async_writes: bool = True
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        """Check the values."""
        name = "AuditOptions"
        _require_number(name, "batch_size", self.batch_size, 1, 1000, "1 to 1000")
        _require(name, isinstance(self.retry, RetryPolicy), "retry", self.retry, "a RetryPolicy")


def _require(options: str, fits: bool, name: str, value: object, wanted: str) -> None:
    if not fits:
        raise ConfigurationError(f"{options}({name}={value!r}): give {wanted}.")


def _require_number(
    options: str, name: str, value: object, least: float, most: float, wanted: str
) -> None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
    _require(options, fits, name, value, wanted)
