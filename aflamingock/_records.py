"""What an audit store keeps: entries, records (the lease is one) and issues."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any, Self

from ._states import AuditState, AuditType, IssueStatus, Recovery, Resolution, TxStrategy


def _now() -> datetime:
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def new_id() -> str:
    """Return an id that nobody else has: 128 random bits."""
    return os.urandom(16).hex()


def _stored_time(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds") if moment else None


class _Sealed:
    """What a sealed entry keeps beside its fields: its stored form, which was built for it."""

    __slots__ = ("_document",)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(_Sealed):
    """
    A line of the audit log.

    Within a service entries are numbered 1, 2, 3 … without gaps. The number is the order of the
    log and the guard against a second writer; *created_at* is for people only. *change_id* is
    ``None`` in the system's own entries, whose *type* says what they are.
    """

    service: str
    sequence: int = 0
    entry_id: str = field(default_factory=new_id)
    epoch: int = 0
    type: AuditType = AuditType.EXECUTION
    state: AuditState
    created_at: datetime = field(default_factory=_now)
    execution_id: str
    stage_id: str | None = None
    change_id: str | None = None
    change_order: str | None = None
    author: str | None = None
    attempt: int = 0
    target_system_id: str | None = None
    tx_strategy: TxStrategy = TxStrategy.NON_TX
    transaction_flag: bool = False
    recovery_strategy: Recovery = Recovery.MANUAL_INTERVENTION
    rollback_available: bool = False
    system_change: bool = False
    invoked_class: str | None = None
    invoked_method: str | None = None
    source_file: str | None = None
    execution_millis: int = 0
    execution_hostname: str | None = None
    environment: str | None = None
    initiated_by: str | None = None
    checksum: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error_trace: str | None = None
    digest: str = ""

    def to_document(self) -> dict[str, str | int | bool | None]:
        """Return the entry under its stored names, *metadata* as JSON text."""
        if sealed := getattr(self, "_document", None):
            return dict(sealed)

        document = dict(zip(_STORED_NAMES.values(), _values(self), strict=True))
        document["createdAt"] = _stored_time(self.created_at)
        document["metadata"] = (
            json.dumps(dict(self.metadata), sort_keys=True) if self.metadata else "{}"
        )
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """
        Restore an entry from :meth:`to_document`.

        :param document: the stored form; unknown names are ignored, missing ones get defaults
        """
        values = {
            name: document[stored]
            for name, stored in _STORED_NAMES.items()
            if document.get(stored) is not None
        }
        if "created_at" in values:
            values["created_at"] = datetime.fromisoformat(values["created_at"])

        values["metadata"] = json.loads(values.get("metadata", "{}"))
        for name, enum in _ENUMS.items():
            if name in values:
                values[name] = enum(values[name])

        for name in _BOOLEANS & values.keys():
            values[name] = bool(values[name])

        return cls(**values)

    def sealed(self, *, sequence: int, previous: str, epoch: int | None = None) -> Self:
        """
        Return the entry with its number and its digest.

        The digest is SHA-256 over the digest before it and the stored form: a hash chain, as in
        Haber and Stornetta, *How to Time-Stamp a Digital Document* (1991).

        :param sequence: the number
        :param previous: the digest of the entry before it, ``""`` for the first
        :param epoch: of the lease that it is written under; ``None`` to keep what it says
        """
        epoch = self.epoch if epoch is None else epoch
        document = self.to_document()
        document.update(sequence=sequence, epoch=epoch)
        document["digest"] = digest = _digest(document, previous)
        sealed = replace(self, sequence=sequence, epoch=epoch, digest=digest)
        object.__setattr__(sealed, "_document", document)
        return sealed

    def compute_digest(self, previous: str) -> str:
        """
        Return the digest that the entry must carry.

        :param previous: the digest of the entry before it, ``""`` for the first
        """
        return _digest(self.to_document(), previous)


def _digest(document: Mapping[str, object], previous: str) -> str:
    digested = dict(document)
    del digested["digest"]
    return hashlib.sha256(f"{previous}\n{_canonical(digested)}".encode()).hexdigest()


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


_STORED_NAMES = {f.name: _camel(f.name) for f in fields(AuditEntry)}
_values = attrgetter(*_STORED_NAMES)
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_ENUMS: dict[str, type[StrEnum]] = {
    "type": AuditType,
    "state": AuditState,
    "tx_strategy": TxStrategy,
    "recovery_strategy": Recovery,
}
_BOOLEANS = {"transaction_flag", "rollback_available", "system_change"}

_ENTRY = AuditEntry(service="", state=AuditState.STARTED, execution_id="").to_document()

ENTRY_COLUMNS: Mapping[str, type[str | int | bool]] = {
    name: type(value) if isinstance(value, int) else str for name, value in _ENTRY.items()
}
"""The names and types of what :meth:`AuditEntry.to_document` returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """
    A small value that is replaced as a whole, and only by who has read what stands there.

    :ivar key: its name within the store
    :ivar token: new at every write; a swap compares nothing else
    :ivar value: JSON values
    :ivar age: seconds since the write by the store's own clock, as it was read; ``None`` in a
        store without a clock
    """

    key: str
    token: str = field(default_factory=new_id)
    value: Mapping[str, Any]
    age: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """
    The right of one runner to work, for *ttl* seconds after each write.

    :ivar owner: the run that holds it
    :ivar epoch: one more at each grant
    :ivar ttl: seconds
    :ivar since: when it was granted, by the holder's clock: for people only
    :ivar host: where the holder runs
    :ivar process: what identifies the holder's process on its host
    :ivar change_id: the change that it was carrying out at the last renewal
    :ivar age: as in :class:`Record`
    """

    service: str
    owner: str
    epoch: int
    ttl: float
    token: str = field(default_factory=new_id)
    released: bool = False
    since: datetime = field(default_factory=_now)
    host: str = ""
    pid: int = 0
    process: Mapping[str, str] = field(default_factory=dict)
    change_id: str | None = None
    age: float | None = None

    @staticmethod
    def key(service: str) -> str:
        """Return the key of the record that keeps a service's lease."""
        return f"lease:{service}"

    def to_record(self) -> Record:
        """Return the lease as the record that a store keeps."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _IN_RECORD}
        value = kept | {"since": _stored_time(self.since), "process": dict(self.process)}
        return Record(key=self.key(self.service), token=self.token, value=value, age=self.age)

    @classmethod
    def from_record(cls, record: Record) -> Self:
        """Restore a lease from :meth:`to_record`."""
        known = {f.name for f in fields(cls)} - _IN_RECORD
        value = {name: record.value[name] for name in known & record.value.keys()}
        value["since"] = datetime.fromisoformat(value["since"])
        return cls(token=record.token, age=record.age, **value)

    def __str__(self) -> str:
        """Say who holds the lease, where and since when."""
        doing = f", at change {self.change_id!r}" if self.change_id else ""
        since = self.since.isoformat(timespec="seconds")
        return f"{self.host or 'unknown host'} (process {self.pid}) since {since}{doing}"


_IN_RECORD = {"token", "age"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """
    A change whose last state needs a person.

    :ivar issue_id: the id of the entry that left the change in doubt
    :ivar error: the stored error of that entry
    """

    service: str
    issue_id: str
    change_id: str
    state: AuditState
    target_system_id: str | None
    error: str | None
    created_at: datetime
    status: IssueStatus = IssueStatus.OPEN
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolution: Resolution | None = None
    reason: str | None = None

    def to_document(self) -> dict[str, str | None]:
        """Return the issue under its stored names."""
        values = {_camel(f.name): getattr(self, f.name) for f in fields(self)}
        return values | {
            "createdAt": _stored_time(self.created_at),
            "resolvedAt": _stored_time(self.resolved_at),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Restore an issue from :meth:`to_document`; unknown names are ignored."""
        values: dict[str, Any] = {f.name: document.get(_camel(f.name)) for f in fields(cls)}
        for name, read in _ISSUE_READERS.items():
            if values[name] is not None:
                values[name] = read(values[name])

        return cls(**values)


_ISSUE_READERS: dict[str, Any] = {
    "state": AuditState,
    "status": IssueStatus,
    "resolution": Resolution,
    "created_at": datetime.fromisoformat,
    "resolved_at": datetime.fromisoformat,
}

ISSUE_COLUMNS: tuple[str, ...] = tuple(_camel(f.name) for f in fields(Issue))
"""The names of what :meth:`Issue.to_document` returns, all of them texts."""
