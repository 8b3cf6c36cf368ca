"""Let a signal end the work of a start, which servers only remember it in."""

from __future__ import annotations

import signal
import threading
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import anyio

from ..exceptions import FlamingockError

T = TypeVar("T")

_SIGNALS = tuple(
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGBREAK")
    if name in signal.Signals.__members__
)
_NOT_CALLED = (signal.SIG_DFL, signal.default_int_handler)


class StartInterruptedError(FlamingockError):
    """
    A signal ended the start of an application; the cause is what the run made of it, if anything.

    :param signal_name: ``"SIGTERM"``, ``"SIGINT"`` or ``"SIGBREAK"``
    """

    def __init__(self, signal_name: str) -> None:
        super().__init__(
            f"The start-up was interrupted by {signal_name}. A change that was running was "
            "cancelled and the lease given back; the next start goes on from there."
        )
        self.signal_name = signal_name


async def run_interruptibly(work: Callable[[], Awaitable[T]]) -> T:
    """
    Run *work*, and cancel it when the process is told to end.

    Servers such as uvicorn only take note of a signal while an application starts, and a
    supervisor kills what does not end in time. The server's own handlers are called as well, and
    stand again afterwards.

    :param work: a coroutine function that ends cleanly when it is cancelled
    :raises StartInterruptedError: if a signal came
    """
    error: Exception | None = None
    with anyio.CancelScope() as scope, _signals_chained(scope.cancel) as received:
        try:
            result = await work()
        except Exception as exc:
            if not received:
                raise

            error = exc

    if received:
        interruption = StartInterruptedError(received[0])
        interruption.report = getattr(error, "report", None)
        raise interruption from error

    return result


@contextmanager
def _signals_chained(cancel: Callable[[], None]) -> Iterator[list[str]]:
    """
    Call *cancel* in the loop at a signal, after the handler that stands; yield the signals' names.

    Only the main thread can handle signals; in another one nothing is done.
    """
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    loop = get_running_loop()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)
        previous = handlers[signal.Signals(number)]
        try:
            if callable(previous) and previous not in _NOT_CALLED:
                previous(number, frame)
        finally:
            loop.call_soon_threadsafe(cancel)

    # An ignored signal stays ignored; what C code has installed (None) could not be put back.
    chained = [n for n, previous in handlers.items() if previous not in (signal.SIG_IGN, None)]
    for number in chained:
        signal.signal(number, handle)

    try:
        yield received
    finally:
        for number in chained:
            if signal.getsignal(number) is handle:
                signal.signal(number, handlers[number])
