"""A lease whose holder is dead, or gone, is taken over."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aflamingock._records import Record
from aflamingock.exceptions import LockTimeoutError
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from tests.lock.kit import granted, left_behind, make_lock, read, written


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
