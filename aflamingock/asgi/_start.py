"""What is done between the start of a server and its first request."""

from __future__ import annotations

import inspect
import logging
from asyncio import get_running_loop
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias, get_args

from .._flamingock import Flamingock
from .._payload import error_trace
from .._report import Progress, RunReport
from ..exceptions import ConfigurationError
from ._beside import task_beside
from ._interruption import run_interruptibly
from ._waiting import wait_until_applied

logger = logging.getLogger(__name__)

Mode: TypeAlias = Literal["apply", "wait", "verify", "background"]
"""How an application starts while changes are pending."""

Source: TypeAlias = Flamingock | Callable[[], Flamingock | Awaitable[Flamingock]]
"""A Flamingock, or a function or coroutine function that makes one at each start."""

_LONG_START = 20.0


class Start:
    """
    The start of an application: what is to be done, and how far it is.

    :ivar report: what the run did; ``None`` until it has ended, and in the modes without a run
    """

    def __init__(self, flamingock: Flamingock, mode: Mode) -> None:
        self.flamingock = flamingock
        self.report: RunReport | None = None
        self._mode = mode
        self._state: Literal["pending", "done", "failed"] = "pending"

    @property
    def state(self) -> dict[str, Any]:
        """What requests find in their state."""
        return {
            "flamingock": self.flamingock,
            "flamingock_report": self.report,
            "flamingock_start": self,
        }

    def tell(self, progress: Progress) -> str:
        """Return the word for how far the start is."""
        if self._state != "pending":
            return self._state

        is_of_earlier_run = progress.state == "done"
        return "running" if is_of_earlier_run else progress.state

    async def carry_out(self) -> None:
        """
        Do what the mode asks for.

        :raises FlamingockError: if the application must not be served
        """
        match self._mode:
            case "apply" | "background":
                self.report = await self._apply()
            case "wait":
                await wait_until_applied(self.flamingock)
            case "verify":
                await self.flamingock.validate()

        self._state = "done"

    async def carry_out_in_background(self) -> None:
        """Do the same where an error has nobody to go to: it is logged."""
        try:
            await self.carry_out()
        except Exception as exc:  # the application is being served; it is never ready now
            self._state = "failed"
            self.report = getattr(exc, "report", None)
            logger.error(
                "The changes could not be applied in the background. The application stays "
                "up and is not ready; correct the fault and start it anew.%s\n%s",
                f" {self.report}" if self.report else "",
                error_trace(exc),
                extra={"action": "start"},
            )

    async def _apply(self) -> RunReport:
        if self._mode == "background":
            return await self.flamingock.run()

        advice = get_running_loop().call_later(_LONG_START, _advise)
        try:
            return await self.flamingock.run()
        finally:
            advice.cancel()


@asynccontextmanager
async def started(source: Source, mode: Mode) -> AsyncIterator[Start]:
    """
    Keep a Flamingock open for the life of an application, its start done first.

    :param source: what the application was given
    :raises StartInterruptedError: if a signal came before the start was done
    :raises FlamingockError: if the application must not be served
    """
    flamingock = await _made(source)
    async with flamingock:
        start = Start(flamingock, mode)
        if mode != "background":
            await run_interruptibly(start.carry_out)
            yield start
            return

        async with task_beside(start.carry_out_in_background) as scope:
            yield start
            scope.cancel()


def check_mode(mode: str) -> None:
    """
    Refuse a mode that does not exist.

    :raises ConfigurationError: if *mode* is none of the modes
    """
    modes = get_args(Mode)
    if mode not in modes:
        listed = ", ".join(f'"{known}"' for known in modes)
        raise ConfigurationError(f"There is no mode {mode!r}. Give one of {listed}.")


async def _made(source: object) -> Flamingock:
    if isinstance(source, Flamingock):
        return source

    made = source() if callable(source) else source
    if inspect.isawaitable(made):
        made = await made

    if not isinstance(made, Flamingock):
        raise ConfigurationError(
            f"{source!r} is no Flamingock and does not return one. Give a Flamingock, or a "
            "function without parameters that makes it."
        )

    return made


def _advise() -> None:
    logger.warning(
        "This start has been at work on changes for %.0f s, and a supervisor may lose its "
        "patience with it. Apply changes in a job before the deployment (`aflamingock apply`), "
        'and start the workers with mode="wait" or mode="verify".',
        _LONG_START,
        extra={"action": "start"},
    )
