from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from aflamingock import _events, exceptions
from aflamingock.cli import _command, _errors, _moment, _output, _progress

from .conftest import Project

EVENT: dict[str, Any] = {"service": "default", "execution_id": "e"}
CHANGE: dict[str, Any] = EVENT | {"stage": "main", "change_id": "create-users", "attempt": 1}
NASTY = "a\x1b[31mb\x00\x9b2J\u202ec\r\n\td\x7f\ud800[bold]"


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    assert _output.printable(NASTY) == "a[31mb2Jc\n\td[bold]"
    assert _output.cell(NASTY) == "a[31mb2Jc d[bold]"


def test_cells_are_one_line() -> None:
    moment = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)

    assert [_output.cell(value) for value in (None, moment, 1.5, 3, "a\nb")] == [
        "",
        "2026-11-22T10:00:00Z",
        "1.500",
        "3",
        "a b",
    ]


def test_a_document_is_printed_in_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    _output.show_document({"text": NASTY})

    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert "\x7f" not in out


def test_a_table_on_a_terminal_takes_text_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    table = _output.Table(columns=("A", "[b]"), rows=[("APPLIED", NASTY)], empty="")

    _output.show(_output.Answer(document={}, parts=[table]))

    out = capsys.readouterr().out
    assert "a[31mb2Jc d[bold]" in out
    assert "[b]" in out


@pytest.mark.parametrize(("width", "is_table"), [("100", True), ("50", True), ("40", False)])
def test_where_a_table_could_not_be_read_there_is_a_line_for_each_cell(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    width: str,
    is_table: bool,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", width)
    rows = [(1, "create-users", "APPLIED", None, "x" * 60), (2, NASTY, "FAILED", "me", "")]
    table = _output.Table(columns=("NUMBER", "CHANGE", "STATE", "BY", "E"), rows=rows, empty="")

    _output.show(_output.Answer(document={}, parts=[table]))

    out = capsys.readouterr().out
    assert ("─" in out) is is_table
    if not is_table:
        assert out.splitlines() == [
            *("NUMBER: 1", "CHANGE: create-users", "STATE: APPLIED", f"E: {'x' * 60}", ""),
            *("NUMBER: 2", "CHANGE: a[31mb2Jc d[bold]", "STATE: FAILED", "BY: me"),
        ]


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (exceptions.ConfigurationError("x"), 2),
        (exceptions.ChangeFailedError("x", change_id="a", file=None), 1),
        (exceptions.ManualInterventionError("x", issues=[]), 4),
        (exceptions.LockTimeoutError("x", holder=None), 5),
        (exceptions.LockLostError("x"), 5),
        (exceptions.AuditStoreConnectionError("x"), 6),
        (exceptions.AuditStorePermissionError("x"), 6),
        (exceptions.SystemBusyError("x"), 6),
        (exceptions.DriftError(["x"]), 7),
        (exceptions.OutOfOrderError(["x"]), 7),
        (_errors.Interrupted(), 130),
        (ValueError("x"), 1),
    ],
)
def test_every_error_has_its_exit_code(exc: Exception, code: int) -> None:
    assert _errors.exit_code(exc) == code
    assert _errors.document(exc)["error"]["exitCode"] == code


def test_progress_in_a_pipe_is_a_line_for_each_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with _progress.progress(quiet=False) as tell:
        tell(_events.RunStarted(**EVENT))
        tell(_events.WaitingForLease(**EVENT, holder="shop-1\x1b", waited=10.2))
        tell(_events.RunPlanned(**EVENT, pending=1))
        tell(_events.StageStarted(**EVENT, stage="main"))
        tell(_events.ChangeStarted(**CHANGE | {"attempt": 2}))
        tell(_events.ChangeApplied(**CHANGE, duration=0.5))
        tell(_events.ChangeFailed(**CHANGE, error=ValueError("no way")))
        tell(_events.ChangeRolledBack(**CHANGE))

    assert capsys.readouterr().err.splitlines() == [
        "waiting for 10 s: the lease is held by shop-1",
        "main/create-users: started (attempt 2)",
        "main/create-users: applied in 0.50 s",
        "main/create-users: rolled back",
    ]


def test_quiet_progress_tells_only_on_whom_it_waits(capsys: pytest.CaptureFixture[str]) -> None:
    with _progress.progress(quiet=True) as tell:
        tell(_events.ChangeStarted(**CHANGE))
        tell(_events.WaitingForLease(**EVENT, holder="shop-1", waited=0))

    assert capsys.readouterr().err == "waiting: the lease is held by shop-1\n"


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Progress] = []
    start = Progress.start

    def record(bar: Progress) -> None:
        made.append(bar)
        start(bar)

    monkeypatch.setattr(Progress, "start", record)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with _progress.progress(quiet=False) as tell:
        tell(_events.RunPlanned(**EVENT, pending=2))
        tell(_events.ChangeStarted(**CHANGE))
        tell(_events.ChangeApplied(**CHANGE, duration=0.5))

    (bar,) = made
    assert isinstance(bar.console, Console)
    assert bar.tasks[0].completed == 1
    assert bar.tasks[0].total == 2
    assert bar.tasks[0].description == "main/create-users: started"


def test_a_time_without_a_zone_is_local() -> None:
    assert _moment.moment("2026-11-22T10:00") == datetime(2026, 11, 22, 10).astimezone()
    assert _moment.moment("2026-11-22T10:00+00:00") == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert _moment.moment("1 day ago") < datetime.now(UTC)


def test_the_log_is_shown_when_asked_for_and_never_on_the_result(project: Project) -> None:
    project.write(
        1,
        "create-users",
        execute='__import__("logging").getLogger("shop").info("said \\x1b[2J this")',
    )

    quiet = project.call("apply", "--service", "a")
    told = project.call("apply", "--service", "b", "-v")

    assert "said" not in quiet.err
    assert "INFO shop: said [2J this" in told.err
    assert "said" not in told.out
    assert logging.getLogger().level == logging.WARNING


def test_a_log_entry_that_cannot_be_written_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)

    _command.LogHandler().emit(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))

    assert capsys.readouterr().err == ""


def test_help_and_version_are_plain(project: Project) -> None:
    told = project.call("--help", options=[])

    assert told.code == 0
    assert "apply" in told.out
    assert told.out.isascii()
    assert "--guidance" in project.call("issue", "get", "--help", options=[]).out
    assert project.call("--version", options=[]).out.startswith("aflamingock")


@pytest.mark.parametrize(
    "line", [["aply"], ["apply", "--stor", "x"], ["undo", "--last", "two"], ["audit", "fix"]]
)
def test_a_mistyped_line_is_exit_code_2(project: Project, line: list[str]) -> None:
    told = project.call(*line, options=[])
    document = project.call(*line, "--json", options=[]).document

    assert told.code == 2
    assert told.out == ""
    assert "Error: " in told.err
    assert document["error"]["type"] == "UsageError"
    assert document["error"]["exitCode"] == 2


def test_no_command_at_all_shows_the_help(project: Project) -> None:
    told = project.call(options=[])

    assert "Usage: aflamingock" in told.out + told.err
