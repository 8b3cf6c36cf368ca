"""An event loop in virtual time, one for each thread of a simulated process."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from .process import Process

_COST = 5e-5
"""How long a step takes, so that who never waits does not hold up the others."""
_LATENESS = 1e-6
"""How much too late a timer comes at the least: a clock has to show its time by then."""


class NumberedTask(asyncio.Task):
    """A task whose hash is the same in every run, and with it the order of sets of tasks."""

    def __init__(self, *args: Any, number: int, **kwargs: Any) -> None:
        self._number = number
        super().__init__(*args, **kwargs)
        self._log_destroy_pending = False

    def __hash__(self) -> int:
        return self._number


class VirtualLoop:
    """
    Runs callbacks one at a time, whenever the world says so.

    Each callback is a step of its own: between two of them the process can be killed or stopped,
    and other processes run. It has what tasks, futures and anyio ask of an event loop.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.blocked_until = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = process.world.numbers
        self._due: float | None = None
        process.loops.append(self)

    def time(self) -> float:
        return self.process.clock()

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, cast(Any, self), context)
        self._ready.append(handle)
        self._plan()
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, cast(Any, self), context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        self._plan()
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave it: it is thrown away when it is due."""

    def create_future(self) -> asyncio.Future:
        return asyncio.Future(loop=cast(Any, self))

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task:
        number = next(self._numbers)
        task = NumberedTask(
            coro, loop=self, name=name or f"Task-{number}", context=context, number=number
        )
        self.process.tasks.append(task)
        return task

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return not self.process.is_alive

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.process.is_alive:
            self.process.world.violated("I11", f"{self.process.name}: {context}")

    def wake(self) -> None:
        """Go on with what is ready, for a process that had stopped."""
        self._due = None
        self._plan()

    def _plan(self) -> None:
        world = self.process.world
        if self._ready:
            due = world.now + _COST
        elif self._timers:
            due = self.process.moment_of(self._timers[0][0]) + _LATENESS
        else:
            return

        due = max(due, self.process.stopped_until, self.blocked_until)
        if self._due is None or due < self._due:
            self._due = due
            world.at(due, lambda: self._step(due))

    def _step(self, due: float) -> None:
        if due != self._due or self.process.is_gone:
            return

        self._due = None
        if self.process.world.now >= max(self.process.stopped_until, self.blocked_until):
            self._run_one()

        if not self.process.is_gone:
            self._plan()

    def _run_one(self) -> None:
        now = self.time()
        while self._timers and self._timers[0][0] <= now:
            self._ready.append(heapq.heappop(self._timers)[2])

        while self._ready:
            handle = self._ready.popleft()
            if not handle.cancelled():
                self.process.run_step(self, handle)
                return
