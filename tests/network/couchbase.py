"""Couchbase behind a proxy."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

from acouchbase.cluster import AsyncCluster
from anyio.to_thread import run_sync
from couchbase.exceptions import DocumentNotFoundException
from couchbase.transactions import TransactionKeyspace

from aflamingock import FlamingockError, Verification
from aflamingock.abc import ChangeContext
from aflamingock.stores.couchbase import CouchbaseAuditStore
from aflamingock.targets._couchbase_transaction import transact
from aflamingock.targets.couchbase import CouchbaseTargetSystem
from tests.network.system import TARGET, Coroutine, Pair, System
from tests.servers.couchbase.fixtures import BUCKET, CouchbaseServer, connected
from tests.servers.couchbase.proxy import CouchbaseProxy
from tests.servers.proxy import Exchange, Proxy, lost_answer, lost_call, pass_on

_EFFECTS = "effects"
_TRANSACTION_TIMEOUT = 2.0
_READ_WITHIN = 30.0


class CouchbaseSystem(System):
    """
    The stand-in, and a scope of its own there.

    :param name: of the scope
    """

    # the SDK, which tidies up after the runs before, may change the end of the log under a change
    last_runs = 3
    # in the record of the transaction, where it is decided; documents only name that record
    commit = r'\.st"COMMITTED"'
    claim = r"\A.\xd0.{22}.*[0-9a-f]{32}"  # the marker is looked for before it is written

    def __init__(self, server: CouchbaseServer, name: str) -> None:
        self._server = server
        self._name = name

    def proxy(self) -> Proxy:
        """Return a proxy before the stand-in."""
        return CouchbaseProxy(self._server)

    def lose_commit(self, proxy: Proxy) -> None:
        """Lose the answer, and all that the SDK asks for until it gives the transaction up."""

        async def fault(exchange: Exchange) -> None:
            until = time.monotonic() + _TRANSACTION_TIMEOUT + 0.2
            proxy.choose = lambda _: lost_call if time.monotonic() < until else pass_on
            await lost_answer(exchange)

        proxy.plan(self.commit, fault)

    @asynccontextmanager
    async def lent(self, proxy: Proxy | None = None) -> AsyncIterator[Pair]:
        """
        Lend a store and a target on a cluster of their own.

        The SDK tidies up past the proxy: when it cannot read a document of a transaction that is
        committed, it forgets the transaction, and the document is lost (as of version 4.6.3).
        """
        async with self._cluster(proxy) as cluster, self._tidied():
            target = CouchbaseTargetSystem(
                TARGET,
                cluster,
                BUCKET,
                scope_name=self._name,
                collection_name=_EFFECTS,
                transaction_timeout=_TRANSACTION_TIMEOUT,
            )
            yield CouchbaseAuditStore.from_target_system(target), target

    @asynccontextmanager
    async def _cluster(self, proxy: Proxy | None = None) -> AsyncIterator[AsyncCluster]:
        url = proxy.url if isinstance(proxy, CouchbaseProxy) else self._server.url()
        async with connected(url) as cluster:
            yield cluster

    @asynccontextmanager
    async def _tidied(self) -> AsyncIterator[None]:
        """Let the SDK tidy up after transactions that were left behind."""
        records = TransactionKeyspace(bucket=BUCKET, scope="_default", collection="_default")
        tidying = {"cleanup_window": timedelta(seconds=1), "metadata_collection": records}
        async with connected(self._server.url(), **tidying) as cluster:
            _ = cluster.transactions  # begins with it
            yield

    async def prepare(self) -> None:
        """Create the collections."""
        async with self.lent() as (store, target), store, target:
            await store.create()
            await target.claim_marker("first", "none")

        async with self._cluster() as cluster:
            bucket = cluster.bucket(BUCKET)
            await bucket.on_connect()
            await bucket.collections().create_collection(self._name, _EFFECTS)

    async def effects(self, service: str) -> Counter[str]:
        """Return how often each change has left its line."""
        async with self._cluster() as cluster:
            found = await self._lines(cluster, service)

        return Counter(key.split("::")[1] for key in found)

    def coroutines(self, id: str) -> dict[str, Coroutine]:
        """Return the coroutines of a change; outside of a transaction its context refuses."""

        async def execute(
            self: object, session: Any, collection: Any, context: ChangeContext
        ) -> None:
            key = f"{context.service}::{id}::{uuid4()}"
            try:
                await session.insert(collection, key, {})
            except FlamingockError:
                await collection.insert(key, {})

        async def rollback(
            self: object, session: Any, collection: Any, cluster: Any, context: ChangeContext
        ) -> None:
            for key in await lines(cluster, f"{context.service}::{id}"):
                try:
                    await session.remove(await session.get(collection, key))
                except FlamingockError:
                    await collection.remove(key)

        async def verify(self: object, cluster: Any, context: ChangeContext) -> Verification:
            found = await lines(cluster, f"{context.service}::{id}")
            return Verification.APPLIED if found else Verification.NOT_APPLIED

        lines = self._lines
        return {"execute": execute, "rollback": rollback, "verify": verify}

    async def _lines(self, cluster: AsyncCluster, beginning: str) -> list[str]:
        """Return the keys of what is there; what is committed may be staged for a while yet."""
        keys = await run_sync(self._server.keys, self._name, _EFFECTS)
        collection = cluster.bucket(BUCKET).scope(self._name).collection(_EFFECTS)
        found = []
        async with transact(cluster, timeout=_READ_WITHIN, name=_EFFECTS) as context:
            for key in keys:
                if not key.startswith(f"{beginning}::"):
                    continue

                try:
                    await context.get(collection, key)
                    found.append(key)
                except DocumentNotFoundException:
                    pass

        return found
