"""A run is killed at every point once: before and after everything that it makes durable."""

from __future__ import annotations

import signal
from collections.abc import Iterable

import pytest

from aflamingock import ManualInterventionError, Resolution

from .kit import LOOK, NON_TX, RETRIED, Project, without_repeats

pytestmark = pytest.mark.processes

IDS = ("a", "b", "c")
LINES = ["a", "a to its end", "b", "b to its end", "c", "c to its end"]


def points(*steps: str) -> list[str]:
    return [f"{side} {step}" for step in steps for side in ("before", "after")]


SHARED = points("create", "grant", *["STARTED", "APPLIED", "commit"] * 3, "CHECKPOINT", "release")
MARKED = points(
    *("create", "grant", "STARTED"),
    *["commit", "APPLIED STARTED", "commit"] * 2,  # the change's, and the removal of its marker
    *("commit", "APPLIED CHECKPOINT", "commit", "release"),
)
ALONE = points(
    *("create", "grant", "STARTED", "APPLIED STARTED", "APPLIED STARTED"),
    *("APPLIED CHECKPOINT", "release"),
)
UNDO_SHARED = points("grant", "ROLLBACK_STARTED", "ROLLED_BACK", "commit", "release")
UNDO_MARKED = points("grant", "ROLLBACK_STARTED", "commit", "ROLLED_BACK", "commit", "release")
TX_POINTS: dict[str, list[str]] = {"one file": SHARED, "two files": MARKED}
TX_UNDO_POINTS: dict[str, list[str]] = {"one file": UNDO_SHARED, "two files": UNDO_MARKED}
TX_NAMES: dict[str, str] = {"one file": "shared", "two files": "marker"}


def each(name: str, passed: Iterable[str], *values: str) -> list:
    """Return the number of each point as the last parameter, and its name in the test's id."""
    return [
        pytest.param(*values, number, id=f"{name}-{number}-{point.replace(' ', '-')}")
        for number, point in enumerate(passed, 1)
    ]


def each_tx(all_points: dict[str, list[str]]) -> list:
    return [
        param
        for layout, passed in all_points.items()
        for param in each(TX_NAMES[layout], passed, layout)
    ]


def kill_at(project: Project, number: int, passed: list[str], **options: object) -> None:
    runner = project.run(ends_with=-signal.SIGKILL, point=number, **options)
    assert runner.points == passed[:number]


@pytest.mark.parametrize("layout", list(TX_POINTS))
def test_these_are_all_points_of_transactional_changes(project: Project, layout: str) -> None:
    project.layout = layout
    project.add_transactional(*IDS)

    assert project.run().points == TX_POINTS[layout]
    assert project.run(undo={"last": 1}).points == TX_UNDO_POINTS[layout]


def test_these_are_all_points_of_other_changes(project: Project) -> None:
    project.add(*IDS, code=NON_TX)

    assert project.run().points == ALONE


def check_committed_once(project: Project) -> None:
    assert project.rows == list(IDS)
    assert project.log()[-1] == "CHECKPOINT"
    for id in IDS:
        *before, last = project.states(id)
        assert before == [f"STARTED {attempt}" for attempt in range(1, len(before) + 1)]
        assert last in (f"APPLIED {attempt}" for attempt in range(1, len(before) + 1))


@pytest.mark.parametrize(("layout", "number"), each_tx(TX_POINTS))
def test_a_transactional_change_is_committed_once_wherever_the_run_is_killed(
    project: Project, layout: str, number: int
) -> None:
    project.layout = layout
    project.add_transactional(*IDS)
    kill_at(project, number, TX_POINTS[layout])

    project.run_here()

    check_committed_once(project)
    assert all(len(project.states(id)) <= 3 for id in IDS)


COMMITTED = MARKED.index("after commit") + 1
UNCOMMITTED = MARKED.index("before commit") + 1
RECOVERY = points("grant", "commit", "APPLIED", "commit", "STARTED")
REPETITION = points("grant", "commit", "STARTED", "commit", "APPLIED STARTED", "commit")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *[
            pytest.param(COMMITTED, number, id=f"committed-{number}-{point.replace(' ', '-')}")
            for number, point in enumerate(RECOVERY, 1)
        ],
        *[
            pytest.param(UNCOMMITTED, number, id=f"not-{number}-{point.replace(' ', '-')}")
            for number, point in enumerate(REPETITION, 1)
        ],
    ],
)
def test_a_marked_change_is_committed_once_wherever_the_recovery_is_killed_too(
    project: Project, first: int, second: int
) -> None:
    project.layout = "two files"
    project.add_transactional(*IDS)
    kill_at(project, first, MARKED)
    kill_at(project, second, RECOVERY if first == COMMITTED else REPETITION)

    project.run_here()

    check_committed_once(project)


@pytest.mark.parametrize(("layout", "number"), each_tx(TX_UNDO_POINTS))
def test_after_a_killed_undo_a_run_finds_the_change_applied_or_applies_it(
    project: Project, layout: str, number: int
) -> None:
    project.layout = layout
    project.add_transactional(*IDS)
    project.run_here()
    kill_at(project, number, TX_UNDO_POINTS[layout], undo={"last": 1})

    project.run_here()

    assert project.rows == list(IDS)
    assert project.log()[-1] == "CHECKPOINT"
    assert project.states("b") == ["STARTED 1", "APPLIED 1"]
    assert project.states("c")[-1] in ("APPLIED 1", "APPLIED 2", *unfinished(number))


def unfinished(number: int) -> tuple[str, ...]:
    """Return how an undo that was not committed may end in the log."""
    return () if number < 4 else ("ROLLBACK_STARTED 1", "ROLLBACK_FAILED 1")


@pytest.mark.parametrize("number", each("verify", ALONE))
def test_with_verify_a_change_is_executed_once_wherever_the_run_is_killed(
    project: Project, number: int
) -> None:
    project.add(*IDS, code=NON_TX + LOOK)
    kill_at(project, number, ALONE)

    project.run_here()

    assert project.lines == LINES
    assert project.log()[-1] == "CHECKPOINT"
    assert all(project.states(id)[-1] in ("APPLIED 1", "APPLIED 2") for id in IDS)


@pytest.mark.parametrize("number", each("retry", ALONE))
def test_with_always_retry_a_change_is_executed_at_least_once_wherever_the_run_is_killed(
    project: Project, number: int
) -> None:
    project.add(*IDS, code=NON_TX, options=RETRIED)
    kill_at(project, number, ALONE)
    left_open = project.log()[-1:] == ["STARTED 1"]

    project.run_here()

    assert without_repeats(project.lines) == LINES
    assert project.log()[-1] == "CHECKPOINT"
    again = [id for id in IDS if project.states(id) == ["STARTED 1", "STARTED 2", "APPLIED 2"]]
    once = [id for id in IDS if project.states(id) == ["STARTED 1", "APPLIED 1"]]
    assert len(again) == left_open
    assert sorted(again + once) == list(IDS)


@pytest.mark.parametrize("number", each("manual", ALONE))
def test_with_manual_intervention_nothing_is_executed_twice_wherever_the_run_is_killed(
    project: Project, number: int
) -> None:
    project.add(*IDS, code=NON_TX)
    kill_at(project, number, ALONE)
    log, lines = project.log(), project.lines

    if log[-1:] == ["STARTED 1"]:
        with pytest.raises(ManualInterventionError) as caught:
            project.run_here()

        (issue,) = caught.value.issues
        assert (project.log(), project.lines) == (log, lines)
        done = f"{issue.change_id} to its end" in lines
        project.resolve(issue.change_id, Resolution.APPLIED if done else Resolution.ROLLED_BACK)

    project.run_here()

    assert project.lines == LINES
    assert project.log()[-1] == "CHECKPOINT"
    assert project.issues() == []
