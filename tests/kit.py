"""Changes, stores and logs, as the tests of the engine use them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import aiosqlite
import anyio.lowlevel
import pytest

from aflamingock import AuditEntry, AuditState, ChangeFailedError, Lease, change, run_changes
from aflamingock._lock.record import swapped
from aflamingock.abc import AuditStore
from aflamingock.stores.memory import MemoryAuditStore

Body = Callable[[], Awaitable[object]]

WRITES = {"create", "append", "swap_record", "save_issue"}
_METHODS = ("last", "entries", "append", "create", "read_record", "swap_record", "save_issue")


def step(
    id: str,
    done: list[str],
    *,
    body: Body | None = None,
    rollback: Body | bool = True,
    verify: Body | None = None,
    **options: Any,
) -> type:
    """
    Return a change that says in *done* that it was executed, and rolled back.

    :param body: what it does then
    :param rollback: what its rollback does after it has said so; ``False`` for none
    """

    async def say(line: str, then: Body | bool | None) -> Any:
        await anyio.lowlevel.checkpoint()
        done.append(line)
        return await then() if callable(then) else None

    async def execute(self: object) -> None:
        await say(id, body)

    async def roll_back(self: object) -> None:
        await say(f"not {id}", rollback)

    async def ask(self: object) -> Any:
        return await say(f"{id}?", verify)

    members: dict[str, Any] = {"execute": execute}
    if rollback is not False:
        members["rollback"] = roll_back

    if verify is not None:
        members["verify"] = ask

    declare = change(**({"id": id, "author": "tests", "order": id} | options))
    return declare(type("Step", (), members))


def steps(ids: str, done: list[str], **options: Any) -> list[type]:
    """Return a change for each letter."""
    return [step(id, done, **options) for id in ids]


def row(id: str, *, fails: bool = False) -> type:
    """
    Return a change that inserts a row into the target system ``shop``, and takes it out again.

    :param fails: whether its rollback does
    """

    @change(id=id, author="tests", order=id, target_system="shop")
    class Row:
        async def execute(self, db: aiosqlite.Connection) -> None:
            await db.execute("CREATE TABLE IF NOT EXISTS effect (id)")
            await db.execute("INSERT INTO effect VALUES (?)", (id,))

        async def rollback(self, db: aiosqlite.Connection) -> None:
            await db.execute("DELETE FROM effect WHERE id = ?", (id,))
            if fails:
                raise OSError("stuck")

    return Row


def raising(error: BaseException) -> Body:
    """Return what raises *error*."""

    async def body() -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    return body


async def entries(store: AuditStore[Any], service: str = "default") -> list[AuditEntry]:
    """Return the whole log."""
    async with store:
        return [entry async for entry in store.entries(service)]


async def history(store: AuditStore[Any], service: str = "default") -> list[str]:
    """Return the log as words: who came to which state, and the system's own entries."""
    return [
        f"{entry.change_id} {entry.state}" if entry.change_id else entry.type.value
        for entry in await entries(store, service)
    ]


async def last_state(store: AuditStore[Any], change_id: str) -> AuditState | None:
    """Return where the last entry of a change left it."""
    found = [entry.state for entry in await entries(store) if entry.change_id == change_id]
    return found[-1] if found else None


async def leave(store: AuditStore[Any], *left: AuditEntry) -> None:
    """Write entries as a run that has died since would have left them."""
    async with store:
        await store.create()
        last = await store.last(left[0].service, 1)
        sequence, digest = (last[0].sequence, last[0].digest) if last else (0, "")
        for entry in left:
            sequence += 1
            sealed = entry.sealed(sequence=sequence, previous=digest, epoch=1)
            digest = sealed.digest
            await store.append([sealed])


def entry(change_id: str, state: AuditState, **values: Any) -> AuditEntry:
    """Return an entry of another run about a change."""
    given: dict[str, Any] = {"service": "default", "execution_id": "an earlier run", "attempt": 1}
    return AuditEntry(change_id=change_id, state=state, stage_id="default", **(given | values))


async def lease_of(store: AuditStore[Any], service: str = "default") -> Lease | None:
    """Return the lease as it stands in the store."""
    async with store:
        record = await store.read_record(Lease.key(service))

    return Lease.from_record(record) if record else None


async def take_lease(store: AuditStore[Any], **values: Any) -> Lease:
    """Write a lease of somebody else, over the one that stands."""
    current = await lease_of(store)
    given: dict[str, Any] = {
        **{"service": "default", "owner": "another run", "host": "elsewhere"},
        **{"ttl": 60.0, "epoch": (current.epoch if current else 0) + 1},
    }
    lease = Lease(**(given | values))
    async with store:
        await store.create()
        assert await swapped(store, current, lease)

    return lease


def calls_of(store: AuditStore[Any]) -> Counter[str]:
    """Count the calls of a store's methods from now on; those of its side channels are not seen."""
    calls: Counter[str] = Counter()

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return method(*args, **kwargs)

        return call

    for name in _METHODS:
        setattr(store, name, counted(name, getattr(store, name)))

    return calls


class FailingStore(MemoryAuditStore):
    """
    A store in memory whose appends raise what they are told to raise.

    :ivar errors: what the next appends raise; ``None`` to do what is asked
    :ivar done_all_the_same: whether an append that raises has written before
    """

    done_all_the_same: ClassVar[bool] = False

    def __init__(self, *errors: BaseException | None) -> None:
        super().__init__()
        self.errors = list(errors)

    async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
        """Raise the next error, if there is one left."""
        error = self.errors.pop(0) if self.errors else None
        if error is None or self.done_all_the_same:
            await super().append(entries)

        if error is not None:
            raise error


class LosingStore(FailingStore):
    """A store in memory that writes and then raises what it is told to raise."""

    done_all_the_same = True


def rows(path: Path, statement: str) -> list[Any]:
    """Return what a query finds in a database; nothing if the table is missing."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            return connection.execute(statement).fetchall()
        except sqlite3.OperationalError:
            return []


async def failure(changes: list[type], **settings: Any) -> ChangeFailedError:
    """Run changes one of which fails, and return how."""
    with pytest.raises(ChangeFailedError) as caught:
        await run_changes(changes, **settings)

    return caught.value
