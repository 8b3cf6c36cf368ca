"""The lock: take, keep, give back and lose the lease of a service."""

from __future__ import annotations

import logging
import os
import random
from asyncio import get_running_loop
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import anyio.to_thread

from .._events import Listeners, WaitingForLease
from .._host import boot_time, describe_process, host_name, is_gone
from .._lease import HeldLease, LeaseStatus, is_dead
from .._options import LockOptions
from .._payload import error_line
from .._records import Lease, new_id
from .._retry import Patience, Retries
from ..abc import AuditStore
from ..exceptions import AuditStoreConnectionError, LockTimeoutError, UnknownOutcomeError
from .heartbeat import Heartbeat, HeartbeatHost, in_thread
from .record import LeaseRecord

logger = logging.getLogger(__name__)

_RELEASE_WITHIN = 3.0
_TELL_EVERY = 10.0


class Lock:
    """
    Takes, keeps and gives back the lease of a service.

    The rules are the same for all stores: a store only swaps one record for another.

    :param owner: the id of the run
    """

    def __init__(
        self,
        store: AuditStore[Any],
        options: LockOptions,
        *,
        service: str,
        owner: str,
        listeners: Listeners | None = None,
        retries: Retries | None = None,
        _clock: Callable[[], float] = boot_time,
        _sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        _draw: Callable[[], float] = random.random,
        _host: HeartbeatHost = in_thread,
    ) -> None:
        self._store = store
        self._options = options
        self._service = service
        self._owner = owner
        self._listeners = listeners or Listeners()
        self._clock = _clock
        self._sleep = _sleep
        self._draw = _draw
        self._host = _host
        patience = Patience(
            limit=options.timeout, retries=retries, clock=_clock, sleep=_sleep, draw=_draw
        )
        self._record = LeaseRecord(store, service, patience)
        self.predecessor: Lease | None = None

    @asynccontextmanager
    async def hold(
        self,
        *,
        done: Callable[[], Awaitable[bool]] | None = None,
        above: int = 0,
        wait: bool = True,
    ) -> AsyncGenerator[HeldLease | None]:
        """
        Hold the lease for the length of the block.

        :param done: asked at each look at a lease that is held; when it says that nothing is
            left to do, the block runs without the lease
        :param above: the epoch that the log has seen, in case that the record was lost
        :param wait: whether to wait while another runner holds the lease
        :return: the lease, or ``None`` if *done* said so
        :raises LockTimeoutError: if it could not be had in time
        :raises LockLostError: in place of what ended the block after the lease was lost
        """
        held = await self._acquire(done, above, self._options.timeout if wait else 0.0)
        if held is None:
            yield None
            return

        with anyio.CancelScope() as scope:
            heartbeat = Heartbeat(
                held,
                on_end=_cancel_from_anywhere(scope),
                clock=self._clock,
                sleep=self._sleep,
                draw=self._draw,
            )
            try:
                with held.explaining():
                    async with self._host(heartbeat, self._store):
                        yield held
            finally:
                await self._release(held)

        if scope.cancelled_caught:
            raise held.error()

    async def status(self) -> LeaseStatus:
        """Look at the lease once."""
        lease = await self.read()
        if lease is None or lease.released:
            return LeaseStatus(state="free", lease=lease)

        expired = (lease.age is not None and lease.age > lease.ttl) or await self._is_gone(lease)
        return LeaseStatus(state="expired" if expired else "held", lease=lease)

    async def release_by_force(self, *, above: int = 0) -> Lease | None:
        """
        Take the lease away from whoever holds it, and raise the epoch.

        The holder is fenced: it can neither renew nor append any more.

        :param above: the epoch that the log has seen
        :return: the released lease with its new epoch; ``None`` if it was free, or if it was
            renewed or given back meanwhile
        """
        lease = await self.read()
        if lease is None or lease.released:
            return None

        epoch = max(lease.epoch, above) + 1
        new = replace(lease, token=new_id(), epoch=epoch, released=True)
        return new if await self._record.surely_swap(lease, new) else None

    async def read(self) -> Lease | None:
        """Return the lease last written, dead or alive."""
        return await self._record.read()

    async def _acquire(
        self, done: Callable[[], Awaitable[bool]] | None, above: int, timeout: float
    ) -> HeldLease | None:
        tried: dict[str, HeldLease] = {}
        held: HeldLease | None = None
        try:
            held = await self._take(tried, done, above, timeout)
            return held
        finally:
            if held is None:
                # a lease may stand, or come to stand, without anybody behind it
                for left in tried.values():
                    await self._release(left)

    async def _take(
        self,
        tried: dict[str, HeldLease],
        done: Callable[[], Awaitable[bool]] | None,
        above: int,
        timeout: float,
    ) -> HeldLease | None:
        view = _View(started=self._clock())
        while True:
            failure: AuditStoreConnectionError | None = None
            try:
                if view.looks and done is not None and await done():
                    return None

                held = await self._look(view, tried, above)
                if held is not None:
                    logger.info("The lease of %r is held, epoch %d.", self._service, held.epoch)
                    return held
            except AuditStoreConnectionError as exc:  # it did answer when the run began
                failure = exc

            waited = self._clock() - view.started
            if waited >= timeout:
                raise failure or self._timeout(view.lease, waited)

            if failure is not None:
                logger.warning("The audit store is out of reach, it is tried again: %s", failure)
            elif view.lease is not None and waited - view.told >= _TELL_EVERY:
                view.told = waited
                await self._tell(view.lease, waited)

            pause = 2 * self._options.retry_interval * self._draw()
            await self._sleep(min(pause, max(timeout - waited, 0.01)))

    async def _look(self, view: _View, tried: dict[str, HeldLease], above: int) -> HeldLease | None:
        """Look at the lease once, and take it if that is allowed."""
        view.looks += 1
        lease = await self.read()
        now = self._clock()
        if lease is None or view.lease is None or lease.token != view.lease.token:
            view.lease, view.since = lease, now

        mine = tried.get(lease.token) if lease is not None else None
        if mine is not None and mine.is_standing:  # only the answer was late
            return mine

        if lease is None or await self._may_take(lease, watched=now - view.since):
            return await self._grant(lease, tried, above)

        return None

    async def _may_take(self, lease: Lease, *, watched: float) -> bool:
        if is_dead(lease, watched=watched):
            return True

        return await self._is_gone(lease)

    async def _is_gone(self, lease: Lease) -> bool:
        return self._store.single_host and await anyio.to_thread.run_sync(
            is_gone, lease.pid, lease.process
        )

    async def _grant(
        self, current: Lease | None, tried: dict[str, HeldLease], above: int
    ) -> HeldLease | None:
        new = Lease(
            service=self._service,
            owner=self._owner,
            epoch=max(current.epoch if current else 0, above) + 1,
            ttl=self._options.ttl,
            host=host_name(),
            pid=os.getpid(),
            process=await anyio.to_thread.run_sync(describe_process, os.getpid()),
        )
        held = tried[new.token] = HeldLease(new, sent_at=self._clock(), clock=self._clock)
        try:
            granted = await self._record.swap(current, new)
        except AuditStoreConnectionError:  # surely nothing was done
            del tried[new.token]
            raise
        except UnknownOutcomeError:
            if not await self._record.stands(new):
                return None  # as far as can be seen: it may be done yet
        else:
            if not granted:
                del tried[new.token]
                return None

        if current is not None and not current.released:
            self.predecessor = current
            logger.warning("The lease of service %r is taken over from %s.", self._service, current)

        return held

    async def _release(self, held: HeldLease) -> None:
        with anyio.move_on_after(_RELEASE_WITHIN, shield=True) as scope:
            try:
                await self._record.give_back(held.lease)
            except Exception as exc:  # the work is done; an unreleased lease expires by itself
                told = "The lease of service %r was not released, it expires in %g s: %s"
                logger.warning(told, self._service, held.lease.ttl, error_line(exc))

        if scope.cancelled_caught:
            logger.warning("The lease of service %r was not released in time.", self._service)

    async def _tell(self, lease: Lease, waited: float) -> None:
        # a short wait is nothing special, a long one must be seen without any configuration
        level = logging.INFO if waited < _TELL_EVERY else logging.WARNING
        logger.log(level, "Waiting for the lease of service %r, held by %s.", self._service, lease)
        await self._listeners.emit(
            WaitingForLease(
                service=self._service, execution_id=self._owner, holder=str(lease), waited=waited
            )
        )

    def _timeout(self, lease: Lease | None, waited: float) -> LockTimeoutError:
        return LockTimeoutError(
            f"The lease of service {self._service!r} is still held by {lease or 'others'}, after "
            f"{waited:.0f} s of waiting. If that run is dead, its lease expires by itself; "
            "see 'aflamingock lock status'.",
            holder=lease,
        )


@dataclass(slots=True, kw_only=True)
class _View:
    """What who waits for a lease has seen of it: the last one, since when, and how often."""

    started: float
    lease: Lease | None = None
    since: float = 0.0
    looks: int = 0
    told: float = -_TELL_EVERY


def _cancel_from_anywhere(scope: anyio.CancelScope) -> Callable[[], object]:
    loop = get_running_loop()
    return lambda: loop.call_soon_threadsafe(scope.cancel)
