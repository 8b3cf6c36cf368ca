"""The audit store in a Couchbase bucket, through the asyncio API of its SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from .._records import AuditEntry, Issue, Record
from ..abc import AuditStore, TargetSystem
from ..targets._couchbase import check_names
from ..targets._couchbase_transaction import TransactionContext
from ..targets._couchbase_url import OwnCluster
from ..targets.couchbase import CouchbaseTargetSystem
from ._couchbase import REFUSED, TRIES, AuditKeyspace, key_of
from ._couchbase_log import Log

if TYPE_CHECKING:
    from acouchbase.cluster import AsyncCluster

T = TypeVar("T")

_NONE = ("", 0)


class CouchbaseAuditStore(AuditStore[TransactionContext]):
    """
    Keeps log, records and issues in three collections of a scope.

    Everything is found by its key: no index and no query service is needed. What is written is
    durable at a majority of the nodes. Couchbase compares no clocks, so records have no age: who
    waits for a dead runner watches its lease for a while. There is one cluster per process, so
    the lease is renewed in the event loop.

    :param cluster: connected, in the event loop that it is used in; never closed
    :param audit_repository_name: the collection of the log
    :param lock_repository_name: the collection of the records
    :param issue_repository_name: the collection of the issues
    :param auto_create: whether the scope and collections may be created; if not, a missing one is
        an error that tells the commands to create it
    :raises ConfigurationError: if an argument is wrong
    """

    def __init__(
        self,
        cluster: AsyncCluster,
        bucket_name: str,
        *,
        scope_name: str = "_default",
        audit_repository_name: str = "flamingockAuditLog",
        lock_repository_name: str = "flamingockLock",
        issue_repository_name: str = "flamingockIssues",
        auto_create: bool = True,
    ) -> None:
        super().__init__()
        names = (audit_repository_name, lock_repository_name, issue_repository_name)
        check_names(*names)
        self.auto_create = auto_create
        self._keyspace = AuditKeyspace(cluster, bucket_name, scope_name, names)
        self._log = Log(self._keyspace, audit_repository_name)
        self._records, self._issues = names[1:]
        self._seen: dict[str, tuple[str, int]] = {}

    @classmethod
    def from_url(cls, url: str, bucket_name: str, **options: Any) -> Self:
        """
        Return a store with a cluster of its own, which it closes.

        :param url: ``couchbase://USER:PASSWORD@HOST``, or ``couchbases://`` for TLS; may have
            several hosts, and options of the SDK after a ``?``
        :param options: keyword arguments, as for the class
        :raises ConfigurationError: if an argument is wrong
        """
        own: Any = OwnCluster(url)  # lends a cluster while it is open
        return cls(own, bucket_name, **options)

    @classmethod
    def from_target_system(cls, target: CouchbaseTargetSystem, **options: Any) -> Self:
        """
        Return a store in the bucket and the scope of *target*, which shares its transactions.

        :param options: keyword arguments, as for the class
        :raises ConfigurationError: if an argument is wrong
        """
        settings = {"scope_name": target.scope_name} | options
        given: Any = target.keyspace.given
        store = cls(given, target.bucket_name, **settings)
        check_names(*store._keyspace.names, target.marker_repository_name)
        return store

    async def _connect(self, stack: AsyncExitStack) -> None:
        stack.callback(self._forget)
        await self._keyspace.open(stack)

    def _forget(self) -> None:
        self._log.forget()
        self._seen.clear()

    async def create(self) -> None:
        """
        Create the scope and the collections that are missing; there are no indexes.

        :raises AuditStorePermissionError: if the user lacks a right
        :raises AuditStoreIndexError: if the server refuses a collection, or the documents of one
            that is there expire
        :raises AuditStoreError: if something is missing, and ``auto_create`` is off
        """
        if not self.auto_create:
            return await self.require_schema()

        if commands := await self.verify_schema():
            await self._keyspace.complete(commands)

    async def verify_schema(self) -> list[str]:
        """
        Return the commands that create what is missing; none if all is there.

        :raises AuditStoreIndexError: if the documents of a collection that is there expire
        """
        self._require_open()
        scope_is_missing, missing = await self._keyspace.missing()
        scope = self._keyspace.scope_name
        manage = (
            "couchbase-cli collection-manage --cluster HOST --username ADMINISTRATOR "
            f"--password PASSWORD --bucket {self._keyspace.bucket_name}"
        )
        return [
            *([f"{manage} --create-scope {scope}"] if scope_is_missing else []),
            *(f"{manage} --create-collection {scope}.{name}" for name in missing),
        ]

    def permissions(self) -> str:
        """
        Return the command that gives a user the roles with the least privileges.

        ``scope_admin`` is needed once, by whoever creates the scope and the collections.
        """
        keyspace = self._keyspace
        place = f"{keyspace.bucket_name}:{keyspace.scope_name}"
        roles = [
            f"{role}[{place}:{name}]"
            for name in keyspace.names
            for role in ("data_reader", "data_writer")
        ]
        return (
            "couchbase-cli user-manage --cluster HOST --username ADMINISTRATOR --password PASSWORD "
            "--set --auth-domain local --rbac-username USER --rbac-password PASSWORD --roles "
            f"'{','.join([f'scope_admin[{place}]', *roles])}'"
        )

    async def last(self, service: str, count: int) -> Sequence[AuditEntry]:
        """Return the last entries of a service, newest first; up to 16 in one operation."""
        self._require_open()
        return await self._log.last(service, count)

    async def entries(
        self, service: str, *, after: int = 0, brief: bool = False
    ) -> AsyncIterator[AuditEntry]:
        """Yield the entries of a service in the order of their numbers, read in batches."""
        self._require_open()
        async for entry in self._log.entries(service, after=after):
            yield replace(entry, error_trace=None) if brief else entry

    async def append(
        self, entries: Sequence[AuditEntry], *, session: TransactionContext | None = None
    ) -> None:
        """
        Insert up to 16 entries in one operation, all or none (more in several, in order).

        Entries that an earlier try has written, whose answer was lost, are written.

        :param session: write within this transaction of a target system, as part of it
        :raises SequenceConflictError: if one of the numbers is taken
        """
        self._require_open()
        if not entries:
            return

        if session is not None:
            await self._log.append_within(entries, session)
        else:
            await self._log.append(entries)

    async def read_record(self, key: str) -> Record | None:
        """Return the record last written under *key*, without an age."""
        self._require_open()
        self._seen.pop(key, None)
        place = key_of("record", key)
        found = await self._keyspace.get(self._records, place)
        if found is None:
            return None

        record = self._keyspace.restored(place, lambda: _to_record(key, found.content_as[dict]))
        self._seen[key] = (record.token, int(found.cas or 0))
        return record

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        """Write the record *new* if *current* still stands; one operation for who has read it."""
        self._require_open()
        expected = current.token if current else ""
        token, cas = self._seen.pop(new.key, _NONE) if current else _NONE
        if token != expected:
            token, cas = await self._look(new.key)

        value = {"token": new.token, "value": dict(new.value)}
        for _ in range(TRIES):
            if token != expected:
                return token == new.token  # written by a try of our own, whose answer was lost

            try:
                cas = await self._keyspace.put(self._records, key_of("record", new.key), value, cas)
            except REFUSED:
                token, cas = await self._look(new.key)
            else:
                self._seen[new.key] = (new.token, cas)
                return True

        raise self._keyspace.busy()

    async def _look(self, key: str) -> tuple[str, int]:
        await self.read_record(key)
        return self._seen.get(key, _NONE)

    async def save_issue(self, issue: Issue) -> None:
        """Insert the issue, or replace the one of the same service and id."""
        self._require_open()

        def listed(document: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
            ids = document["ids"] if document else []
            if issue.issue_id in ids:
                return None

            return {"service": issue.service, "ids": [*ids, issue.issue_id]}

        # Nothing is found by a query, so there is a list of them, which is written first.
        await self._keyspace.update(self._issues, key_of("issues", issue.service), listed)
        key = _issue_key(issue.service, issue.issue_id)
        await self._keyspace.update(self._issues, key, lambda _: issue.to_document())

    async def issues(self, service: str) -> Sequence[Issue]:
        """Return the kept issues of a service, oldest first."""
        self._require_open()
        ids = await self._restored(key_of("issues", service), lambda document: document["ids"])
        keys = [_issue_key(service, id) for id in ids or ()]
        found = [await self._restored(key, Issue.from_document) for key in keys]
        kept = [issue for issue in found if issue is not None]
        return sorted(kept, key=lambda issue: (issue.created_at, issue.issue_id))

    async def _restored(self, key: str, read: Callable[[Mapping[str, Any]], T]) -> T | None:
        found = await self._keyspace.get(self._issues, key)
        if found is None:
            return None

        return self._keyspace.restored(key, lambda: read(found.content_as[dict]))

    def open_side_channel(self) -> AbstractAsyncContextManager[AuditStore[Any]] | None:
        """Return ``None``: there is one cluster per process, and it belongs to its event loop."""
        return None

    def shares(self, target: TargetSystem) -> bool:
        """Say whether *target* has the same cluster, so that a transaction can hold entries."""
        if not isinstance(target, CouchbaseTargetSystem):
            return False

        return target.keyspace.given is self._keyspace.given

    def __repr__(self) -> str:
        """Return the class and the names of the bucket and the scope."""
        place = f"{self._keyspace.bucket_name}.{self._keyspace.scope_name}"
        return f"{type(self).__name__}({place!r})"

    def _require_open(self) -> None:
        _ = self._keyspace.bucket


def _to_record(key: str, document: Mapping[str, Any]) -> Record:
    return Record(key=key, token=document["token"], value=dict(document["value"]))


def _issue_key(service: str, issue_id: str) -> str:
    return key_of("issue", json.dumps([service, issue_id], ensure_ascii=False))
