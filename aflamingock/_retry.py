"""Trying again while a database is locked by somebody else's transaction."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ._host import boot_time
from ._records import Lease
from .exceptions import LockTimeoutError, SystemBusyError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_LONGEST_PAUSE = 1.0
_TELL_EVERY = 10.0


class Patience:
    """
    Tries an operation again as long as it raises :exc:`SystemBusyError`.

    Pauses grow and have full jitter (Brooker, *Exponential Backoff and Jitter*, AWS 2015).

    :param limit: seconds to go on for
    :param holder: whom to name while waiting, if known
    :param clock: seconds that never step back
    """

    def __init__(
        self,
        *,
        limit: float,
        holder: Lease | None = None,
        clock: Callable[[], float] = boot_time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.holder = holder
        self._limit = limit
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
        """
        started = self._clock()
        told = -_TELL_EVERY
        pause = 0.02
        while True:
            if check is not None:
                check()

            try:
                return await operation()
            except SystemBusyError as exc:
                waited = self._clock() - started
                if waited >= self._limit:
                    raise self._timeout(exc, waited) from exc

                if pause > 0.1 and waited - told >= _TELL_EVERY:
                    told = waited
                    logger.warning("%s Waiting for %s.", exc, self._who())

            await self._sleep(pause * self._draw())
            pause = min(pause * 2, _LONGEST_PAUSE)

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
