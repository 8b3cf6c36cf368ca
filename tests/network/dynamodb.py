"""DynamoDB behind a proxy."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import aioboto3  # type: ignore[import-untyped]  # aioboto3 has no types

from aflamingock import FlamingockError, Verification
from aflamingock.abc import ChangeContext
from aflamingock.stores.dynamodb import DynamoDBAuditStore
from aflamingock.targets.dynamodb import DynamoDBTargetSystem
from tests.network.system import TARGET, Coroutine, Pair, System
from tests.servers.dynamodb import KEYS
from tests.servers.dynamodb_proxy import DynamoDBProxy
from tests.servers.proxy import Proxy


class DynamoDBSystem(System):
    """An endpoint of DynamoDB, and tables with a prefix of their own."""

    commit = r"TransactWriteItems\b.*effects"

    def __init__(self, url: str, prefix: str, settings: Mapping[str, str] = KEYS) -> None:
        self._url = url
        self._prefix = prefix
        self._settings = settings

    def proxy(self) -> Proxy:
        """Return a proxy before the endpoint."""
        return DynamoDBProxy(self._url)

    @asynccontextmanager
    async def lent(self, proxy: Proxy | None = None) -> AsyncIterator[Pair]:
        """Lend a store and a target on a session of their own."""
        url = f"http://127.0.0.1:{proxy.port}" if proxy else self._url
        markers = f"{self._prefix}markers"
        target = DynamoDBTargetSystem(
            TARGET,
            aioboto3.Session(**self._settings),
            endpoint_url=url,
            marker_repository_name=markers,
        )
        yield DynamoDBAuditStore.from_target_system(target, table_prefix=self._prefix), target

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        session = aioboto3.Session(**self._settings)
        async with session.client("dynamodb", endpoint_url=self._url) as client:
            yield client

    async def prepare(self) -> None:
        """Create the tables."""
        async with self._client() as client:
            await client.create_table(
                TableName=f"{self._prefix}effects",
                KeySchema=[{"AttributeName": "row", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "row", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )

        async with self.lent() as (store, target), store, target:
            await store.create()
            await target.claim_marker("first", "none")

    async def effects(self, service: str) -> Counter[str]:
        """Return how often each change has left its line."""
        async with self._client() as client:
            lines = await _lines(client, f"{self._prefix}effects", service)

        return Counter(item["change"]["S"] for item in lines)

    def coroutines(self, id: str) -> dict[str, Coroutine]:
        """Return the coroutines of a change; what it cannot send itself is a transaction's."""
        table = f"{self._prefix}effects"

        async def execute(self: object, items: Any, context: ChangeContext) -> None:
            line = {"service": {"S": context.service}, "change": {"S": id}}
            items.put(TableName=table, Item={"row": {"S": str(uuid4())}} | line)
            await _send(items)

        async def rollback(self: object, items: Any, client: Any, context: ChangeContext) -> None:
            for item in await _lines(client, table, context.service):
                if item["change"]["S"] == id:
                    items.delete(TableName=table, Key={"row": item["row"]})

            if len(items):
                await _send(items)

        async def verify(self: object, client: Any, context: ChangeContext) -> Verification:
            lines = await _lines(client, table, context.service)
            done = any(item["change"]["S"] == id for item in lines)
            return Verification.APPLIED if done else Verification.NOT_APPLIED

        return {"execute": execute, "rollback": rollback, "verify": verify}


async def _lines(client: Any, table: str, service: str) -> list[Any]:
    pages = client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    items = [item async for page in pages for item in page["Items"]]
    return [item for item in items if item["service"]["S"] == service]


async def _send(items: Any) -> None:
    with suppress(FlamingockError):  # within a transaction it is sent at its end
        await items.send()
