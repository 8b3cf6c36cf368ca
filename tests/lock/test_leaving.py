"""The lease is given back, however its block ends."""

from __future__ import annotations

import asyncio
import logging

import anyio
import anyio.to_thread
import pytest

from aflamingock._lock import lock as _lock
from aflamingock._records import Record
from aflamingock._task import supervised
from aflamingock.exceptions import AuditStoreConnectionError, LockLostError, SystemBusyError
from aflamingock.stores.memory import MemoryAuditStore
from tests.lock.kit import make_lock, read


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
