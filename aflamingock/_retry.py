"""Trying again what surely was not done."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ._host import boot_time
from ._options import RetryPolicy
from ._records import Lease
from .exceptions import (
    AuditStoreConnectionError,
    LockLostError,
    LockTimeoutError,
    SystemBusyError,
    UnknownOutcomeError,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

ANSWERS_WITHIN = 30.0
"""How long an audit store may take to answer, in seconds, whatever limits it sets itself."""

_QUIET_TRIES = 3
_TELL_EVERY = 10.0


class Retries:
    """Counts, for as long as a Flamingock lives, how often something had to be tried again."""

    def __init__(self) -> None:
        self.count = 0

    def told(self) -> dict[str, str]:
        """Return what health tells of them: nothing as long as there were none."""
        return {"retries": str(self.count)} if self.count else {}


def _random() -> float:
    import random  # takes long to import, and is needed where something has to be tried again

    return random.random()


class Patience:
    """
    Tries an operation again as long as it surely did nothing.

    A system that is busy is asked again for a time; one that cannot be reached only as long as
    there is a deadline of the caller's own, for it may never come back. Pauses grow and have full
    jitter (Brooker, *Exponential Backoff and Jitter*, AWS 2015).

    :param limit: seconds to go on for while the system is busy
    :param policy: how long to pause
    :param holder: whom to name while waiting, if known
    :param retries: where to count
    :param clock: seconds that never step back
    """

    def __init__(
        self,
        *,
        limit: float,
        policy: RetryPolicy | None = None,
        holder: Lease | None = None,
        retries: Retries | None = None,
        clock: Callable[[], float] = boot_time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        draw: Callable[[], float] = _random,
    ) -> None:
        self.holder = holder
        self._limit = limit
        self._policy = policy or RetryPolicy()
        self._retries = retries or Retries()
        self._clock = clock
        self._sleep = sleep
        self._draw = draw

    async def __call__(
        self,
        operation: Callable[[], Awaitable[T]],
        *,
        check: Callable[[], None] | None = None,
    ) -> T:
        """
        Return what *operation* returns.

        :param check: called before each try; what it raises ends the tries
        :raises LockTimeoutError: if the system was busy for longer than the limit
        :raises AuditStoreConnectionError: if it cannot be reached, and there is no *check*
        """
        started = self._clock()
        told = -_TELL_EVERY
        tries = 0
        failure: Exception | None = None
        while True:
            _check(check, failure)
            tries += 1
            try:
                return await operation()
            except SystemBusyError as exc:
                waited = self._clock() - started
                if waited >= self._limit:
                    raise self._timeout(exc, waited) from exc

                if tries > _QUIET_TRIES and waited - told >= _TELL_EVERY:
                    told = waited
                    logger.warning("%s Waiting for %s.", exc, self._who())
            except AuditStoreConnectionError as exc:
                if check is None:
                    raise

                failure = exc
                logger.warning("The audit store is out of reach, it is tried again: %s", exc)

            self._retries.count += 1
            await self._sleep(self._policy.pause(tries) * self._draw())

    def _who(self) -> str:
        if self.holder is None:
            return "whoever holds it"

        return f"the runner that held the lease before: {self.holder}"

    def _timeout(self, exc: SystemBusyError, waited: float) -> LockTimeoutError:
        return LockTimeoutError(
            f"{exc} It was still so after {waited:.0f} s of waiting for {self._who()}. End that "
            "process or its transaction, then start again.",
            holder=self.holder,
        )


async def answered(
    work: Callable[[], Awaitable[T]],
    *,
    by: object,
    writes: bool = False,
    within: float | None = None,
) -> T:
    """
    Return what a call of an audit store returns, if it does so in time.

    :param by: the store
    :param writes: whether the call writes, so that without an answer there is a doubt
    :param within: how long to wait, in seconds, if not :data:`ANSWERS_WITHIN`
    :raises UnknownOutcomeError: if a write was not answered in time
    :raises AuditStoreConnectionError: if anything else was not answered in time
    """
    limit = ANSWERS_WITHIN if within is None else within
    try:
        with anyio.fail_after(limit):
            return await work()
    except TimeoutError as exc:
        if writes:
            raise UnknownOutcomeError(f"{by!r} has not answered within {limit:.1f} s.") from exc

        raise unanswered(by, limit) from exc


def unanswered(by: object, within: float) -> AuditStoreConnectionError:
    """Return the error for an audit store that is silent."""
    return AuditStoreConnectionError(
        f"Unable to connect to audit store: {by!r} has not answered within {within:.1f} s. Verify "
        "that its server is running, and that the network lets answers through."
    )


def _check(check: Callable[[], None] | None, failure: Exception | None) -> None:
    try:
        if check is not None:
            check()
    except LockLostError as lost:
        raise lost from failure
