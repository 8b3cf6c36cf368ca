"""Points, which are moments just before or just after something durable, and pauses in changes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from aflamingock import AuditEntry, Record
from aflamingock.abc import AuditStore, TransactionalTargetSystem

Passes = Callable[[str], None]


def say(line: str) -> None:
    """Tell the test where this process is."""
    sys.stdout.write(f"{line}\n")  # in one piece, for the heartbeat's thread writes as well
    sys.stdout.flush()


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


def add_points(store: AuditStore[Any], passes: Passes) -> None:
    """Put points around whatever a store writes for the run."""
    _surround(store, "create", passes, lambda: "create")
    _surround(store, "append", passes, _name_of_entries)
    _surround(store, "swap_record", passes, _name_of_swap)


def _name_of_entries(entries: Sequence[AuditEntry], **_: object) -> str:
    return " ".join(entry.state if entry.change_id else entry.type for entry in entries)


def _name_of_swap(current: Record | None, new: Record) -> str:
    return "release" if new.value["released"] else "grant"


def add_commit_points(target: TransactionalTargetSystem[Any], passes: Passes) -> None:
    """Put points around every commit of a target system, those about markers as well."""
    begin = target.transaction

    @asynccontextmanager
    async def transaction(*arguments: Any) -> AsyncIterator[Any]:
        async with begin(*arguments) as session:
            yield session
            passes("before commit")

        passes("after commit")

    setattr(target, "transaction", transaction)  # noqa: B010 - types forbid the plain way
    if type(target).__name__ != "SQLiteTargetSystem":  # which uses its own transactions for them
        for method in ("claim_marker", "remove_marker"):
            _surround(target, method, passes, lambda *_: "commit")


def _surround(system: object, method: str, passes: Passes, name_of: Callable[..., str]) -> None:
    call: Callable[..., Awaitable[Any]] = getattr(system, method)

    async def surrounded(*arguments: Any, **options: Any) -> Any:
        name = name_of(*arguments, **options)
        passes(f"before {name}")
        result = await call(*arguments, **options)
        passes(f"after {name}")
        return result

    setattr(system, method, surrounded)


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
