"""What these tests share: changes in a folder, processes that run them, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio

from aflamingock import AuditEntry, Issue, Resolution, RunReport
from aflamingock.stores.sqlite import SQLiteAuditStore

from .runner import build

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""How long to wait for what must happen, in seconds."""

Layout = Literal["one file", "separate", "two files"]
"""Where the log is: in the target's file (there with or without common transactions), or not."""

LOCK = {"ttl": 60, "timeout": 5, "retry_interval": 0.1}
"""A start that had to wait for the end of a dead one's lease would fail."""

HEAD = """
from pathlib import Path
import anyio
from aflamingock import Recovery, Verification, change

@change(id="{id}", author="tests"{options})
class Step:
"""

LINE = """
    async def execute(self, folder: Path):
        with (folder / "effects.txt").open("a") as effects:
            effects.write("{id}\\n")
"""

NON_TX = """
    async def execute(self, folder: Path, pause):
        await self.tell(folder, "{id}")
        await pause("execute {id}")
        await self.tell(folder, "{id} to its end")

    async def rollback(self, folder: Path, pause):
        await self.tell(folder, "not {id}")
        await pause("rollback {id}")
        await self.tell(folder, "not {id} to its end")

    async def tell(self, folder, line):
        async with await anyio.open_file(folder / "effects.txt", "a") as effects:
            await effects.write(line + "\\n")
"""

VERIFY = """
    def verify(self, folder: Path):
        answer = (folder / "answer").read_text()
        return Verification[answer]
"""

LOOK = """
    def verify(self, folder: Path):
        file = folder / "effects.txt"
        done = file.exists() and "{id} to its end" in file.read_text()
        return Verification.APPLIED if done else Verification.NOT_APPLIED
"""

TX = """
    async def execute(self, db, pause):
        await db.execute("CREATE TABLE IF NOT EXISTS effects (line TEXT)")
        await db.execute("INSERT INTO effects VALUES ('{id}')")
        await pause("execute {id}")

    async def rollback(self, db, pause):
        await db.execute("DELETE FROM effects WHERE line = '{id}'")
        await pause("rollback {id}")
"""

ON_DATA = ', target_system="data"'
RETRIED = ", recovery=Recovery.ALWAYS_RETRY"


class Runner:
    """
    A process of the service, and what it has said.

    :param script: which of the scripts in this folder it runs
    """

    def __init__(self, options: dict[str, Any], *, script: str = "runner.py") -> None:
        runner = str(Path(__file__).with_name(script))
        self._process = subprocess.Popen(
            [sys.executable, runner, json.dumps(options)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line.rstrip())
                self._news.notify_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return "\n".join(self._lines)

    @property
    def points(self) -> list[str]:
        """The points that it has passed."""
        return [line.removeprefix("point ") for line in self._lines if line.startswith("point ")]

    def wait_for(self, *texts: str) -> None:
        """Wait for a line with all of these texts."""

        def is_said() -> bool:
            return any(all(text in line for text in texts) for line in self._lines)

        with self._news:
            assert self._news.wait_for(is_said, PATIENCE), self.output

    def wait_for_point(self, number: int) -> None:
        """Wait until it has said that it has come to a point, counted from 1."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.points) >= number, PATIENCE), self.output

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait_until_stopped(self) -> None:
        """Wait until it has stopped itself."""
        deadline = time.monotonic() + PATIENCE
        while not (ended := os.waitpid(self.pid, os.WUNTRACED | os.WNOHANG))[0]:
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)

        assert os.WIFSTOPPED(ended[1]), self.output

    def go(self) -> None:
        """Let go a runner that waits for it."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def end(self, *, within: float = PATIENCE) -> int:
        """Wait for its end, and return its exit code."""
        code = self._process.wait(within)
        self._listener.join(PATIENCE)
        return code

    def kill(self) -> None:
        """End it the hard way."""
        self._process.kill()
        self.end()

    def close(self) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Project:
    """A folder with changes, a log, and what the changes have done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout: Layout = "one file"
        self._runners: list[Runner] = []
        (folder / "changes").mkdir()

    def add(self, *ids: str, code: str, options: str = "") -> None:
        """Write changes, in this order."""
        for order, id in enumerate(ids, 1):
            path = self.folder / "changes" / f"_{order:04}__{id}.py"
            path.write_text((HEAD + code).format(id=id, options=options), "utf-8")

    def start(self, **options: Any) -> Runner:
        """Start a process; see the runner for the options."""
        runner = Runner(self.options(**options))
        self._runners.append(runner)
        return runner

    def run(self, *, ends_with: int = 0, **options: Any) -> Runner:
        """Start a process and wait for its end."""
        runner = self.start(**options)
        assert runner.end() == ends_with, runner.output
        return runner

    def close(self) -> None:
        """Leave no process behind."""
        with ExitStack() as stack:
            for runner in self._runners:
                stack.callback(runner.close)

    def store(self) -> SQLiteAuditStore:
        """Return the audit store."""
        return SQLiteAuditStore(
            self.folder / ("audit.db" if self.layout == "two files" else "data.db")
        )

    def entries(self) -> list[AuditEntry]:
        """Return the log, after making sure that it is sound."""

        async def read() -> list[AuditEntry]:
            async with self.store() as store:
                return [entry async for entry in store.entries("default")]

        entries = anyio.run(read)
        check_log(entries)
        return entries

    def log(self) -> list[str]:
        """Return the log as words: states with their attempts, and types of system entries."""
        return [_word(entry) for entry in self.entries()]

    def states(self, change_id: str) -> list[str]:
        """Return the words about one change."""
        return [_word(entry) for entry in self.entries() if entry.change_id == change_id]

    def options(self, **given: Any) -> dict[str, Any]:
        """Return what a runner is told."""
        return {"folder": str(self.folder), "layout": self.layout, "lock": LOCK} | given

    def run_here(self, **options: Any) -> RunReport:
        """Run in this process, where blocking the loop is an error, and a start costs little."""
        return anyio.run(build(self.options(**options)).run)

    def undo_here(self, last: int) -> RunReport:
        """Undo in this process."""
        return anyio.run(partial(build(self.options()).undo, last=last))

    def issues(self) -> list[Issue]:
        """Return what needs a person."""
        return list(anyio.run(build(self.options()).audit.issues))

    def kept_issues(self) -> dict[str, str]:
        """Return the status of every issue that the store keeps, by the state of its change."""

        async def read() -> dict[str, str]:
            async with self.store() as store:
                return {issue.state: issue.status for issue in await store.issues("default")}

        return anyio.run(read)

    def resolve(self, change_id: str, resolution: Resolution) -> None:
        """Be that person."""
        anyio.run(build(self.options()).audit.resolve, change_id, resolution)

    def lease_is_free(self) -> bool:
        """Say whether the last holder has given the lease back."""
        return anyio.run(build(self.options()).lock.status).state == "free"

    @property
    def lines(self) -> list[str]:
        """What changes outside of transactions have done."""
        file = self.folder / "effects.txt"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def rows(self) -> list[str]:
        """What changes in transactions have done."""
        with closing(sqlite3.connect(self.folder / "data.db")) as connection:
            return [line for (line,) in connection.execute("SELECT line FROM effects")]


def _word(entry: AuditEntry) -> str:
    return f"{entry.state} {entry.attempt}" if entry.change_id else str(entry.type)


def check_log(entries: Sequence[AuditEntry]) -> None:
    """Make sure that a log is one history, without gaps and unchanged."""
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    assert len({entry.entry_id for entry in entries}) == len(entries)
    epochs = [entry.epoch for entry in entries]
    assert epochs == sorted(epochs)
    digest = ""
    for entry in entries:
        digest = entry.compute_digest(digest)
        assert entry.digest == digest, f"entry {entry.sequence} does not fit"


def without_repeats(lines: Sequence[str]) -> list[str]:
    """Return each line where it stands first."""
    return list(dict.fromkeys(lines))
