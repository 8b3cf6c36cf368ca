"""
A process that runs changes on a MongoDB target system, with the log there or elsewhere.

It is told by one JSON argument what to do, and says on its standard output where it is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from aflamingock import Flamingock, FlamingockError, LockOptions, RunReport, change
from aflamingock.abc import AuditStore
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.mongodb import MongoDBTargetSystem

Pause = Callable[[str], Awaitable[None]]


def counting(id: str) -> type:
    """Return a change that counts how often it was committed, in a document that others need."""

    class Counting:
        async def execute(self, db: Any, session: Any, pause: Pause) -> None:
            await _add(db, session, id, 1)
            await pause(f"execute {id}")

        async def rollback(self, db: Any, session: Any, pause: Pause) -> None:
            await _add(db, session, id, -1)
            await pause(f"rollback {id}")

    return change(id=id, author="tests", order=id, target_system="data")(Counting)


async def _add(db: Any, session: Any, id: str, number: int) -> None:
    await db.counts.update_one({"_id": "counts"}, {"$inc": {id: number}}, session=session)


@asynccontextmanager
async def built(options: Mapping[str, Any]) -> AsyncIterator[Flamingock]:
    """Lend what the options describe, and close its client at the end."""

    async def pause(place: str) -> None:
        print(f"at {place}", flush=True)
        if place == options.get("stays"):
            await anyio.sleep(60)

    kind: Any = AsyncIOMotorClient if options["driver"] == "motor" else AsyncMongoClient
    client = kind(options["url"])
    target = MongoDBTargetSystem("data", client, options["database"])
    store: AuditStore[Any] = (
        SQLiteAuditStore(options["log"])
        if options["log"]
        else MongoDBAuditStore.from_target_system(target)
    )
    yield Flamingock(
        changes=[counting(id) for id in options["ids"]],
        audit_store=store,
        target_systems=[target],
        dependencies={"pause": pause},
        lock=LockOptions(ttl=2, timeout=15, retry_interval=0.1),
    )
    closing = client.close()
    if closing is not None:
        await closing


async def call(options: Mapping[str, Any]) -> RunReport:
    async with built(options) as flamingock:
        if "undo" in options:
            return await flamingock.undo(**options["undo"])

        return await flamingock.run()


def main(options: Mapping[str, Any]) -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="log %(message)s")
    try:
        report = asyncio.run(call(options))
    except FlamingockError as exc:
        print(f"raised {type(exc).__name__}: {exc}", flush=True)
        return 1

    print(f"ended {report.status}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
