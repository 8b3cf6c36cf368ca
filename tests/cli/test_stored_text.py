"""What stands in an audit store may have been written by anybody: no terminal obeys it."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from typing import Any

import anyio
import pytest

from aflamingock import AuditState, Recovery
from aflamingock.stores.sqlite import SQLiteAuditStore
from tests.kit import entry, leave, take_lease

from .conftest import Project

NASTY = (
    "\x1b[2J\x1b]8;;http://evil\x1b\\link\x1b]8;;\x07\x9b31m\x9d0;title\x9c\x08\x7f\r"
    "\u202eevil\u2066\u2069\u200f\u200e\u061c\u2028\x85[bold red]x[/]"
)
COMMANDS = (
    ("audit", "list"),
    ("audit", "list", "--history", "--extended"),
    ("issue", "list"),
    ("issue", "get", "--guidance"),
    ("lock", "status"),
    ("status",),
    ("lock", "release", "--force", "--reason", NASTY.replace("\0", "")),
    ("audit", "fix", "-c", "a", "-r", "APPLIED", "--reason", NASTY, "--by", NASTY),
    ("apply",),
    ("undo", "--last", "1", "--yes"),
    ("audit", "list", "--history", "--extended"),
)


@pytest.fixture
def nasty(project: Project) -> Project:
    """A log in which every text of an entry that is not checked is nasty, and such a lease."""
    store = SQLiteAuditStore("audit.db")
    left = entry("a", AuditState.STARTED, recovery_strategy=Recovery.MANUAL_INTERVENTION)
    texts = ("author", "stage_id", "target_system_id", "execution_hostname", "initiated_by")
    more = ("invoked_class", "source_file", "environment", "error_trace", "execution_id")
    nasty: dict[str, Any] = dict.fromkeys((*texts, *more), NASTY)
    left = replace(left, **nasty, metadata={"reason": NASTY, NASTY: NASTY})

    async def write() -> None:
        await leave(store, left)
        await take_lease(store, host=NASTY, owner=NASTY, change_id=NASTY, ttl=3600.0)

    anyio.run(write)
    project.write(1, "a")
    project.write(2, "b", execute=f'__import__("logging").getLogger("shop").error({NASTY!r})')
    return project


def obeyed(text: str) -> set[str]:
    """Return what a terminal would obey of a text."""
    kinds = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return {character for character in text if unicodedata.category(character) in kinds} - {
        "\n",
        "\t",
    }


@pytest.mark.parametrize("options", [(), ("-vv",), ("--json",)])
def test_nothing_stored_is_obeyed_by_a_terminal(nasty: Project, options: tuple[str, ...]) -> None:
    for command in COMMANDS:
        told = nasty.call(*command, *options)

        assert obeyed(told.out) == set(), command
        assert obeyed(told.err) == set(), command
        if "--json" in options:
            json.loads(told.out)
