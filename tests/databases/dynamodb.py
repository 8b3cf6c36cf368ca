"""Tables of DynamoDB."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from aflamingock import AuditEntry
from aflamingock.abc import AuditStore, TransactionalTargetSystem

from .database import Database, Place, transactional_change


class DynamoDB(Database):
    """Tables whose names begin with that of the place."""

    change = transactional_change(
        "items, counting",
        execute="""items.update(**counting("{id}", 1))""",
        rollback="""items.update(**counting("{id}", -1))""",
    )

    @asynccontextmanager
    async def connect(self, place: Place, calls: list[str] | None = None) -> AsyncIterator[Any]:
        """Lend a session."""
        import aioboto3  # type: ignore[import-untyped]  # aioboto3 has no types

        session = aioboto3.Session(
            aws_access_key_id="test", aws_secret_access_key="test", region_name="eu-west-1"
        )
        if calls is not None:
            session._session.register(
                "before-send.dynamodb", lambda event_name, **_: calls.append(event_name)
            )

        yield session

    def target(self, client: Any, place: Place) -> TransactionalTargetSystem[Any]:
        from aflamingock.targets.dynamodb import DynamoDBTargetSystem

        markers = f"{place.name}markers"
        return DynamoDBTargetSystem(
            "data", client, endpoint_url=place.url, marker_repository_name=markers
        )

    def store(self, client: Any, place: Place, **options: Any) -> AuditStore[Any]:
        return self._store_type()(  # type: ignore[no-any-return]  # imported late
            client, endpoint_url=place.url, table_prefix=place.name, **options
        )

    def store_with(self, target: Any, place: Place) -> AuditStore[Any]:
        made: AuditStore[Any] = self._store_type().from_target_system(
            target, table_prefix=place.name
        )
        return made

    def _store_type(self) -> Any:
        from aflamingock.stores.dynamodb import DynamoDBAuditStore

        return DynamoDBAuditStore

    def dependencies(self, place: Place) -> dict[str, object]:
        return {"counting": partial(_counting, f"{place.name}effects")}

    async def prepare(self, place: Place) -> None:
        async with self.connect(place) as session, self._client(session, place) as client:
            await client.create_table(
                TableName=f"{place.name}effects",
                KeySchema=[{"AttributeName": "line", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "line", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )

    async def effects(self, place: Place) -> list[str]:
        async with self.connect(place) as session, self._client(session, place) as client:
            found = await client.scan(TableName=f"{place.name}effects", ConsistentRead=True)
            return sorted(
                line
                for item in found["Items"]
                for line in [item["line"]["S"]] * int(item["times"]["N"])
            )

    async def fill(self, place: Place, entries: Sequence[AuditEntry]) -> None:
        from aflamingock.stores._dynamodb_item import put_of

        # the emulator copies whole tables in each transaction, so that appending takes very long
        table = f"{place.name}flamingockAuditLog"
        async with self.connect(place) as session, self._client(session, place) as client:
            for start in range(0, len(entries), 25):
                puts = [put_of(table, entry) for entry in entries[start : start + 25]]
                requests = [{"PutRequest": {"Item": put["Item"]}} for put in puts]
                await client.batch_write_item(RequestItems={table: requests})

    def _client(self, session: Any, place: Place) -> AbstractAsyncContextManager[Any]:
        client: AbstractAsyncContextManager[Any] = session.client(
            "dynamodb", endpoint_url=place.url
        )
        return client


def _counting(table: str, line: str, times: int) -> dict[str, Any]:
    return {
        "TableName": table,
        "Key": {"line": {"S": line}},
        "UpdateExpression": "ADD times :times",
        "ExpressionAttributeValues": {":times": {"N": str(times)}},
    }
