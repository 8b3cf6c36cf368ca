"""What is opened before use, and closed after."""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop, get_running_loop
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio

from ._task import supervised
from .exceptions import ConfigurationError

_CLOSING_TIME = 10.0


class Resource(ABC):
    """
    Something that is opened before use and closed after, any number of times at once.

    Opens are counted: the first one connects, the last close disconnects. A resource closes what
    it has opened itself, never a client that was handed to it. It belongs to one event loop as
    long as it is open.
    """

    def __init__(self) -> None:
        self._users = 0
        self._gate = anyio.Lock()
        self._stack = AsyncExitStack()
        self._loop: AbstractEventLoop | None = None

    async def open(self) -> None:
        """
        Open the resource, or count one more user of it.

        :raises ConfigurationError: if it is open in another event loop
        """
        self._check_loop()
        async with self._gate:
            if self._users == 0:
                async with AsyncExitStack() as stack:
                    await self._connect(stack)
                    self._stack = stack.pop_all()

                self._loop = get_running_loop()

            self._users += 1

    async def aclose(self) -> None:
        """Close the resource if this was its last user; not cut off by a cancellation."""
        await supervised(self._close)

    async def _close(self) -> None:
        with anyio.move_on_after(_CLOSING_TIME, shield=True):
            async with self._gate:
                self._users -= 1
                if self._users == 0:
                    self._loop = None
                    await self._stack.aclose()

    @abstractmethod
    async def _connect(self, stack: AsyncExitStack) -> None:
        """
        Connect, and push onto *stack* what closes the connection.

        Nothing is created here that would outlast the connection.
        """

    def _check_loop(self) -> None:
        if self._users and self._loop is not get_running_loop():
            raise ConfigurationError(
                f"{self!r} is open in another event loop. Close it there first, or make one "
                "for each loop."
            )

    async def __aenter__(self) -> Self:
        """Open the resource."""
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the resource."""
        await self.aclose()
