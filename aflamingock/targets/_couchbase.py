"""What the Couchbase target and the Couchbase store share: a scope, and kinds of errors."""

from __future__ import annotations

import re
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from couchbase.durability import DurabilityLevel, ServerDurability
from couchbase.exceptions import (
    AmbiguousTimeoutException,
    AuthenticationException,
    BucketNotFoundException,
    CollectionAlreadyExistsException,
    CollectionNotFoundException,
    CouchbaseException,
    DocumentLockedException,
    DurabilitySyncWriteAmbiguousException,
    DurabilitySyncWriteInProgressException,
    RateLimitedException,
    RequestCanceledException,
    ScopeAlreadyExistsException,
    ScopeNotFoundException,
    ServiceUnavailableException,
    TemporaryFailException,
    UnAmbiguousTimeoutException,
)

from .._resource import Resource
from .._task import supervised
from ..exceptions import ConfigurationError

if TYPE_CHECKING:
    from acouchbase.bucket import AsyncBucket
    from acouchbase.cluster import AsyncCluster
    from acouchbase.collection import AsyncCollection

    from ._couchbase_url import OwnCluster

T = TypeVar("T")

PATIENCE = 5.0
"""How long an operation of aflamingock's own may take, in seconds."""

DURABLE = ServerDurability(DurabilityLevel.MAJORITY)

_NO_ACCESS = 36  # the status of the protocol
_FORBIDDEN = 403
_COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_%-]{0,250}")
_BUCKET = re.compile(r"[A-Za-z0-9_.%-]{1,100}")
_DEFAULT = "_default"


class Trouble(Enum):
    """What an error of the SDK means for who has called."""

    UNREACHABLE = auto()
    REJECTED = auto()
    DENIED = auto()
    NO_BUCKET = auto()
    MISSING = auto()
    BUSY = auto()
    IN_DOUBT = auto()
    OTHER = auto()


_TROUBLES: dict[type[Exception], Trouble] = {
    AmbiguousTimeoutException: Trouble.IN_DOUBT,
    AuthenticationException: Trouble.REJECTED,
    BucketNotFoundException: Trouble.NO_BUCKET,
    CollectionNotFoundException: Trouble.MISSING,
    DocumentLockedException: Trouble.BUSY,
    DurabilitySyncWriteAmbiguousException: Trouble.IN_DOUBT,
    DurabilitySyncWriteInProgressException: Trouble.BUSY,
    RateLimitedException: Trouble.BUSY,
    RequestCanceledException: Trouble.IN_DOUBT,
    RuntimeError: Trouble.UNREACHABLE,  # the cluster has been closed
    ScopeNotFoundException: Trouble.MISSING,
    ServiceUnavailableException: Trouble.UNREACHABLE,
    TemporaryFailException: Trouble.BUSY,
    TimeoutError: Trouble.UNREACHABLE,
}


def trouble_of(exc: Exception) -> Trouble:
    """Return what an error of the SDK means."""
    told = _details(exc)
    if isinstance(exc, UnAmbiguousTimeoutException):
        # The SDK asks again and again, and says at last what it was told each time.
        reasons = " ".join(told.get("retry_reasons") or ())
        if "collection" in reasons:
            return Trouble.MISSING

        return Trouble.BUSY if reasons else Trouble.UNREACHABLE

    if told.get("http_status") == _FORBIDDEN or told.get("status_code") == _NO_ACCESS:
        return Trouble.DENIED

    return _TROUBLES.get(type(exc), Trouble.OTHER)


def _details(exc: Exception) -> Mapping[str, Any]:
    # Not all of it is shown by the properties.
    context = exc.error_context if isinstance(exc, CouchbaseException) else None
    return getattr(context, "_base", None) or {}


async def settled(operation: Callable[[], Awaitable[T]]) -> T:
    """
    Await an operation of the SDK to its end, which its own timeout bounds, even when cancelled.

    The SDK does not notice a cancellation: its answer would come to a future that is gone.
    """

    async def carry_out() -> T:
        with anyio.CancelScope(shield=True):
            answer = await operation()

        return answer

    return await supervised(carry_out)


def limit() -> timedelta:
    """Return how long an operation may take, as the SDK takes it."""
    return timedelta(seconds=PATIENCE)


class Keyspace:
    """
    A scope of a bucket, as aflamingock itself uses it.

    :param given: the user's cluster, which is never closed, or what connects one of our own
    :raises ConfigurationError: if a name is no name
    """

    def __init__(self, given: AsyncCluster | OwnCluster, bucket_name: str, scope_name: str) -> None:
        if not _BUCKET.fullmatch(bucket_name):
            raise ConfigurationError(
                f"{bucket_name!r} cannot name a bucket of Couchbase. Give up to 100 letters, "
                "digits, dots, hyphens, underscores and percent signs."
            )

        if scope_name != _DEFAULT:
            check_names(scope_name)

        self.given = given
        self.bucket_name = bucket_name
        self.scope_name = scope_name
        self._bucket: AsyncBucket | None = None

    async def open(self, stack: AsyncExitStack) -> None:
        """
        Open the bucket until *stack* is closed.

        :raises ConfigurationError: if the cluster belongs to another event loop
        """
        if isinstance(self.given, Resource):
            await stack.enter_async_context(self.given)

        stack.callback(self._forget)
        if self.cluster.loop is not get_running_loop():
            raise ConfigurationError(
                f"The cluster of {self} was connected in another event loop. Connect it in the "
                "loop that it is used in."
            )

        bucket = self.cluster.bucket(self.bucket_name)

        async def connect() -> None:
            with anyio.fail_after(2 * PATIENCE):
                await bucket.on_connect()

        await settled(connect)
        self._bucket = bucket

    def _forget(self) -> None:
        self._bucket = None  # the cluster keeps it open

    @property
    def cluster(self) -> AsyncCluster:
        """The cluster; one of our own only while it is open."""
        cluster = self.given.cluster if isinstance(self.given, Resource) else self.given
        if cluster is None:
            raise self._unopened()

        return cluster

    @property
    def bucket(self) -> AsyncBucket:
        """The bucket; only while it is open."""
        if self._bucket is None:
            raise self._unopened()

        return self._bucket

    def _unopened(self) -> ConfigurationError:
        return ConfigurationError(f"{self} is not open. Use it within 'async with'.")

    def collection(self, name: str) -> AsyncCollection:
        """Return a collection of the scope."""
        return self.bucket.scope(self.scope_name).collection(name)

    async def collections(self) -> Mapping[str, timedelta] | None:
        """
        Return the collections of the scope, and after which time their documents expire.

        :return: ``None`` if there is no scope; not above zero for documents that stay
        """
        management = self.bucket.collections()
        for scope in await settled(lambda: management.get_all_scopes(timeout=limit())):
            if scope.name == self.scope_name:
                return {one.name: one.max_expiry or timedelta(0) for one in scope.collections}

        return None

    async def find_missing(self, names: Sequence[str]) -> tuple[bool, list[str]]:
        """Return whether the scope is missing, and which of these collections."""
        there = await self.collections()
        return there is None, [name for name in names if name not in (there or {})]

    async def create(self, names: Sequence[str]) -> None:
        """Create what is missing; others may do so at the same time."""
        management = self.bucket.collections()
        scope_is_missing, missing = await self.find_missing(names)
        if scope_is_missing:
            create_scope = partial(management.create_scope, self.scope_name, timeout=limit())
            with suppress(ScopeAlreadyExistsException):
                await settled(create_scope)

        for name in missing:
            create = partial(management.create_collection, self.scope_name, name, timeout=limit())
            with suppress(CollectionAlreadyExistsException):
                await settled(create)

    def __str__(self) -> str:
        """Return what messages call it."""
        return f"the Couchbase scope '{self.bucket_name}.{self.scope_name}'"


def check_names(*names: str) -> None:
    """
    Check the names of scopes and collections.

    :raises ConfigurationError: if one is no name, or two are the same
    """
    for name in names:
        if not _COLLECTION.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} cannot name a scope or a repository. Give a letter or digit, then up to "
                "250 letters, digits, hyphens, underscores and percent signs."
            )

    if len(set(names)) < len(names):
        raise ConfigurationError(
            f"The repositories {', '.join(map(repr, names))} must have different names."
        )
