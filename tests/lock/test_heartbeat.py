"""The heartbeat: a lease is renewed whatever a change does, or the change is cancelled."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint
from blockbuster import BlockBuster

from aflamingock._lease import HeldLease
from aflamingock._lock.heartbeat import Heartbeat, HeartbeatHost, in_loop, in_thread
from aflamingock._lock.lock import Lock
from aflamingock._options import LockOptions
from aflamingock._records import Lease, Record
from aflamingock.abc import AuditStore
from aflamingock.exceptions import (
    AuditStoreConnectionError,
    AuditStoreSchemaError,
    LockLostError,
    UnknownOutcomeError,
)
from aflamingock.stores.memory import MemoryAuditStore

_KEY = Lease.key("shop")


class Time:
    """Time that passes only while a heartbeat sleeps; it stands still in the end."""

    def __init__(self, *, until: float = 1e9) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self._until = until

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if self.now + seconds > self._until:
            await anyio.sleep_forever()

        self.pauses.append(seconds)
        self.now += seconds
        await checkpoint()


class Breakable(MemoryAuditStore):
    """A store that can go out of reach; its second connection is the same one."""

    broken = False

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        await self.before_swap()
        return await super().swap_record(current, new)

    async def before_swap(self) -> None:
        if self.broken:
            raise AuditStoreConnectionError("out of reach")

    async def go_out_of_reach(self) -> None:
        self.broken = True

    def open_side_channel(self) -> Any:
        return self.side_channel()

    @asynccontextmanager
    async def side_channel(self) -> AsyncIterator[AuditStore[Any]]:
        yield self


async def read(store: AuditStore[Any]) -> Lease:
    record = await store.read_record(_KEY)
    assert record is not None
    return Lease.from_record(record)


async def write(store: AuditStore[Any], lease: Lease) -> None:
    """Write a lease as somebody else would, whatever stands there."""
    assert isinstance(store, MemoryAuditStore)
    current = await MemoryAuditStore.read_record(store, _KEY)
    assert await MemoryAuditStore.swap_record(store, current, lease.to_record())


class Beating:
    """A heartbeat of a lease of 60 s in the time of a test."""

    def __init__(self, time: Time, *, drawn: float = 0.5, ttl: float = 60.0) -> None:
        lease = Lease(service="shop", owner="run", epoch=3, ttl=ttl)
        self.time = time
        self.ended_at: list[float] = []
        self.held = HeldLease(lease, sent_at=0.0, clock=time.clock)
        self.heartbeat = Heartbeat(
            self.held,
            on_end=lambda: self.ended_at.append(time.now),
            clock=time.clock,
            sleep=time.sleep,
            draw=lambda: drawn,
        )

    async def beat(self, store: AuditStore[Any]) -> None:
        """Beat until the time stands still, or to the end of the lease."""
        await write(store, self.held.lease)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._beat, store, tasks.cancel_scope.cancel)
            while not self._stands_still():
                await checkpoint()

            tasks.cancel_scope.cancel()

    def _stands_still(self) -> bool:
        return len(self.time.pauses) > 500

    async def _beat(self, store: AuditStore[Any], then: Callable[[], None]) -> None:
        await self.heartbeat.beat(store)
        then()


class TestRenewal:
    @pytest.mark.parametrize(("drawn", "pause"), [(0.0, 9.0), (0.5, 10.0), (1.0, 11.0)])
    async def test_a_lease_is_renewed_every_sixth_of_its_ttl_with_jitter(self, drawn, pause):
        time, store = Time(), Breakable()
        beating = Beating(time, drawn=drawn)
        await beating.beat(store)

        assert time.pauses == pytest.approx([pause] * len(time.pauses))
        assert beating.held.is_standing
        assert beating.ended_at == []

    async def test_each_renewal_is_in_the_store_and_says_what_is_carried_out(self):
        store = Breakable()
        beating = Beating(Time())
        first = beating.held.lease.token
        beating.held.change_id = "add-users"
        await beating.beat(store)

        lease = await read(store)
        assert lease.token != first
        assert (lease.change_id, lease.epoch, lease.owner) == ("add-users", 3, "run")

    async def test_the_deadlines_count_from_before_the_request(self, monkeypatch):
        time = Time()

        class Slow(Breakable):
            async def before_swap(self) -> None:
                time.now += 2.0

        beating = Beating(time)
        renewals: list[float] = []
        monkeypatch.setattr(
            beating.held,
            "renewed",
            lambda lease, *, sent_at: renewals.append(time.now - sent_at),
        )
        await beating.beat(Slow())

        assert renewals[0] == 2.0


class TestOutage:
    async def test_the_change_is_cancelled_at_two_thirds_of_the_ttl(self, caplog):
        store = Breakable()
        store.broken = True
        beating = Beating(Time())
        with caplog.at_level(logging.WARNING):
            await beating.beat(store)

        assert beating.ended_at == [pytest.approx(40.0)]
        assert "AuditStoreConnectionError: out of reach); 47.0 s are left." in caplog.text

    async def test_it_beats_on_until_nothing_may_be_written(self):
        store = Breakable()
        store.broken = True
        beating = Beating(Time())
        await beating.beat(store)

        assert not beating.held.is_standing
        assert beating.time.now == pytest.approx(57.0)

    async def test_it_tries_again_soon(self):
        store = Breakable()
        store.broken = True
        beating = Beating(Time())
        await beating.beat(store)

        assert beating.time.pauses[:4] == pytest.approx([10.0, 0.5, 0.5, 0.5])

    async def test_with_a_short_ttl_it_tries_again_sooner(self):
        store = Breakable()
        store.broken = True
        beating = Beating(Time(), ttl=1.0)
        await beating.beat(store)

        assert beating.time.pauses[:3] == pytest.approx([1 / 6, 1 / 24, 1 / 24])
        assert beating.ended_at == [pytest.approx(2 / 3)]

    @pytest.mark.parametrize(("back_at", "cancelled"), [(39.0, False), (50.0, True)])
    async def test_a_store_that_comes_back_keeps_the_lease(self, back_at, cancelled):
        time = Time()

        class Recovering(Breakable):
            async def before_swap(self) -> None:
                if time.now < back_at:
                    raise AuditStoreConnectionError("out of reach")

        beating = Beating(time)
        await beating.beat(Recovering())

        assert beating.held.is_standing
        assert bool(beating.ended_at) is cancelled

    async def test_an_attempt_that_hangs_is_cut(self, caplog):
        class Hanging(Breakable):
            swaps = 0

            async def before_swap(self) -> None:
                self.swaps += 1
                if self.swaps == 1:
                    await anyio.sleep_forever()

        store = Hanging()
        beating = Beating(Time(), ttl=1.0)
        with caplog.at_level(logging.WARNING):
            await beating.beat(store)

        assert store.swaps > 1
        assert beating.held.is_standing
        assert "was not renewed (TimeoutError" in caplog.text

    async def test_a_renewal_whose_answer_was_lost_is_found(self):
        class Lost(Breakable):
            swaps = 0

            async def swap_record(self, current: Record | None, new: Record) -> bool:
                self.swaps += 1
                done = await super().swap_record(current, new)
                if self.swaps == 2:
                    raise UnknownOutcomeError("The answer was lost.")

                return done

        store = Lost()
        beating = Beating(Time())
        await beating.beat(store)

        assert beating.held.is_standing
        assert beating.ended_at == []
        assert (await read(store)).token == beating.held.lease.token

    async def test_its_deadlines_count_from_the_request_that_was_done(self):
        class Lost(Breakable):
            swaps = 0

            async def swap_record(self, current: Record | None, new: Record) -> bool:
                self.swaps += 1
                if self.swaps == 1:
                    await super().swap_record(current, new)

                if self.swaps > 2:  # the second one finds that the first was done
                    await anyio.sleep_forever()

                if self.swaps == 1:
                    raise UnknownOutcomeError("The answer was lost.")

                return await super().swap_record(current, new)

        beating = Beating(Time(until=15.0))
        store = Lost()
        await write(store, beating.held.lease)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(beating.heartbeat.beat, store)
                while store.swaps < 2 or beating.held.must_renew_by == 40.0:
                    await checkpoint()

                scope.cancel()

        assert beating.time.pauses == pytest.approx([10.0, 0.5])
        assert beating.held.must_renew_by == pytest.approx(10.0 + 40.0)


class TestLoss:
    async def _beat_until(self, lease: Lease | None) -> Beating:
        time = Time()

        class Taken(Breakable):
            async def before_swap(self) -> None:
                if time.now >= 20.0:
                    self._memory.records.clear()
                    if lease is not None:
                        self._memory.records[_KEY] = (lease.to_record(), 0.0)

        beating = Beating(time)
        await beating.beat(Taken())
        assert beating.ended_at == [20.0]
        return beating

    async def test_a_lease_that_another_has_taken_is_lost_at_once(self):
        other = Lease(service="shop", owner="other", epoch=4, ttl=60.0, host="db-2", pid=7)
        beating = await self._beat_until(other)

        with pytest.raises(LockLostError, match=r"was taken over by db-2 \(process 7\).*epoch 4"):
            beating.held.check()

    async def test_a_lease_that_another_has_taken_and_given_back_was_not_released_by_force(self):
        other = Lease(service="shop", owner="other", epoch=4, ttl=60.0, host="db-2", released=True)
        beating = await self._beat_until(other)

        with pytest.raises(LockLostError, match=r"was taken over by db-2.*epoch 4"):
            beating.held.check()

    async def test_a_lease_that_was_released_by_force_is_lost_at_once(self):
        released = Lease(service="shop", owner="run", epoch=4, ttl=60.0, released=True)
        beating = await self._beat_until(released)

        with pytest.raises(LockLostError, match=r"was released by force \(epoch 4\)"):
            beating.held.check()

    async def test_a_lease_that_has_disappeared_is_lost_at_once(self):
        beating = await self._beat_until(None)

        with pytest.raises(LockLostError, match="has disappeared from the audit store"):
            beating.held.check()

    async def test_a_lease_whose_table_has_disappeared_is_lost_at_once(self):
        class Dropped(Breakable):
            async def before_swap(self) -> None:
                self._memory.records.clear()
                raise AuditStoreSchemaError("There is no such table.")

        beating = Beating(Time())
        await beating.beat(Dropped())

        assert beating.ended_at == [beating.heartbeat.interval]
        with pytest.raises(LockLostError, match="has disappeared from the audit store"):
            beating.held.check()

    async def test_a_run_that_has_read_of_its_loss_is_ended(self):
        beating = Beating(Time())
        beating.held.lose("was followed by epoch 4 in the audit log")
        await beating.beat(Breakable())

        assert beating.ended_at == [0.0]


def make_lock(
    store: AuditStore[Any], ttl: float, host: HeartbeatHost = in_thread, **values
) -> Lock:
    return Lock(store, LockOptions(ttl=ttl), service="shop", owner="run", _host=host, **values)


async def hold(lock: Lock, work: Callable[[], Awaitable[object]]) -> None:
    """Hold the lease for ever, and do something meanwhile."""
    async with lock.hold():
        await work()
        await anyio.sleep_forever()


async def renewed(held: HeldLease) -> None:
    """Wait for a renewal."""
    with anyio.fail_after(30):
        before = held.lease.token
        while held.lease.token == before:  # noqa: ASYNC110 - it is renewed in another thread
            await anyio.sleep(0.01)


async def _ended(thread: threading.Thread) -> bool:
    await anyio.to_thread.run_sync(thread.join, 30.0)
    return not thread.is_alive()


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "heartbeat" in thread.name]


def _from_any_thread(callback: Callable[[], object]) -> Callable[[], object]:
    loop = asyncio.get_running_loop()
    return lambda: loop.call_soon_threadsafe(callback)


@pytest.fixture(autouse=True)
async def _no_thread_of_another_test() -> None:
    for thread in _threads():
        assert await _ended(thread)


class TestBlockedLoop:
    """A change that blocks the loop for longer than the ttl; ``time.sleep`` is allowed here."""

    @pytest.fixture(autouse=True)
    def _may_block(self, blockbuster: BlockBuster) -> None:
        blockbuster.functions["time.sleep"].deactivate()

    async def test_the_lease_is_kept_and_the_line_is_named(self, caplog):
        store = MemoryAuditStore()
        with caplog.at_level(logging.WARNING):
            async with make_lock(store, 3.0).hold() as held:
                assert held is not None
                await renewed(held)
                time.sleep(3.5)  # noqa: ASYNC251 - what must not be done

                held.check_renewed()
                assert (await read(store)).epoch == 1

        [warning] = [r.getMessage() for r in caplog.records if "blocked" in r.getMessage()]
        assert "has been blocked for more than 1.0 s at " in warning
        assert f"{__file__}:" in warning
        assert " in test_the_lease_is_kept_and_the_line_is_named" in warning

    async def test_a_loop_that_answers_is_not_warned_of(self, caplog):
        with caplog.at_level(logging.WARNING):
            async with make_lock(MemoryAuditStore(), 2.0).hold():
                await anyio.sleep(1.2)

        assert [r for r in caplog.records if "blocked" in r.getMessage()] == []


@pytest.mark.parametrize("host", [in_thread, in_loop])
class TestHosts:
    async def test_a_lease_is_renewed_while_the_block_runs(self, host):
        store = MemoryAuditStore()
        async with make_lock(store, 3.0, host).hold() as held:
            assert held is not None
            await renewed(held)

        assert (await read(store)).released

    async def test_without_renewals_the_block_is_cancelled_and_the_loss_is_told(self, host):
        store = Breakable()
        with pytest.raises(LockLostError, match="was not renewed for") as lost:
            await hold(make_lock(store, 1.0, host), store.go_out_of_reach)

        assert store.broken
        assert "Start again to go on." in str(lost.value)

    async def test_a_lease_that_another_took_cancels_the_block(self, host):
        store = MemoryAuditStore()
        other = Lease(service="shop", owner="other", epoch=2, ttl=60.0, host="db-2")
        with pytest.raises(LockLostError, match="was taken over by db-2"):
            await hold(make_lock(store, 3.0, host), lambda: write(store, other))

        assert (await read(store)).token == other.token

    async def test_a_lease_that_was_released_by_force_cancels_the_block(self, host):
        store = MemoryAuditStore()
        operator = make_lock(store, 3.0)
        with pytest.raises(LockLostError, match=r"was released by force \(epoch 2\)"):
            await hold(make_lock(store, 3.0, host), operator.release_by_force)

        lease = await read(store)
        assert (lease.epoch, lease.released) == (2, True)

    async def test_an_error_of_the_block_is_passed_on_as_it_is(self, host):
        with pytest.raises(LookupError, match="as it is"):
            async with make_lock(MemoryAuditStore(), 60.0, host).hold():
                raise LookupError("as it is")

    async def test_a_cancellation_of_the_block_is_passed_on(self, host):
        store = MemoryAuditStore()
        with anyio.CancelScope() as scope:
            async with make_lock(store, 60.0, host).hold():
                scope.cancel()
                await anyio.sleep_forever()

        assert scope.cancelled_caught
        assert (await read(store)).released


class TestThread:
    async def test_it_ends_with_the_block(self):
        async with make_lock(MemoryAuditStore(), 60.0).hold():
            [thread] = _threads()
            assert thread.daemon

        assert await _ended(thread)

    async def test_it_ends_with_a_block_that_ends_at_once(self):
        for _ in range(20):
            async with make_lock(MemoryAuditStore(), 60.0).hold():
                threads = _threads()

            for thread in threads:
                assert await _ended(thread)

        assert _threads() == []

    async def test_it_ends_with_a_block_that_loses_the_lease(self):
        store = Breakable()
        threads: list[threading.Thread] = []

        async def look() -> None:
            threads.extend(_threads())
            store.broken = True

        with pytest.raises(LockLostError):
            await hold(make_lock(store, 1.0), look)

        [thread] = threads
        assert await _ended(thread)

    async def test_it_has_a_loop_and_a_connection_of_its_own(self):
        threads: list[str] = []

        class Watched(Breakable):
            async def before_swap(self) -> None:
                threads.append(threading.current_thread().name)

        async with make_lock(Watched(), 3.0).hold() as held:
            assert held is not None
            await renewed(held)

        assert threads[1] == "aflamingock-heartbeat"
        assert threads[0] == threads[-1] == threading.current_thread().name

    async def test_a_connection_that_is_refused_at_first_is_asked_for_again(self):
        class Full(Breakable):
            refusals = 1

            @asynccontextmanager
            async def side_channel(self) -> AsyncIterator[AuditStore[Any]]:
                if self.refusals:
                    self.refusals -= 1
                    raise AuditStoreConnectionError("too many connections")

                yield self

        with anyio.fail_after(10):
            async with make_lock(Full(), 3.0).hold() as held:
                assert held is not None
                await renewed(held)

    async def test_a_connection_that_is_refused_does_not_fail_a_block_that_is_done(self):
        opened = anyio.Event()
        tell = _from_any_thread(opened.set)

        class Full(Breakable):
            @asynccontextmanager
            async def side_channel(self) -> AsyncIterator[AuditStore[Any]]:
                tell()
                raise AuditStoreConnectionError("too many connections")
                yield self

        store = Full()
        async with make_lock(store, 60.0).hold():
            [thread] = _threads()
            await opened.wait()
            await anyio.to_thread.run_sync(thread.join, 0.5)

        assert (await read(store)).released

    async def test_without_a_connection_the_block_is_cancelled_and_the_loss_is_told(self):
        class Full(Breakable):
            @asynccontextmanager
            async def side_channel(self) -> AsyncIterator[AuditStore[Any]]:
                raise AuditStoreConnectionError("too many connections")
                yield self

        with anyio.fail_after(10), pytest.raises(LockLostError, match="was not renewed for"):
            async with make_lock(Full(), 1.0).hold():
                await anyio.sleep_forever()


class Single(MemoryAuditStore):
    """A store that cannot be opened a second time."""

    def open_side_channel(self) -> None:  # type: ignore[override]  # here a context manager
        return None


class TestWithoutSideChannel:
    async def test_the_heartbeat_is_in_the_loop_and_there_is_one_warning(self, caplog):
        with caplog.at_level(logging.WARNING):
            async with make_lock(Single(), 3.0).hold() as held:
                assert held is not None
                await renewed(held)
                assert _threads() == []

        told = [r.getMessage() for r in caplog.records if "second time" in r.getMessage()]
        assert len(told) == 1
        assert told[0].startswith("Single() cannot be opened a second time")

    async def test_the_lease_can_be_lost_and_is_told(self):
        store = Single()
        other = Lease(service="shop", owner="other", epoch=2, ttl=60.0, host="db-2")
        with pytest.raises(LockLostError, match="was taken over by db-2"):
            await hold(make_lock(store, 3.0), lambda: write(store, other))
