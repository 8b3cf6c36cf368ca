"""MongoDB behind a proxy."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

import anyio
from anyio.to_thread import run_sync
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from aflamingock import Verification
from aflamingock.abc import ChangeContext
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.targets.mongodb import MongoDBTargetSystem
from tests.network.system import TARGET, Coroutine, Pair, System
from tests.servers.proxy import Proxy
from tests.servers.replica_set import ReplicaSet, addresses_of, losing_primaries, url_of

_FAREWELL = 5.0


class MongoDBSystem(System):
    """
    A replica set of one node.

    :param options: for the client
    """

    commit = "commitTransaction"

    def __init__(
        self, url: str, name: str, driver: Literal["pymongo", "motor"], **options: Any
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
        client = self._kind(self._place(proxy), **self._options)
        try:
            yield client
        finally:
            # it tells a server without any limit of time; who closes it again leaves that out
            for _ in range(2):
                with anyio.move_on_after(_FAREWELL):
                    await self._close(client)

    async def _close(self, client: Any) -> None:
        if self._kind is AsyncMongoClient:
            await client.close()
        else:  # Motor's blocks: what is silent would stop everybody in the loop
            await run_sync(client.close, abandon_on_cancel=True)

    def _place(self, proxy: Proxy | None) -> str:
        place = self._url.netloc
        if proxy is not None:
            place = re.sub(r"[^@]+$", f"127.0.0.1:{proxy.port}", place)

        # else the client would find the way past the proxy
        return f"mongodb://{place}/?directConnection=true"

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


class ElectingSystem(MongoDBSystem):
    """
    A replica set that can lose its primary again and again.

    :param options: for the client
    """

    last_runs = 20

    def __init__(self, replica_set: ReplicaSet, name: str, **options: Any) -> None:
        super().__init__(replica_set.url, name, "pymongo", **options)
        self._replica_set = replica_set

    def proxy(self) -> Proxy:
        """Return a proxy before all nodes."""
        return self._replica_set.proxy()

    def unrest(self) -> AbstractContextManager[None]:
        """Let primaries be lost for the length of the block."""
        return losing_primaries(self._replica_set, random.Random())

    def _place(self, proxy: Proxy | None) -> str:
        return url_of(addresses_of(proxy)) if proxy is not None else self._replica_set.url
