"""Runs of a service through a proxy, and what must be true after them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

from aflamingock import AuditEntry, AuditState, AuditType, Flamingock, LockOptions
from tests.chaos.recorder import Recorder, record_store
from tests.network.system import System
from tests.servers.proxy import Proxy

SERVICE = "default"

Mode = Literal["shared", "separate"]


@asynccontextmanager
async def service(
    system: System,
    proxy: Proxy | None,
    changes: Sequence[type],
    *,
    name: str = SERVICE,
    mode: Mode = "shared",
    recorder: Recorder | None = None,
    **lock: Any,
) -> AsyncIterator[Flamingock]:
    """Lend a service whose store and target are on clients of its own."""
    async with system.lent(proxy) as (store, target):
        if recorder is not None:
            record_store(store, recorder)

        yield Flamingock(
            changes=list(changes),
            audit_store=store,
            target_systems=[target],
            service=name,
            lock=LockOptions(**({"ttl": 6, "timeout": 30, "retry_interval": 0.1} | lock)),
            transaction_mode=mode,
        )


def words(entries: Sequence[AuditEntry]) -> list[str]:
    """Return a log as words, without the checkpoints."""
    return [
        f"{entry.change_id} {entry.state}"
        for entry in entries
        if entry.type is not AuditType.CHECKPOINT
    ]


def applied(entries: Sequence[AuditEntry]) -> set[str | None]:
    """Return the changes that a log says to be applied."""
    last = {entry.change_id: entry.state for entry in entries if entry.change_id}
    return {id for id, state in last.items() if state is AuditState.APPLIED}
