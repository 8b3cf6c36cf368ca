"""The lock: a lease is taken, or waited for."""

from __future__ import annotations

import os

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from aflamingock._events import Event, Listeners, WaitingForLease
from aflamingock._host import describe_process
from aflamingock._lock.lock import Lock
from aflamingock._options import LockOptions
from aflamingock._records import Record
from aflamingock.exceptions import LockTimeoutError
from aflamingock.stores.memory import MemoryAuditStore
from tests.lock.kit import granted, left_behind, make_lock, no_heartbeat, read, written


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
