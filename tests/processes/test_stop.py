"""A process is stopped for longer than its lease, another takes over, and then it goes on."""

from __future__ import annotations

import platform
import signal

import pytest

from .kit import LONG, NON_TX, RETRIED, SHORT, Project
from .process import Runner

pytestmark = pytest.mark.processes


LINES = ["a", "a to its end", "b", "b to its end"]
OVER, STILL_PAUSING = 2, 60

# goes on without waiting for anything, once its pause is over
PROMPT = (
    NON_TX.partition("    async def tell")[0]
    + """
    async def tell(self, folder, line):
        with (folder / "effects.txt").open("a") as effects:
            effects.write(line + "\\n")
"""
)


def stop_at(project: Project, place: str, seconds: float, **options: object) -> Runner:
    """Start a process and stop it where it pauses in the middle of a change."""
    runner = project.start(lock=SHORT, pauses={place: seconds}, **options)
    runner.wait_for(f"at {place}")
    runner.send(signal.SIGSTOP)
    return runner


def stop_at_point(project: Project, number: int, point: str) -> Runner:
    """Start a process that stops itself between two awaits."""
    runner = project.start(lock=SHORT, point=number, signal="SIGSTOP")
    runner.wait_until_stopped()
    runner.wait_for_point(number)
    assert runner.points[-1] == point
    return runner


def check_is_fenced(runner: Runner) -> None:
    """Let a process go on, and see it end by the loss of its lease."""
    runner.send(signal.SIGCONT)
    assert runner.end() == 5, runner.output
    assert "raised LockLostError" in runner.output
    assert "at execute b" not in runner.output


def names_of(runner: Runner) -> tuple[str, str]:
    """Return what tells a waiting process on whom it waits."""
    return platform.node(), f"(process {runner.pid})"


def start_waiting_for(project: Project, stopped: Runner) -> Runner:
    """Start a process that takes the lease over, and waits for a stopped one's transaction."""
    runner = project.start(lock=LONG)
    runner.wait_for("is taken over from", *names_of(stopped))
    runner.wait_for("locked by somebody else's transaction", "Waiting for", *names_of(stopped))
    return runner


@pytest.mark.parametrize("seconds", [OVER, STILL_PAUSING])
@pytest.mark.parametrize(
    ("options", "place", "before", "later"),
    [
        ({}, "execute a", ["a"], ["STARTED 1"]),
        (
            {"failing": ["execute a"]},
            "rollback a",
            ["a", "not a"],
            ["STARTED 1", "FAILED 1", "ROLLBACK_STARTED 1", "ROLLBACK_STARTED 1", "ROLLED_BACK 1"],
        ),
    ],
    ids=["execute", "rollback"],
)
def test_who_was_stopped_for_too_long_executes_nothing_more_and_writes_nothing(
    project: Project,
    options: dict[str, object],
    place: str,
    before: list[str],
    later: list[str],
    seconds: int,
) -> None:
    project.add("a", "b", code=PROMPT, options=RETRIED)
    first = stop_at(project, place, seconds, **options)

    second = project.run(lock=LONG)

    second.wait_for("is taken over from", *names_of(first))
    log, lines = project.log(), project.lines
    assert project.states("a") == [*later, "STARTED 2", "APPLIED 2"]
    assert log[-1] == "CHECKPOINT"
    assert lines[: len(before)] == before
    assert lines[-4:] == LINES

    check_is_fenced(first)

    assert (project.log(), project.lines) == (log, lines)


@pytest.mark.parametrize("seconds", [OVER, STILL_PAUSING])
@pytest.mark.parametrize("layout", ["one file", "separate", "two files"])
def test_a_stopped_transaction_is_waited_for_by_name_and_rolled_back_when_it_goes_on(
    project: Project, layout: str, seconds: int
) -> None:
    project.layout = layout
    project.add_transactional("a", "b")
    first = stop_at(project, "execute a", seconds)

    second = start_waiting_for(project, first)
    assert project.states("a") == ["STARTED 1"]

    check_is_fenced(first)
    assert second.end() == 0, second.output

    assert "database is locked" not in second.output
    assert project.rows == ["a", "b"]
    assert project.states("a") == ["STARTED 1", "STARTED 2", "APPLIED 2"]
    assert project.log()[-1] == "CHECKPOINT"


@pytest.mark.parametrize(
    ("layout", "number", "point"),
    [
        ("one file", 9, "before commit"),
        ("two files", 7, "before commit"),
        ("two files", 11, "before commit"),  # the removal of its marker
    ],
)
def test_what_a_stopped_process_still_commits_counts_and_is_not_done_again(
    project: Project, layout: str, number: int, point: str
) -> None:
    project.layout = layout
    project.add_transactional("a", "b")
    first = stop_at_point(project, number, point)

    second = start_waiting_for(project, first)
    check_is_fenced(first)
    assert second.end() == 0, second.output

    assert project.rows == ["a", "b"]
    assert project.states("a") == ["STARTED 1", "APPLIED 1"]
    assert "at execute a" not in second.output
    assert project.log()[-1] == "CHECKPOINT"


def test_an_entry_that_was_stopped_within_its_transaction_shares_its_fate(
    project: Project,
) -> None:
    project.add_transactional("a", "b")
    first = stop_at_point(project, 7, "before APPLIED")

    second = start_waiting_for(project, first)
    check_is_fenced(first)
    assert second.end() == 0, second.output

    assert project.rows == ["a", "b"]
    committed = "after commit" in first.points  # or cut off before, by the loss of the lease
    again = ["STARTED 1", "STARTED 2", "APPLIED 2"]
    assert project.states("a") == (["STARTED 1", "APPLIED 1"] if committed else again)


@pytest.mark.parametrize(
    ("layout", "number", "point"),
    [
        ("one file", 5, "before STARTED"),
        ("two files", 5, "before STARTED"),
        ("two files", 9, "before APPLIED STARTED"),
    ],
)
def test_an_entry_of_a_stopped_process_is_refused_when_it_goes_on(
    project: Project, layout: str, number: int, point: str
) -> None:
    project.layout = layout
    project.add_transactional("a", "b")
    first = stop_at_point(project, number, point)

    project.run(lock=LONG)
    log = project.log()
    check_is_fenced(first)

    assert project.log() == log
    assert project.rows == ["a", "b"]
    assert project.states("a") == ["STARTED 1", "APPLIED 1"]
    assert log[-1] == "CHECKPOINT"


@pytest.mark.parametrize(
    ("number", "point", "states", "lines"),
    [
        (5, "before STARTED", ["STARTED 1", "APPLIED 1"], LINES),
        (
            7,
            "before APPLIED STARTED",
            ["STARTED 1", "STARTED 2", "APPLIED 2"],
            LINES[:2] + LINES,
        ),
    ],
)
def test_an_entry_about_a_change_without_transaction_is_refused_as_well(
    project: Project, number: int, point: str, states: list[str], lines: list[str]
) -> None:
    project.add("a", "b", code=NON_TX, options=RETRIED)
    first = stop_at_point(project, number, point)

    project.run(lock=LONG)
    log = project.log()
    assert project.states("a") == states

    check_is_fenced(first)

    assert (project.log(), project.lines) == (log, lines)
