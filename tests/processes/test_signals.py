"""A process is told to end: SIGTERM, and Ctrl-C."""

from __future__ import annotations

import signal

import pytest

from .kit import NON_TX, Project
from .process import Runner

pytestmark = pytest.mark.processes

INTERRUPTED = 130
AT_ONCE = {"ttl": 60, "timeout": 1, "retry_interval": 0.1}
SIGNALS = [signal.SIGTERM, signal.SIGINT]


def interrupt_at(project: Project, place: str, number: signal.Signals, **options: object) -> Runner:
    runner = project.start(pauses={place: 60}, **options)
    runner.wait_for(f"at {place}")
    runner.send(number)
    assert runner.end() == INTERRUPTED, runner.output
    return runner


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupted_change_is_rolled_back_and_the_lease_is_given_back(
    project: Project, number: signal.Signals
) -> None:
    project.add("a", "b", code=NON_TX)

    interrupt_at(project, "execute a", number)

    log = ["STARTED 1", "FAILED 1", "ROLLBACK_STARTED 1", "ROLLED_BACK 1"]
    assert project.log() == log
    assert project.lines == ["a", "not a", "not a to its end"]
    assert "interrupted" in (project.entries()[1].error_trace or "")
    assert project.lease_is_free()

    project.run_here(lock=AT_ONCE)
    assert project.states("a") == [*log, "STARTED 2", "APPLIED 2"]
    assert project.lines[3:] == ["a", "a to its end", "b", "b to its end"]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("layout", ["one file", "separate", "two files"])
def test_an_interrupted_transaction_has_failed_and_the_lease_is_given_back(
    project: Project, layout: str, number: signal.Signals
) -> None:
    project.layout = layout
    project.add_transactional("a", "b")

    interrupt_at(project, "execute b", number)

    assert project.rows == ["a"]
    assert project.states("b") == ["STARTED 1", "FAILED 1"]
    assert project.lease_is_free()

    project.run_here(lock=AT_ONCE)
    assert project.rows == ["a", "b"]
    assert project.states("b") == ["STARTED 1", "FAILED 1", "STARTED 2", "APPLIED 2"]


def test_a_second_signal_does_not_cut_the_rollback_off(project: Project) -> None:
    project.add("a", code=NON_TX)
    runner = project.start(pauses={"execute a": 60, "rollback a": 1})
    runner.wait_for("at execute a")
    runner.send(signal.SIGTERM)
    runner.wait_for("at rollback a")
    runner.send(signal.SIGTERM)

    assert runner.end() == INTERRUPTED, runner.output

    assert project.log() == ["STARTED 1", "FAILED 1", "ROLLBACK_STARTED 1", "ROLLED_BACK 1"]
    assert project.lines == ["a", "not a", "not a to its end"]
    assert project.lease_is_free()


def test_a_signal_during_an_undo_does_not_cut_the_rollback_off(project: Project) -> None:
    project.add("a", "b", code=NON_TX)
    project.run_here()
    runner = project.start(undo={"last": 2}, pauses={"rollback b": 1})
    runner.wait_for("at rollback b")
    runner.send(signal.SIGTERM)

    assert runner.end() == INTERRUPTED, runner.output

    assert project.states("b")[2:] == ["ROLLBACK_STARTED 1", "ROLLED_BACK 1"]
    assert project.states("a") == ["STARTED 1", "APPLIED 1"]
    assert project.lease_is_free()


def test_who_is_interrupted_while_waiting_leaves_no_trace(project: Project) -> None:
    project.add("a", code=NON_TX)
    holder = project.start(pauses={"execute a": 60})
    holder.wait_for("at execute a")
    waiting = project.start(lock={"retry_interval": 0.1})
    waiting.wait_for("Waiting for the lease", f"(process {holder.pid})")

    waiting.send(signal.SIGTERM)

    assert waiting.end() == INTERRUPTED, waiting.output
    assert project.log() == ["STARTED 1"]
    assert not project.lease_is_free()
