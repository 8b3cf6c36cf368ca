"""DynamoDB as a target system, through aioboto3."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio

from .._host import boot_time
from .._records import new_id
from .._states import MarkerOutcome
from ..abc import Offer, TransactionalTargetSystem
from ..exceptions import (
    ConfigurationError,
    FlamingockError,
    SystemBusyError,
    UnknownOutcomeError,
)
from ._dynamodb import CallError, Trouble, watch
from ._dynamodb_items import TransactWriteItems
from ._dynamodb_markers import Markers
from ._dynamodb_place import Place, check_names, session_at

if TYPE_CHECKING:
    import aioboto3  # type: ignore[import-untyped]  # aioboto3 has no types

__all__ = ["DynamoDBTargetSystem", "TransactWriteItems"]

T = TypeVar("T")

_LONGEST_PAUSE = 1.0
_READS = ("BatchGet", "Describe", "Get", "List", "Query", "Scan", "TransactGet")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Connection:
    """What is there while a target is open: objects that write at once, and others that read."""

    writers: Mapping[str, Any]
    readers: Mapping[str, Any]
    markers: Markers


class DynamoDBTargetSystem(TransactionalTargetSystem[TransactWriteItems]):
    """
    Gives changes :class:`TransactWriteItems`, and aioboto3's client and service resource.

    In a transaction client and resource are for reading; what the change writes it collects in
    the items, which are committed as one call. With ``transactional=False`` they write as usual.
    Client and resource are opened for the target; the session stays the caller's.

    :param id: what changes call it in ``target_system=``
    :param region_name: that of the session by default
    :param endpoint_url: that of the region by default
    :param marker_repository_name: the table of the markers; created when it is first needed
    :param busy_timeout: how long the commit is tried again while it is throttled or in conflict
        with somebody else's transaction, in seconds
    :raises ConfigurationError: if an argument is wrong
    """

    def __init__(
        self,
        id: str,
        session: aioboto3.Session,
        *,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        marker_repository_name: str = "flamingockMarkers",
        busy_timeout: float = 10.0,
    ) -> None:
        super().__init__(id)
        if not (0 <= busy_timeout <= 3600 and math.isfinite(busy_timeout)):
            raise ConfigurationError(f"busy_timeout={busy_timeout!r}: give 0 to 3600 seconds.")

        check_names(marker_repository_name)
        self.place: Place = Place(session, region_name, endpoint_url)
        self.marker_repository_name = marker_repository_name
        self._busy_timeout = busy_timeout
        self._connection: _Connection | None = None

    @classmethod
    def from_url(
        cls,
        id: str,
        url: str,
        *,
        marker_repository_name: str = "flamingockMarkers",
        busy_timeout: float = 10.0,
    ) -> Self:
        """
        Return a target at ``dynamodb://REGION?endpoint_url=...&profile_name=...``.

        :param url: may leave out the region and the settings; never holds credentials
        :raises ConfigurationError: if it is no such URL, or another argument is wrong
        """
        session, region_name, endpoint_url = session_at(url)
        return cls(
            id,
            session,
            region_name=region_name,
            endpoint_url=endpoint_url,
            marker_repository_name=marker_repository_name,
            busy_timeout=busy_timeout,
        )

    async def _connect(self, stack: AsyncExitStack) -> None:
        await self.place.preload()
        writers = await self._open_objects(stack)
        readers = await self._open_objects(stack)
        watch(writers["client"])
        for reader in (readers["client"], readers["resource"].meta.client):
            reader.meta.events.register("provide-client-params.dynamodb", _refuse_writes)

        markers = Markers(writers["client"], self.marker_repository_name)
        self._connection = _Connection(writers=writers, readers=readers, markers=markers)
        stack.callback(self._forget)

    async def _open_objects(self, stack: AsyncExitStack) -> Mapping[str, Any]:
        return {
            "client": await stack.enter_async_context(self.place.client()),
            "resource": await stack.enter_async_context(self.place.resource()),
        }

    def _forget(self) -> None:
        self._connection = None

    def offers(self) -> Sequence[Offer]:
        """Return the items of a transaction, the client and the service resource."""
        # loaded by whoever has made the session
        from aioboto3.resources.base import (  # type: ignore[import-untyped]  # no types
            AIOBoto3ServiceResource,
        )
        from aiobotocore.client import AioBaseClient  # type: ignore[import-untyped]  # no types

        return (
            Offer(names=("items", "transaction", "session"), type=TransactWriteItems),
            Offer(names=("client", "dynamodb"), type=AioBaseClient),
            Offer(names=("resource", "db"), type=AIOBoto3ServiceResource),
        )

    def objects(self, session: TransactWriteItems) -> Mapping[str, object]:
        """Return the items of the transaction, and a client and a resource that only read."""
        return {"items": session, **self._opened().readers}

    @asynccontextmanager
    async def handles(self) -> AsyncIterator[Mapping[str, object]]:
        """
        Lend the client and the resource; what they write stands at once.

        :raises FlamingockError: if items were collected and not sent
        """
        writers = self._opened().writers
        items = TransactWriteItems(writers["client"], in_transaction=False)
        yield {"items": items, **writers}
        if len(items):
            raise FlamingockError(
                f"{len(items)} items were collected and not sent, so that they are not written. "
                "Await items.send(), or leave out transactional=False."
            )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[TransactWriteItems]:
        """
        Collect items, and write them at the end of the block, all or none.

        :raises SystemBusyError: if it was throttled or in conflict all the time; nothing was done
        :raises UnknownOutcomeError: if the answer to the commit was lost
        """
        items = TransactWriteItems(self._opened().writers["client"], in_transaction=True)
        try:
            yield items
        finally:
            items.close()

        if len(items):
            with anyio.CancelScope(shield=True):
                await self._commit(items)

    async def _commit(self, items: TransactWriteItems) -> None:
        started, token, pause = boot_time(), new_id(), 0.02
        while True:
            try:
                return await items.commit(token)
            except CallError as exc:
                if exc.trouble is Trouble.IN_DOUBT:
                    raise self._unknown_outcome(exc) from exc.cause

                if exc.trouble is not Trouble.BUSY:
                    raise exc.cause from None

                if boot_time() - started >= self._busy_timeout:
                    raise self._busy(exc) from exc.cause

            await anyio.sleep(pause * random.random())
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def insert_marker(self, session: TransactWriteItems, key: str, change_id: str) -> None:
        """
        Say, as the last item of a transaction, that it was committed.

        The commit raises :exc:`LockLostError` if somebody has claimed the marker.

        :raises SystemBusyError: if the table of the markers cannot be created just now
        """
        await self._repeatable(self._opened().markers.insert(session, key, change_id))

    async def claim_marker(self, key: str, change_id: str) -> MarkerOutcome:
        """
        Insert the marker as ABORTED if there is none, and return what it says then.

        :raises SystemBusyError: if its transaction is being committed, or there was no answer;
            claiming again is harmless
        """
        return await self._repeatable(self._opened().markers.claim(key, change_id))

    async def remove_marker(self, key: str) -> None:
        """
        Remove the marker; once while the target is open, also ABORTED ones older than a day.

        :raises SystemBusyError: if that is throttled, or there was no answer; removing again is
            harmless
        """
        await self._repeatable(self._opened().markers.remove(key))

    async def _repeatable(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except CallError as exc:
            if exc.trouble in (Trouble.BUSY, Trouble.IN_DOUBT):
                raise self._busy(exc) from exc.cause

            raise exc.cause from None

    def _opened(self) -> _Connection:
        if self._connection is None:
            raise ConfigurationError(f"{self!r} is not open. Use it within 'async with'.")

        return self._connection

    def _unknown_outcome(self, exc: CallError) -> UnknownOutcomeError:
        return UnknownOutcomeError(
            f"{self.place} has not answered ({exc.code}): a transaction may or may not have been "
            "committed."
        )

    def _busy(self, exc: CallError) -> SystemBusyError:
        return SystemBusyError(
            f"{self.place} is throttled, does not answer, or works on a transaction with the same "
            f"items ({exc.code}). Trying again is harmless."
        )

    def __repr__(self) -> str:
        """Return the class, the id and the place."""
        return f"{type(self).__name__}({self.id!r}, {self.place})"


def _refuse_writes(model: Any, **_: object) -> None:
    if not model.name.startswith(_READS):
        raise FlamingockError(
            f"{model.name} would stand at once, whatever becomes of the change's transaction. "
            "Collect in TransactWriteItems what the change writes, or give the change "
            "transactional=False."
        )
