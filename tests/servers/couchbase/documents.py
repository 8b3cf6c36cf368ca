"""Documents: with a CAS, an expiry, a lock and attributes; deleted ones keep attributes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.servers.couchbase.wire import Refusal, Status

JSON = 0x01
_LARGEST = 20 * 1024 * 1024
_MONTH = 30 * 24 * 60 * 60
_LONGEST_LOCK = 30


@dataclass(slots=True, kw_only=True)
class Document:
    """
    A document, or what is left of a deleted one.

    :ivar body: ``None`` if it is deleted
    """

    body: bytes | None
    flags: int = 0
    datatype: int = 0
    cas: int = 0
    revision: int = 0
    expires: float = 0.0
    locked_until: float = 0.0
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def is_locked(self) -> bool:
        return self.locked_until > time.time()


class Documents:
    """The documents of a bucket, by the id of the collection and the key."""

    def __init__(self) -> None:
        self._documents: dict[tuple[int, bytes], Document] = {}
        self._last_cas = 0

    def next_cas(self) -> int:
        """Return a hybrid logical time, as the server has it: nanoseconds, never twice."""
        self._last_cas = max(self._last_cas + 1, time.time_ns() & ~0xFFFF)
        return self._last_cas

    def find(self, collection: int, key: bytes, *, deleted: bool = False) -> Document:
        """Return a document; one that has expired is deleted by looking at it."""
        found = self._documents.get((collection, key))
        if found is not None and found.expires and found.expires <= time.time():
            found.body, found.expires = None, 0.0
            found.attributes = {}

        if found is None or (found.body is None and not deleted):
            raise Refusal(Status.NOT_FOUND)

        return found

    def look(self, collection: int, key: bytes) -> Document | None:
        """Return a document that is there, or deleted, or ``None``."""
        try:
            return self.find(collection, key, deleted=True)
        except Refusal:
            return None

    def store(
        self,
        collection: int,
        key: bytes,
        cas: int,
        change: Callable[[Document | None], Document],
    ) -> Document:
        """
        Store what *change* makes of a document; it may refuse.

        :param cas: what the document must have, 0 for any
        """
        found = self.look(collection, key)
        if found is not None and found.is_locked:
            if cas != found.cas:
                raise Refusal(Status.LOCKED)
        elif cas and (found is None or found.cas != cas):
            raise Refusal(Status.EXISTS if found else Status.NOT_FOUND)

        new = change(found)
        if len(new.body or b"") > _LARGEST:
            raise Refusal(Status.TOO_BIG)

        new.cas = self.next_cas()
        new.revision = (found.revision if found else 0) + 1
        new.locked_until = 0.0
        self._documents[collection, key] = new
        return new

    def write(self, collection: int, key: bytes, cas: int, new: Document, *, how: str) -> Document:
        """Insert, replace or upsert a whole document; user attributes of a living one stay."""
        if how == "replace":
            self.find(collection, key)

        def change(found: Document | None) -> Document:
            alive = found is not None and found.body is not None
            if how == "insert" and alive:
                raise Refusal(Status.EXISTS)

            if alive and found is not None:
                new.attributes = found.attributes

            return new

        return self.store(collection, key, cas, change)

    def remove(self, collection: int, key: bytes, cas: int) -> Document:
        def change(found: Document | None) -> Document:
            if found is None or found.body is None:
                raise Refusal(Status.NOT_FOUND)

            system = {k: v for k, v in found.attributes.items() if k.startswith("_")}
            return Document(body=None, attributes=system)

        return self.store(collection, key, cas, change)

    def lock(self, collection: int, key: bytes, seconds: int) -> Document:
        found = self.find(collection, key)
        if found.is_locked:
            raise Refusal(Status.LOCKED)

        found.cas = self.next_cas()
        found.locked_until = time.time() + min(seconds or 15, _LONGEST_LOCK)
        return found

    def unlock(self, collection: int, key: bytes, cas: int) -> None:
        found = self.find(collection, key)
        if not found.is_locked:
            raise Refusal(Status.NOT_LOCKED)

        if found.cas != cas:
            raise Refusal(Status.LOCKED)

        found.locked_until = 0.0

    def keys(self, collection: int) -> list[str]:
        """Return the keys of all that is there, staged, or deleted."""
        return [key.decode() for place, key in self._documents if place == collection]

    def drop(self, collection: int) -> None:
        """Forget a whole collection."""
        for place in [place for place in self._documents if place[0] == collection]:
            del self._documents[place]


def expiry(seconds: int) -> float:
    """Return the moment that the protocol means: short times are relative."""
    if not seconds:
        return 0.0

    return time.time() + seconds if seconds <= _MONTH else float(seconds)
