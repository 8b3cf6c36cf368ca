from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from aflamingock import AuditEntry, AuditState
from tests.processes.kit import check_log

from .forker import build

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here"),
]

ROOT = Path(__file__).parents[2]
BOUND = 3.0
LONGEST_START = 0.9
"""Seconds; by then most starts are over, so that SIGTERM meets the running service."""

HEAD = """
from pathlib import Path
import anyio
from aflamingock import change

@change(id="{id}", author="tests"{options})
class Step:
"""

NON_TX = """
    async def execute(self, folder: Path):
        (folder / "{id}").touch()
        await anyio.sleep(0.06)

    async def rollback(self, folder: Path):
        await anyio.sleep(0.03)
        (folder / "{id}").unlink()
"""

TX = """
    async def execute(self, db):
        await db.execute("CREATE TABLE IF NOT EXISTS effects (id TEXT)")
        await db.execute("INSERT INTO effects VALUES ('{id}')")
        await anyio.sleep(0.06)
"""

STEPS = {"a": NON_TX, "b": TX, "c": NON_TX, "d": TX, "e": NON_TX}


class Forker:
    """The process that forks servers and ends them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.asgi.forker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def serve_until(self, folder: Path, moment: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"folder": str(folder), "moment": moment}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate(timeout=BOUND * 20)


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    made = Forker()
    yield made
    made.close()


def new_shop(folder: Path) -> Path:
    (folder / "changes").mkdir(parents=True)
    (folder / "output.txt").touch()
    for number, (id, code) in enumerate(STEPS.items(), 1):
        options = ', target_system="data"' if code is TX else ""
        path = folder / "changes" / f"_{number:04}__{id}.py"
        path.write_text((HEAD + code).format(id=id, options=options), "utf-8")

    return folder


async def entries_of(folder: Path) -> list[AuditEntry]:
    flamingock = build(folder)
    async with flamingock:
        return [entry async for entry in flamingock.audit.entries()]


def effects_of(folder: Path) -> set[str]:
    files = {id for id in STEPS if (folder / id).exists()}
    if not (folder / "data.db").exists():
        return files

    with closing(sqlite3.connect(folder / "data.db")) as connection:
        try:
            return files | {id for (id,) in connection.execute("SELECT id FROM effects")}
        except sqlite3.OperationalError:  # no transaction was committed yet
            return files


def applied_by(entries: list[AuditEntry]) -> set[str]:
    last = {entry.change_id: entry.state for entry in entries if entry.change_id}
    assert set(last.values()) <= {
        AuditState.APPLIED,
        AuditState.FAILED,
        AuditState.ROLLED_BACK,
    }, last
    return {id for id, state in last.items() if state is AuditState.APPLIED}


@pytest.mark.parametrize("seed", range(10))
def test_sigterm_at_any_moment_of_a_start_ends_it_with_a_true_log(
    forker: Forker, tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)
    for attempt in range(10):
        folder = new_shop(tmp_path / str(attempt))
        moment = moments.uniform(0, LONGEST_START)

        ended = forker.serve_until(folder, moment)

        told = f"{moment:.3f} s: {(folder / 'output.txt').read_text()}"
        assert ended["seconds"] < BOUND, told
        entries = anyio.run(entries_of, folder)
        check_log(entries)
        assert applied_by(entries) == effects_of(folder), told
        assert anyio.run(build(folder).lock.status).state == "free", told

        anyio.run(build(folder).run)
        assert effects_of(folder) == set(STEPS), told
        assert applied_by(anyio.run(entries_of, folder)) == set(STEPS), told
