"""The transactions of MongoDB: begun, kept from being ended by others, and committed."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

import anyio
import pymongo
from pymongo import ReadPreference
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from ..exceptions import FlamingockError, SystemBusyError, UnknownOutcomeError
from ._mongodb import (
    DURABLE,
    PATIENCE,
    MongoDBDatabase,
    error_code,
    is_transient,
    require_transaction,
)

_COMMIT_AGAIN_AFTER = 0.1
_ENDS = (
    "start_transaction",
    "commit_transaction",
    "abort_transaction",
    "with_transaction",
    "end_session",
)
# What the server says of statements that no transaction may contain, and of those after its end.
_REFUSED_WITHIN = {20, 72, 263}
_ENDED_BY_SERVER = {251, 290}
_NOT_ALLOWED = (
    "This runs in a transaction, which cannot contain every command (creating collections and "
    "indexes, for example). Give the change transactional=False if it needs this one."
)
_ENDED = (
    "The server has ended the transaction and rolled it back. It does so after an error in it, "
    "also one that the change has hidden, and after 60 seconds (its setting "
    "transactionLifetimeLimitSeconds). Give a longer change transactional=False."
)


class Transactions:
    """
    Gives sessions of a client, and runs transactions on them.

    :param database: what they are for
    :param first: a collection that may be read at the beginning of a transaction
    :ivar session_type: the class of the sessions
    :ivar are_bound: whether what is done without a session takes that of the transaction around it
    """

    def __init__(self, database: MongoDBDatabase, *, first: Any) -> None:
        self._database = database
        self._first = first
        self._announced: dict[str, Any] = {}
        self.session_type = _session_type(database)
        self.are_bound = hasattr(self.session_type, "bind")

    async def announce(self) -> str:
        """Return, in hexadecimal, the id of the session that a transaction to come will be on."""
        session = await self._start()
        identity = bytes(session.session_id["id"]).hex()
        self._announced[identity] = session
        return identity

    async def aclose(self) -> None:
        """End the sessions of transactions that were announced and not run."""
        while self._announced:
            await self._announced.popitem()[1].end_session()

    async def _start(self) -> Any:
        session: Any = self._database.client.start_session()
        return await session if self._database.driver == "motor" else session

    @asynccontextmanager
    async def session(self, identity: str | None = None) -> AsyncIterator[Any]:
        """
        Lend a session; at the end, a transaction that is open is rolled back.

        :param identity: which of the announced ones; one that nobody knows by default
        """
        session = self._announced.get(identity or "") or await self._start()
        try:
            yield session
        finally:
            with anyio.move_on_after(PATIENCE + 1, shield=True), pymongo.timeout(PATIENCE):
                await self._end(session, identity)

    async def _end(self, session: Any, identity: str | None) -> None:
        if identity not in self._announced:
            await session.end_session()
        elif session.in_transaction:  # it could not be begun, and is tried again
            await session.abort_transaction()

    @asynccontextmanager
    async def run(self, identity: str | None = None) -> AsyncIterator[Any]:
        """
        Run a transaction, which the code in the block cannot end.

        :param identity: as it was announced, if it was
        """
        async with self.session(identity) as session:
            await self._begin(session)
            self._announced.pop(identity or "", None)
            for name in _ENDS:
                setattr(session, name, _refuse_to_end)

            try:
                async with self._bound(session):
                    yield session
            except Exception as exc:
                _add_hint(exc)
                raise
            finally:
                for name in _ENDS:
                    vars(session).pop(name, None)

            await self._commit(session)

    @asynccontextmanager
    async def _bound(self, session: Any) -> AsyncIterator[None]:
        if not self.are_bound:
            yield
            return

        async with session.bind(end_session=False):
            yield

    async def _begin(self, session: Any) -> None:
        begun = session.start_transaction(
            read_concern=ReadConcern("snapshot"),
            write_concern=DURABLE,
            read_preference=ReadPreference.PRIMARY,
        )
        if self._database.driver == "pymongo":
            await begun
            return

        # Motor's threads go on when a change is cut off. As long as the server does not know of
        # the transaction, ending it sends nothing, and a statement on its way would leave it open.
        try:
            with pymongo.timeout(PATIENCE):
                await self._first.find_one({"_id": ""}, session=session)
        except PyMongoError as exc:
            if is_transient(exc):
                raise self.busy("could not be begun") from exc

            raise

    async def _commit(self, session: Any) -> None:
        require_transaction(session, self._database.name)
        cause: PyMongoError | None = None
        # What the timeout of the driver does not end, in a thread of Motor, the scope does.
        with anyio.move_on_after(PATIENCE + 1, shield=True), pymongo.timeout(PATIENCE):
            try:
                await self._commit_until(anyio.current_time() + PATIENCE, session)
                return
            except PyMongoError as exc:
                if not _is_unknown(exc):
                    raise self._not_committed(exc) from exc

                cause = exc

        # It may still be open, and lock what it has written.
        with anyio.move_on_after(PATIENCE + 1, shield=True), suppress(PyMongoError):
            await self.kill(session.session_id)

        raise self._unknown_outcome() from cause

    async def _commit_until(self, deadline: float, session: Any) -> None:
        while True:
            try:
                await session.commit_transaction()
                return
            except PyMongoError as exc:
                if not _is_unknown(exc) or anyio.current_time() >= deadline:
                    raise

            await anyio.sleep(_COMMIT_AGAIN_AFTER)

    async def kill(self, session_id: Mapping[str, Any]) -> None:
        """End a session at the server, and the transaction that is open on it."""
        await self._database.command("killSessions", [session_id])

    def _not_committed(self, exc: PyMongoError) -> Exception:
        _add_hint(exc)
        return self.busy("was rolled back") if is_transient(exc) else exc

    def busy(self, what: str) -> SystemBusyError:
        """Return the error for a transaction that others have ended."""
        return SystemBusyError(
            f"A transaction on {self._database.name} {what}, and nothing was done. An error in it, "
            "another transaction or a new primary stood in its way."
        )

    def _unknown_outcome(self) -> UnknownOutcomeError:
        return UnknownOutcomeError(
            f"The answer to the commit of a transaction on {self._database.name} was lost: it may "
            "or may not have been done."
        )


def _session_type(database: MongoDBDatabase) -> type:
    if database.driver == "pymongo":
        from pymongo.asynchronous.client_session import AsyncClientSession

        return AsyncClientSession

    # It has been imported, for there is a client of it.
    session_type: type = sys.modules["motor.motor_asyncio"].AsyncIOMotorClientSession
    return session_type


def _is_unknown(exc: PyMongoError) -> bool:
    return exc.has_error_label("UnknownTransactionCommitResult")


def _refuse_to_end(*_: object, **__: object) -> NoReturn:
    raise FlamingockError(
        "aflamingock ends the transaction itself; give the change transactional=False if it must "
        "commit on its own."
    )


def _add_hint(exc: Exception) -> None:
    """Explain an error of MongoDB that comes from the transaction around the change."""
    cause: BaseException | None = exc
    while cause is not None and not error_code(cause):
        cause = cause.__cause__

    if cause is None:
        return

    if error_code(cause) in _REFUSED_WITHIN:
        exc.add_note(_NOT_ALLOWED)
    elif error_code(cause) in _ENDED_BY_SERVER:
        exc.add_note(_ENDED)
