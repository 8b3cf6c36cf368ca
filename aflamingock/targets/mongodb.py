"""A MongoDB database as a target system, through PyMongo's asynchronous client or Motor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import pymongo
from bson.binary import UUID_SUBTYPE, Binary
from pymongo.errors import ConnectionFailure, PyMongoError

from .._states import MarkerOutcome
from ..abc import Offer, TransactionalTargetSystem
from ..exceptions import ConfigurationError, FlamingockError, SystemBusyError
from ._mongodb import (
    PATIENCE,
    MongoDBDatabase,
    OwnClient,
    check_names,
    insert_new,
    is_transient,
    require_transaction,
)
from ._mongodb_transaction import Transactions
from ._refusal import claimed_error

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorClient
    from pymongo import AsyncMongoClient

_DAY = 24 * 60 * 60 * 1000


class MongoDBTargetSystem(TransactionalTargetSystem[Any]):
    """
    Gives changes a database, by annotation or as ``db``, and a session, as ``session``.

    With PyMongo 4.17 and later whatever a transactional change does with the client is part of its
    transaction. With Motor, and an older PyMongo, only what is given the session is.

    Transactions need a replica set (of one node, if need be) or a sharded cluster. They read a
    snapshot, and are committed durably by a majority.

    :param id: what changes call it in ``target_system=``
    :param client: PyMongo's ``AsyncMongoClient`` or Motor's ``AsyncIOMotorClient``; never closed
    :param database: the name of the database
    :param marker_repository_name: the collection of the markers
    :ivar needs_session_parameter: whether a transactional change must ask for the session, because
        the driver cannot bind it
    :ivar own_client: what makes the client, and closes it, if that is not the caller's
    :raises ConfigurationError: if an argument is wrong
    """

    def __init__(
        self,
        id: str,
        client: AsyncMongoClient[Any] | AsyncIOMotorClient[Any],
        database: str,
        *,
        marker_repository_name: str = "flamingockMarkers",
    ) -> None:
        super().__init__(id)
        check_names(marker_repository_name)
        self._is_open = False
        self._has_transactions: bool | None = None
        self.own_client: OwnClient | None = None
        self.database_name = database
        self.marker_repository_name = marker_repository_name
        self._use(client)
        self.needs_session_parameter: bool = not self._transactions.are_bound

    def _use(self, client: Any) -> None:
        self.client: AsyncMongoClient[Any] | AsyncIOMotorClient[Any] = client
        self._database = MongoDBDatabase(client, self.database_name)
        self._markers = self._database.collection(self.marker_repository_name)
        self._transactions = Transactions(self._database, first=self._markers)
        self._given: Any = client.get_database(self.database_name)

    @classmethod
    def from_url(
        cls,
        id: str,
        url: str,
        database: str,
        *,
        marker_repository_name: str = "flamingockMarkers",
    ) -> Self:
        """
        Return a target with a client of PyMongo of its own, which it closes.

        :param url: begins with ``mongodb://`` or ``mongodb+srv://``; may tell the user, TLS,
            ``authSource``, ``replicaSet`` and sizes of the pool
        :raises ConfigurationError: if an argument is wrong
        """
        own = OwnClient(url)
        target = cls(id, own.client, database, marker_repository_name=marker_repository_name)
        target.own_client = own
        return target

    async def _connect(self, stack: AsyncExitStack) -> None:
        if self.own_client is not None:
            self._use((await stack.enter_async_context(self.own_client)).client)

        self._is_open = True
        stack.push_async_callback(self._transactions.aclose)
        stack.callback(self._disconnect)

    def _disconnect(self) -> None:
        self._is_open = False
        self._has_transactions = None

    def _require_open(self) -> None:
        if not self._is_open:
            raise ConfigurationError(f"{self!r} is not open. Use it within 'async with'.")

    def offers(self) -> Sequence[Offer]:
        """Return two offers: the database and the session."""
        return (
            Offer(names=("db", "database"), type=type(self._given)),
            Offer(names=("session",), type=self._transactions.session_type),
        )

    def objects(self, session: Any) -> Mapping[str, object]:
        """Return the database, and the session that the transaction is on."""
        return {"db": self._given, "session": session}

    @asynccontextmanager
    async def handles(self) -> AsyncIterator[Mapping[str, object]]:
        """
        Lend the database, and a session without a transaction.

        :raises FlamingockError: if a transaction was begun and not ended; it is rolled back
        """
        self._require_open()
        async with self._transactions.session() as session:
            yield self.objects(session)
            if session.in_transaction:
                raise FlamingockError(
                    f"A transaction on {self.database_name} was begun and not ended, so that what "
                    "it wrote is rolled back. Commit it, or leave out transactional=False."
                )

    async def announce(self) -> str:
        """Return the id of the session that a transaction to come will be run on."""
        self._require_open()
        return await self._transactions.announce()

    def announced(self, identity: str | None) -> AbstractAsyncContextManager[Any]:
        """Run a transaction on the session that was announced."""
        return self.transaction(identity)

    @asynccontextmanager
    async def transaction(self, identity: str | None = None) -> AsyncIterator[Any]:
        """
        Run a transaction on a session of its own.

        :param identity: of the session, if it was announced
        :raises ConfigurationError: if the server has no transactions
        :raises SystemBusyError: if it could not be begun, or was ended by the server; nothing was
            done
        :raises UnknownOutcomeError: if the commit may or may not have been done
        """
        await self.require_transactions()
        async with self._transactions.run(identity) as session:
            yield session

    async def require_transactions(self) -> None:
        """
        Ask the server, once while the target is open, whether it has transactions.

        :raises ConfigurationError: if it has none
        """
        self._require_open()
        if self._has_transactions is None:
            self._has_transactions = await self.supports_transactions()

        if not self._has_transactions:
            raise ConfigurationError(
                f"The MongoDB server of {self!r} has no transactions, because it is not a member "
                "of a replica set. Make it one (a single node suffices), or give the change "
                "transactional=False."
            )

    async def supports_transactions(self) -> bool:
        """Ask the server whether it has transactions: a standalone one has none."""
        answer = await self._database.command("hello")
        return "setName" in answer or answer.get("msg") == "isdbgrid"

    async def insert_marker(self, session: Any, key: str, change_id: str) -> None:
        """
        Say, as the last statement of a transaction, that it was committed.

        :raises LockLostError: if somebody has claimed the marker
        :raises SystemBusyError: if the server has ended the transaction; nothing was done
        """
        require_transaction(session, self.database_name)
        try:
            with pymongo.timeout(PATIENCE):
                if await self._insert(session, key, change_id, MarkerOutcome.COMMITTED):
                    return
        except PyMongoError as exc:
            # What was claimed after the transaction began is a conflict, not a taken key.
            if not is_transient(exc):
                raise

            if await self._outcome(key) is None:
                raise self._transactions.busy("was rolled back") from exc

        raise claimed_error(change_id)

    async def claim_marker(self, key: str, change_id: str) -> MarkerOutcome:
        """
        Insert the marker as ABORTED if there is none, and return what it says then.

        :raises SystemBusyError: if the transaction that holds the marker does not end, or the
            server does not answer; it is safe to try again
        """
        self._require_open()
        try:
            while True:
                async with self._database.session() as session:
                    if await self._insert(session, key, change_id, MarkerOutcome.ABORTED):
                        return MarkerOutcome.ABORTED

                if outcome := await self._outcome(key):
                    return outcome
        except PyMongoError as exc:
            if not exc.timeout and not isinstance(exc, ConnectionFailure):
                raise

            raise SystemBusyError(
                f"The marker of change {change_id!r} on {self.database_name} could not be written: "
                "a transaction of somebody else holds it, or the server is away. Try again."
            ) from exc

    async def remove_marker(self, key: str) -> None:
        """Remove the marker, and ABORTED ones that are older than a day."""
        self._require_open()
        age = {"$subtract": ["$$NOW", "$writtenAt"]}
        old = {"outcome": MarkerOutcome.ABORTED.value, "$expr": {"$gt": [age, _DAY]}}
        async with self._database.session() as session:
            await self._markers.delete_many({"$or": [{"_id": key}, old]}, session=session)

    async def _insert(self, session: Any, key: str, change_id: str, outcome: MarkerOutcome) -> bool:
        values = {"outcome": outcome.value, "changeId": change_id}
        return await insert_new(self._markers, key, values, session)

    async def _outcome(self, key: str) -> MarkerOutcome | None:
        async with self._database.session() as session:
            found = await self._markers.find_one({"_id": key}, session=session)

        return MarkerOutcome(found["outcome"]) if found else None

    async def end_orphan(self, identity: str) -> None:
        """
        End a session of a process that is gone, and so the transaction that it left open.

        Otherwise what it has written stays locked until the server ends it, after a minute.

        :param identity: the id of the session; one that has ended already is fine
        :raises SystemBusyError: if the server does not answer just now
        """
        session_id = {"id": Binary(bytes.fromhex(identity), UUID_SUBTYPE)}
        try:
            await self._transactions.kill(session_id)
        except PyMongoError as exc:
            if not (exc.timeout or isinstance(exc, ConnectionFailure)):
                raise

            raise SystemBusyError(
                f"A transaction that was left open on {self.database_name} could not be ended, "
                "because the server does not answer."
            ) from exc

    def __repr__(self) -> str:
        """Return the class, the id and the name of the database."""
        return f"{type(self).__name__}({self.id!r}, {self.database_name!r})"
