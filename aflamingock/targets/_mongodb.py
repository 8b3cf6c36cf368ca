"""What the MongoDB target and the MongoDB store share: a database, and kinds of errors."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Literal

import anyio
import pymongo
from anyio.to_thread import run_sync
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from .._resource import Resource
from ..exceptions import ConfigurationError, FlamingockError
from ._refusal import Naming

Driver = Literal["pymongo", "motor"]

PATIENCE = 10.0
"""How long an operation of aflamingock's own may take, in seconds."""

_FAREWELL = 1.0
"""How long a server is waited for that is told of the end, in seconds."""

DURABLE = WriteConcern("majority", j=True)

_DRIVERS: dict[str, Driver] = {
    "pymongo.asynchronous.mongo_client": "pymongo",
    "motor.motor_asyncio": "motor",
}
_DATABASE = re.compile(r'[^/\\. "$*<>:|?\0]{1,63}')

check_names = Naming(
    form=re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,54}"),
    told="a repository. Give a letter or underscore, then up to 54 letters, digits and "
    "underscores.",
)


class MongoDBDatabase:
    """
    A database behind a client of either driver, as aflamingock itself uses it.

    Nothing of how the client was set up counts here: what is read has been written to a majority,
    what is written is durable, and documents are plain dictionaries.

    :param client: PyMongo's ``AsyncMongoClient`` or Motor's ``AsyncIOMotorClient``; never closed
    :param name: the name of the database
    :raises ConfigurationError: if the client is of another kind, or the name is no name
    """

    def __init__(self, client: Any, name: str) -> None:
        self.driver = driver_of(client)
        if not _DATABASE.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} cannot name a MongoDB database. Give up to 63 characters without "
                'blanks and none of /\\."$*<>:|?.'
            )

        self.client = client
        self.name = name
        options: CodecOptions[dict[str, Any]] = CodecOptions()
        self._database = client.get_database(
            name, options, ReadPreference.PRIMARY, DURABLE, ReadConcern("majority")
        )

    def collection(self, name: str) -> Any:
        """Return a collection, of the same settings."""
        return self._database[name]

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Any]:
        """
        Lend a session for what must not be part of a change's transaction, and must not last.

        Where no session is given, PyMongo takes the one that the surrounding code has bound.
        """
        with pymongo.timeout(PATIENCE):
            if self.driver == "motor":
                yield None
                return

            async with self.client.start_session(causal_consistency=False) as session:
                yield session

    async def command(self, name: str, value: object = 1, **options: object) -> dict[str, Any]:
        """Run a command in this database."""
        async with self.session() as session:
            answer: dict[str, Any] = await self._database.command(
                name, value, session=session, **options
            )
            return answer

    async def list_names(self) -> set[str]:
        """Return the names of the collections that the user may see."""
        async with self.session() as session:
            return set(
                await self._database.list_collection_names(
                    session=session, authorizedCollections=True
                )
            )


class OwnClient(Resource):
    """
    A client of PyMongo that we make: one for all who use it at once, closed with the last.

    It belongs to one event loop, and stays closed once it is: the next user gets a new one.

    :param url: begins with ``mongodb://`` or ``mongodb+srv://``
    :ivar client: the one that is in use; before the first use one that was never connected
    :raises ConfigurationError: if it is no such URL
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.settings: Mapping[str, Any] = {"host": url}
        try:
            self.client: AsyncMongoClient[Any] = AsyncMongoClient(url)
        except (PyMongoError, ValueError, TypeError, OSError) as exc:
            # What it says may hold a part of the password.
            raise ConfigurationError(
                f"This is no URL of MongoDB ({type(exc).__name__}). Verify it; a user or a "
                "password with special characters has to be percent-encoded."
            ) from None

    async def _connect(self, stack: AsyncExitStack) -> None:
        self.client = await stack.enter_async_context(own_client(self.settings))

    def __repr__(self) -> str:
        """Return the class, and nothing of the URL."""
        return f"{type(self).__name__}()"


@asynccontextmanager
async def own_client(settings: Mapping[str, Any]) -> AsyncIterator[AsyncMongoClient[Any]]:
    """
    Lend a client, and close it, also when the servers are gone or the work is cut off.

    :param settings: the arguments for ``AsyncMongoClient``
    """
    # it reads certificates
    client: AsyncMongoClient[Any] = await run_sync(partial(AsyncMongoClient, **settings))
    try:
        yield client
    finally:
        # It tells a server first, which may be gone; who closes it again leaves that out.
        for _ in range(2):
            with anyio.move_on_after(_FAREWELL, shield=True):
                await client.close()
                break


def driver_of(client: Any) -> Driver:
    """
    Return which driver a client belongs to, without importing either.

    :raises ConfigurationError: if it is no asynchronous client
    """
    for cls in type(client).__mro__:
        if driver := _DRIVERS.get(cls.__module__):
            return driver

    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    raise ConfigurationError(
        f"A client of the type {kind} cannot be used. Give an AsyncMongoClient of PyMongo, or an "
        "AsyncIOMotorClient of Motor."
    )


def error_code(exc: BaseException) -> int:
    """Return the server's code of an error, 0 if it has none."""
    return getattr(exc, "code", None) or 0


def is_transient(exc: Exception) -> bool:
    """Say whether an error has ended a transaction, so that surely nothing was done."""
    return isinstance(exc, PyMongoError) and exc.has_error_label("TransientTransactionError")


def require_transaction(session: Any, database: str) -> None:
    """
    Make sure that what is written next is part of the transaction.

    :raises FlamingockError: if the transaction has been ended from within
    """
    if session.in_transaction:
        return

    raise FlamingockError(
        f"The transaction on {database} was ended by the code in it. Leave that to aflamingock, "
        "which ends it after the change."
    )


async def insert_new(collection: Any, key: str, values: dict[str, Any], session: Any) -> bool:
    """
    Insert a document stamped with ``writtenAt`` by the server's clock.

    :param key: its ``_id``
    :param values: what else it holds
    :return: whether it was inserted; if not, there is one already
    """
    try:
        # What is there has a writtenAt, so it does not match, and is not inserted a second time.
        await collection.update_one(
            {"_id": key, "writtenAt": {"$exists": False}},
            stamped(values),
            upsert=True,
            session=session,
        )
    except DuplicateKeyError:
        return False

    return True


def stamped(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the update that sets these values as they are, and the server's time."""
    literals = {name: {"$literal": value} for name, value in values.items()}
    return [{"$set": literals | {"writtenAt": "$$NOW"}}]
