"""The scope of an audit store in Couchbase: keys, operations, and what their errors mean."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from couchbase.exceptions import (
    CasMismatchException,
    CouchbaseException,
    DocumentExistsException,
    DocumentNotFoundException,
    DurabilityImpossibleException,
)
from couchbase.result import GetResult
from couchbase.transcoder import JSONTranscoder

from ..exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    AuditStoreIndexError,
    AuditStorePermissionError,
    AuditStoreSchemaError,
    FlamingockError,
    SystemBusyError,
    UnknownOutcomeError,
)
from ..targets._couchbase import (
    DURABLE,
    Keyspace,
    Trouble,
    limit,
    settled,
    trouble_of,
)

if TYPE_CHECKING:
    from acouchbase.cluster import AsyncCluster

    from ..targets._couchbase_url import OwnCluster

T = TypeVar("T")

Change = Callable[[Mapping[str, Any] | None], Mapping[str, Any] | None]

_FOR_EVER = timedelta(0)
_LONGEST_NAME = 180  # a key has 246 bytes at the most

TRIES = 20
"""How often a document is read again that others have changed."""

REFUSED = (CasMismatchException, DocumentExistsException, DocumentNotFoundException)
"""A write was refused by what stands there; the caller knows what it means."""


def key_of(kind: str, name: str) -> str:
    """Return the key of a document; a long name is told by its digest."""
    if len(name.encode()) > _LONGEST_NAME:
        name = hashlib.sha256(name.encode()).hexdigest()

    return f"{kind}::{name}"


class AuditKeyspace(Keyspace):
    """
    A scope whose errors come out as errors of the audit store.

    :param names: the collections of the log, the records and the issues
    """

    def __init__(
        self,
        given: AsyncCluster | OwnCluster,
        bucket_name: str,
        scope_name: str,
        names: Sequence[str],
    ) -> None:
        super().__init__(given, bucket_name, scope_name)
        self.names = names
        self._is_complete = False

    async def open(self, stack: AsyncExitStack) -> None:
        """
        Open the bucket until *stack* is closed, and look which collections there are.

        Where the user may not look, they are taken to be there.
        """
        await self._telling(super().open(stack), writes=False)
        try:
            await self.missing()
        except AuditStorePermissionError:
            self._is_complete = True

    async def missing(self) -> tuple[bool, list[str]]:
        """
        Return whether the scope is missing, and which of the collections.

        :raises AuditStoreIndexError: if the documents of one expire
        """
        there = await self._telling(self.collections(), writes=False)
        for name in self.names:
            if there and there.get(name, _FOR_EVER) > _FOR_EVER:
                raise AuditStoreIndexError(
                    f"Failed to create audit store indexes: the collection {name!r} of {self} is "
                    f"there already, and its documents expire after {there[name]}. Give the "
                    "repository another name, or create the collection without a maximum time to "
                    "live."
                )

        missing = [name for name in self.names if name not in (there or {})]
        self._is_complete = not missing
        return there is None, missing

    async def is_there(self, name: str) -> bool:
        """Say whether a collection is there; asks only until all are."""
        return self._is_complete or name not in (await self.missing())[1]

    async def complete(self, commands: Sequence[str]) -> None:
        """
        Create what is missing.

        :param commands: do so by hand
        :raises AuditStoreIndexError: if the server refuses
        """
        try:
            await self._telling(self.create(self.names), writes=False)
        except AuditStoreError as exc:
            if type(exc) is not AuditStoreError:  # of the connection, or of rights
                raise

            raise AuditStoreIndexError(
                f"Failed to create audit store indexes: {self} has refused a collection "
                f"({type(exc.__cause__).__name__}). Remove what is in the way, and create them by "
                "hand:\n" + "\n".join(commands)
            ) from exc.__cause__

        self._is_complete = True

    async def get(self, name: str, key: str) -> GetResult | None:
        """Return a document, ``None`` if there is none."""
        if not await self.is_there(name):
            return None

        options: Any = {"timeout": limit(), "transcoder": JSONTranscoder()}
        try:
            return await self.ask(lambda: self.collection(name).get(key, **options))
        except DocumentNotFoundException:
            return None

    async def put(self, name: str, key: str, value: Mapping[str, Any], cas: int = 0) -> int:
        """
        Insert a document, or replace it if it has this CAS; durably.

        :return: its CAS from now on
        """
        collection = self.collection(name)
        options: Any = {
            "timeout": limit(),
            "durability": DURABLE,
            "transcoder": JSONTranscoder(),
        }
        if cas:
            written = await self.ask(
                lambda: collection.replace(key, value, cas=cas, **options), writes=True
            )
        else:
            written = await self.ask(lambda: collection.insert(key, value, **options), writes=True)

        return int(written.cas or 0)

    async def update(self, name: str, key: str, change: Change) -> None:
        """
        Replace a document by what *change* makes of it.

        :param change: returns ``None`` if the document is as it should be
        :raises SystemBusyError: if others change it all the time
        """
        for _ in range(TRIES):
            found = await self.get(name, key)
            new = self.restored(key, partial(_changed, found, change))
            if new is None:
                return

            with suppress(*REFUSED):
                await self.put(name, key, new, int(found.cas or 0) if found else 0)
                return

        raise self.busy()

    def restored(self, key: str, restore: Callable[[], T]) -> T:
        """
        Return what *restore* makes of a document that was read.

        :raises AuditStoreError: if it is not what was written
        """
        try:
            return restore()
        except (CouchbaseException, AttributeError, LookupError, TypeError, ValueError) as exc:
            raise AuditStoreError(
                f"The document {key!r} in {self} is damaged: it is not what was written there "
                f"({type(exc).__name__}). Restore it from a backup."
            ) from exc

    def busy(self) -> SystemBusyError:
        """Return the error for a document that changes all the time."""
        return SystemBusyError(
            f"Others have changed the same document in {self} again and again, and nothing was "
            "done. Try again."
        )

    async def ask(self, operation: Callable[[], Awaitable[T]], *, writes: bool = False) -> T:
        """
        Await an operation of the SDK, and tell what its error means; not so :data:`REFUSED`.

        :param writes: whether something is written, so that a lost answer leaves a doubt
        """
        return await self._telling(settled(operation), writes=writes)

    async def _telling(self, work: Awaitable[T], *, writes: bool) -> T:
        try:
            return await work
        except REFUSED:
            raise
        except (CouchbaseException, RuntimeError, TimeoutError) as exc:
            raise self.meaning(exc, writes=writes) from exc

    def meaning(self, exc: Exception, *, writes: bool) -> FlamingockError:
        """Return the error for an error of the SDK."""
        kind = type(exc).__name__
        match trouble_of(exc):
            case Trouble.IN_DOUBT if writes:
                return UnknownOutcomeError(
                    f"The answer of the audit store in {self} to a write was lost ({kind}): it "
                    "may or may not have been done."
                )
            case Trouble.BUSY:
                return SystemBusyError(
                    f"The audit store in {self} is busy ({kind}), and nothing was done. Try again."
                )
            case Trouble.DENIED:
                return AuditStorePermissionError(
                    "Insufficient permissions to create collections/tables: the user of the audit "
                    f"store lacks a right in {self}. Grant the roles that permissions() returns."
                )
            case Trouble.MISSING:
                return AuditStoreSchemaError(
                    f"A collection is missing in {self}, one of {', '.join(self.names)}. Call "
                    "create()."
                )
            case Trouble.REJECTED:
                return AuditStoreConnectionError(
                    f"Unable to connect to audit store: {self} does not accept the user or the "
                    "password. Verify both."
                )
            case Trouble.NO_BUCKET:
                return AuditStoreConnectionError(
                    f"Unable to connect to audit store: there is no bucket {self.bucket_name!r}, "
                    "or the user may not use it. Verify its name and the user's roles."
                )
            case Trouble.UNREACHABLE | Trouble.IN_DOUBT:
                return AuditStoreConnectionError(
                    f"Unable to connect to audit store: {self} does not answer ({kind}). Verify "
                    "that the cluster runs, its addresses and ports, TLS settings and firewalls."
                )
            case _:
                return self._refusal(exc)

    def _refusal(self, exc: Exception) -> AuditStoreError:
        hint = ""
        if isinstance(exc, DurabilityImpossibleException):
            hint = " The bucket has replicas for which there are too few nodes: lower their number."

        return AuditStoreError(f"The audit store in {self} refused: {type(exc).__name__}.{hint}")


def _changed(found: GetResult | None, change: Change) -> Mapping[str, Any] | None:
    return change(found.content_as[dict] if found else None)
