"""A heartbeat in the time of a test, and stores that can be broken."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint

from aflamingock._lease import HeldLease
from aflamingock._lock.heartbeat import Heartbeat
from aflamingock._records import Lease, Record
from aflamingock.abc import AuditStore
from aflamingock.exceptions import AuditStoreConnectionError
from aflamingock.stores.memory import MemoryAuditStore
from tests.lock.kit import KEY, Time


class Breakable(MemoryAuditStore):
    """A store that can go out of reach; its second connection is the same one."""

    broken = False

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        await self.before_swap()
        return await super().swap_record(current, new)

    async def before_swap(self) -> None:
        if self.broken:
            raise AuditStoreConnectionError("out of reach")

    async def go_out_of_reach(self) -> None:
        self.broken = True

    def open_side_channel(self) -> Any:
        return self.side_channel()

    @asynccontextmanager
    async def side_channel(self) -> AsyncIterator[AuditStore[Any]]:
        yield self


async def write(store: AuditStore[Any], lease: Lease) -> None:
    """Write a lease as somebody else would, whatever stands there."""
    assert isinstance(store, MemoryAuditStore)
    current = await MemoryAuditStore.read_record(store, KEY)
    assert await MemoryAuditStore.swap_record(store, current, lease.to_record())


class Beating:
    """A heartbeat of a lease of 60 s in the time of a test."""

    def __init__(self, time: Time, *, drawn: float = 0.5, ttl: float = 60.0) -> None:
        lease = Lease(service="shop", owner="run", epoch=3, ttl=ttl)
        self.time = time
        self.ended_at: list[float] = []
        self.held = HeldLease(lease, sent_at=0.0, clock=time.clock)
        self.heartbeat = Heartbeat(
            self.held,
            on_end=lambda: self.ended_at.append(time.now),
            clock=time.clock,
            sleep=time.sleep,
            draw=lambda: drawn,
        )

    async def beat(self, store: AuditStore[Any]) -> None:
        """Beat until the time stands still, or to the end of the lease."""
        await write(store, self.held.lease)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._beat, store, tasks.cancel_scope.cancel)
            while not self._stands_still():
                await checkpoint()

            tasks.cancel_scope.cancel()

    def _stands_still(self) -> bool:
        return len(self.time.pauses) > 500

    async def _beat(self, store: AuditStore[Any], then: Callable[[], None]) -> None:
        await self.heartbeat.beat(store)
        then()
