"""Time, stores and locks of the tests."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint

from aflamingock._lease import HeldLease
from aflamingock._lock.heartbeat import Heartbeat
from aflamingock._lock.lock import Lock
from aflamingock._options import LockOptions
from aflamingock._records import Lease
from aflamingock.abc import AuditStore
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore

KEY = Lease.key("shop")


class Time:
    """
    Time that passes only while somebody sleeps.

    :param until: when it stands still
    """

    def __init__(self, now: float = 0.0, *, until: float = 1e9) -> None:
        self.now = now
        self.pauses: list[float] = []
        self.on_pause: Callable[[], None] = lambda: None
        self._until = until

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if self.now + seconds > self._until:
            await anyio.sleep_forever()

        self.pauses.append(seconds)
        self.now += seconds
        self.on_pause()
        await checkpoint()


@asynccontextmanager
async def no_heartbeat(heartbeat: Heartbeat, store: AuditStore[Any]) -> AsyncIterator[None]:
    yield


class Memory:
    """A store in memory, whose records age by the time of the test."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self._store = MemoryAuditStore(clock=time.clock)

    def store(self) -> MemoryAuditStore:
        return self._store.twin()

    def let_age(self, seconds: float) -> None:
        self._time.now += seconds


class SQLite:
    """A store in a file, whose records age by the clock of SQLite."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def store(self) -> SQLiteAuditStore:
        return SQLiteAuditStore(self._path)

    def let_age(self, seconds: float) -> None:
        with closing(sqlite3.connect(f"{self._path}.lease")) as connection, connection:
            connection.execute(
                'UPDATE "flamingockLock" SET writtenAt = writtenAt - ?', (1000 * seconds,)
            )


def make_lock(store: AuditStore[Any], time: Time, owner: str = "run", **values) -> Lock:
    options: dict[str, Any] = {"ttl": 60.0, "timeout": 180.0, "retry_interval": 1.0}
    listeners = values.pop("listeners", None)
    return Lock(
        store,
        LockOptions(**options | values),
        service="shop",
        owner=owner,
        listeners=listeners,
        _clock=time.clock,
        _sleep=time.sleep,
        _draw=lambda: 0.5,
        _host=no_heartbeat,
    )


def left_behind(**values) -> Lease:
    given: dict[str, Any] = {"service": "shop", "owner": "other", "epoch": 7, "ttl": 60.0}
    return Lease(**given | {"host": "db-1"} | values)


async def written(store: AuditStore[Any], lease: Lease) -> Lease:
    """Write a lease as somebody else would."""
    current = await store.read_record(KEY)
    assert await store.swap_record(current, lease.to_record())
    return lease


async def read(store: AuditStore[Any]) -> Lease:
    record = await store.read_record(KEY)
    assert record is not None
    return Lease.from_record(record)


def granted(held: HeldLease | None) -> HeldLease:
    assert held is not None
    return held
