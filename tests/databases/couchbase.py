"""A scope of Couchbase."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aflamingock.abc import AuditStore, TransactionalTargetSystem

from .database import Database, Place, transactional_change

_LOOK = "manager_collections_get_all_scopes"


class Couchbase(Database):
    """A scope; the effects are one document, since nothing is found by a query."""

    change = transactional_change(
        "session, collection",
        execute="""found = await session.get(collection, "effects")
        lines = [*found.content_as[dict]["lines"], "{id}"]
        await session.replace(found, {{"lines": lines}})""",
        rollback="""found = await session.get(collection, "effects")
        lines = [line for line in found.content_as[dict]["lines"] if line != "{id}"]
        await session.replace(found, {{"lines": lines}})""",
    )

    @asynccontextmanager
    async def connect(self, place: Place, calls: list[str] | None = None) -> AsyncIterator[Any]:
        """Lend a cluster; that a store looks at its collections is part of opening it."""
        from tests.servers.couchbase.fixtures import connected

        tracer = None if calls is None else _tracer(calls)
        async with connected(place.url, tracer=tracer) as cluster:
            yield cluster

    def target(self, client: Any, place: Place) -> TransactionalTargetSystem[Any]:
        from aflamingock.targets.couchbase import CouchbaseTargetSystem
        from tests.servers.couchbase.fixtures import BUCKET

        return CouchbaseTargetSystem(
            "data", client, BUCKET, scope_name=place.name, collection_name="effects"
        )

    def store(self, client: Any, place: Place, **options: Any) -> AuditStore[Any]:
        from tests.servers.couchbase.fixtures import BUCKET

        return self._store_type()(  # type: ignore[no-any-return]  # imported late
            client, BUCKET, scope_name=place.name, **options
        )

    def _store_type(self) -> Any:
        from aflamingock.stores.couchbase import CouchbaseAuditStore

        return CouchbaseAuditStore

    async def prepare(self, place: Place) -> None:
        from tests.servers.couchbase.fixtures import BUCKET

        async with self.connect(place) as cluster:
            bucket = cluster.bucket(BUCKET)
            await bucket.on_connect()
            await bucket.collections().create_scope(place.name)
            await bucket.collections().create_collection(place.name, "effects")
            await self._documents(bucket, place).insert("effects", {"lines": []})

    async def effects(self, place: Place) -> list[str]:
        from tests.servers.couchbase.fixtures import BUCKET

        async with self.connect(place) as cluster:
            bucket = cluster.bucket(BUCKET)
            await bucket.on_connect()
            found = await self._documents(bucket, place).get("effects")
            return sorted(found.content_as[dict]["lines"])

    def _documents(self, bucket: Any, place: Place) -> Any:
        return bucket.scope(place.name).collection("effects")


def _tracer(calls: list[str]) -> object:
    from couchbase.observability.tracing import RequestSpan, RequestTracer

    class Span(RequestSpan):
        name = ""

        def __init__(self, name: str) -> None:
            self.name = name

        def end(self, *_: Any, **__: Any) -> Any:
            """It is counted already."""

        set_attribute = set_attributes = add_event = set_status = end

    class Tracer(RequestTracer):
        def request_span(self, name: str, parent_span: Any = None, start_time: Any = None) -> Span:
            if name == "dispatch_to_server" and parent_span.name != _LOOK:
                calls.append(parent_span.name)

            return Span(name)

    return Tracer()
