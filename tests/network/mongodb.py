"""MongoDB behind a proxy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from aflamingock import Verification
from aflamingock.abc import ChangeContext
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.targets.mongodb import MongoDBTargetSystem
from tests.network.system import TARGET, Coroutine, Pair, System
from tests.servers.proxy import Proxy


class MongoDBSystem(System):
    """
    A replica set of one node.

    :param options: for the client's URL
    """

    commit = "commitTransaction"

    def __init__(
        self, url: str, name: str, driver: Literal["pymongo", "motor"], **options: str
    ) -> None:
        self._url = urlsplit(url)
        self._name = name
        self._options = options
        self._kind: Any = AsyncMongoClient if driver == "pymongo" else AsyncIOMotorClient

    def proxy(self) -> Proxy:
        """Return a proxy before the node."""
        return Proxy((self._url.hostname or "", self._url.port or 27017))

    @asynccontextmanager
    async def lent(self, proxy: Proxy | None = None) -> AsyncIterator[Pair]:
        """Lend a store and a target on a client of their own."""
        async with self._client(proxy) as client:
            target = MongoDBTargetSystem(TARGET, client, self._name)
            yield MongoDBAuditStore.from_target_system(target), target

    @asynccontextmanager
    async def _client(self, proxy: Proxy | None = None) -> AsyncIterator[Any]:
        # else the client would find the way past the proxy
        query = "&".join(
            f"{name}={value}"
            for name, value in {"directConnection": "true", **self._options}.items()
        )
        place = self._url.netloc
        if proxy is not None:
            place = re.sub(r"[^@]+$", f"127.0.0.1:{proxy.port}", place)

        client = self._kind(f"mongodb://{place}/?{query}")
        try:
            yield client
        finally:
            if (closing := client.close()) is not None:
                await closing

    async def prepare(self) -> None:
        """Create the collections."""
        async with self._client() as client:
            await client[self._name].create_collection("effects")

        async with self.lent() as (store, target), store, target:
            await store.create()
            await target.claim_marker("first", "none")

    async def effects(self, service: str) -> Counter[str]:
        """Return how often each change has left its line."""
        async with self._client() as client:
            found = await client[self._name].effects.find({"service": service}).to_list(None)

        return Counter(document["change"] for document in found)

    def coroutines(self, id: str) -> dict[str, Coroutine]:
        """Return the coroutines of a change."""

        def line(context: ChangeContext) -> dict[str, str]:
            return {"service": context.service, "change": id}

        async def execute(self: object, db: Any, session: Any, context: ChangeContext) -> None:
            await db.effects.insert_one(line(context), session=session)

        async def rollback(self: object, db: Any, session: Any, context: ChangeContext) -> None:
            await db.effects.delete_many(line(context), session=session)

        async def verify(self: object, db: Any, context: ChangeContext) -> Verification:
            found = await db.effects.find_one(line(context))
            return Verification.APPLIED if found else Verification.NOT_APPLIED

        return {"execute": execute, "rollback": rollback, "verify": verify}
