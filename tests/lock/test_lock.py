"""The lock: take, wait for, give back and take away the lease of a service."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from aflamingock._events import Event, Listeners, WaitingForLease
from aflamingock._host import describe_process
from aflamingock._lease import HeldLease
from aflamingock._lock import lock as _lock
from aflamingock._lock.heartbeat import Heartbeat
from aflamingock._lock.lock import Lock
from aflamingock._options import LockOptions
from aflamingock._records import Lease, Record
from aflamingock._task import supervised
from aflamingock.abc import AuditStore
from aflamingock.exceptions import (
    AuditStoreConnectionError,
    LockLostError,
    LockTimeoutError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore

_KEY = Lease.key("shop")


class Time:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        self.on_pause: Callable[[], None] = lambda: None

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        self.on_pause()
        await checkpoint()


@asynccontextmanager
async def no_heartbeat(heartbeat: Heartbeat, store: AuditStore[Any]) -> AsyncIterator[None]:
    yield


class Memory:
    """A store in memory, whose records age by the time of the test."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self._store = MemoryAuditStore(clock=time.clock)

    def store(self) -> MemoryAuditStore:
        return self._store.twin()

    def let_age(self, seconds: float) -> None:
        self._time.now += seconds


class SQLite:
    """A store in a file, whose records age by the clock of SQLite."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def store(self) -> SQLiteAuditStore:
        return SQLiteAuditStore(self._path)

    def let_age(self, seconds: float) -> None:
        with closing(sqlite3.connect(f"{self._path}.lease")) as connection, connection:
            connection.execute(
                'UPDATE "flamingockLock" SET writtenAt = writtenAt - ?', (1000 * seconds,)
            )


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=["memory", "sqlite"])
def backend(request, time, tmp_path) -> Memory | SQLite:
    return Memory(time) if request.param == "memory" else SQLite(tmp_path / "audit.db")


@pytest.fixture
async def store(backend) -> AsyncIterator[AuditStore[Any]]:
    async with backend.store() as store:
        await store.create()
        yield store


@pytest.fixture
def memory(time) -> MemoryAuditStore:
    return MemoryAuditStore(clock=time.clock)


def make_lock(store: AuditStore[Any], time: Time, owner: str = "run", **values) -> Lock:
    options: dict[str, Any] = {"ttl": 60.0, "timeout": 180.0, "retry_interval": 1.0}
    listeners = values.pop("listeners", None)
    return Lock(
        store,
        LockOptions(**options | values),
        service="shop",
        owner=owner,
        listeners=listeners,
        _clock=time.clock,
        _sleep=time.sleep,
        _draw=lambda: 0.5,
        _host=no_heartbeat,
    )


def left_behind(**values) -> Lease:
    given: dict[str, Any] = {"service": "shop", "owner": "other", "epoch": 7, "ttl": 60.0}
    return Lease(**given | {"host": "db-1"} | values)


async def written(store: AuditStore[Any], lease: Lease) -> Lease:
    """Write a lease as somebody else would."""
    current = await store.read_record(_KEY)
    assert await store.swap_record(current, lease.to_record())
    return lease


async def read(store: AuditStore[Any]) -> Lease:
    record = await store.read_record(_KEY)
    assert record is not None
    return Lease.from_record(record)


def granted(held: HeldLease | None) -> HeldLease:
    assert held is not None
    return held


class TestGrant:
    async def test_a_free_lease_is_taken_at_once(self, store, time):
        async with make_lock(store, time).hold() as held:
            lease = await read(store)

            assert granted(held).lease.token == lease.token
            assert (lease.owner, lease.epoch, lease.ttl) == ("run", 1, 60.0)
            assert (lease.pid, lease.released) == (os.getpid(), False)
            assert lease.process == await anyio.to_thread.run_sync(describe_process, os.getpid())

        assert time.pauses == []

    async def test_it_is_given_back_at_the_end(self, store, time):
        async with make_lock(store, time).hold():
            pass

        assert (await read(store)).released

    async def test_it_is_given_back_after_an_error_that_passes_as_it_is(self, store, time):
        with pytest.raises(LookupError):
            async with make_lock(store, time).hold():
                raise LookupError

        assert (await read(store)).released

    async def test_each_grant_raises_the_epoch_by_one(self, store, time):
        epochs = []
        for _ in range(3):
            async with make_lock(store, time).hold() as held:
                epochs.append(granted(held).epoch)

        assert epochs == [1, 2, 3]

    async def test_each_write_has_a_token_of_its_own(self, store, time):
        tokens = []
        for _ in range(2):
            async with make_lock(store, time).hold():
                tokens.append((await read(store)).token)

            tokens.append((await read(store)).token)

        assert len(set(tokens)) == 4

    async def test_after_a_lost_record_the_epoch_is_above_that_of_the_log(self, store, time):
        async with make_lock(store, time).hold(above=41) as held:
            assert granted(held).epoch == 42

    async def test_the_epoch_of_the_record_may_be_above_that_of_the_log(self, store, time):
        await written(store, left_behind(epoch=50, released=True))
        async with make_lock(store, time).hold(above=41) as held:
            assert granted(held).epoch == 51

    async def test_services_do_not_stand_in_each_others_way(self, store, time):
        other = Lock(store, LockOptions(), service="other", owner="run", _host=no_heartbeat)
        async with make_lock(store, time).hold(), other.hold(wait=False) as held:
            assert granted(held).epoch == 1

    async def test_the_deadlines_count_from_before_the_request(self, time):
        class Slow(MemoryAuditStore):
            async def swap_record(self, current: Record | None, new: Record) -> bool:
                time.now += 2.0
                return await super().swap_record(current, new)

        async with make_lock(Slow(), time).hold() as held:
            assert granted(held).must_renew_by == 1000.0 + 40.0
            assert time.now == 1002.0

    async def test_many_at_once_take_turns(self, backend, time):
        inside = 0
        epochs: list[int] = []

        async def run(owner: str) -> None:
            nonlocal inside
            async with (
                backend.store() as store,
                make_lock(store, time, owner, timeout=1e6).hold() as held,
            ):
                inside += 1
                await checkpoint()
                assert inside == 1
                epochs.append(granted(held).epoch)
                inside -= 1

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(run, f"run {number}")

        assert epochs == [1, 2, 3, 4, 5]


class TestWaiting:
    async def test_who_waits_goes_on_when_the_lease_is_given_back(self, backend, store, time):
        looked = anyio.Event()
        order: list[str] = []

        other = backend.store()

        async def wait() -> None:
            lock = make_lock(other, time, "second", timeout=1e6)
            async with other, lock.hold() as held:
                order.append(f"second, epoch {granted(held).epoch}")

        def on_pause() -> None:
            if len(time.pauses) == 3:
                looked.set()

        time.on_pause = on_pause
        async with anyio.create_task_group() as tasks, make_lock(store, time, "first").hold():
            tasks.start_soon(wait)
            await looked.wait()
            order.append("first")

        assert order == ["first", "second, epoch 2"]

    async def test_it_is_looked_at_again_after_the_interval_on_average(self, memory, time):
        await written(memory, left_behind())
        with pytest.raises(LockTimeoutError):
            async with make_lock(memory, time, timeout=10.5, retry_interval=3.0).hold():
                pass

        assert time.pauses == pytest.approx([3.0, 3.0, 3.0, 1.5])

    async def test_when_the_wait_is_over_the_holder_is_named(self, store, time):
        holder = await written(store, left_behind(change_id="add-users", pid=42))
        with pytest.raises(LockTimeoutError) as over:
            async with make_lock(store, time, timeout=5.0).hold():
                pass

        assert over.value.holder is not None
        assert over.value.holder.token == holder.token
        assert "db-1 (process 42) since " in str(over.value)
        assert "at change 'add-users'" in str(over.value)
        assert "after 5 s of waiting" in str(over.value)
        assert (await read(store)).token == holder.token

    async def test_who_does_not_wait_looks_once(self, store, time):
        await written(store, left_behind())
        with pytest.raises(LockTimeoutError):
            async with make_lock(store, time).hold(wait=False):
                pass

        assert time.pauses == []

    async def test_it_is_told_who_holds_the_lease_at_once_and_every_ten_seconds(self, memory, time):
        await written(memory, left_behind())
        heard: list[WaitingForLease] = []
        listeners = Listeners()
        listeners.add(WaitingForLease, heard.append)
        lock = make_lock(memory, time, timeout=25.0, listeners=listeners)
        with pytest.raises(LockTimeoutError):
            async with lock.hold():
                pass

        assert [event.waited for event in heard] == [0.0, 10.0, 20.0]
        assert heard[0].holder.startswith("db-1 (process 0) since ")
        assert (heard[0].service, heard[0].execution_id) == ("shop", "run")

    async def test_who_need_not_wait_is_told_nothing(self, memory, time):
        heard: list[Event] = []
        listeners = Listeners()
        listeners.add(Event, heard.append)
        async with make_lock(memory, time, listeners=listeners).hold():
            pass

        assert heard == []

    async def test_nothing_is_left_to_do_when_another_has_done_it(self, store, time):
        holder = await written(store, left_behind())
        asked = 0

        async def done() -> bool:
            nonlocal asked
            asked += 1
            return asked == 3

        async with make_lock(store, time).hold(done=done) as held:
            assert held is None

        assert len(time.pauses) == 3
        assert (await read(store)).token == holder.token

    async def test_a_free_lease_is_taken_without_asking_whether_something_is_left(
        self, store, time
    ):
        async def done() -> bool:
            raise AssertionError

        async with make_lock(store, time).hold(done=done) as held:
            assert granted(held).epoch == 1

    async def test_an_error_of_who_asks_ends_the_wait(self, memory, time):
        await written(memory, left_behind())

        async def done() -> bool:
            raise LookupError

        with pytest.raises(LookupError):
            async with make_lock(memory, time).hold(done=done):
                pass

    async def test_a_cancelled_wait_leaves_nothing_behind(self, store, time):
        holder = await written(store, left_behind())

        def on_pause() -> None:
            if len(time.pauses) == 3:
                scope.cancel()

        time.on_pause = on_pause
        with anyio.CancelScope() as scope:
            async with make_lock(store, time).hold():
                raise AssertionError

        assert scope.cancelled_caught
        assert (await read(store)).token == holder.token


class TestDeadHolder:
    async def test_a_lease_that_was_not_renewed_is_taken_over(self, backend, store, time, caplog):
        await written(store, left_behind(ttl=6.0))
        backend.let_age(6.5)
        lock = make_lock(store, time)
        with caplog.at_level(logging.WARNING):
            async with lock.hold() as held:
                assert granted(held).epoch == 8

        assert sum(time.pauses) == 2.0
        assert lock.predecessor is not None
        assert lock.predecessor.owner == "other"
        assert "is taken over from db-1" in caplog.text

    async def test_one_that_was_given_back_has_no_predecessor(self, store, time, caplog):
        await written(store, left_behind(released=True))
        lock = make_lock(store, time)
        with caplog.at_level(logging.WARNING):
            async with lock.hold():
                pass

        assert lock.predecessor is None
        assert caplog.records == []

    async def test_a_step_of_the_stores_clock_takes_no_lease_from_one_that_renews(
        self, backend, store, time
    ):
        await written(store, left_behind(ttl=60.0))
        backend.let_age(1e6)
        with pytest.raises(LockTimeoutError):
            async with make_lock(store, time, timeout=10.0).hold():
                pass

        assert (await read(store)).owner == "other"

    @pytest.mark.parametrize(("timeout", "taken"), [(64.0, False), (65.0, True)])
    async def test_without_a_clock_in_the_store_the_whole_ttl_is_watched(
        self, time, timeout, taken
    ):
        store = Clockless()
        await written(store, left_behind(ttl=60.0))
        lock = make_lock(store, time, timeout=timeout)
        try:
            async with lock.hold() as held:
                assert granted(held).epoch == 8
        except LockTimeoutError:
            assert not taken
        else:
            assert taken

    async def test_a_renewal_starts_the_watch_anew(self, time):
        store = Clockless()
        await written(store, left_behind(ttl=6.0))
        renew = iter(range(1000))

        class Renewed(Clockless):
            async def read_record(self, key: str) -> Record | None:
                if next(renew) % 5 == 0:
                    await written(store, left_behind(ttl=6.0))

                return await super().read_record(key)

        watcher = Renewed()
        watcher._memory = store._memory
        with pytest.raises(LockTimeoutError):
            async with make_lock(watcher, time, timeout=100.0).hold():
                pass

    async def test_a_process_of_another_host_may_have_any_id(self, memory, time):
        await written(memory, left_behind(pid=os.getpid(), process={"boot": "another"}))
        with pytest.raises(LockTimeoutError):
            async with make_lock(memory, time).hold(wait=False):
                pass

    async def test_who_loses_the_race_for_it_waits_on(self, time):
        class Raced(MemoryAuditStore):
            raced = False

            async def swap_record(self, current: Record | None, new: Record) -> bool:
                if not self.raced:
                    self.raced = True
                    winner = left_behind(owner="winner", epoch=8)
                    assert await super().swap_record(current, winner.to_record())

                return await super().swap_record(current, new)

        store = Raced(clock=time.clock)
        with pytest.raises(LockTimeoutError) as over:
            async with make_lock(store, time, timeout=5.0).hold():
                pass

        assert over.value.holder is not None
        assert over.value.holder.owner == "winner"


class Clockless(MemoryAuditStore):
    """A store that cannot tell how old a record is."""

    async def read_record(self, key: str) -> Record | None:
        record = await super().read_record(key)
        return record and replace(record, age=None)


_HOLDER = """
import sys
import anyio
from aflamingock._lock.lock import Lock
from aflamingock._options import LockOptions
from aflamingock.stores.sqlite import SQLiteAuditStore

async def main():
    async with SQLiteAuditStore(sys.argv[1]) as store:
        async with Lock(store, LockOptions(), service="shop", owner="child").hold():
            print("held", flush=True)
            await anyio.sleep_forever()

anyio.run(main)
"""


class TestSingleHost:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "audit.db"

    @pytest.fixture
    def holder(self, path) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
            process.kill()

    async def test_the_lease_of_a_living_process_is_respected(self, path, holder, time):
        async with SQLiteAuditStore(path) as store:
            with pytest.raises(LockTimeoutError) as over:
                async with make_lock(store, time).hold(wait=False):
                    pass

        assert over.value.holder is not None
        assert over.value.holder.pid == holder.pid

    @pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
    async def test_the_lease_of_a_killed_process_is_taken_over_at_once(self, path, holder, time):
        holder.kill()
        holder.wait()
        async with SQLiteAuditStore(path) as store:
            lock = make_lock(store, time)
            assert (await lock.status()).state == "expired"

            async with lock.hold(wait=False) as held:
                assert granted(held).epoch == 2

        assert lock.predecessor is not None
        assert lock.predecessor.pid == holder.pid
        assert time.pauses == []


class TestStatus:
    async def test_before_the_first_run_it_is_free(self, store, time):
        status = await make_lock(store, time).status()

        assert (status.state, status.lease) == ("free", None)

    async def test_in_a_run_it_is_held(self, store, time):
        lock = make_lock(store, time)
        async with lock.hold():
            status = await lock.status()

        assert status.state == "held"
        assert status.lease is not None
        assert status.lease.owner == "run"

    async def test_after_a_run_it_is_free(self, store, time):
        lock = make_lock(store, time)
        async with lock.hold():
            pass

        status = await lock.status()
        assert status.state == "free"
        assert status.lease is not None

    async def test_without_a_renewal_it_is_expired(self, backend, store, time):
        await written(store, left_behind(ttl=6.0))
        backend.let_age(7.0)

        assert (await make_lock(store, time).status()).state == "expired"

    async def test_to_look_changes_nothing(self, store, time):
        before = await written(store, left_behind())
        await make_lock(store, time).status()

        assert (await read(store)).token == before.token


class TestReleaseByForce:
    async def test_it_frees_the_lease_and_raises_the_epoch(self, store, time):
        await written(store, left_behind())
        lock = make_lock(store, time)
        released = await lock.release_by_force()

        assert released is not None
        assert (released.epoch, released.released, released.owner) == (8, True, "other")
        assert (await lock.status()).state == "free"
        async with lock.hold(wait=False) as held:
            assert granted(held).epoch == 9

    async def test_the_holder_cannot_write_the_lease_any_more(self, store, time):
        async with make_lock(store, time, "holder").hold() as held:
            await make_lock(store, time, "operator").release_by_force()

            mine = granted(held).lease
            assert not await store.swap_record(mine.to_record(), mine.to_record())

        assert (await read(store)).epoch == 2

    async def test_a_holder_that_leaves_does_not_free_the_lease_of_its_successor(self, store, time):
        async with make_lock(store, time, "holder").hold():
            await make_lock(store, time, "operator").release_by_force()
            successor = await written(store, left_behind(owner="successor", epoch=3))

        assert (await read(store)).token == successor.token
        assert not (await read(store)).released

    async def test_the_epoch_is_above_that_of_the_log(self, store, time):
        await written(store, left_behind())
        released = await make_lock(store, time).release_by_force(above=41)

        assert released is not None
        assert released.epoch == 42

    async def test_a_free_lease_is_left_alone(self, store, time):
        lock = make_lock(store, time)
        assert await lock.release_by_force() is None

        before = await written(store, left_behind(released=True))
        assert await lock.release_by_force() is None
        assert (await read(store)).token == before.token

    async def test_one_that_was_renewed_meanwhile_is_left_alone(self, time):
        class Renewed(MemoryAuditStore):
            async def swap_record(self, current: Record | None, new: Record) -> bool:
                if current is not None:
                    await super().swap_record(current, replace(current, token="renewed"))

                return await super().swap_record(current, new)

        store = Renewed()
        await written(store, left_behind())

        assert await make_lock(store, time).release_by_force() is None
        assert (await read(store)).token == "renewed"


class LostAnswers(MemoryAuditStore):
    """
    A store whose answers to some swaps are lost.

    :param lost: which swaps, counted from 1
    :param done: whether they are done all the same
    """

    def __init__(self, *lost: int, done: bool) -> None:
        super().__init__()
        self.swaps = 0
        self._lost = lost
        self._done = done

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        self.swaps += 1
        if self.swaps not in self._lost:
            return await super().swap_record(current, new)

        if self._done:
            await super().swap_record(current, new)

        raise UnknownOutcomeError("The answer was lost.")


class TestLostAnswers:
    async def test_a_grant_that_was_done_is_found(self, time):
        store = LostAnswers(1, done=True)
        async with make_lock(store, time).hold(wait=False) as held:
            assert (await read(store)).token == granted(held).lease.token

        assert (await read(store)).released

    async def test_a_grant_that_was_not_done_is_tried_again(self, time):
        store = LostAnswers(1, 2, done=False)
        async with make_lock(store, time).hold() as held:
            assert granted(held).epoch == 1

        assert len(time.pauses) == 2

    async def test_a_release_that_was_done_is_found(self, time, caplog):
        store = LostAnswers(2, done=True)
        with caplog.at_level(logging.WARNING):
            async with make_lock(store, time).hold():
                pass

        assert store.swaps == 2
        assert (await read(store)).released
        assert caplog.records == []

    async def test_a_release_that_was_not_done_is_tried_again(self, time):
        store = LostAnswers(2, done=False)
        async with make_lock(store, time).hold():
            pass

        assert (await read(store)).released

    async def test_a_release_by_force_that_was_done_is_found(self, time):
        store = LostAnswers(2, done=True)
        await written(store, left_behind())
        released = await make_lock(store, time).release_by_force()

        assert released is not None
        assert (await read(store)).token == released.token

    async def test_a_renewal_that_was_under_way_at_the_end_is_released_as_well(self, memory, time):
        lock = make_lock(memory, time)
        async with lock.hold() as held:
            # as a heartbeat does whose answer comes after it was stopped
            renewed = replace(granted(held).lease, token="renewed")
            await written(memory, renewed)

        lease = await read(memory)
        assert lease.released
        assert lease.token != "renewed"


class TestLeaving:
    async def test_the_lease_is_released_though_the_block_is_cancelled(self, store, time):
        with anyio.CancelScope() as scope:
            async with make_lock(store, time).hold():
                scope.cancel()
                await anyio.sleep_forever()

        assert scope.cancelled_caught
        assert (await read(store)).released

    async def test_the_lease_is_released_though_the_task_is_cancelled_again_and_again(
        self, store, time
    ):
        at_work = anyio.Event()

        async def work() -> None:
            async with make_lock(store, time).hold():
                at_work.set()
                await anyio.sleep_forever()

        task = asyncio.create_task(supervised(work))
        await at_work.wait()
        for _ in range(10):
            task.cancel()
            await asyncio.sleep(0)

        with pytest.raises(asyncio.CancelledError):
            await task

        assert (await read(store)).released

    async def test_a_grant_that_is_cut_off_leaves_no_lease_behind(self, time):
        sent = anyio.Event()

        class Far(MemoryAuditStore):
            async def swap_record(self, current: Record | None, new: Record) -> bool:
                done = await super().swap_record(current, new)
                if not sent.is_set():
                    sent.set()
                    await anyio.sleep(0.2)  # the answer is under way

                return done

        store = Far()

        async def take() -> None:
            async with make_lock(store, time).hold():
                await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            await sent.wait()
            tasks.cancel_scope.cancel()

        assert (await make_lock(store, time).status()).state == "free"

    async def test_a_release_that_fails_is_warned_of(self, time, caplog):
        class Failing(MemoryAuditStore):
            async def swap_record(self, current: Record | None, new: Record) -> bool:
                if new.value["released"]:
                    raise AuditStoreConnectionError("out of reach")

                return await super().swap_record(current, new)

        with caplog.at_level(logging.WARNING):
            async with make_lock(Failing(), time).hold():
                pass

        assert "it expires in 60 s: AuditStoreConnectionError: out of reach" in caplog.text

    async def test_a_release_that_hangs_is_given_up(self, time, caplog, monkeypatch):
        monkeypatch.setattr(_lock, "_RELEASE_WITHIN", 0.05)

        class Hanging(MemoryAuditStore):
            async def swap_record(self, current: Record | None, new: Record) -> bool:
                if new.value["released"]:
                    await anyio.sleep_forever()

                return await super().swap_record(current, new)

        with caplog.at_level(logging.WARNING):
            async with make_lock(Hanging(), time).hold():
                pass

        assert "was not released in time" in caplog.text

    @pytest.mark.parametrize("error", [AuditStoreConnectionError, SystemBusyError])
    async def test_what_a_store_says_after_the_loss_is_told_as_the_loss(self, memory, time, error):
        said = error("The server has ended the connection of a process that was stopped.")

        async def work(seconds: float) -> None:
            async with make_lock(memory, time).hold():
                time.now += seconds
                raise said

        with pytest.raises(error):
            await work(1.0)

        with pytest.raises(LockLostError) as caught:
            await work(59.0)

        assert caught.value.__cause__ is said


class TestBusyStore:
    async def test_it_is_tried_again(self, time):
        class Busy(MemoryAuditStore):
            refusals = 6

            async def swap_record(self, current: Record | None, new: Record) -> bool:
                if self.refusals:
                    self.refusals -= 1
                    raise SystemBusyError("The store is locked.")

                return await super().swap_record(current, new)

        async with make_lock(Busy(), time).hold() as held:
            assert granted(held).epoch == 1

        assert len(time.pauses) == 6

    async def test_it_is_not_waited_for_longer_than_for_the_lease(self, time):
        class Busy(MemoryAuditStore):
            async def read_record(self, key: str) -> Record | None:
                raise SystemBusyError("The store is locked.")

        with pytest.raises(LockTimeoutError, match="The store is locked"):
            async with make_lock(Busy(), time, timeout=5.0).hold():
                pass

        assert 5.0 <= sum(time.pauses) < 6.0
