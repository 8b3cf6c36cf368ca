"""What the engine takes for time, chance, threads and its host while it is simulated."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import anyio
import anyio.to_thread
from anyio._backends._asyncio import CancelScope

import aflamingock._execution.context as context_module
import aflamingock._host as host_module
import aflamingock._issues as issues_module
import aflamingock._lock.heartbeat as heartbeat_module
import aflamingock._lock.lock as lock_module
import aflamingock._records as records_module
import aflamingock._run.run as run_module
import aflamingock._run.survey as survey_module
from aflamingock._lease import HeldLease
from aflamingock._lock.heartbeat import Heartbeat, in_thread
from aflamingock._lock.lock import Lock
from aflamingock._records import Lease
from aflamingock._retry import Patience

from .loop import VirtualLoop
from .process import Process
from .world import World

if TYPE_CHECKING:
    from .scenario import Scenario

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class OrderedSet(dict):
    """A set that is walked through in the order in which it grew."""

    def add(self, value: object) -> None:
        self[value] = None

    def discard(self, value: object) -> None:
        self.pop(value, None)

    remove = discard


class _Time:
    """Stands for the module ``time``: the boot-time clock of the process that runs just now."""

    CLOCK_BOOTTIME = 7

    def __init__(self, world: World) -> None:
        self._world = world

    def clock_gettime(self, _: int) -> float:
        return self.monotonic()

    def monotonic(self) -> float:
        process = self._world.current
        return process.clock() if process else self._world.now


class _System:
    """Stands for the module ``os`` where ids are drawn and processes are named."""

    def __init__(self, world: World) -> None:
        self._world = world

    def urandom(self, size: int) -> bytes:
        return self._world.random.randbytes(size)

    def getpid(self) -> int:
        return self._world.processes.index(_current(self._world)) + 1


def _current(world: World) -> Process:
    assert world.current is not None
    return world.current


def _datetime_of(world: World) -> type[datetime]:
    class WallClock(datetime):
        """The wall clock of the process that runs just now; it may be wrong by far."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            offset = world.current.wall_offset if world.current else 0.0
            return (_EPOCH + timedelta(seconds=world.now + offset)).astimezone(tz)

    return WallClock


def _patches(scenario: Scenario) -> list[tuple[Any, str, Any]]:
    world = scenario.world
    draw = world.random.random
    system, wall_clock = _System(world), _datetime_of(world)
    host = partial(_host, scenario)
    return [
        (host_module, "time", _Time(world)),
        (records_module, "os", system),
        (lock_module, "os", system),
        (lock_module, "describe_process", lambda pid: {"pid": str(pid)}),
        (lock_module, "is_gone", lambda pid, _: not world.processes[pid - 1].is_alive),
        (lock_module, "host_name", lambda: _current(world).name),
        (context_module, "host_name", lambda: _current(world).name),
        (context_module, "user_name", lambda: "simulation"),
        *((module, "datetime", wall_clock) for module in (records_module, run_module)),
        (issues_module, "datetime", wall_clock),
        (anyio.to_thread, "run_sync", partial(_in_thread, world)),
        (heartbeat_module._HeartbeatThread, "start", lambda thread: _start(world, thread)),
        (run_module, "Lock", partial(Lock, _draw=draw, _host=host)),
        (run_module, "Patience", partial(Patience, draw=draw)),
        (survey_module, "_digest", _remembered(survey_module._digest)),
        (survey_module, "_load", _remembered(survey_module._load)),
        (HeldLease, "renewed", _noting(scenario, HeldLease.renewed)),
        (CancelScope, "__init__", _ordered(CancelScope.__init__)),
    ]


@contextmanager
def simulated(scenario: Scenario) -> Iterator[None]:
    """Let the engine run in a simulated world while the block runs."""
    patches = [patch.object(*each) for each in _patches(scenario)]
    was_enabled = gc.isenabled()
    gc.disable()  # it would end forgotten coroutines when memory says so
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    for each in patches:
        each.start()

    try:
        yield
    finally:
        for each in reversed(patches):
            each.stop()

        logging.disable(disabled)
        if was_enabled:
            gc.enable()


async def _in_thread(world: World, function: Callable[..., Any], *args: Any, **_: Any) -> Any:
    """Call a plain function as a thread would: outside of the loop, and not to be cut off."""
    import asyncio

    loop = asyncio.get_running_loop()
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.002 * world.random.random())

    asyncio._set_running_loop(None)
    try:
        return function(*args)
    finally:
        asyncio._set_running_loop(loop)


def _remembered(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Do once what reads the files of the changes: they are the same for all processes."""
    answers: list[Any] = []

    def ask(settings: Any) -> Any:
        if not answers:
            answers.append(function(settings))

        return answers[0]

    return ask


def _ordered(init: Callable[..., None]) -> Callable[..., None]:
    def ordered(scope: Any, *args: Any, **kwargs: Any) -> None:
        init(scope, *args, **kwargs)
        scope._child_scopes = OrderedSet()

    return ordered


def _noting(scenario: Scenario, renewed: Callable[..., None]) -> Callable[..., None]:
    def note(held: HeldLease, lease: Lease, *, sent_at: float) -> None:
        renewed(held, lease, sent_at=sent_at)
        scenario.renewed(held)

    return note


@asynccontextmanager
async def _host(scenario: Scenario, heartbeat: Heartbeat, store: Any) -> AsyncIterator[None]:
    """Run the heartbeat as the engine does, and tell of the lease."""
    process = _current(scenario.world)
    process.held = heartbeat._held
    scenario.granted(process, heartbeat._held)
    try:
        async with in_thread(heartbeat, store):
            yield
    finally:
        process.held = None


def _start(world: World, thread: Any) -> None:
    """Begin a heartbeat's thread: a second loop of the same process."""
    VirtualLoop(_current(world)).create_task(_run(thread))


async def _run(thread: Any) -> None:
    try:
        await thread._main()
    finally:
        thread._tell(thread._over.set)
