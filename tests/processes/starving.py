"""
A service whose changes starve it: it is run by the command line, as one of many instances.

The environment says where it works: ``STARVING_FOLDER`` and, unless that is all, ``STARVING_URL``.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aflamingock import Flamingock, LockOptions, Record
from aflamingock.abc import AuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore

LOCK = LockOptions(ttl=2, timeout=60, retry_interval=0.1)


class StoppingStore(SQLiteAuditStore):
    """A store whose process stops itself in the first renewal, where the environment says."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path

    @asynccontextmanager
    async def open_side_channel(self) -> AsyncIterator[AuditStore[Any]]:
        async with StoppingStore(self._path) as store:
            yield store

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        self._stop("before")
        swapped = await super().swap_record(current, new)
        self._stop("after")
        return swapped

    def _stop(self, place: str) -> None:
        in_heartbeat = threading.current_thread().name == "aflamingock-heartbeat"
        if in_heartbeat and os.environ.get("STARVING_STOP") == place:
            os.environ["STARVING_STOP"] = "once"
            os.kill(os.getpid(), signal.SIGSTOP)


def flamingock() -> Flamingock:
    """Return the service; store and target share one client, which has one connection at most."""
    folder, url = Path(os.environ["STARVING_FOLDER"]), os.environ.get("STARVING_URL", "")
    given: dict[str, Any] = {"folder": folder}
    targets: list[Any] = []
    if url.startswith("postgresql"):
        from sqlalchemy.ext.asyncio import create_async_engine

        from aflamingock.stores.sql import SQLAuditStore
        from aflamingock.targets.sql import SQLTargetSystem

        engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=1)
        targets = [SQLTargetSystem("data", engine)]
        store: Any = SQLAuditStore.from_target_system(targets[0])
        given["engine"] = engine
    elif url.startswith("mongodb"):
        from pymongo import AsyncMongoClient

        from aflamingock.stores.mongodb import MongoDBAuditStore
        from aflamingock.targets.mongodb import MongoDBTargetSystem

        client: AsyncMongoClient[Any] = AsyncMongoClient(url, maxPoolSize=1, waitQueueTimeoutMS=500)
        targets = [MongoDBTargetSystem("data", client, os.environ["STARVING_DATABASE"])]
        store = MongoDBAuditStore.from_target_system(targets[0])
    else:
        store = StoppingStore(folder / "audit.db")

    return Flamingock(
        changes=folder / "changes",
        audit_store=store,
        target_systems=targets,
        dependencies=given,
        lock=LOCK,
    )
