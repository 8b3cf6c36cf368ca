"""A process of the simulated world: its clock, its threads, and how it can end."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from .loop import VirtualLoop

if TYPE_CHECKING:
    from aflamingock._lease import HeldLease

    from .world import World

_TRIES = 20
_STEPS = 5_000


class Process:
    """
    One process: it can be killed or stopped between any two steps.

    :param rate: how fast its clock runs
    :ivar held: the lease as the process knows it, while a run holds it
    :ivar is_ghost: whether it is dead, and only unwound so that nothing is left in memory
    """

    def __init__(self, world: World, name: str, *, rate: float) -> None:
        self.world = world
        self.name = name
        self.rate = rate
        self.wall_offset = 0.0
        self.is_alive = True
        self.is_ghost = False
        self.stopped_until = 0.0
        self.cut_off_until = 0.0
        self.steps = 0
        self.held: HeldLease | None = None
        self.tasks: list[asyncio.Task] = []
        self.plans: dict[int, Callable[[Process], object]] = {}
        self.plans_at: dict[tuple[str, int], Callable[[Process], object]] = {}
        self.calls: Counter[str] = Counter()
        self.main: asyncio.Task | None = None
        self._offset = world.random.uniform(0, 1000)
        self.loops: list[VirtualLoop] = []
        self.work_loop = VirtualLoop(self)
        world.processes.append(self)

    @property
    def is_gone(self) -> bool:
        """Whether nothing of it runs any more."""
        return not (self.is_alive or self.is_ghost)

    def clock(self) -> float:
        """Return the time that its boot-time clock shows."""
        return self._offset + self.rate * self.world.now

    def moment_of(self, reading: float) -> float:
        """Return when its clock shows *reading*."""
        return (reading - self._offset) / self.rate

    def start(self, script: Coroutine[Any, Any, None]) -> None:
        """Run *script* in its main thread; the process ends with it."""
        self.main = self.work_loop.create_task(script)
        self.main.add_done_callback(self._ended)

    def run_step(self, loop: VirtualLoop, handle: asyncio.Handle) -> None:
        """Run a callback as this process; afterwards what was planned happens to it."""
        world = self.world
        self.steps += 1
        world.current = self
        asyncio._set_running_loop(cast(Any, loop))
        try:
            handle._run()
        finally:
            asyncio._set_running_loop(None)
            world.current = None

        plan = self.plans.pop(self.steps, None)
        if plan is not None and self.is_alive:
            plan(self)

    def reaches(self, what: str) -> None:
        """Take note of a moment, as of a call; what was planned for it happens soon after."""
        self.calls[what] += 1
        plan = self.plans_at.pop((what, self.calls[what]), None)
        if plan is not None:
            self.plans[self.steps + self.world.random.choice((0, 0, 1, 2, 4, 8))] = plan

    def kill(self) -> None:
        """End it at once: nothing of it runs any more, not even what stands in a finally."""
        if self.is_alive:
            self.is_alive = False
            self.held = None
            self.world.note(self, "killed", self.steps)
            self.world.process_ended(self)

    def stop(self, seconds: float) -> None:
        """Let it stand still, as after SIGSTOP, while its clock goes on."""
        self.world.note(self, "stopped", seconds)
        self.stopped_until = self.world.now + seconds

    def block(self, seconds: float) -> None:
        """Block the event loop of its work; its other threads go on."""
        self.world.note(self, "blocked", seconds)
        self.work_loop.blocked_until = self.world.now + seconds

    def cut_off(self, seconds: float) -> None:
        """Lose all that it sends, and all that is sent to it."""
        self.world.note(self, "cut off", seconds)
        self.cut_off_until = self.world.now + seconds

    def interrupt(self) -> None:
        """Cancel its work, as SIGTERM does."""
        self.world.note(self, "interrupted")
        if self.main is not None:
            self.main.cancel()

    def _ended(self, task: asyncio.Task) -> None:
        if not self.is_alive:
            return

        self.is_alive = False
        self.world.note(self, "ended")
        if not task.cancelled() and (error := task.exception()):
            self.world.violated("I11", f"{self.name} ended with {error!r}", error)

        self.world.process_ended(self)


def unwind(world: World) -> None:
    """
    Let the coroutines of dead processes end, none of whose calls reaches anybody.

    What was created and has not begun begins first, lest Python warn of it.
    """
    for process in world.processes:
        process.is_alive, process.is_ghost = False, True
        process.stopped_until = process.work_loop.blocked_until = 0.0
        for loop in process.loops:
            loop.wake()

    world.run(until=lambda: False, within=0.01)
    for _ in range(_TRIES):
        tasks = [task for process in world.processes for task in process.tasks]
        left = [task for task in tasks if not task.done() and _has_begun(task)]
        if not left:
            break

        for task in left:
            task.cancel()

        world.run(until=partial(_are_done, left), within=1e6, steps=_STEPS)

    for process in world.processes:
        process.is_ghost = False


def _has_begun(task: asyncio.Task) -> bool:
    coroutine: Any = task.get_coro()
    return inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED


def _are_done(tasks: Sequence[asyncio.Task]) -> bool:
    return all(task.done() for task in tasks)
