"""The end of a log in Couchbase, as one document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from .._records import AuditEntry
from ..exceptions import SequenceConflictError
from ._couchbase import key_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """
    The end of a service's log.

    :ivar sealed: how many segments stand before it
    :ivar cas: 0 if there is no document yet
    :ivar is_staged: whether a transaction is about to replace it, or has just been committed
    """

    service: str
    sealed: int = 0
    entries: Sequence[Mapping[str, Any]] = ()
    cas: int = 0
    is_staged: bool = False

    @classmethod
    def from_document(cls, service: str, document: Mapping[str, Any], **values: Any) -> Self:
        """Restore a tail from :meth:`to_document`."""
        entries = entries_in(document)
        return cls(service=service, sealed=int(document["sealed"]), entries=entries, **values)

    def to_document(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"service": self.service, "sealed": self.sealed, "entries": list(self.entries)}

    @property
    def key(self) -> str:
        """The key of the document."""
        return key_of("tail", self.service)

    @property
    def last(self) -> int:
        """The number of the last entry."""
        return self.entries[-1]["sequence"] if self.entries else 0

    def with_entries(self, entries: Sequence[AuditEntry]) -> Tail:
        """Return the tail as it is after these entries."""
        return replace(self, entries=[*self.entries, *map(_to_document, entries)])

    def unwritten(self, entries: Sequence[AuditEntry]) -> list[AuditEntry]:
        """
        Return which entries do not stand here already, written by a try whose answer was lost.

        :raises SequenceConflictError: if one of their numbers is taken by another entry
        """
        standing = {entry["sequence"]: entry["entryId"] for entry in self.entries}
        new = []
        for entry in entries:
            if entry.sequence > self.last:
                new.append(entry)
            elif standing.get(entry.sequence) != entry.entry_id:
                raise SequenceConflictError(entry.sequence, state=entry.state)

        return new


def entries_in(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the entries of a tail or of a segment, each of which can be restored."""
    entries: Sequence[Mapping[str, Any]] = document["entries"]
    for entry in entries:
        AuditEntry.from_document(entry)

    return entries


def _to_document(entry: AuditEntry) -> dict[str, Any]:
    return {name: value for name, value in entry.to_document().items() if value is not None}
