"""A Couchbase scope as a target system, through the asyncio API of the SDK."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from datetime import timedelta
from typing import Any, Self

from acouchbase.bucket import AsyncBucket
from acouchbase.cluster import AsyncCluster
from acouchbase.collection import AsyncCollection
from acouchbase.scope import AsyncScope
from acouchbase.transactions import AttemptContext
from couchbase.exceptions import (
    CouchbaseException,
    DocumentExistsException,
    DocumentNotFoundException,
    TransactionException,
)

from .._states import MarkerOutcome
from ..abc import Offer, TransactionalTargetSystem
from ..exceptions import ConfigurationError, LockLostError, SystemBusyError, UnknownOutcomeError
from ._couchbase import Keyspace, Trouble, check_names, limit, settled, trouble_of
from ._couchbase_transaction import TransactionContext, transact
from ._couchbase_url import OwnCluster

__all__ = ["CouchbaseTargetSystem", "TransactionContext"]

_TOMBSTONES_STAY = timedelta(days=2)


class CouchbaseTargetSystem(TransactionalTargetSystem[TransactionContext]):
    """
    Gives changes the cluster, the bucket, the scope, a collection, and a transaction's context.

    Only what is done through the context is part of a transaction, so a transactional change must
    take it (``session``, or annotated with the SDK's ``AttemptContext``). What is done with the
    other objects stands at once.

    Transactions are experimental: they were tried against a stand-in for the server only, and the
    SDK, which tidies up after broken ones, loses a committed document that it cannot read just
    then (as of version 4.6.3).

    :param id: what changes call it in ``target_system=``
    :param cluster: connected, in the event loop that it is used in; never closed
    :param collection_name: of the collection that is lent
    :param marker_repository_name: the collection of the markers; created when it is first needed
    :param transaction_timeout: how long a transaction may take, in seconds. What a process that
        has died was writing is held for as long, and up to two minutes more
    :raises ConfigurationError: if an argument is wrong
    """

    needs_session_parameter: bool = True

    def __init__(
        self,
        id: str,
        cluster: AsyncCluster,
        bucket_name: str,
        *,
        scope_name: str = "_default",
        collection_name: str = "_default",
        marker_repository_name: str = "flamingockMarkers",
        transaction_timeout: float = 30.0,
    ) -> None:
        super().__init__(id)
        if not (1 <= transaction_timeout <= 3600 and math.isfinite(transaction_timeout)):
            raise ConfigurationError(
                f"transaction_timeout={transaction_timeout!r}: give 1 to 3600 seconds."
            )

        check_names(marker_repository_name)
        if collection_name != "_default":
            check_names(collection_name)

        self.keyspace: Keyspace = Keyspace(cluster, bucket_name, scope_name)
        self._collection_name = collection_name
        self._transaction_timeout = transaction_timeout
        self._has_markers = False
        self.bucket_name: str = bucket_name
        self.scope_name: str = scope_name
        self.marker_repository_name: str = marker_repository_name

    @classmethod
    def from_url(cls, id: str, url: str, bucket_name: str, **options: Any) -> Self:
        """
        Return a target with a cluster of its own, which it closes.

        :param url: ``couchbase://USER:PASSWORD@HOST``, or ``couchbases://`` for TLS; may have
            several hosts, and options of the SDK after a ``?``
        :param options: keyword arguments, as for the class
        :raises ConfigurationError: if an argument is wrong
        """
        own: Any = OwnCluster(url)  # lends a cluster while it is open
        return cls(id, own, bucket_name, **options)

    async def _connect(self, stack: AsyncExitStack) -> None:
        await self.keyspace.open(stack)

    @property
    def cluster(self) -> AsyncCluster:
        """The cluster; one made by :meth:`from_url` only while the target is open."""
        return self.keyspace.cluster

    def offers(self) -> Sequence[Offer]:
        """Return the cluster, the bucket, the scope, the collection and the context."""
        return (
            Offer(names=("cluster",), type=AsyncCluster),
            Offer(names=("bucket", "db"), type=AsyncBucket),
            Offer(names=("scope",), type=AsyncScope),
            Offer(names=("collection",), type=AsyncCollection),
            Offer(names=("session", "transaction"), type=AttemptContext),
        )

    def objects(self, session: TransactionContext) -> Mapping[str, object]:
        """Return the objects, and the context of the transaction."""
        scope = self.keyspace.bucket.scope(self.scope_name)
        return {
            "cluster": self.cluster,
            "bucket": self.keyspace.bucket,
            "scope": scope,
            "collection": scope.collection(self._collection_name),
            "session": session,
        }

    @asynccontextmanager
    async def handles(self) -> AsyncIterator[Mapping[str, object]]:
        """Lend the objects; the context is that of no transaction, and refuses what it is asked."""
        yield self.objects(TransactionContext(None))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[TransactionContext]:
        """
        Run a transaction of the SDK; the block runs once.

        :raises FlamingockError: if the block has hidden an error that has broken the transaction,
            or has taken too long; nothing was done
        :raises UnknownOutcomeError: if the commit may or may not have been done
        """
        async with self._transact(self._transaction_timeout) as context:
            yield context

    def _transact(self, timeout: float) -> AbstractAsyncContextManager[TransactionContext]:
        self.keyspace.bucket  # noqa: B018 - it must be open
        return transact(self.cluster, timeout=timeout, name=str(self.keyspace))

    async def insert_marker(self, session: TransactionContext, key: str, change_id: str) -> None:
        """
        Say, as the last operation of a transaction, that it was committed.

        :raises LockLostError: if somebody has claimed the marker
        :raises SystemBusyError: if somebody is claiming it just now; nothing was done
        """
        markers = await self._markers()
        value = {"outcome": MarkerOutcome.COMMITTED.value, "changeId": change_id}
        try:
            await session.insert(markers, key, value)
        except DocumentExistsException as exc:
            raise LockLostError(
                f"Another runner has claimed this attempt of change {change_id!r}: its "
                "transaction is rolled back."
            ) from exc
        except TransactionException as exc:
            raise self._busy(change_id) from exc

    async def claim_marker(self, key: str, change_id: str) -> MarkerOutcome:
        """
        Insert the marker as ABORTED if there is none, and return what it says then.

        It is claimed in a transaction, since only those see what others have staged.

        :raises SystemBusyError: if the transaction that holds the marker does not end, or the
            server does not answer; it is safe to try again
        """
        value = {"outcome": MarkerOutcome.ABORTED.value, "changeId": change_id}
        try:
            markers = await self._markers()
            async with self._transact(limit().total_seconds()) as context:
                try:
                    found = await context.get(markers, key)
                    return MarkerOutcome(found.content_as[dict]["outcome"])
                except DocumentNotFoundException:
                    await context.insert(markers, key, value)
        except (CouchbaseException, UnknownOutcomeError) as exc:
            if trouble_of(exc) is Trouble.DENIED:
                raise

            raise self._busy(change_id) from exc

        with suppress(CouchbaseException):  # a tombstone that stays is harmless
            await settled(lambda: markers.touch(key, _TOMBSTONES_STAY, timeout=limit()))

        return MarkerOutcome.ABORTED

    async def remove_marker(self, key: str) -> None:
        """Remove the marker; ABORTED ones expire by themselves after two days."""
        markers = self.keyspace.collection(self.marker_repository_name)
        if not self._has_markers and (await self.keyspace.find_missing([markers.name]))[1]:
            return

        with suppress(DocumentNotFoundException):
            await settled(lambda: markers.remove(key, timeout=limit()))

    async def _markers(self) -> AsyncCollection:
        if not self._has_markers:
            await self.keyspace.create([self.marker_repository_name])
            self._has_markers = True

        return self.keyspace.collection(self.marker_repository_name)

    def _busy(self, change_id: str) -> SystemBusyError:
        return SystemBusyError(
            f"The marker of change {change_id!r} in {self.keyspace} could not be written: a "
            "transaction of somebody else holds it, or the server is away. Try again."
        )

    def __repr__(self) -> str:
        """Return the class, the id and the names of the bucket and the scope."""
        return f"{type(self).__name__}({self.id!r}, '{self.bucket_name}.{self.scope_name}')"
