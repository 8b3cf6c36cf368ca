"""The database of an audit store in MongoDB, and what its errors mean."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pymongo
from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)

from ..exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    AuditStorePermissionError,
    FlamingockError,
    SystemBusyError,
    UnknownOutcomeError,
)
from ..targets._mongodb import PATIENCE, MongoDBDatabase, driver_of, error_code, is_transient

_UNAUTHORIZED = 13
_AUTHENTICATION_FAILED = 18
_WRITE_CONFLICT = 112
_DUPLICATE_KEY = 11000
# From a member that is no primary any more, or not yet: whether it wrote is not known.
_FAILOVER = {91, 134, 189, 10058, 10107, 11600, 11602, 13435, 13436}

# What belongs to the user's event loop, or is about the documents and the pool of that client.
_NOT_COPIED = {
    *("driver", "connect", "io_loop", "event_listeners", "auto_encryption_opts"),
    *("document_class", "type_registry", "tz_aware", "maxpoolsize", "minpoolsize"),
}


class RefusalError(AuditStoreError):
    """The server understood what it was asked, and refused it; nothing was done."""


class AuditDatabase(MongoDBDatabase):
    """A database whose errors come out as errors of the audit store."""

    @asynccontextmanager
    async def asking(self, *, writes: bool = False, within: Any = None) -> AsyncIterator[Any]:
        """
        Lend a session, and tell what errors in the block mean.

        A taken key passes, for the caller knows what it means.

        :param writes: whether something is written, so that a lost answer leaves a doubt
        :param within: lend this session of a transaction instead
        """
        try:
            if within is not None:
                with pymongo.timeout(PATIENCE):
                    yield within
            else:
                async with self.session() as session:
                    yield session
        except (PyMongoError, BSONError) as exc:
            if refused_index(exc) is not None:
                raise

            raise self._meaning(exc, writes=writes) from exc

    def _meaning(self, exc: Exception, *, writes: bool) -> FlamingockError:
        code = error_code(exc)
        if isinstance(exc, ServerSelectionTimeoutError):
            return AuditStoreConnectionError(
                f"Unable to connect to audit store: no server of the MongoDB database {self.name!r}"
                f" ({self._addresses()}) answered within {PATIENCE:g} s. Verify that it runs and "
                "has a primary, its address and port, the name of the replica set, TLS settings "
                "and firewalls."
            )

        if code == _AUTHENTICATION_FAILED:
            return AuditStoreConnectionError(
                f"Unable to connect to audit store: the server of the MongoDB database "
                f"{self.name!r} does not accept the user or the password. Verify both, and "
                "authSource."
            )

        if code == _UNAUTHORIZED:
            return self._unauthorized(exc)

        if not _is_passing(exc):
            return RefusalError(f"The audit store {self.name!r} refused: {_kind(exc)}.")

        if not writes or _wrote_nothing(exc):
            return SystemBusyError(
                f"The audit store {self.name!r} could not answer ({_kind(exc)}), and nothing was "
                "done. Try again."
            )

        return UnknownOutcomeError(
            f"The answer of the audit store {self.name!r} to a write was lost ({_kind(exc)}): it "
            "may or may not have been done."
        )

    def _unauthorized(self, exc: Exception) -> AuditStoreError:
        if "requires authentication" in str(exc):
            return AuditStoreConnectionError(
                f"Unable to connect to audit store: the server of the MongoDB database "
                f"{self.name!r} asks for a user and a password, and the client gave none."
            )

        return AuditStorePermissionError(
            "Insufficient permissions to create collections/tables: the user of the audit "
            f"store lacks a right in the MongoDB database {self.name!r}. Let an administrator "
            "create the role that permissions() returns and 'aflamingock audit permissions' "
            "prints, and grant it to the user."
        )

    def _addresses(self) -> str:
        client = self.client.delegate if self.driver == "motor" else self.client
        servers = client.topology_description.server_descriptions()
        return ", ".join(f"{host}:{port}" for host, port in sorted(servers))


def _is_passing(exc: Exception) -> bool:
    if isinstance(exc, BulkWriteError):
        return bool(exc.details.get("writeConcernErrors"))

    if isinstance(exc, ConnectionFailure | ExecutionTimeout | WriteConcernError):
        return True

    return is_transient(exc) or error_code(exc) in _FAILOVER | {_WRITE_CONFLICT}


def _wrote_nothing(exc: Exception) -> bool:
    if is_transient(exc) or error_code(exc) == _WRITE_CONFLICT:
        return True

    # The server tells from version 6.1 on.
    return isinstance(exc, PyMongoError) and exc.has_error_label("NoWritesPerformed")


def _kind(exc: Exception) -> str:
    # The server's sentences may hold values and addresses; the name of the code does not.
    details = getattr(exc, "details", None) or {}
    code = error_code(exc)
    return str(details.get("codeName") or (f"code {code}" if code else type(exc).__name__))


def refused_index(exc: Exception) -> int | None:
    """
    Return which of the inserted documents has a taken key.

    :return: ``None`` if the error is another one
    """
    if isinstance(exc, DuplicateKeyError):
        return 0

    if not isinstance(exc, BulkWriteError) or exc.details.get("writeConcernErrors"):
        return None

    errors = exc.details.get("writeErrors") or [{}]
    return errors[0]["index"] if errors[0].get("code") == _DUPLICATE_KEY else None


def client_settings(client: Any) -> dict[str, Any] | None:
    """
    Return what a client was made with, for another client in another thread.

    The drivers show a client's options, but not its credentials. What they use themselves to copy
    a client has those; it is not promised, and may be gone.

    :return: the arguments for ``AsyncMongoClient``, or ``None`` if they cannot be read
    """
    made = client.delegate if driver_of(client) == "motor" else client
    given = vars(made).get("_init_kwargs")
    if not isinstance(given, dict):
        return None

    copied = {
        name: value
        for name, value in given.items()
        if name.lower() not in _NOT_COPIED and not name.startswith("_")
    }
    return copied | {"maxPoolSize": 2, "minPoolSize": 0}
