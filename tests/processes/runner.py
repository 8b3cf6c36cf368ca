"""
A process that runs changes, as one of many instances of a service.

It is told by one JSON argument what to do, and tells on its standard output where it is. At each
*point*, which is a moment just before or just after something durable, it can end or stop itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import anyio

from aflamingock import (
    AuditEntry,
    Flamingock,
    FlamingockError,
    LockError,
    LockOptions,
    ManualInterventionError,
    Record,
    RunReport,
)
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem

Passes = Callable[[str], None]


def say(line: str) -> None:
    """Tell the test where this process is."""
    print(line, flush=True)


class Points:
    """Counts the points, and at one of them sends this process a signal."""

    def __init__(self, number: int | None, signal_name: str) -> None:
        self._number = number
        self._signal = signal.Signals[signal_name]
        self._passed = 0

    def __call__(self, name: str) -> None:
        self._passed += 1
        say(f"point {name}")
        if self._passed == self._number:
            os.kill(os.getpid(), self._signal)


class PointedStore(SQLiteAuditStore):
    """A store with points around whatever it writes for the run."""

    passes: Passes

    async def create(self) -> None:
        self.passes("before create")
        await super().create()
        self.passes("after create")

    async def append(
        self, entries: Sequence[AuditEntry], *, session: aiosqlite.Connection | None = None
    ) -> None:
        what = " ".join(entry.state if entry.change_id else entry.type for entry in entries)
        self.passes(f"before {what}")
        await super().append(entries, session=session)
        self.passes(f"after {what}")

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        what = "release" if new.value["released"] else "grant"
        self.passes(f"before {what}")
        swapped = await super().swap_record(current, new)
        self.passes(f"after {what}")
        return swapped


class PointedTarget(SQLiteTargetSystem):
    """A target system with points around every commit."""

    passes: Passes

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        async with super().transaction() as session:
            yield session
            self.passes("before commit")

        self.passes("after commit")


class Pauses:
    """
    What changes call to tell where they are, and to stay or to fail there if the test wants it.

    :param seconds: how long to stay, by place
    :param failing: where to fail
    """

    def __init__(self, seconds: Mapping[str, float], failing: Sequence[str]) -> None:
        self._seconds = seconds
        self._failing = failing

    async def __call__(self, place: str) -> None:
        say(f"at {place}")
        if place in self._seconds:
            await anyio.sleep(self._seconds[place])

        if place in self._failing:
            raise ValueError("the broker said no")


def build(options: Mapping[str, Any]) -> Flamingock:
    folder = Path(options["folder"])
    points = Points(options.get("point"), options.get("signal", "SIGKILL"))
    target = PointedTarget("data", folder / "data.db")
    store = (
        PointedStore(folder / "audit.db")
        if options["layout"] == "two files"
        else PointedStore.from_target_system(target)
    )
    target.passes = store.passes = points
    pause = Pauses(options.get("pauses", {}), options.get("failing", ()))
    return Flamingock(
        changes=folder / "changes",
        audit_store=store,
        target_systems=[target],
        dependencies={"pause": pause, "folder": folder},
        lock=LockOptions(**options["lock"]),
        transaction_mode="separate" if options["layout"] == "separate" else "shared",
    )


async def call(options: Mapping[str, Any]) -> RunReport:
    """Run or undo; SIGTERM cancels the task, as a command line would have it."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    flamingock = build(options)
    if options.get("waits"):
        say("ready")
        await anyio.to_thread.run_sync(sys.stdin.readline)

    if "undo" in options:
        return await flamingock.undo(**options["undo"])

    return await flamingock.run()


def main(options: Mapping[str, Any]) -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="log %(message)s")
    try:
        report = asyncio.run(call(options))
    except FlamingockError as exc:
        say(f"raised {type(exc).__name__}: {exc}")
        codes = {LockError: 5, ManualInterventionError: 4}
        return next((code for kind, code in codes.items() if isinstance(exc, kind)), 1)
    except (asyncio.CancelledError, KeyboardInterrupt):
        say("interrupted")
        return 130

    applied = sum(change.status == "APPLIED" for change in report.changes())
    say(f"ended {report.status}, {applied} applied")
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
