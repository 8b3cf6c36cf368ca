"""Ctrl-C and SIGTERM: the first one ends a command in order, the second one at once."""

from __future__ import annotations

import os
import signal
import sys
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

import anyio

from ._errors import INTERRUPTED, Interrupted

ResultT = TypeVar("ResultT")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2
_FIRST = b"\nInterrupted: ending in order. Once more leaves the running change in doubt.\n"
_SHOW_CURSOR = b"\x1b[?25h"


async def until_interrupted(operation: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """
    Run an operation, and cancel it at the first signal.

    :raises Interrupted: if it was cancelled
    """
    loop = get_running_loop()
    received: list[int] = []
    with anyio.CancelScope() as scope:

        def receive(number: int, frame: FrameType | None) -> None:
            received.append(number)
            if len(received) > 1:
                _leave()

            _tell(_FIRST)
            loop.call_soon_threadsafe(scope.cancel)

        # Python's own handlers, not the loop's: the second signal has to work although a change
        # blocks the loop.
        with _receiving(receive):
            return await operation()

    raise Interrupted


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let a signal raise :exc:`KeyboardInterrupt` while a question waits for its answer."""
    with _receiving(signal.default_int_handler):
        yield


@contextmanager
def _receiving(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    # An ignored signal stays ignored: who runs this in the background has asked for it.
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {}
    try:
        for number in heard:
            before[number] = signal.signal(number, handler)

        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _leave() -> None:
    if sys.stderr.isatty():
        _tell(_SHOW_CURSOR)

    os._exit(INTERRUPTED)  # a worker thread that runs a plain `def` cannot be ended otherwise


def _tell(text: bytes) -> None:
    with suppress(OSError):  # nobody reads any more
        os.write(_STDERR, text)  # `print` must not be entered twice, and a signal may come inside
