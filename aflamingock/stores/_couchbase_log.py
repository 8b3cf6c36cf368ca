"""
The log of an audit store in Couchbase: a document for its end, and sealed ones before it.

The last entries of a service stand in one document, its tail. Appending replaces the tail if
nobody else has: one operation, which decides who has a number, and writes all entries or none.
Reading the last entries is one operation as well. When the tail is long, its older half is copied
to a segment first, which is never written again; segments are numbered, and found by their keys.

The tail also keeps plain appends and the SDK's transactions apart. What a transaction has staged
shows in the tail's attributes, and each of both changes the CAS that the other compares.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
from couchbase import subdocument
from couchbase.exceptions import (
    CouchbaseException,
    DocumentExistsException,
    DocumentNotFoundException,
)
from couchbase.transcoder import JSONTranscoder

from .._records import AuditEntry, new_id
from ..exceptions import AuditStoreError, SystemBusyError, UnknownOutcomeError
from ..targets._couchbase import limit
from ..targets._couchbase_transaction import TransactionContext, transact
from ._couchbase import REFUSED, TRIES, AuditKeyspace, key_of
from ._couchbase_tail import Tail, entries_in

SEGMENT = 16
"""How many entries a segment has; a part of the format, never to be changed."""

_AT_ONCE = 16


class Log:
    """
    The logs of all services, in one collection.

    :param name: of the collection
    """

    def __init__(self, keyspace: AuditKeyspace, name: str) -> None:
        self._keyspace = keyspace
        self._name = name
        self._tails: dict[str, Tail] = {}

    def forget(self) -> None:
        """Forget what was read."""
        self._tails.clear()

    async def last(self, service: str, count: int) -> Sequence[AuditEntry]:
        """Return the last entries, newest first; in one operation if a tail has as many."""
        tail = await self._read_tail(service)
        documents = list(tail.entries)
        first = tail.sealed
        while len(documents) < count and first > 0:
            documents = [*await self._read_segment(service, first), *documents]
            first -= 1

        return [AuditEntry.from_document(document) for document in documents[::-1][:count]]

    async def entries(self, service: str, *, after: int) -> AsyncIterator[AuditEntry]:
        """Yield the entries in their order, read in batches of segments."""
        tail = await self._read_tail(service)
        for start in range(after // SEGMENT + 1, tail.sealed + 1, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, tail.sealed + 1))
            for document in await self._read_segments(service, numbers):
                if document["sequence"] > after:
                    yield AuditEntry.from_document(document)

        for document in tail.entries:
            if document["sequence"] > after:
                yield AuditEntry.from_document(document)

    async def append(self, entries: Sequence[AuditEntry]) -> None:
        """
        Append entries of one service: up to 16 in one operation, all or none; more in order.

        :raises SequenceConflictError: if one of the numbers is taken
        """
        service = entries[0].service
        tail = self._tails.get(service) or await self._read_tail(service)
        for _ in range(len(entries) // SEGMENT + TRIES):
            entries = tail.unwritten(entries)
            if not entries:
                return

            part = entries[:SEGMENT]
            try:
                tail = await self._extend(tail, part)
                entries = entries[SEGMENT:]
            except REFUSED:  # somebody else was first, but perhaps not with these numbers
                tail = await self._read_tail(service)

        raise self._keyspace.busy()

    async def append_within(
        self, entries: Sequence[AuditEntry], context: TransactionContext
    ) -> None:
        """
        Append entries as part of a transaction.

        :raises SequenceConflictError: if one of the numbers is taken
        :raises SystemBusyError: if another transaction, or another runner, is in the way
        """
        service = entries[0].service
        tail = self._tails.pop(service, None) or await self._read_tail(service)
        collection = self._keyspace.collection(self._name)
        if not tail.cas:
            with suppress(DocumentExistsException):
                await self._keyspace.put(self._name, tail.key, Tail(service=service).to_document())

        try:
            found = await context.get(collection, tail.key)
            tail = self._restored(service, lambda: found.content_as[dict])
            new = tail.with_entries(tail.unwritten(entries))
            await context.replace(found, new.to_document())
        except CouchbaseException as exc:
            (await self._read_tail(service)).unwritten(entries)
            raise SystemBusyError(
                f"Another transaction or runner has changed the end of the log in "
                f"{self._keyspace}, and nothing was done. Try again."
            ) from exc

    async def _extend(self, tail: Tail, part: Sequence[AuditEntry]) -> Tail:
        if tail.is_staged:
            await self._extend_staged(tail, part)
            return await self._read_tail(tail.service)

        if len(tail.entries) >= 2 * SEGMENT:
            tail = await self._seal(tail)

        self._tails.pop(tail.service, None)
        new = tail.with_entries(part)
        cas = await self._keyspace.put(self._name, tail.key, new.to_document(), tail.cas)
        self._tails[tail.service] = replace(new, cas=cas)
        return self._tails[tail.service]

    async def _seal(self, tail: Tail) -> Tail:
        """Copy the oldest entries to segments; the tail has them until it is replaced."""
        sealed, entries = tail.sealed, tail.entries
        while len(entries) >= 2 * SEGMENT:
            sealed += 1
            segment = {"service": tail.service, "entries": entries[:SEGMENT]}
            key = self._segment_key(tail.service, sealed)
            with suppress(DocumentExistsException):  # the same, copied by who came no further
                await self._keyspace.put(self._name, key, segment)

            entries = entries[SEGMENT:]

        return replace(tail, sealed=sealed, entries=entries)

    async def _extend_staged(self, tail: Tail, part: Sequence[AuditEntry]) -> None:
        """Append in a transaction, since another one has staged something at the end of the log."""
        collection = self._keyspace.collection(self._name)
        try:
            async with self._transaction() as context:
                # The SDK tidies up after the dead only where it has staged something itself, and
                # it does not come to that while the tail is held.
                trifle = await context.insert(collection, key_of("staged", new_id()), {})
                found = await context.get(collection, tail.key)
                current = self._restored(tail.service, lambda: found.content_as[dict])
                new = current.with_entries(current.unwritten(part))
                await context.replace(found, new.to_document())
                await context.remove(trifle)
        except CouchbaseException as exc:
            raise SystemBusyError(
                f"A transaction holds the end of the log in {self._keyspace}, and nothing was "
                "done. Try again."
            ) from exc

    async def _read_tail(self, service: str) -> Tail:
        self._tails.pop(service, None)
        tail = Tail(service=service)
        if not await self._keyspace.is_there(self._name):
            return tail

        try:
            found = await self._keyspace.ask(
                lambda: self._keyspace.collection(self._name).lookup_in(
                    tail.key,
                    [subdocument.exists("txn", xattr=True), subdocument.get("")],
                    timeout=limit(),
                    transcoder=JSONTranscoder(),
                )
            )
        except DocumentNotFoundException:
            self._tails[service] = tail
            return tail

        if self._keyspace.restored(tail.key, lambda: found.exists(0)):
            return await self._read_staged(tail)

        tail = self._restored(service, lambda: found.content_as[dict](1), cas=found.cas)
        self._tails[service] = tail
        return tail

    async def _read_staged(self, tail: Tail) -> Tail:
        """Ask the SDK whether what a transaction has staged is committed."""
        collection = self._keyspace.collection(self._name)
        try:
            async with self._transaction() as context:
                found = await context.get(collection, tail.key)
        except (CouchbaseException, UnknownOutcomeError) as exc:
            raise SystemBusyError(
                f"A transaction holds the end of the log in {self._keyspace}. Try again."
            ) from exc

        return self._restored(tail.service, lambda: found.content_as[dict], cas=1, is_staged=True)

    def _restored(self, service: str, read: Callable[[], Mapping[str, Any]], **values: Any) -> Tail:
        key = Tail(service=service).key
        return self._keyspace.restored(key, lambda: Tail.from_document(service, read(), **values))

    def _transaction(self) -> Any:
        patience = limit().total_seconds()
        return transact(self._keyspace.cluster, timeout=patience, name=str(self._keyspace))

    async def _read_segments(
        self, service: str, numbers: Sequence[int]
    ) -> Sequence[Mapping[str, Any]]:
        found: dict[int, Sequence[Mapping[str, Any]]] = {}
        failures: list[Exception] = []

        async def read(number: int) -> None:
            try:
                found[number] = await self._read_segment(service, number)
            except Exception as exc:  # raised again below, outside of the group that would wrap it
                failures.append(exc)

        async with anyio.create_task_group() as tasks:
            for number in numbers:
                tasks.start_soon(partial(read, number))

        if failures:
            raise failures[0]

        return [document for number in numbers for document in found[number]]

    async def _read_segment(self, service: str, number: int) -> Sequence[Mapping[str, Any]]:
        key = self._segment_key(service, number)
        found = await self._keyspace.get(self._name, key)
        if found is None:
            raise AuditStoreError(
                f"Segment {number} of the log of service {service!r} has disappeared from "
                f"{self._keyspace}."
            )

        return self._keyspace.restored(key, lambda: entries_in(found.content_as[dict]))

    @staticmethod
    def _segment_key(service: str, number: int) -> str:
        return f"{key_of('log', service)}::{number}"
