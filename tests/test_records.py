"""Entries of the log, and the forms in which they are stored."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from aflamingock._records import AuditEntry
from aflamingock._states import (
    AuditState,
    AuditType,
    IssueStatus,
    MarkerOutcome,
    Recovery,
    Resolution,
    TxStrategy,
    Verification,
)

_MOMENT = datetime(2026, 3, 1, 12, 30, 45, 678000, tzinfo=UTC)

_ENTRY = AuditEntry(
    service="shop",
    sequence=7,
    entry_id="e7",
    epoch=3,
    type=AuditType.EXECUTION,
    state=AuditState.ROLLBACK_FAILED,
    created_at=_MOMENT,
    execution_id="run",
    stage_id="main",
    change_id="add-users",
    change_order="0001",
    author="Ann Ö.",
    attempt=2,
    target_system_id="db",
    tx_strategy=TxStrategy.TX_SHARED,
    transaction_flag=True,
    recovery_strategy=Recovery.ALWAYS_RETRY,
    rollback_available=True,
    system_change=True,
    invoked_class="shop.changes.AddUsers",
    invoked_method="execute",
    source_file="changes/_0001__add_users.py",
    execution_millis=1234,
    execution_hostname="db-1",
    environment="production",
    initiated_by="ann",
    checksum="1:abc",
    metadata={"ticket": "SHOP-1", "nested": {"list": [1, 2.5, None, True]}},
    error_trace="Traceback …",
    digest="d7",
)


class TestEntry:
    def test_its_stored_names_are_flamingocks(self):
        assert _ENTRY.to_document() == {
            "service": "shop",
            "sequence": 7,
            "entryId": "e7",
            "epoch": 3,
            "type": "EXECUTION",
            "state": "ROLLBACK_FAILED",
            "createdAt": "2026-03-01T12:30:45.678+00:00",
            "executionId": "run",
            "stageId": "main",
            "changeId": "add-users",
            "changeOrder": "0001",
            "author": "Ann Ö.",
            "attempt": 2,
            "targetSystemId": "db",
            "txStrategy": "TX_SHARED",
            "transactionFlag": True,
            "recoveryStrategy": "ALWAYS_RETRY",
            "rollbackAvailable": True,
            "systemChange": True,
            "invokedClass": "shop.changes.AddUsers",
            "invokedMethod": "execute",
            "sourceFile": "changes/_0001__add_users.py",
            "executionMillis": 1234,
            "executionHostname": "db-1",
            "environment": "production",
            "initiatedBy": "ann",
            "checksum": "1:abc",
            "metadata": '{"nested": {"list": [1, 2.5, null, true]}, "ticket": "SHOP-1"}',
            "errorTrace": "Traceback …",
            "digest": "d7",
        }

    def test_it_comes_back_as_it_was(self):
        assert AuditEntry.from_document(_ENTRY.to_document()) == _ENTRY

    def test_the_least_entry_comes_back_as_it_was(self):
        least = AuditEntry(service="s", state=AuditState.STARTED, execution_id="e")

        assert AuditEntry.from_document(least.to_document()) == least

    def test_it_comes_back_through_json(self):
        document = json.loads(json.dumps(_ENTRY.to_document()))

        assert AuditEntry.from_document(document) == _ENTRY

    def test_what_comes_back_has_its_types(self):
        read = AuditEntry.from_document(_ENTRY.to_document() | {"transactionFlag": 1})

        assert type(read.state) is AuditState
        assert type(read.type) is AuditType
        assert type(read.tx_strategy) is TxStrategy
        assert type(read.recovery_strategy) is Recovery
        assert read.transaction_flag is True

    def test_unknown_names_are_ignored(self):
        document = _ENTRY.to_document() | {"_id": "from a database", "later": 1}

        assert AuditEntry.from_document(document) == _ENTRY

    @pytest.mark.parametrize(
        ("stored", "name"),
        [
            ("errorTrace", "error_trace"),
            ("changeId", "change_id"),
            ("checksum", "checksum"),
            ("attempt", "attempt"),
            ("metadata", "metadata"),
            ("txStrategy", "tx_strategy"),
            ("systemChange", "system_change"),
        ],
    )
    def test_missing_names_get_defaults(self, stored, name):
        document = _ENTRY.to_document()
        del document[stored]
        least = AuditEntry(service="s", state=AuditState.STARTED, execution_id="e")

        assert getattr(AuditEntry.from_document(document), name) == getattr(least, name)

    def test_a_time_is_stored_in_utc(self):
        east = replace(_ENTRY, created_at=_MOMENT.astimezone(timezone(timedelta(hours=9))))

        assert east.to_document() == _ENTRY.to_document()

    def test_a_new_entry_has_a_time_that_can_be_stored_and_an_id_of_its_own(self):
        one, other = (
            AuditEntry(service="s", state=AuditState.STARTED, execution_id="e") for _ in range(2)
        )

        assert one.created_at.microsecond % 1000 == 0
        assert one.created_at.tzinfo is UTC
        assert one.entry_id != other.entry_id


class TestDigest:
    def test_it_is_the_same_for_ever(self):
        assert _ENTRY.compute_digest("") == (
            "f25d993375dc31d7fd7152376c10e43e955d7f39c1effb0cd567e137e75f4800"
        )
        assert _ENTRY.compute_digest("before") == (
            "1a1cf95d471f175193e9692c729897a2586e929ae7730de70182153b7ef4cec5"
        )

    def test_it_survives_the_store(self):
        sealed = _ENTRY.sealed(sequence=8, previous="before")
        read = AuditEntry.from_document(json.loads(json.dumps(sealed.to_document())))

        assert read.compute_digest("before") == read.digest == sealed.digest

    def test_its_own_value_does_not_count(self):
        assert replace(_ENTRY, digest="other").compute_digest("") == _ENTRY.compute_digest("")

    @pytest.mark.parametrize("name", sorted({f.name for f in fields(AuditEntry)} - {"digest"}))
    def test_every_other_value_counts(self, name):
        changed: dict[str, Any] = {
            "type": AuditType.CHECKPOINT,
            "state": AuditState.APPLIED,
            "tx_strategy": TxStrategy.NON_TX,
            "recovery_strategy": Recovery.MANUAL_INTERVENTION,
            "created_at": _MOMENT + timedelta(milliseconds=1),
            "metadata": {},
            "sequence": 8,
            "epoch": 4,
            "attempt": 3,
            "execution_millis": 1,
            "transaction_flag": False,
            "rollback_available": False,
            "system_change": False,
        }
        other = replace(_ENTRY, **{name: changed.get(name, "other")})

        assert other.compute_digest("") != _ENTRY.compute_digest("")

    def test_what_came_before_counts(self):
        assert _ENTRY.compute_digest("one") != _ENTRY.compute_digest("other")

    def test_a_sealed_entry_has_number_epoch_and_digest(self):
        sealed = _ENTRY.sealed(sequence=8, previous="before", epoch=5)

        assert (sealed.sequence, sealed.epoch) == (8, 5)
        assert sealed.digest == sealed.compute_digest("before")
        assert replace(sealed, sequence=7, epoch=3, digest="d7") == _ENTRY

    def test_a_sealed_entry_keeps_its_epoch_where_none_is_given(self):
        assert _ENTRY.sealed(sequence=8, previous="").epoch == 3


@pytest.mark.parametrize(
    "member",
    [
        *AuditState,
        *AuditType,
        *TxStrategy,
        *Recovery,
        *Verification,
        *Resolution,
        *IssueStatus,
        *MarkerOutcome,
    ],
)
def test_the_name_of_a_word_is_its_value(member):
    assert member.name == member.value
