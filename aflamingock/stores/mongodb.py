"""The audit store in a MongoDB database, through PyMongo's asynchronous client or Motor."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from bson.max_key import MaxKey
from pymongo.errors import BulkWriteError, DuplicateKeyError

from .._records import AuditEntry, Issue, Record
from ..abc import AuditStore, TargetSystem
from ..exceptions import ConfigurationError, SequenceConflictError, SystemBusyError
from ..targets._mongodb import (
    OwnClient,
    check_names,
    insert_new,
    own_client,
    require_transaction,
    stamped,
)
from ..targets.mongodb import MongoDBTargetSystem
from ._mongodb import AuditDatabase, client_settings, refused_index
from ._mongodb_schema import Schema

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorClient
    from pymongo import AsyncMongoClient

_READ_BATCH = 200
_WITHOUT_TRACE = {"errorTrace": False}
_AGE = {"$subtract": ["$$NOW", "$writtenAt"]}


class MongoDBAuditStore(AuditStore[Any]):
    """
    Keeps log, records and issues in three collections of a MongoDB database.

    They are read from the primary what a majority has, and written durably to a majority, however
    the client was set up.

    :param client: PyMongo's ``AsyncMongoClient`` or Motor's ``AsyncIOMotorClient``; never closed
    :param database: the name of the database
    :param audit_repository_name: the collection of the log
    :param lock_repository_name: the collection of the records
    :param issue_repository_name: the collection of the issues
    :param auto_create: whether collections and indexes may be created; if not, a missing one is
        an error that tells the commands to create it
    :raises ConfigurationError: if an argument is wrong
    """

    def __init__(
        self,
        client: AsyncMongoClient[Any] | AsyncIOMotorClient[Any],
        database: str,
        *,
        audit_repository_name: str = "flamingockAuditLog",
        lock_repository_name: str = "flamingockLock",
        issue_repository_name: str = "flamingockIssues",
        auto_create: bool = True,
    ) -> None:
        super().__init__()
        self._names = (audit_repository_name, lock_repository_name, issue_repository_name)
        check_names(*self._names)
        self.auto_create = auto_create
        self._own: OwnClient | None = None
        self._is_open = False
        self._use(client, database)

    def _use(self, client: Any, database: str) -> None:
        log, lock, issues = self._names
        self._client = client
        self._database = AuditDatabase(client, database)
        self._schema = Schema(self._database, log=log, lock=lock, issues=issues)
        self._log, self._records, self._issues = map(self._database.collection, self._names)

    @classmethod
    def from_url(cls, url: str, database: str, **options: Any) -> Self:
        """
        Return a store with a client of PyMongo of its own, which it closes.

        :param url: begins with ``mongodb://`` or ``mongodb+srv://``; may tell the user, TLS,
            ``authSource``, ``replicaSet`` and sizes of the pool
        :param options: keyword arguments, as for the class
        :raises ConfigurationError: if an argument is wrong
        """
        own = OwnClient(url)
        store = cls(own.client, database, **options)
        store._own = own
        return store

    @classmethod
    def from_target_system(cls, target: MongoDBTargetSystem, **options: Any) -> Self:
        """
        Return a store in the database of *target*, which shares its transactions.

        :param options: keyword arguments, as for the class
        :raises ConfigurationError: if an argument is wrong
        """
        store = cls(target.client, target.database_name, **options)
        store._own = target.own_client
        check_names(*store._names, target.marker_repository_name)
        return store

    async def _connect(self, stack: AsyncExitStack) -> None:
        if self._own is not None:
            self._use((await stack.enter_async_context(self._own)).client, self._database.name)

        self._is_open = True
        stack.callback(self._disconnect)

    def _disconnect(self) -> None:
        self._is_open = False

    def _asking(self, **options: Any) -> AbstractAsyncContextManager[Any]:
        self._require_open()
        return self._database.asking(**options)

    def _require_open(self) -> None:
        if not self._is_open:
            raise ConfigurationError(f"{self!r} is not open. Use it within 'async with'.")

    async def create(self) -> None:
        """
        Create the collections and indexes that are missing.

        :raises AuditStorePermissionError: if the user lacks a right
        :raises AuditStoreIndexError: if an index cannot be created
        :raises AuditStoreError: if something is missing, and ``auto_create`` is off
        """
        self._require_open()
        await (self._schema.create() if self.auto_create else self.require_schema())

    async def verify_schema(self) -> list[str]:
        """Return the commands of the shell that create what is missing; none if all is there."""
        self._require_open()
        return await self._schema.missing()

    def permissions(self) -> str:
        """Return the command of the shell that creates the role with the least privileges."""
        return self._schema.role()

    async def last(self, service: str, count: int) -> Sequence[AuditEntry]:
        """Return the last entries of a service, newest first, in one read."""
        return await self._find_entries(service, 0, count, order=-1)

    async def entries(
        self, service: str, *, after: int = 0, brief: bool = False
    ) -> AsyncIterator[AuditEntry]:
        """Yield the entries of a service in the order of their numbers, read in batches."""
        fields = _WITHOUT_TRACE if brief else None
        while batch := await self._find_entries(service, after, _READ_BATCH, fields=fields):
            for entry in batch:
                yield entry

            after = batch[-1].sequence
            if len(batch) < _READ_BATCH:
                return

    async def _find_entries(
        self,
        service: str,
        after: int,
        count: int,
        *,
        order: int = 1,
        fields: Mapping[str, bool] | None = None,
    ) -> Sequence[AuditEntry]:
        wanted = {"$gt": _entry_id(service, after), "$lt": _entry_id(service, MaxKey())}
        async with self._asking() as session:
            cursor = self._log.find({"_id": wanted}, fields, session=session)
            cursor = cursor.sort("_id", order).limit(count).batch_size(count)
            return [AuditEntry.from_document(found) for found in await cursor.to_list(None)]

    async def append(self, entries: Sequence[AuditEntry], *, session: Any = None) -> None:
        """
        Insert entries in one statement, in order.

        :param session: write within this transaction of a target system, as part of it
        :raises SequenceConflictError: if one of the numbers is taken; what comes before it stands
        """
        if not entries:
            return

        if session is not None:
            require_transaction(session, self._database.name)

        documents = [
            {"_id": _entry_id(entry.service, entry.sequence)} | entry.to_document()
            for entry in entries
        ]
        try:
            await self._insert(documents, session)
        except (DuplicateKeyError, BulkWriteError) as exc:
            refused = entries[refused_index(exc) or 0]
            raise SequenceConflictError(refused.sequence, state=refused.state) from exc
        except SystemBusyError as exc:
            # What was written after the transaction began is a conflict, not a taken key.
            if session is None or not (taken := await self._first_taken(documents)):
                raise

            raise SequenceConflictError(taken) from exc

    async def _insert(self, documents: Sequence[dict[str, Any]], session: Any) -> None:
        async with self._asking(writes=True, within=session) as own:
            if len(documents) == 1:
                await self._log.insert_one(documents[0], session=own)
            else:
                await self._log.insert_many(documents, session=own)

    async def _first_taken(self, documents: Sequence[dict[str, Any]]) -> int:
        keys = {"_id": {"$in": [document["_id"] for document in documents]}}
        async with self._asking() as session:
            found = await self._log.find_one(keys, {"_id": 1}, sort=[("_id", 1)], session=session)
            return found["_id"]["n"] if found else 0

    async def read_record(self, key: str) -> Record | None:
        """Return the record last written under *key*, with its age by the server's clock."""
        fields = {"token": True, "value": True, "age": _AGE}
        async with self._asking() as session:
            found = await self._records.find_one({"_id": key}, fields, session=session)

        if found is None:
            return None

        age = max(0, found["age"]) / 1000
        return Record(key=key, token=found["token"], value=json.loads(found["value"]), age=age)

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        """Write the record *new* if *current* still stands, stamped by the server's clock."""
        values = {"token": new.token, "value": json.dumps(dict(new.value))}
        if current is None and not self.auto_create:
            await self.require_schema()

        async with self._asking(writes=True) as session:
            if current is None:
                return await insert_new(self._records, new.key, values, session)

            result = await self._records.update_one(
                {"_id": new.key, "token": current.token}, stamped(values), session=session
            )
            return bool(result.matched_count)

    async def save_issue(self, issue: Issue) -> None:
        """Insert the issue, or replace the one of the same service and id."""
        key = {"_id": {"s": issue.service, "i": issue.issue_id}}
        async with self._asking(writes=True) as session:
            await self._issues.replace_one(
                key, key | issue.to_document(), upsert=True, session=session
            )

    async def issues(self, service: str) -> Sequence[Issue]:
        """Return the kept issues of a service, oldest first."""
        async with self._asking() as session:
            cursor = self._issues.find({"service": service}, session=session)
            cursor = cursor.sort([("createdAt", 1), ("issueId", 1)])
            return [Issue.from_document(found) for found in await cursor.to_list(None)]

    def open_side_channel(self) -> AbstractAsyncContextManager[AuditStore[Any]] | None:
        """
        Return a store on the same collections, with a client of PyMongo of its own.

        :return: ``None`` if it cannot be found out how the client was made
        """
        settings = self._own.settings if self._own else client_settings(self._client)
        return self._side_channel(settings) if settings else None

    @asynccontextmanager
    async def _side_channel(self, settings: Mapping[str, Any]) -> AsyncIterator[AuditStore[Any]]:
        log, lock, issues = self._names
        async with own_client(settings) as client:
            store = MongoDBAuditStore(
                client,
                self._database.name,
                audit_repository_name=log,
                lock_repository_name=lock,
                issue_repository_name=issues,
                auto_create=self.auto_create,
            )
            async with store:
                yield store

    def shares(self, target: TargetSystem) -> bool:
        """Say whether *target* has the same client, so that a transaction can hold entries."""
        if not isinstance(target, MongoDBTargetSystem) or target.own_client is not self._own:
            return False

        # A client of our own is another one after each closing.
        return self._own is not None or target.client is self._client

    def __repr__(self) -> str:
        """Return the class and the name of the database."""
        return f"{type(self).__name__}({self._database.name!r})"


def _entry_id(service: str, sequence: object) -> dict[str, object]:
    return {"s": service, "n": sequence}
