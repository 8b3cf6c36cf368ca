"""Work that can be cut off at each of its moments, in every way."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import anyio.lowlevel
import pytest

from aflamingock import (
    AuditState,
    Flamingock,
    LockOptions,
    change,
)
from aflamingock.abc import AuditStore, TargetSystem
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.kit import entries, lease_of, rows
from tests.processes.kit import check_log

IDS = ("a", "b", "c")
SETTLED = {AuditState.APPLIED, AuditState.FAILED, AuditState.ROLLED_BACK}
AT_ONCE = LockOptions(timeout=0)
NO_MOMENT = 10**9

Work = Callable[[Flamingock], Coroutine[Any, Any, object]]


class Moments:
    """Counts the moments at which work could be cut off, and calls a function at one of them."""

    def __init__(self) -> None:
        self.stop()

    def stop(self) -> None:
        """Let nothing happen any more."""
        self.start(int, NO_MOMENT)

    def start(self, call: Callable[[], object], wanted: int) -> None:
        """Count from now on, and call a function at a moment."""
        self._at_moment, self._wanted, self._passed = call, wanted, 0

    def __call__(self) -> None:
        """Pass one moment, and another one while the next answer is waited for."""
        for call in (self._at_moment, self._call_soon):
            if self._passed == self._wanted:
                call()

            self._passed += 1

    def _call_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._at_moment)

    def watch(self, store: AuditStore[Any]) -> None:
        """Make moments of what a store does; its side channels are not seen."""
        watched: Any = store
        for name in ("create", "append", "last", "read_record", "swap_record", "save_issue"):
            setattr(store, name, self._around(getattr(store, name)))

        read = store.entries

        async def entries_with_moments(*given: Any, **options: Any) -> AsyncIterator[Any]:
            self()
            async for one in read(*given, **options):
                yield one
                self()

        watched.entries = entries_with_moments

    def _around(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(method)
        async def call(*given: Any, **options: Any) -> Any:
            self()
            answer = await method(*given, **options)
            self()
            return answer

        return call


class Shop:
    """Three changes and their log; the effect of those in a *standing* state stands."""

    standing = frozenset({AuditState.APPLIED})

    def __init__(self, lock: LockOptions | None = None) -> None:
        self.moments = Moments()
        self._lock = lock
        self.stays_at = -1
        self.store: AuditStore[Any] = MemoryAuditStore()
        self.targets: list[TargetSystem] = []
        self.effects: list[str] = []
        self.changes = [self.change(id) for id in IDS]

    def change(self, id: str, **options: Any) -> type:
        """Return a change without a transaction."""

        @change(id=id, author="tests", order=id, **options)
        class Step:
            async def execute(step) -> None:
                await self._pass()
                self.effects.append(id)
                await self._pass()

            async def rollback(step) -> None:
                await self._pass()
                if id in self.effects:
                    self.effects.remove(id)

                await self._pass()

        return Step

    async def _pass(self) -> None:
        self.moments()
        self.stays_at -= 1
        if self.stays_at == -1:
            await anyio.sleep_forever()

        await anyio.lowlevel.checkpoint()

    def done(self) -> list[str]:
        """Return what the changes have done."""
        return sorted(self.effects)

    def flamingock(self, lock: LockOptions | None = None) -> Flamingock:
        """Return what runs the changes."""
        return Flamingock(
            changes=self.changes,
            audit_store=self.store,
            target_systems=self.targets,
            dependencies={"pause": self._pass},
            lock=lock or self._lock,
        )

    async def check(self, *states: AuditState) -> None:
        """Make sure that the log tells the truth, and that the lease is free."""
        log = await entries(self.store)
        check_log(log)
        last = {one.change_id: one.state for one in log if one.change_id}
        assert set(last.values()) <= (set(states) or SETTLED), last
        applied = [id for id, state in last.items() if state in self.standing]
        assert sorted(applied) == self.done()
        lease = await lease_of(self.store)
        assert lease is None or lease.released

    async def check_next_run(self) -> None:
        """Make sure that the next run completes, and need not wait for the lease."""
        await self.flamingock(lock=AT_ONCE).run()
        assert self.done() == sorted(IDS)
        await self.check(AuditState.APPLIED)


class TransactionalShop(Shop):
    """The same, in the transactions of a database; a rollback that failed has done nothing."""

    standing = frozenset({AuditState.APPLIED, AuditState.ROLLBACK_FAILED})

    def __init__(self, folder: Path, log: str) -> None:
        super().__init__()
        self._path = folder / "shop.db"
        self.store = SQLiteAuditStore(folder / log)
        self.targets = [WatchedTarget("shop", self._path, self.moments)]

    def change(self, id: str, **options: Any) -> type:
        """Return a change in a transaction."""

        @change(id=id, author="tests", order=id, target_system="shop", **options)
        class Row:
            async def execute(self, db: aiosqlite.Connection, pause: Any) -> None:
                await pause()
                await db.execute(f"CREATE TABLE effect_{id} (id)")
                await pause()

            async def rollback(self, db: aiosqlite.Connection, pause: Any) -> None:
                await db.execute(f"DROP TABLE effect_{id}")
                await pause()

        return Row

    def done(self) -> list[str]:
        """Return what the changes have done."""
        found = rows(self._path, "SELECT name FROM sqlite_master WHERE name LIKE 'effect_%'")
        return sorted(name.removeprefix("effect_") for (name,) in found)


class WatchedTarget(SQLiteTargetSystem):
    """A target system with moments around each transaction."""

    def __init__(self, id: str, path: Path, moments: Moments) -> None:
        super().__init__(id, path)
        self._moments = moments

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        self._moments()
        async with super().transaction() as session:
            yield session
            self._moments()

        self._moments()


class Cut:
    """Work in a task that is cancelled once."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self.work = work
        self.is_made = False
        self.task = asyncio.ensure_future(self.run())

    async def run(self) -> None:
        await self.work()

    def __call__(self) -> None:
        """Cut the work off, unless it has ended."""
        if not self.task.done():
            self.is_made = True
            self.make()

    def make(self) -> None:
        self.task.cancel()

    async def end(self) -> None:
        """Wait for the end, which must be the one that was asked for."""
        await asyncio.wait([self.task], timeout=30)
        assert self.task.done()
        if self.is_made:
            self.check()
        else:
            self.task.result()

    def check(self) -> None:
        assert self.task.cancelled(), f"the cancellation was swallowed: {self.task}"


class AgainAndAgain(Cut):
    """The task is cancelled until it has ended."""

    def make(self) -> None:
        if not self.task.done():
            self.task.cancel()
            asyncio.get_running_loop().call_later(0.0005, self.make)


class Scope(Cut):
    """A scope around the work is cancelled."""

    async def run(self) -> None:
        with anyio.CancelScope() as self.scope:
            await self.work()

    def make(self) -> None:
        self.scope.cancel()

    def check(self) -> None:
        self.task.result()
        assert self.scope.cancelled_caught, "the cancellation was swallowed"


class Timeout(Cut):
    """The time of ``anyio.fail_after`` runs out."""

    async def run(self) -> None:
        with anyio.fail_after(3600) as self.scope:
            await self.work()

    def make(self) -> None:
        self.scope.deadline = asyncio.get_running_loop().time()

    def check(self) -> None:
        with pytest.raises(TimeoutError):
            self.task.result()


CUTS = (Cut, AgainAndAgain, Scope, Timeout)


async def cut_at(moment: int, cut: type[Cut], shop: Shop, work: Work) -> bool:
    """
    Do some work and cut it off at a moment.

    :return: whether the moment came before the end
    """
    flamingock = shop.flamingock()
    made = cut(lambda: work(flamingock))
    shop.moments.start(made, moment)
    shop.moments.watch(shop.store)
    await made.end()
    shop.moments.stop()
    return made.is_made
