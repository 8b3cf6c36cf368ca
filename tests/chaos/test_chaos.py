"""
Workers are killed and stopped at random moments; then the history is checked.

``pytest tests/chaos --schedules 3000`` runs more of them; a seed that is told is run again by
``python -m tests.chaos.driver --first SEED --count 1 --keep``, with the database and its URL.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from pymongo import MongoClient
from sqlalchemy import URL

from tests.servers import mongodb, postgresql
from tests.servers.replica_set import ReplicaSet, losing_primaries, replica_set

from .backend import MongoDBBackend, PostgreSQLBackend

pytestmark = [pytest.mark.processes, pytest.mark.timeout(0)]  # the driver bounds each schedule

__all__ = ["replica_set"]
ROOT = Path(__file__).parents[2]
PARTS = 5
SHARES = {"sqlite": 0.6, "postgresql": 0.2, "mongodb": 0.15, "elections": 0.05}
JOBS = 4

# Fixtures are taken over by assignment.
postgresql_server, postgresql_url = postgresql.postgresql_server, postgresql.postgresql_url
mongodb_url = mongodb.mongodb_url


def drive(request: pytest.FixtureRequest, database: str, *, part: int = 0, url: str = "") -> str:
    """Run a share of the schedules; return what the driver says."""
    parts = PARTS if database == "sqlite" else 1
    count = round(request.config.getoption("--schedules") * SHARES[database] / parts)
    first = request.config.getoption("--first-seed") + part * count
    return call("--database", database, "--url", url, first=first, count=count)


def call(*arguments: str, first: int, count: int) -> str:
    seeds = ("--first", str(first), "--count", str(count), "--jobs", str(JOBS))
    command = [sys.executable, "-m", "tests.chaos.driver", *seeds, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr[-5000:]
    return done.stdout


def summary(output: str) -> Counter[str]:
    """Return what the driver has counted; fail if a history violates an invariant."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    total: Counter[str] = sum(map(Counter, lines), Counter())
    assert total["violated"] == 0, output[:20_000]
    print(dict(total))
    return total


@pytest.mark.parametrize("part", range(PARTS))
def test_in_sqlite_no_schedule_violates_an_invariant(
    request: pytest.FixtureRequest, part: int
) -> None:
    total = summary(drive(request, "sqlite", part=part))

    assert total["schedules"] > 0
    assert total["killed"] + total["stopped"] > 0


def test_in_postgresql_no_schedule_violates_an_invariant(
    request: pytest.FixtureRequest, postgresql_url: URL
) -> None:
    anyio.run(postgresql.execute, postgresql_url, PostgreSQLBackend.create_statement())
    url = postgresql_url.render_as_string(hide_password=False)

    assert summary(drive(request, "postgresql", url=url))["schedules"] > 0


def test_in_mongodb_no_schedule_violates_an_invariant(
    request: pytest.FixtureRequest, mongodb_url: str
) -> None:
    with effects_in(mongodb_url):
        total = summary(drive(request, "mongodb", url=mongodb_url))

    assert total["schedules"] > 0


def test_in_mongodb_no_schedule_violates_an_invariant_while_primaries_are_lost(
    request: pytest.FixtureRequest, replica_set: ReplicaSet
) -> None:
    before = replica_set.elections
    with effects_in(replica_set.url), losing_primaries(replica_set, Random()):
        total = summary(drive(request, "elections", url=replica_set.url))

    assert total["schedules"] > 0
    assert replica_set.elections > before


@contextmanager
def effects_in(url: str) -> Iterator[None]:
    """Lend the collection that is written to within transactions."""
    with MongoClient[dict[str, Any]](url) as client:
        client[MongoDBBackend.database].create_collection("effects")
        try:
            yield
        finally:
            client.drop_database(MongoDBBackend.database)


def test_an_engine_that_does_not_ask_markers_is_found_out() -> None:
    output = call("--without-markers", "--mode", "marker", first=0, count=30)

    found: list[Any] = [line for line in output.splitlines() if line.startswith("  I4: the effect")]
    assert found, output
