"""Undo at the command line."""

from __future__ import annotations

import io
import sys

import pytest
import typer  # noqa: F401 - it takes hold of input(), and must not of that of blockbuster

from .conftest import Project


class Terminal(io.StringIO):
    """An input that a person types into."""

    def isatty(self) -> bool:
        return True


def test_undo_takes_back_the_last_changes(project: Project) -> None:
    for order, id in enumerate(("one", "two", "three"), 1):
        project.write(order, id)

    project.call("apply")
    outcome = project.call("undo", "--last", "2", "--yes")

    assert outcome.code == 0
    assert project.effects == ["one", "two", "three", "-three", "-two"]
    assert [line.split("\t")[1:3] for line in outcome.out.splitlines()[1:3]] == [
        ["three", "ROLLED_BACK"],
        ["two", "ROLLED_BACK"],
    ]


@pytest.mark.parametrize(
    ("which", "left"),
    [
        (("--to", "one"), ["one"]),
        (("--change", "two"), ["one", "three"]),
        (("--since", "1 hour ago"), []),
        (("--since", "2999-01-01"), ["one", "two", "three"]),
    ],
)
def test_undo_takes_back_what_is_named(
    project: Project, which: tuple[str, ...], left: list[str]
) -> None:
    for order, id in enumerate(("one", "two", "three"), 1):
        project.write(order, id)

    project.call("apply")
    assert project.call("undo", *which, "--yes").code == 0

    entries = project.call("audit", "list", "--json").document["entries"]
    assert sorted(e["changeId"] for e in entries if e["state"] == "APPLIED") == sorted(left)


def test_a_dry_run_of_undo_changes_nothing(project: Project) -> None:
    project.write(1, "create-users")
    project.call("apply")
    before = project.call("audit", "list", "--history", "--json").out

    outcome = project.call("undo", "--last", "1", "--dry-run")

    assert outcome.code == 0
    assert "WOULD_ROLL_BACK" in outcome.out
    assert project.effects == ["create-users"]
    assert project.call("audit", "list", "--history", "--json").out == before


def test_undo_refuses_what_has_no_rollback(project: Project) -> None:
    project.write(1, "create-users", more="")
    project.call("apply")

    outcome = project.call("undo", "--last", "1", "--yes")

    assert outcome.code == 2
    assert "create-users" in outcome.err


@pytest.mark.parametrize("which", [(), ("--last", "1", "--to", "one"), ("--last", "0")])
def test_undo_needs_one_way_to_say_which(project: Project, which: tuple[str, ...]) -> None:
    assert project.call("undo", *which, "--yes").code == 2


def test_undo_asks_first_where_somebody_can_answer(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(1, "create-users")
    project.call("apply")

    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    refused = project.call("undo", "--last", "1")
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    agreed = project.call("undo", "--last", "1")

    assert refused.out == "Nothing was undone.\n"
    assert "WOULD_ROLL_BACK" in refused.err
    assert "ROLLED_BACK" in agreed.out
    assert project.effects == ["create-users", "-create-users"]


def test_undo_is_ended_by_no_answer(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(1, "create-users")
    project.call("apply")
    monkeypatch.setattr(sys, "stdin", Terminal(""))

    assert project.call("undo", "--last", "1").code == 130
    assert project.effects == ["create-users"]


def test_undo_refuses_where_nobody_can_answer(project: Project) -> None:
    project.write(1, "create-users")
    project.call("apply")

    outcome = project.call("undo", "--last", "1", "--json")

    assert outcome.code == 2
    assert "--yes" in outcome.document["error"]["message"]
    assert project.effects == ["create-users"]
