"""Leases and issues, and the forms in which they are stored."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from aflamingock._records import Issue, Lease, Record
from aflamingock._states import AuditState, IssueStatus, Resolution

_MOMENT = datetime(2026, 3, 1, 12, 30, 45, 678000, tzinfo=UTC)

_LEASE = Lease(
    service="shop",
    owner="run",
    epoch=3,
    ttl=60.0,
    token="t",
    released=True,
    since=_MOMENT,
    host="db-1",
    pid=42,
    process={"boot": "b", "namespace": "n", "started": "1"},
    change_id="add-users",
    age=1.5,
)


class TestLease:
    def test_it_is_a_record_like_any_other(self):
        assert _LEASE.to_record() == Record(
            key="lease:shop",
            token="t",
            age=1.5,
            value={
                "service": "shop",
                "owner": "run",
                "epoch": 3,
                "ttl": 60.0,
                "released": True,
                "since": "2026-03-01T12:30:45.678+00:00",
                "host": "db-1",
                "pid": 42,
                "process": {"boot": "b", "namespace": "n", "started": "1"},
                "change_id": "add-users",
            },
        )

    def test_it_comes_back_through_json(self):
        record = _LEASE.to_record()
        read = replace(record, value=json.loads(json.dumps(record.value)))

        assert Lease.from_record(read) == _LEASE

    def test_what_a_later_version_adds_is_ignored(self):
        record = _LEASE.to_record()
        later = replace(record, value={**record.value, "later": 1})

        assert Lease.from_record(later) == _LEASE

    def test_the_token_and_the_age_are_those_of_the_record(self):
        record = _LEASE.to_record()
        odd = replace(record, value={**record.value, "token": "x", "age": 9.0})

        assert Lease.from_record(odd) == _LEASE

    def test_each_has_a_token_of_its_own(self):
        one, other = (Lease(service="s", owner="o", epoch=1, ttl=1.0) for _ in range(2))

        assert one.token != other.token

    def test_services_have_keys_of_their_own(self):
        assert Lease.key("one") != Lease.key("other")

    def test_it_says_who_holds_it_where_since_when_and_at_what(self):
        assert str(_LEASE) == (
            "db-1 (process 42) since 2026-03-01T12:30:45+00:00, at change 'add-users'"
        )

    def test_a_holder_may_be_unknown(self):
        lease = Lease(service="s", owner="o", epoch=1, ttl=1.0, since=_MOMENT)

        assert str(lease) == "unknown host (process 0) since 2026-03-01T12:30:45+00:00"


_ISSUE = Issue(
    service="shop",
    issue_id="e7",
    change_id="add-users",
    state=AuditState.FAILED,
    target_system_id="db",
    error="LookupError",
    created_at=_MOMENT,
    status=IssueStatus.RESOLVED,
    resolved_at=_MOMENT + timedelta(days=1),
    resolved_by="ann",
    resolution=Resolution.APPLIED,
    reason="I looked.",
)


class TestIssue:
    def test_its_stored_names_are_flamingocks(self):
        assert _ISSUE.to_document() == {
            "service": "shop",
            "issueId": "e7",
            "changeId": "add-users",
            "state": "FAILED",
            "targetSystemId": "db",
            "error": "LookupError",
            "createdAt": "2026-03-01T12:30:45.678+00:00",
            "status": "RESOLVED",
            "resolvedAt": "2026-03-02T12:30:45.678+00:00",
            "resolvedBy": "ann",
            "resolution": "APPLIED",
            "reason": "I looked.",
        }

    def test_it_comes_back_through_json(self):
        document = json.loads(json.dumps(_ISSUE.to_document()))
        read = Issue.from_document(document | {"_id": "from a database"})

        assert read == _ISSUE
        assert type(read.status) is IssueStatus

    def test_an_open_one_comes_back_as_it_was(self):
        issue = Issue(
            service="s",
            issue_id="i",
            change_id="c",
            state=AuditState.STARTED,
            target_system_id=None,
            error=None,
            created_at=_MOMENT,
        )

        assert issue.status is IssueStatus.OPEN
        assert Issue.from_document(issue.to_document()) == issue
