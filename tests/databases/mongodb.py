"""A replica set of MongoDB, through PyMongo or Motor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aflamingock.abc import AuditStore, TransactionalTargetSystem

from .database import Database, Place, transactional_change


class MongoDB(Database):
    """A replica set, through PyMongo or Motor."""

    change = transactional_change(
        "db, session",
        execute="""await db.effects.insert_one({{"line": "{id}"}}, session=session)""",
        rollback="""await db.effects.delete_one({{"line": "{id}"}}, session=session)""",
    )

    def __init__(self, driver: str) -> None:
        self._driver = driver

    @asynccontextmanager
    async def connect(self, place: Place, calls: list[str] | None = None) -> AsyncIterator[Any]:
        """Lend a client."""
        listeners = [] if calls is None else [_listener(calls)]
        if self._driver == "motor":
            from motor.motor_asyncio import AsyncIOMotorClient

            client: Any = AsyncIOMotorClient(place.url, event_listeners=listeners)
        else:
            from pymongo import AsyncMongoClient

            client = AsyncMongoClient(place.url, event_listeners=listeners)

        try:
            yield client
        finally:
            closing = client.close()
            if closing is not None:
                await closing

    def target(self, client: Any, place: Place) -> TransactionalTargetSystem[Any]:
        from aflamingock.targets.mongodb import MongoDBTargetSystem

        return MongoDBTargetSystem("data", client, place.name)

    def store(self, client: Any, place: Place, **options: Any) -> AuditStore[Any]:
        return self._store_type()(client, place.name, **options)  # type: ignore[no-any-return]  # imported late

    def _store_type(self) -> Any:
        from aflamingock.stores.mongodb import MongoDBAuditStore

        return MongoDBAuditStore

    async def prepare(self, place: Place) -> None:
        async with self.connect(place) as client:
            await client[place.name].create_collection("effects")

    async def effects(self, place: Place) -> list[str]:
        async with self.connect(place) as client:
            found = await client[place.name].effects.find().to_list(None)
            return sorted(document["line"] for document in found)


def _listener(calls: list[str]) -> object:
    from pymongo.monitoring import CommandListener, CommandStartedEvent

    class Listener(CommandListener):
        def started(self, event: CommandStartedEvent) -> None:
            if event.command_name != "endSessions":
                calls.append(event.command_name)

        def succeeded(self, event: object) -> None:
            """It is counted already."""

        failed = succeeded

    return Listener()
