"""The log, the lease and the stores of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aflamingock._audit.log import AuditLog
from aflamingock._lease import HeldLease
from aflamingock._records import AuditEntry, Lease
from aflamingock._retry import Patience
from aflamingock._states import AuditState
from aflamingock.abc import AuditStore
from aflamingock.stores.memory import MemoryAuditStore


def entry(id: str = "c", state: str = "STARTED", **values) -> AuditEntry:
    given: dict[str, Any] = {"service": "shop", "execution_id": "run", "change_id": id}
    return AuditEntry(state=AuditState(state), **given | values)


def make_log(store: AuditStore[Any], *, limit: float = 0.0, **values) -> AuditLog:
    return AuditLog(
        store, service="shop", execution_id="run", patience=Patience(limit=limit), **values
    )


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def lease(epoch: int = 3, clock: Clock | None = None) -> HeldLease:
    given = Lease(service="shop", owner="run", epoch=epoch, ttl=60.0)
    return HeldLease(given, sent_at=0.0, clock=clock or Clock())


async def stored(store: AuditStore[Any]) -> list[AuditEntry]:
    return [found async for found in store.entries("shop")]


async def ids(store: AuditStore[Any]) -> list[str | None]:
    return [found.change_id for found in await stored(store)]


class Counting(MemoryAuditStore):
    """A store that counts what it is asked to append."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str | None]] = []

    async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
        self.calls.append([given.change_id for given in entries])
        await super().append(entries, session=session)
