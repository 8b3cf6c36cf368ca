"""What a process killed with -9 leaves behind, and what the next start makes of it."""

from __future__ import annotations

import signal

import pytest

from aflamingock import ManualInterventionError, Resolution

from .kit import NON_TX, RETRIED, VERIFY, Project
from .process import Runner

pytestmark = pytest.mark.processes

LAYOUTS: tuple[str, ...] = ("one file", "separate", "two files")
HALF, WHOLE = ["a"], ["a", "a to its end"]
TAKEN_BACK = ["not a", "not a to its end"]


def kill_at(project: Project, place: str, **options: object) -> Runner:
    """Start a process and kill it where it is in the middle of a change."""
    runner = project.start(pauses={place: 60}, **options)
    runner.wait_for(f"at {place}")
    runner.kill()
    assert runner.end() == -signal.SIGKILL
    return runner


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_transaction_that_was_not_committed_is_made_again_by_the_next_start(
    project: Project, layout: str
) -> None:
    project.layout = layout
    project.add_transactional("a", "b")
    kill_at(project, "execute a")
    assert project.log() == ["STARTED 1"]

    runner = project.run()

    assert "is taken over from" in runner.output
    assert project.states("a") == ["STARTED 1", "STARTED 2", "APPLIED 2"]
    assert project.states("b") == ["STARTED 1", "APPLIED 1"]
    assert project.log()[-1] == "CHECKPOINT"
    assert project.rows == ["a", "b"]
    assert project.issues() == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_undo_that_was_not_committed_leaves_the_change_applied(
    project: Project, layout: str
) -> None:
    project.layout = layout
    project.add_transactional("a", "b")
    project.run_here()
    kill_at(project, "rollback b", undo={"last": 1})
    assert project.states("b") == ["STARTED 1", "APPLIED 1", "ROLLBACK_STARTED 1"]

    project.run_here()

    assert project.rows == ["a", "b"]
    assert project.states("b")[:3] == ["STARTED 1", "APPLIED 1", "ROLLBACK_STARTED 1"]
    assert "STARTED 2" not in project.states("b")
    assert project.log()[-1] == "CHECKPOINT"
    assert project.issues() == []


def test_an_undo_takes_back_first_what_a_killed_process_has_committed_last(
    project: Project,
) -> None:
    project.layout = "two files"
    project.add_transactional("a", "b")
    killed = project.run(ends_with=-signal.SIGKILL, point=14)  # APPLIED of b is not in the log
    assert killed.points[-3:] == ["after commit", "before commit", "after commit"]
    assert project.rows == ["a", "b"]
    assert project.states("b") == ["STARTED 1"]

    project.undo_here(last=1)

    assert project.rows == ["a"]
    assert project.states("a") == ["STARTED 1", "APPLIED 1"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_undo_that_was_not_committed_can_be_begun_again(project: Project, layout: str) -> None:
    project.layout = layout
    project.add_transactional("a", "b")
    project.run_here()
    kill_at(project, "rollback b", undo={"last": 1})

    project.undo_here(last=1)

    assert project.rows == ["a"]
    assert project.states("a") == ["STARTED 1", "APPLIED 1"]
    assert project.states("b")[-2:] == ["ROLLBACK_STARTED 1", "ROLLED_BACK 1"]


@pytest.mark.parametrize("options", ["", RETRIED], ids=["manual", "retry"])
@pytest.mark.parametrize("place", ["execute", "rollback", "undo"])
@pytest.mark.parametrize("answer", ["APPLIED", "NOT_APPLIED"])
def test_verify_decides_whatever_the_recovery_is(
    project: Project, options: str, place: str, answer: str
) -> None:
    project.add("a", code=NON_TX + VERIFY, options=options)
    before = leave_unfinished(project, place)
    done = project.lines
    (project.folder / "answer").write_text(answer)

    project.run_here()

    entries = project.entries()
    later = project.states("a")[len(before) :]
    if answer == "APPLIED":
        assert later == ["APPLIED 1"]
        assert project.lines == done
        assert entries[len(before) + (place == "undo")].metadata == {"resolution": "verify"}
    else:
        assert later == ["STARTED 2", "APPLIED 2"]
        assert project.lines == done + WHOLE

    assert entries[-1].type == "CHECKPOINT"
    assert project.issues() == []


@pytest.mark.parametrize("code", [NON_TX, NON_TX + VERIFY], ids=["no verify", "verify says partly"])
@pytest.mark.parametrize(
    ("place", "later", "lines"),
    [
        ("execute", ["STARTED 2", "APPLIED 2"], WHOLE),
        (
            "rollback",
            ["ROLLBACK_STARTED 1", "ROLLED_BACK 1", "STARTED 2", "APPLIED 2"],
            TAKEN_BACK + WHOLE,
        ),
        (
            "undo",
            ["ROLLBACK_STARTED 1", "ROLLED_BACK 1", "STARTED 2", "APPLIED 2"],
            TAKEN_BACK + WHOLE,
        ),
    ],
    ids=["execute", "rollback", "undo"],
)
def test_with_always_retry_what_was_left_half_done_is_done_again(
    project: Project, code: str, place: str, later: list[str], lines: list[str]
) -> None:
    project.add("a", code=code, options=RETRIED)
    before = leave_unfinished(project, place)
    done = project.lines
    (project.folder / "answer").write_text("PARTIAL")

    project.run_here()

    assert project.states("a") == before + later
    assert project.lines == done + lines
    assert project.log()[-1] == "CHECKPOINT"
    assert project.issues() == []


@pytest.mark.parametrize("code", [NON_TX, NON_TX + VERIFY], ids=["no verify", "verify raises"])
@pytest.mark.parametrize("place", ["execute", "rollback", "undo"])
@pytest.mark.parametrize("resolution", list(Resolution))
def test_with_manual_intervention_nothing_runs_until_a_person_has_resolved_it(
    project: Project, code: str, place: str, resolution: Resolution
) -> None:
    project.add("a", "b", code=code)
    before = leave_unfinished(project, place)
    done, log = project.lines, project.log()

    with pytest.raises(ManualInterventionError, match="'a'"):
        project.run_here()

    assert project.log() == log
    assert project.lines == done
    (issue,) = project.issues()
    state = before[-1].split()[0]
    assert (issue.change_id, issue.state) == ("a", state)
    assert project.kept_issues() == {state: "OPEN"}

    project.resolve("a", resolution)
    project.run_here()

    marked = f"MANUAL_MARKED_AS_{resolution} 1"
    again = ["STARTED 2", "APPLIED 2"] if resolution is Resolution.ROLLED_BACK else []
    assert project.states("a") == [*before, marked, *again]
    assert [line for line in project.lines[len(done) :] if "b" not in line] == (
        WHOLE if again else []
    )
    assert project.log()[-1] == "CHECKPOINT"
    assert project.issues() == []
    assert project.kept_issues() == {state: "RESOLVED"}


def leave_unfinished(project: Project, place: str) -> list[str]:
    """Kill a process where *place* says; return the states of the change then."""
    if place == "execute":
        kill_at(project, "execute a")
        assert project.lines == HALF
        assert project.states("a") == ["STARTED 1"]
    elif place == "rollback":
        kill_at(project, "rollback a", failing=["execute a"])
        assert project.lines == ["a", "not a"]
        assert project.states("a") == ["STARTED 1", "FAILED 1", "ROLLBACK_STARTED 1"]
    else:
        project.run_here()
        kill_at(project, "rollback a", undo={"change_id": "a"})
        assert project.lines[-1] == "not a"
        assert project.states("a") == ["STARTED 1", "APPLIED 1", "ROLLBACK_STARTED 1"]

    return project.states("a")
