"""The audit store in DynamoDB, through aioboto3."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from .._records import AuditEntry, Issue, Record
from ..abc import AuditStore, TargetSystem
from ..exceptions import ConfigurationError
from ..targets._dynamodb import watch
from ..targets._dynamodb_place import Place, check_names, session_at
from ..targets.dynamodb import DynamoDBTargetSystem, TransactWriteItems
from ._dynamodb import DynamoDBDatabase, RefusedError
from ._dynamodb_item import (
    BRIEF,
    batches,
    conflict,
    entry_of,
    first_conflict,
    from_item,
    put_of,
    query,
    to_item,
)
from ._dynamodb_schema import capacity_of, policy, tables_of

if TYPE_CHECKING:
    import aioboto3  # type: ignore[import-untyped]  # aioboto3 has no types


class DynamoDBAuditStore(AuditStore[TransactWriteItems]):
    """
    Keeps the log, the records and the issues in three tables.

    The client is opened for the store; the session stays the caller's. DynamoDB compares no
    clocks, so records have no age: who waits for a dead runner watches its lease for a while.

    :param region_name: that of the session by default
    :param endpoint_url: that of the region by default
    :param auto_create: whether :meth:`create` may create tables, or only looks for them
    :param billing_mode: of the tables that are created
    :param read_capacity_units: of each table, 5 by default; not with ``"PAY_PER_REQUEST"``
    :param write_capacity_units: of each table, 5 by default; not with ``"PAY_PER_REQUEST"``
    :param audit_repository_name: the table of the log
    :param lock_repository_name: the table of the records
    :param issue_repository_name: the table of the issues
    :param table_prefix: stands before the three names
    :param consistent_read: whether log and issues are read with strong consistency, which costs
        twice; a stale read loses nothing, but may make a run collide and read again. Records are
        always read so
    :raises ConfigurationError: if an argument is wrong
    """

    def __init__(
        self,
        session: aioboto3.Session,
        *,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        auto_create: bool = True,
        billing_mode: Literal["PROVISIONED", "PAY_PER_REQUEST"] = "PROVISIONED",
        read_capacity_units: int | None = None,
        write_capacity_units: int | None = None,
        audit_repository_name: str = "flamingockAuditLog",
        lock_repository_name: str = "flamingockLock",
        issue_repository_name: str = "flamingockIssues",
        table_prefix: str = "",
        consistent_read: bool = True,
    ) -> None:
        super().__init__()
        self._tables = tables_of(
            table_prefix + audit_repository_name,
            table_prefix + lock_repository_name,
            table_prefix + issue_repository_name,
            capacity=capacity_of(billing_mode, read_capacity_units, write_capacity_units),
        )
        self._audit, self._lock, self._issue = (table.name for table in self._tables)
        self._place = Place(session, region_name, endpoint_url)
        self.auto_create = auto_create
        self._consistent_read = consistent_read
        self._database: DynamoDBDatabase | None = None

    @classmethod
    def from_target_system(cls, target: DynamoDBTargetSystem, **options: Any) -> Self:
        """
        Return a store in the place of *target*, on a client of its own.

        :param options: as for the class, but for the session, the region and the endpoint
        """
        place = target.place
        store = cls(
            place.session,
            region_name=place.region_name,
            endpoint_url=place.endpoint_url,
            **options,
        )
        store._place = place
        check_names(*(table.name for table in store._tables), target.marker_repository_name)
        return store

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """
        Return a store at ``dynamodb://REGION?endpoint_url=...&profile_name=...``.

        :param url: may leave out the region and the settings; never holds credentials
        :param options: as for the class, but for the session, the region and the endpoint
        :raises ConfigurationError: if it is no such URL
        """
        session, region_name, endpoint_url = session_at(url)
        return cls(session, region_name=region_name, endpoint_url=endpoint_url, **options)

    async def _connect(self, stack: AsyncExitStack) -> None:
        await self._place.preload()
        client = await stack.enter_async_context(self._place.client())
        watch(client)
        self._database = DynamoDBDatabase(client, self._place, self._tables)
        stack.callback(self._forget)

    def _forget(self) -> None:
        self._database = None

    def _opened(self) -> DynamoDBDatabase:
        if self._database is None:
            raise ConfigurationError(f"{self!r} is not open. Use it within 'async with'.")

        return self._database

    async def create(self) -> None:
        """
        Create the tables that are missing, and wait until all can be used.

        :raises AuditStoreConnectionError: if DynamoDB cannot be reached
        :raises AuditStorePermissionError: if the user must not create or look at them
        :raises AuditStoreIndexError: if one is there with other keys
        :raises AuditStoreError: if *auto_create* is off and one is missing, or one is replicated
        :raises SystemBusyError: if it takes longer than a minute
        """
        if not self.auto_create:
            return await self.require_schema()

        if await self.verify_schema():
            await self._opened().create()

    async def verify_schema(self) -> list[str]:
        """Return the commands that would create the tables that are missing."""
        return await self._opened().missing()

    def permissions(self) -> str:
        """
        Return the least rights as a policy of IAM.

        Creating is needed once, by whoever creates the tables.
        """
        return policy(self._place, self._tables)

    async def last(self, service: str, count: int) -> Sequence[AuditEntry]:
        """Return the last entries of a service, newest first, in one read (above 1 MB in more)."""
        backwards = self._query(self._audit, service) | {"ScanIndexForward": False, "Limit": count}
        entries: list[AuditEntry] = []
        async for page in self._opened().pages(**backwards):
            entries += map(entry_of, page)
            if len(entries) >= count:
                break

        return entries[:count]

    async def entries(
        self, service: str, *, after: int = 0, brief: bool = False
    ) -> AsyncIterator[AuditEntry]:
        """Yield the entries of a service in the order of their numbers, read by pages of 1 MB."""
        forwards = self._query(self._audit, service)
        forwards["KeyConditionExpression"] += " AND #q > :after"
        forwards["ExpressionAttributeNames"] |= {"#q": "sequence"}
        forwards["ExpressionAttributeValues"] |= {":after": {"N": str(after)}}
        if brief:
            forwards["ProjectionExpression"] = ", ".join(BRIEF)
            forwards["ExpressionAttributeNames"] |= BRIEF

        async for page in self._opened().pages(**forwards):
            for item in page:
                yield entry_of(item)

    def _query(self, table: str, service: str) -> dict[str, Any]:
        return query(table, service, consistent=self._consistent_read)

    async def append(
        self, entries: Sequence[AuditEntry], *, session: TransactWriteItems | None = None
    ) -> None:
        """
        Insert up to 100 entries in one call, all or none (more in several, in order).

        Entries that an earlier try has written, whose answer was lost, are written.

        :param session: write as part of this transaction of a target system; that a number is
            taken is then found out by its commit
        :raises SequenceConflictError: if one of the numbers is taken
        """
        puts = [put_of(self._audit, entry) for entry in entries]
        if session is not None:
            for entry, put in zip(entries, puts, strict=True):
                session.add_last(put, partial(conflict, entry))

            return

        for part in batches(puts):
            try:
                await self._opened().put(puts[part])
            except RefusedError as exc:
                if error := first_conflict(entries[part], exc.standing):
                    raise error from exc.__cause__

    async def read_record(self, key: str) -> Record | None:
        """Return the record last written under *key*, without an age."""
        answer = await self._opened().read(
            "get_item", TableName=self._lock, Key={"recordKey": {"S": key}}, ConsistentRead=True
        )
        if "Item" not in answer:
            return None

        document = from_item(answer["Item"])
        return Record(key=key, token=document["token"], value=json.loads(document["value"]))

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        """Write the record *new* if *current* still stands."""
        value = json.dumps(dict(new.value), ensure_ascii=False)
        put: dict[str, Any] = {
            "TableName": self._lock,
            "Item": to_item({"recordKey": new.key, "token": new.token, "value": value}),
            "ConditionExpression": "attribute_not_exists(#t)",
            "ExpressionAttributeNames": {"#t": "token"},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if current is not None:
            put["ConditionExpression"] = "#t = :token"
            put["ExpressionAttributeValues"] = {":token": {"S": current.token}}

        try:
            await self._opened().put([put])
        except RefusedError as exc:  # perhaps by a try of our own, whose answer was lost
            standing = exc.standing[0]
            return standing is not None and standing["token"]["S"] == new.token

        return True

    async def save_issue(self, issue: Issue) -> None:
        """Insert the issue, or replace the one of the same service and id."""
        await self._opened().put([{"TableName": self._issue, "Item": to_item(issue.to_document())}])

    async def issues(self, service: str) -> Sequence[Issue]:
        """Return the kept issues of a service, oldest first."""
        found = [
            Issue.from_document(from_item(item))
            async for page in self._opened().pages(**self._query(self._issue, service))
            for item in page
        ]
        return sorted(found, key=lambda issue: (issue.created_at, issue.issue_id))

    @asynccontextmanager
    async def open_side_channel(self) -> AsyncIterator[AuditStore[Any]]:
        """Open another store on the same tables, and close it at the end."""
        # The session is used in another thread then; that is safe once it has made a client.
        store = DynamoDBAuditStore(
            self._place.session,
            region_name=self._place.region_name,
            endpoint_url=self._place.endpoint_url,
            auto_create=False,
            audit_repository_name=self._audit,
            lock_repository_name=self._lock,
            issue_repository_name=self._issue,
            consistent_read=self._consistent_read,
        )
        store._place = self._place
        async with store:
            yield store

    def shares(self, target: TargetSystem) -> bool:
        """Say whether *target* has the same session, region and endpoint."""
        return isinstance(target, DynamoDBTargetSystem) and self._place.is_same(target.place)

    def __repr__(self) -> str:
        """Return the class, the place and the table of the log."""
        return f"{type(self).__name__}({self._place}, {self._audit!r})"
