"""The heartbeat: renews a lease, from a thread that no change can hold up."""

from __future__ import annotations

import logging
import random
import threading
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol

import anyio

from .._host import place_of_thread
from .._lease import HeldLease
from .._payload import error_line, error_trace
from .._records import Lease, new_id
from ..abc import AuditStore
from .record import swapped

logger = logging.getLogger(__name__)

_LONGEST_ATTEMPT = 3.0
_THREAD_ENDS_WITHIN = 5.0
_TELL_BLOCKED_EVERY = 10.0


class Heartbeat:
    """
    Renews a lease every ttl/6 until it is stopped or the lease is lost.

    :param held: the lease; told of every renewal and of its loss
    :param on_end: called once when the running change must be cancelled, from whatever thread
        the heartbeat runs in
    """

    def __init__(
        self,
        held: HeldLease,
        *,
        on_end: Callable[[], object],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._held = held
        self._on_end = on_end
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._ended = False
        self._tried: dict[str, tuple[Lease, float]] = {}

    @property
    def interval(self) -> float:
        """Seconds between two renewals."""
        return self._held.lease.ttl / 6

    @property
    def is_needed(self) -> bool:
        """Whether the lease can still be renewed."""
        return self._held.is_standing

    async def beat(self, store: AuditStore[Any]) -> None:
        """
        Renew the lease through *store*, until cancelled or until it has ended.

        A renewal that fails is tried again; what its lost answer was is looked up.
        """
        pause = self._jittered(self.interval)
        while self._held.is_standing:
            await self._sleep(max(0.0, min(pause, self._time_to_deadline())))
            if self._clock() >= self._held.must_renew_by:
                self._end()

            pause = await self._attempt(store)

        self._end()

    async def wait_for_store(self) -> None:
        """Pause before the next attempt to reach the store; end the run in time."""
        pause = self._jittered(min(0.5, self.interval / 4))
        await self._sleep(max(0.0, min(pause, self._time_to_deadline())))
        if self._clock() >= self._held.must_renew_by:
            self._end()

    async def _attempt(self, store: AuditStore[Any]) -> float:
        try:
            with anyio.fail_after(min(self.interval, _LONGEST_ATTEMPT)):
                await self._renew(store)
        except Exception as exc:  # whatever it was, the next attempt decides: time is left
            logger.warning(
                "The lease of service %r was not renewed (%s); %.1f s are left.",
                self._held.lease.service,
                error_line(exc),
                self._held.remaining,
            )
            return self._jittered(min(0.5, self.interval / 4))

        return self._jittered(self.interval)

    async def _renew(self, store: AuditStore[Any]) -> None:
        held, sent_at = self._held, self._clock()
        new = replace(held.lease, token=new_id(), change_id=held.change_id)
        self._tried[new.token] = new, sent_at
        if not await swapped(store, held.lease, new):
            found = await store.read_record(Lease.key(held.lease.service))
            if found is None or found.token not in self._tried:
                held.lose(_taken_by(Lease.from_record(found) if found else None, held.lease))
                return

            # the answer of an earlier attempt was lost, but it had been done
            new, sent_at = self._tried[found.token]

        held.renewed(new, sent_at=sent_at)
        self._tried.clear()

    def _time_to_deadline(self) -> float:
        limit = self._held.stops_at if self._ended else self._held.must_renew_by
        return limit - self._clock()

    def _jittered(self, seconds: float) -> float:
        return seconds * (0.9 + 0.2 * self._draw())

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._held.lapse()
            self._on_end()


def _taken_by(lease: Lease | None, ours: Lease) -> str:
    if lease is None:
        return "has disappeared from the audit store"

    if lease.released and lease.owner == ours.owner:
        return f"was released by force (epoch {lease.epoch})"

    return f"was taken over by {lease} (epoch {lease.epoch})"


class HeartbeatHost(Protocol):
    """Where a heartbeat runs: an asynchronous context manager around the work."""

    def __call__(
        self, heartbeat: Heartbeat, store: AuditStore[Any]
    ) -> AbstractAsyncContextManager[None]:
        """Run the heartbeat while the block runs."""


@asynccontextmanager
async def in_loop(heartbeat: Heartbeat, store: AuditStore[Any]) -> AsyncGenerator[None]:
    """Run a heartbeat in the event loop of the work; a change that blocks the loop stops it."""
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heartbeat.beat, store)
        try:
            yield
        except BaseException as exc:  # raised again below, outside of the group that would wrap it
            failure = exc

        tasks.cancel_scope.cancel()

    if failure is not None:
        raise failure


@asynccontextmanager
async def in_thread(heartbeat: Heartbeat, store: AuditStore[Any]) -> AsyncGenerator[None]:
    """
    Run a heartbeat in a daemon thread, with an event loop and a connection of its own.

    Neither a change that blocks the loop nor an exhausted pool can stop it. A store that cannot
    be opened a second time gets its heartbeat in the loop, and a warning.
    """
    channel = store.open_side_channel()
    if channel is None:
        logger.warning(
            "%r cannot be opened a second time: the lease is renewed in the event loop, so a "
            "change that blocks the loop may lose it.",
            store,
        )
        async with in_loop(heartbeat, store):
            yield

        return

    thread = _HeartbeatThread(heartbeat, channel, store.open_side_channel)
    thread.start()
    try:
        yield
    finally:
        await thread.stop()


class _HeartbeatThread(threading.Thread):
    def __init__(
        self,
        heartbeat: Heartbeat,
        first: AbstractAsyncContextManager[AuditStore[Any]],
        again: Callable[[], AbstractAsyncContextManager[AuditStore[Any]] | None],
    ) -> None:
        super().__init__(name="aflamingock-heartbeat", daemon=True)
        self._heartbeat = heartbeat
        self._first: AbstractAsyncContextManager[AuditStore[Any]] | None = first
        self._again = again
        self._work_loop = get_running_loop()
        self._work_thread = threading.current_thread()
        self._over = anyio.Event()
        self._scope = anyio.CancelScope()
        self._loop: AbstractEventLoop | None = None
        self._guard = threading.Lock()
        self._stopped = False

    def run(self) -> None:
        """Beat until stopped; called by the thread."""
        try:
            anyio.run(self._main)
        except Exception as exc:  # the deadline stands: without renewals the run ends in time
            logger.error("The heartbeat has ended with an error. %s", error_trace(exc))
        finally:
            self._tell(self._over.set)

    async def stop(self) -> None:
        """End the thread and wait for its end, for a bounded time."""
        with self._guard:
            self._stopped = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._scope.cancel)

        with anyio.move_on_after(_THREAD_ENDS_WITHIN, shield=True):
            await self._over.wait()

    async def _main(self) -> None:
        with self._scope:
            with self._guard:
                if self._stopped:
                    return

                self._loop = get_running_loop()

            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._watch)
                    await self._beat()
                    tasks.cancel_scope.cancel()
            finally:
                with self._guard:
                    self._loop = None

    async def _beat(self) -> None:
        while self._heartbeat.is_needed:
            try:
                async with self._open() as channel:
                    return await self._heartbeat.beat(channel)
            except Exception as exc:  # the next attempt decides: time is left, or the run is ended
                logger.warning("The heartbeat has no connection: %s", error_line(exc))

            await self._heartbeat.wait_for_store()

    def _open(self) -> AbstractAsyncContextManager[AuditStore[Any]]:
        channel, self._first = self._first or self._again(), None
        assert channel is not None
        return channel

    async def _watch(self) -> None:
        limit = max(1.0, self._heartbeat.interval / 2)
        answered = threading.Event()
        while self._work_thread.is_alive() and not self._work_loop.is_closed():
            answered.clear()
            self._tell(answered.set)
            await anyio.sleep(limit)
            if not answered.is_set() and self._work_thread.is_alive():
                logger.warning(
                    "The event loop has been blocked for more than %.1f s %s. The lease is kept, "
                    "but nothing else runs: use an asynchronous call, or a plain def.",
                    limit,
                    place_of_thread(self._work_thread.ident),
                )
                await anyio.sleep(_TELL_BLOCKED_EVERY)

        # nobody works under the lease any more, and nobody will stop this thread
        self._scope.cancel()

    def _tell(self, callback: Callable[[], object]) -> None:
        if not self._work_loop.is_closed():
            self._work_loop.call_soon_threadsafe(callback)
