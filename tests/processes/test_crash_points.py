"""
A run is killed, or stopped, at every point once: before and after all that it makes durable.

A stopped one goes on when another has taken its place; it must find that out, and do nothing more.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster

from aflamingock import Resolution

from .interruption import (
    ALONE,
    MARKED,
    SHARED,
    UNDO_MARKED,
    UNDO_SHARED,
    Interruption,
    NewProject,
    beside_each_other,
    interrupt_at_each,
    points,
)
from .kit import LOOK, NON_TX, RETRIED, Project, without_repeats

pytestmark = pytest.mark.processes

IDS = ("a", "b")
LINES = ["a", "a to its end", "b", "b to its end"]


SHARING = ("one file", "mongodb", "postgresql")
MARKING = ("two files", "mongodb, log in postgresql", "postgresql, log in mongodb")
TX_POINTS = dict.fromkeys(SHARING, SHARED) | dict.fromkeys(MARKING, MARKED)
TX_UNDO_POINTS = dict.fromkeys(SHARING, UNDO_SHARED) | dict.fromkeys(MARKING, UNDO_MARKED)

each_signal = pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])


@pytest.fixture(autouse=True)
def unguarded(blockbuster: BlockBuster) -> Iterator[None]:
    """Let threads wait for each other, as for the turn to write to the standard output."""
    blockbuster.deactivate()
    yield
    blockbuster.activate()


@pytest.mark.parametrize("layout", list(TX_POINTS))
def test_these_are_all_points_of_transactional_changes(project: Project, layout: str) -> None:
    project.layout = layout
    project.add_transactional(*IDS)

    assert project.run().points == TX_POINTS[layout]
    assert project.run(undo={"last": 1}).points == TX_UNDO_POINTS[layout]


@pytest.mark.parametrize("layout", SHARING)
def test_these_are_all_points_of_other_changes(project: Project, layout: str) -> None:
    project.layout = layout
    project.add(*IDS, code=NON_TX)

    assert project.run().points == ALONE


def add_transactional(project: Project) -> None:
    project.add_transactional(*IDS)


def add_others(project: Project) -> None:
    project.add(*IDS, code=NON_TX)


def add_verified(project: Project) -> None:
    project.add(*IDS, code=NON_TX + LOOK)


def add_retried(project: Project) -> None:
    project.add(*IDS, code=NON_TX, options=RETRIED)


def check_committed_once(project: Project, *, attempts: int = 2) -> None:
    assert project.rows == list(IDS)
    for id in IDS:
        *before, last = project.states(id)
        assert len(before) <= attempts
        assert before == [f"STARTED {attempt}" for attempt in range(1, len(before) + 1)]
        assert last in (f"APPLIED {attempt}" for attempt in range(1, len(before) + 1))


@each_signal
@pytest.mark.parametrize("layout", list(TX_POINTS))
def test_a_transactional_change_is_committed_once_wherever_the_run_is_interrupted(
    new_project: NewProject, layout: str, number: signal.Signals
) -> None:
    def check(case: Interruption, point: int) -> None:
        case.follow()

        check_committed_once(case.project)
        assert case.is_over or case.project.log()[-1] == "CHECKPOINT"

    beside_each_other(
        check, interrupt_at_each(new_project, layout, number, TX_POINTS[layout], add_transactional)
    )


@each_signal
@pytest.mark.parametrize("layout", SHARING)
def test_with_verify_a_change_is_executed_once_wherever_the_run_is_interrupted(
    new_project: NewProject, layout: str, number: signal.Signals
) -> None:
    def check(case: Interruption, point: int) -> None:
        case.follow()

        assert case.project.lines == LINES
        assert case.project.log()[-1] == "CHECKPOINT"
        assert all(case.project.states(id)[-1] in ("APPLIED 1", "APPLIED 2") for id in IDS)

    beside_each_other(check, interrupt_at_each(new_project, layout, number, ALONE, add_verified))


@each_signal
@pytest.mark.parametrize("layout", SHARING)
def test_with_always_retry_a_change_is_executed_at_least_once_wherever_the_run_is_interrupted(
    new_project: NewProject, layout: str, number: signal.Signals
) -> None:
    def check(case: Interruption, point: int) -> None:
        project = case.project
        left_open = project.log()[-1:] == ["STARTED 1"]
        case.follow()

        assert without_repeats(project.lines) == LINES
        assert project.log()[-1] == "CHECKPOINT"
        states = {id: project.states(id) for id in IDS}
        again = [id for id in IDS if states[id] == ["STARTED 1", "STARTED 2", "APPLIED 2"]]
        once = [id for id in IDS if states[id] == ["STARTED 1", "APPLIED 1"]]
        assert len(again) == left_open
        assert sorted(again + once) == list(IDS)

    beside_each_other(check, interrupt_at_each(new_project, layout, number, ALONE, add_retried))


@each_signal
@pytest.mark.parametrize("layout", SHARING)
def test_with_manual_intervention_nothing_is_executed_twice_wherever_the_run_is_interrupted(
    new_project: NewProject, layout: str, number: signal.Signals
) -> None:
    def check(case: Interruption, point: int) -> None:
        project, lines = case.project, case.project.lines
        left_open = project.log()[-1:] == ["STARTED 1"]
        case.follow(ends_with=4 if left_open else 0)
        assert not left_open or project.lines == lines
        for issue in project.issues():
            done = f"{issue.change_id} to its end" in lines
            project.resolve(issue.change_id, Resolution.APPLIED if done else Resolution.ROLLED_BACK)
            project.run_here()

        assert project.lines == LINES
        assert project.log()[-1] == "CHECKPOINT"
        assert project.issues() == []

    beside_each_other(check, interrupt_at_each(new_project, layout, number, ALONE, add_others))


def add_applied(project: Project) -> None:
    project.add_transactional(*IDS)
    project.run_here()


@pytest.mark.parametrize("layout", list(TX_POINTS))
def test_after_a_killed_undo_a_run_finds_the_change_applied_or_applies_it(
    new_project: NewProject, layout: str
) -> None:
    def check(case: Interruption, point: int) -> None:
        case.follow()

        assert case.project.rows == list(IDS)
        # where nothing is left to do, nobody waits for the lease to note that
        waits = layout in MARKING or case.project.is_on_one_host
        assert not waits or case.project.log()[-1] == "CHECKPOINT"
        assert case.project.states("a") == ["STARTED 1", "APPLIED 1"]
        # how an undo that was not committed may end in the log
        unfinished = () if point < 4 else ("ROLLBACK_STARTED 1", "ROLLBACK_FAILED 1")
        assert case.project.states("b")[-1] in ("APPLIED 1", "APPLIED 2", *unfinished)

    passed = TX_UNDO_POINTS[layout]
    cases = interrupt_at_each(
        new_project, layout, signal.SIGKILL, passed, add_applied, undo={"last": 1}
    )
    beside_each_other(check, cases)


COMMITTED = MARKED.index("after commit") + 1
UNCOMMITTED = MARKED.index("before commit") + 1
RECOVERY = points("grant", "commit", "APPLIED", "commit", "STARTED")
REPETITION = points("grant", "commit", "STARTED", "commit", "APPLIED STARTED", "commit")


@pytest.mark.parametrize("layout", MARKING)
@pytest.mark.parametrize(
    ("first", "passed"),
    [(COMMITTED, RECOVERY), (UNCOMMITTED, REPETITION)],
    ids=["committed", "not committed"],
)
def test_a_marked_change_is_committed_once_wherever_the_recovery_is_killed_too(
    new_project: NewProject, layout: str, first: int, passed: list[str]
) -> None:
    def leave(project: Project) -> None:
        killed = Interruption(project, signal.SIGKILL, add_transactional)
        killed.come_to_pass(first, MARKED)
        if not project.is_on_one_host:
            time.sleep(killed.ttl)

    def check(case: Interruption, point: int) -> None:
        case.follow()

        check_committed_once(case.project, attempts=3)
        assert case.project.log()[-1] == "CHECKPOINT"

    beside_each_other(check, interrupt_at_each(new_project, layout, signal.SIGKILL, passed, leave))
