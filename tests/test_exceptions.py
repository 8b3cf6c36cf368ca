"""The tree of errors, and what they say."""

from __future__ import annotations

import inspect
import pickle
from itertools import takewhile

import pytest

from aflamingock import exceptions
from aflamingock._plan.plan import Plan
from aflamingock._records import Issue, Lease
from aflamingock._states import AuditState
from aflamingock.exceptions import (
    ChangeFailedError,
    ChangeLoadError,
    ConfigurationError,
    DriftError,
    FlamingockError,
    InjectionError,
    LockTimeoutError,
    ManualInterventionError,
    PendingChangesError,
    SequenceConflictError,
)


def _drawn() -> dict[str, str]:
    """Return the parent of each error in the drawing at the top of the module."""
    drawing = (exceptions.__doc__ or "").partition("::")[2]
    path: list[str] = []
    parents: dict[str, str] = {}
    for line in filter(str.strip, drawing.splitlines()):
        text = line.removeprefix("    ")
        depth = sum(1 for _ in takewhile(lambda sign: sign in "│├└─ ", text)) // 4
        name = text.lstrip("│├└─ ")
        path[depth:] = [name]
        parents[name] = path[depth - 1] if depth else "Exception"

    return parents


def _written() -> dict[str, str]:
    return {
        name: cls.__bases__[0].__name__
        for name, cls in inspect.getmembers(exceptions, inspect.isclass)
        if cls.__module__ == exceptions.__name__
    }


def test_the_tree_is_the_one_that_is_drawn():
    assert _written() == _drawn()
    assert len(_written()) > 20


def test_every_error_has_one_parent_and_a_docstring():
    for name in _written():
        cls = getattr(exceptions, name)
        assert len(cls.__bases__) == 1, name
        assert cls.__doc__, name


def test_an_error_has_no_report_until_a_run_ends_with_it():
    assert FlamingockError("x").report is None


class TestConfiguration:
    @pytest.mark.parametrize(
        ("place", "text"),
        [
            ({}, "It is wrong."),
            ({"file": "a.py"}, "a.py: It is wrong."),
            ({"file": "a.py", "line": 7}, "a.py:7: It is wrong."),
            ({"line": 7}, "It is wrong."),
        ],
    )
    def test_it_begins_with_its_place(self, place, text):
        assert str(ChangeLoadError("It is wrong.", **place)) == text

    def test_a_single_fault_is_its_own(self):
        fault = ConfigurationError("x")

        assert fault.faults == (fault,)

    def test_an_injection_names_change_and_parameter(self):
        fault = InjectionError("x", change_id="add", parameter="db", file="a.py", line=3)

        assert (fault.change_id, fault.parameter, str(fault)) == ("add", "db", "a.py:3: x")


class TestJoining:
    def test_a_single_fault_is_returned_as_it_is(self):
        fault = ChangeLoadError("x", file="a.py")

        assert ConfigurationError.joining([fault]) is fault

    def test_several_are_listed_in_their_order(self):
        faults = [ChangeLoadError("One.", file="a.py", line=1), ConfigurationError("Two.")]
        joined = ConfigurationError.joining(faults)

        assert type(joined) is ConfigurationError
        assert joined.faults == tuple(faults)
        assert str(joined).splitlines() == [
            "2 faults were found; nothing has been run:",
            "  - a.py:1: One.",
            "  - Two.",
        ]


class TestFacts:
    def test_a_conflict_names_the_number(self):
        conflict = SequenceConflictError(7, state=AuditState.STARTED)

        assert (conflict.sequence, conflict.state) == (7, AuditState.STARTED)
        assert "Audit entry 7 was written by somebody else" in str(conflict)
        assert SequenceConflictError(7).state is None

    def test_a_timeout_names_the_holder(self):
        holder = Lease(service="s", owner="o", epoch=1, ttl=1.0)

        assert LockTimeoutError("x", holder=holder).holder is holder

    def test_a_failed_change_is_named_with_its_file(self):
        failed = ChangeFailedError("x", change_id="add", file="a.py")

        assert (failed.change_id, failed.file) == ("add", "a.py")

    def test_the_issues_are_kept(self):
        issues: list[Issue] = []

        assert ManualInterventionError("x", issues=issues).issues == ()

    def test_the_plan_is_kept(self):
        plan = Plan(stages=())

        assert PendingChangesError("x", plan=plan).plan is plan

    def test_contradictions_of_the_history_are_listed(self):
        drift = DriftError(["One.", "Two."])

        assert drift.faults == ("One.", "Two.")
        assert str(drift).splitlines() == [
            "The changes do not fit the audit log:",
            "  - One.",
            "  - Two.",
        ]


def test_an_error_without_parameters_can_be_sent_to_another_process():
    assert str(pickle.loads(pickle.dumps(exceptions.AuditStoreError("x")))) == "x"
