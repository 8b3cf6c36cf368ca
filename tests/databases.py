"""
The databases that tests go through one by one: how each is reached, and what changes do in it.

Another one is a subclass of :class:`Database`, an entry in :data:`DATABASES`, and a way to make an
empty one in :mod:`tests.places`. Drivers are imported where they are used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from aflamingock import AuditEntry
from aflamingock.abc import AuditStore, TransactionalTargetSystem

_CHANGE = """
    async def execute(self, PARAMETERS, pause):
        EXECUTE
        await pause("execute {id}")

    async def rollback(self, PARAMETERS, pause):
        ROLLBACK
        await pause("rollback {id}")
"""


def _change(parameters: str, *, execute: str, rollback: str) -> str:
    change = _CHANGE.replace("PARAMETERS", parameters)
    return change.replace("EXECUTE", execute).replace("ROLLBACK", rollback)


@dataclass(frozen=True, kw_only=True)
class Place:
    """
    A database of a test's own.

    :ivar kind: one of :data:`DATABASES`
    :ivar url: where it is; for SQLite a path
    :ivar name: which one there, if the URL does not say it
    """

    kind: str
    url: str
    name: str = ""


class Database(ABC):
    """
    A kind of database.

    :ivar change: the two coroutines of a transactional change, which writes its id into the effects
    :ivar single_host: whether a dead process is told from a slow one, so that nobody waits for it
    :ivar locks_all: whether a transaction locks the database, so that nobody passes a stopped one
    """

    change: str
    single_host: bool = False
    locks_all: bool = False

    @abstractmethod
    def connect(
        self, place: Place, calls: list[str] | None = None
    ) -> AbstractAsyncContextManager[Any]:
        """
        Lend what stores and target systems are made with.

        :param calls: gets a line for each round trip, but those to set connections up or to end
            them
        """

    @abstractmethod
    def target(self, client: Any, place: Place) -> TransactionalTargetSystem[Any]:
        """Return a target system that is called ``data``."""

    @abstractmethod
    def store(self, client: Any, place: Place, **options: Any) -> AuditStore[Any]:
        """Return a store of its own."""

    def store_with(self, target: Any, place: Place) -> AuditStore[Any]:
        """Return a store that shares the transactions of *target*."""
        store: AuditStore[Any] = self._store_type().from_target_system(target)
        return store

    @abstractmethod
    def _store_type(self) -> Any: ...

    def dependencies(self, place: Place) -> dict[str, object]:
        """Return what else the coroutines of changes ask for."""
        return {}

    @abstractmethod
    async def prepare(self, place: Place) -> None:
        """Make room for the effects."""

    async def fill(self, place: Place, entries: Sequence[AuditEntry]) -> None:
        """Write many entries, for which the tables must be there."""
        async with self.connect(place) as client, self.store(client, place) as store:
            for start in range(0, len(entries), 1000):
                await store.append(entries[start : start + 1000])

    @abstractmethod
    async def effects(self, place: Place) -> list[str]:
        """Return the ids of the changes that have had an effect, once for each time."""


class SQLite(Database):
    """A file, without SQLAlchemy."""

    change = _change(
        "db",
        execute="""await db.execute("INSERT INTO effects VALUES ('{id}')")""",
        rollback="""await db.execute("DELETE FROM effects WHERE line = '{id}'")""",
    )
    single_host = True
    locks_all = True

    @asynccontextmanager
    async def connect(self, place: Place, calls: list[str] | None = None) -> AsyncIterator[str]:
        """Lend the path; there is no server to count the calls of."""
        yield place.url

    def target(self, client: Any, place: Place) -> TransactionalTargetSystem[Any]:
        from aflamingock.targets.sqlite import SQLiteTargetSystem

        return SQLiteTargetSystem("data", client)

    def store(self, client: Any, place: Place, **options: Any) -> AuditStore[Any]:
        return self._store_type()(client, **options)  # type: ignore[no-any-return]  # imported late

    def _store_type(self) -> Any:
        from aflamingock.stores.sqlite import SQLiteAuditStore

        return SQLiteAuditStore

    async def prepare(self, place: Place) -> None:
        await self._run(place, "CREATE TABLE effects (line TEXT)")

    async def effects(self, place: Place) -> list[str]:
        return [line for (line,) in await self._run(place, "SELECT line FROM effects")]

    async def _run(self, place: Place, statement: str) -> list[Any]:
        import aiosqlite

        async with aiosqlite.connect(place.url, isolation_level=None) as connection:
            return list(await connection.execute_fetchall(statement))


class SQL(Database):
    """What SQLAlchemy talks to."""

    change = _change(
        "db",
        execute="""await db.exec_driver_sql("INSERT INTO effects VALUES ('{id}')")""",
        rollback="""await db.exec_driver_sql("DELETE FROM effects WHERE line = '{id}'")""",
    )

    def __init__(self, *, single_host: bool = False) -> None:
        self.single_host = self.locks_all = single_host

    @asynccontextmanager
    async def connect(self, place: Place, calls: list[str] | None = None) -> AsyncIterator[Any]:
        """Lend an engine."""
        from sqlalchemy import Engine, event
        from sqlalchemy.ext.asyncio import create_async_engine

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if calls is not None:
                calls.append(statement)

        # of every engine, for stores make some of their own
        event.listen(Engine, "before_cursor_execute", note)
        engine = create_async_engine(place.url)
        try:
            yield engine
        finally:
            await engine.dispose()
            event.remove(Engine, "before_cursor_execute", note)

    def target(self, client: Any, place: Place) -> TransactionalTargetSystem[Any]:
        from aflamingock.targets.sql import SQLTargetSystem

        # Nobody waits for a minute until the server ends the transaction of a stopped process.
        return SQLTargetSystem("data", client, idle_timeout=3)

    def store(self, client: Any, place: Place, **options: Any) -> AuditStore[Any]:
        return self._store_type()(client, **options)  # type: ignore[no-any-return]  # imported late

    def _store_type(self) -> Any:
        from aflamingock.stores.sql import SQLAuditStore

        return SQLAuditStore

    async def prepare(self, place: Place) -> None:
        await self._run(place, "CREATE TABLE effects (line VARCHAR(190))")

    async def effects(self, place: Place) -> list[str]:
        rows = await self._run(place, "SELECT line FROM effects")
        return sorted(line for (line,) in rows)

    async def _run(self, place: Place, statement: str) -> list[Any]:
        async with self.connect(place) as engine, engine.begin() as connection:
            result = await connection.exec_driver_sql(statement)
            return list(result.all()) if result.returns_rows else []


class MongoDB(Database):
    """A replica set, through PyMongo or Motor."""

    change = _change(
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


class DynamoDB(Database):
    """Tables whose names begin with that of the place."""

    change = _change(
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


class Couchbase(Database):
    """A scope; the effects are one document, since nothing is found by a query."""

    change = _change(
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


_LOOK = "manager_collections_get_all_scopes"

DATABASES: dict[str, Database] = {
    "sqlite": SQLite(),
    "sqlalchemy": SQL(single_host=True),
    "postgresql": SQL(),
    "mariadb": SQL(),
    "mongodb": MongoDB("pymongo"),
    "motor": MongoDB("motor"),
    "dynamodb": DynamoDB(),
    "couchbase": Couchbase(),
}
SERVERS = tuple(name for name, database in DATABASES.items() if not database.single_host)
UNCOUNTED = ("sqlite",)
FAMILIES = tuple(name for name in DATABASES if name not in UNCOUNTED)
"""Those whose driver tells of each round trip."""
