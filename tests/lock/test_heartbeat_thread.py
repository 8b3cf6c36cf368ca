"""Where the heartbeat runs: in a thread of its own, or in the loop of the work."""

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
from blockbuster import BlockBuster

from aflamingock._lease import HeldLease
from aflamingock._lock.heartbeat import HeartbeatHost, in_loop, in_thread
from aflamingock._lock.lock import Lock
from aflamingock._options import LockOptions
from aflamingock._records import Lease
from aflamingock.abc import AuditStore
from aflamingock.exceptions import AuditStoreConnectionError, LockLostError
from aflamingock.stores.memory import MemoryAuditStore
from tests.lock.heartbeat import Breakable, write
from tests.lock.kit import read


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
