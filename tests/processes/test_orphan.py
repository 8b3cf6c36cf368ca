"""A transaction that a killed process leaves open in MongoDB is not in the way of the next one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from pymongo import MongoClient

from aflamingock import AuditEntry
from tests.servers import once

from .kit import check_log
from .mongodb_runner import built
from .process import Nursery, Runner, nursery

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("excused")]

IN_TIME = 20.0
"""Seconds until the next start is through: the server alone would need 60 to 90."""


class Orphanage:
    """Processes of one service whose changes are in one database."""

    def __init__(self, nursery: Nursery, stack: ExitStack, url: str, **given: str) -> None:
        self._nursery = nursery
        self._given = {"url": url} | given
        self._stack = stack
        client = stack.enter_context(MongoClient[dict[str, Any]](url))
        self.counts = client[given["database"]].counts
        self.counts.insert_one({"_id": "counts"})

    def start(self, ids: str = "ab", **options: Any) -> Runner:
        given = self._given | {"ids": ids} | options
        runner = self._nursery.start(given, runner="mongodb_runner")
        self._stack.callback(runner.close)
        return runner

    def kill_at(self, place: str, **options: Any) -> None:
        """Start a process, and kill it in the middle of a transaction."""
        runner = self.start(stays=place, **options)
        runner.wait_for(f"at {place}")
        runner.kill()
        assert runner.end() == -signal.SIGKILL

    def run(self, **options: Any) -> str:
        """Run to the end, within the time of a lease, and return what was said."""
        runner = self.start(**options)
        assert runner.end(within=IN_TIME) == 0, runner.output
        return runner.output

    @property
    def counted(self) -> dict[str, int]:
        found = self.counts.find_one({}, {"_id": 0})
        assert found is not None
        return found

    def states(self, change_id: str) -> list[str]:
        """Return what the log says of a change, after making sure that it is sound."""
        entries: list[AuditEntry] = anyio.run(self._entries)
        check_log(entries)
        return [f"{e.state} {e.attempt}" for e in entries if e.change_id == change_id]

    async def _entries(self) -> list[AuditEntry]:
        async with built(self._given | {"ids": ""}) as flamingock, flamingock:
            return [entry async for entry in flamingock.audit.entries()]


@pytest.fixture(params=["shared", "marker"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the log is: in a file, if it is not in the same database."""
    return "" if request.param == "shared" else str(tmp_path / "audit.db")


@pytest.fixture(params=["pymongo", "motor"])
def orphanage(
    request: pytest.FixtureRequest, mongodb_url: str, mongodb_name: str, log: str
) -> Iterator[Orphanage]:
    with ExitStack() as stack:
        yield Orphanage(
            once(request.config, nursery),
            stack,
            mongodb_url,
            database=mongodb_name,
            log=log,
            driver=request.param,
        )


def test_the_next_start_ends_it_and_applies(orphanage: Orphanage) -> None:
    orphanage.kill_at("execute a")

    output = orphanage.run()

    assert "transaction that change 'a' was left in is ended" in output
    assert orphanage.counted == {"a": 1, "b": 1}
    assert orphanage.states("a") == ["STARTED 1", "STARTED 2", "APPLIED 2"]
    assert orphanage.states("b") == ["STARTED 1", "APPLIED 1"]


def test_so_it_does_where_the_entry_came_with_the_change_before(orphanage: Orphanage) -> None:
    orphanage.kill_at("execute b")

    orphanage.run()

    assert orphanage.counted == {"a": 1, "b": 1}
    assert orphanage.states("a") == ["STARTED 1", "APPLIED 1"]
    assert orphanage.states("b") == ["STARTED 1", "STARTED 2", "APPLIED 2"]


def test_an_undo_that_was_left_open_is_ended_too(orphanage: Orphanage) -> None:
    orphanage.run()
    orphanage.kill_at("rollback b", undo={"last": 1})

    orphanage.run(ids="abc")

    assert orphanage.counted == {"a": 1, "b": 1, "c": 1}
    assert orphanage.states("c") == ["STARTED 1", "APPLIED 1"]


def test_the_next_undo_ends_it_and_rolls_back(orphanage: Orphanage) -> None:
    orphanage.run()
    orphanage.kill_at("rollback b", undo={"last": 1})

    orphanage.run(undo={"last": 1})

    assert orphanage.counted == {"a": 1, "b": 0}
    assert orphanage.states("b")[-2:] == ["ROLLBACK_STARTED 1", "ROLLED_BACK 1"]
