"""What a run did, and how it reads."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from aflamingock._report import (
    ChangeReport,
    ChangeStatus,
    Progress,
    RunReport,
    RunStatus,
    StageReport,
)

_APPLIED = ChangeReport(
    change_id="add",
    stage="main",
    author="ann",
    target_system="db",
    file="changes/_0001__add.py",
    status=ChangeStatus.APPLIED,
    attempt=2,
    duration=0.12345678,
)
_OLD = ChangeReport(change_id="old", stage="main", status=ChangeStatus.ALREADY_APPLIED)
_FAILED = ChangeReport(
    change_id="drop",
    stage="later",
    file="changes/_0002__drop.py",
    status=ChangeStatus.ROLLED_BACK,
    error="LookupError: no such table",
)
_REST = ChangeReport(change_id="rest", stage="later", status=ChangeStatus.NOT_REACHED)


def _report(*changes: ChangeReport, status: RunStatus = RunStatus.SUCCESS, **values) -> RunReport:
    names = dict.fromkeys(change.stage for change in changes)
    return RunReport(
        service="shop",
        execution_id="run",
        status=status,
        started_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        duration=1.239,
        stages=tuple(
            StageReport(name=name, changes=tuple(c for c in changes if c.stage == name))
            for name in names
        ),
        **values,
    )


def test_the_changes_of_all_stages_come_in_order():
    assert list(_report(_APPLIED, _OLD, _FAILED).changes()) == [_APPLIED, _OLD, _FAILED]


def test_applied_is_what_this_run_applied():
    assert _report(_APPLIED, _OLD, _FAILED).applied == (_APPLIED,)


def test_changes_are_found_by_what_became_of_them():
    report = _report(_APPLIED, _OLD, _FAILED, _REST)

    assert report.with_status(ChangeStatus.NOT_REACHED) == (_REST,)
    assert report.with_status(ChangeStatus.FAILED) == ()


class TestSummary:
    def test_it_counts_what_became_of_changes(self):
        report = _report(_APPLIED, _OLD, _FAILED, _REST, status=RunStatus.FAILED)

        assert report.summary == (
            "Failed: 1 applied, 1 already applied, 1 rolled back, 1 not reached in 1.24 s"
        )

    def test_without_stages_there_is_no_change(self):
        report = _report(status=RunStatus.NOTHING_TO_DO)

        assert report.summary == "Nothing to do: no change in 1.24 s"

    def test_what_was_not_done_is_told_as_such(self):
        planned = ChangeReport(
            change_id="add", stage="main", status=ChangeStatus.WOULD_ROLL_BACK, author="ann"
        )
        report = _report(planned, planned, status=RunStatus.DRY_RUN)

        assert report.summary == "Dry run: 2 would be rolled back; nothing was done"
        assert str(report).splitlines()[1] == "  main/add: would be rolled back"

    def test_a_lost_lock_reads_as_words(self):
        assert _report(status=RunStatus.LOCK_LOST).summary.startswith("Lock lost: ")


def test_as_text_each_change_that_was_worked_on_has_a_line():
    report = _report(_APPLIED, _OLD, _FAILED, _REST, status=RunStatus.FAILED)

    assert str(report).splitlines() == [
        "Failed: 1 applied, 1 already applied, 1 rolled back, 1 not reached in 1.24 s",
        "  main/add: applied",
        "  later/drop: rolled back: LookupError: no such table (changes/_0002__drop.py)",
        "  later/rest: not reached",
    ]


def test_an_error_without_a_file_has_no_place():
    failed = ChangeReport(change_id="x", stage="main", status=ChangeStatus.FAILED, error="E")

    assert str(_report(failed)).splitlines()[1] == "  main/x: failed: E"


def test_it_reads_as_json():
    report = _report(_APPLIED, warnings=("Take care.",))

    assert json.loads(json.dumps(report.to_dict())) == {
        "service": "shop",
        "executionId": "run",
        "status": "SUCCESS",
        "startedAt": "2026-03-01T12:00:00+00:00",
        "durationSeconds": 1.239,
        "summary": "Success: 1 applied in 1.24 s",
        "stages": [
            {
                "name": "main",
                "changes": [
                    {
                        "changeId": "add",
                        "author": "ann",
                        "targetSystem": "db",
                        "file": "changes/_0001__add.py",
                        "status": "APPLIED",
                        "attempt": 2,
                        "durationSeconds": 0.123457,
                        "error": None,
                    }
                ],
            }
        ],
        "warnings": ["Take care."],
    }


@pytest.mark.parametrize("member", [*ChangeStatus, *RunStatus])
def test_the_name_of_a_status_is_its_value(member):
    assert member.name == member.value


def test_before_a_run_progress_is_idle():
    assert Progress() == Progress(state="idle", done=0, total=0, change_id=None, holder=None)
