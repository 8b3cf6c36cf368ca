"""Appending within the transaction of a target system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from aflamingock._records import AuditEntry
from aflamingock.exceptions import LockLostError
from aflamingock.stores.memory import MemoryAuditStore
from tests.audit.kit import Clock, entry, ids, lease, make_log, stored


class Transaction:
    """Writes that reach the store when they are committed."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []


class Transactional(MemoryAuditStore):
    async def append(self, entries: Sequence[AuditEntry], *, session: Any = None) -> None:
        if session is not None:
            session.entries.extend(entries)
            return

        await super().append(entries)


class TestWithinTransactions:
    async def test_what_is_committed_is_confirmed(self):
        store, transaction = Transactional(), Transaction()
        log = make_log(store)
        log.work_under(lease(epoch=3))
        async with log.turn():
            written = await log.append_within(transaction, entry("a", "APPLIED"))
            assert log.history.sequence == 0

            await store.append(transaction.entries)
            log.confirm(written)

        assert await stored(store) == [written]
        assert (written.sequence, written.epoch) == (1, 3)
        assert log.history.last == {"a": written}

    async def test_a_number_that_was_rolled_back_is_used_again(self):
        store = Transactional()
        log = make_log(store)
        async with log.turn():
            rolled_back = await log.append_within(Transaction(), entry("a", "APPLIED"))

        [written] = await log.append(entry("a", "FAILED"))
        assert rolled_back.sequence == written.sequence == 1

    async def test_nobody_appends_during_the_turn(self):
        store, transaction = Transactional(), Transaction()
        log = make_log(store)
        async with anyio.create_task_group() as tasks, log.turn():
            tasks.start_soon(log.append, entry("b"))
            await anyio.wait_all_tasks_blocked()
            written = await log.append_within(transaction, entry("a", "APPLIED"))
            await store.append(transaction.entries)
            log.confirm(written)

        assert await ids(store) == ["a", "b"]

    async def test_nothing_is_written_after_the_end_of_the_lease(self):
        clock, transaction = Clock(), Transaction()
        log = make_log(Transactional())
        log.work_under(lease(clock=clock))
        clock.now = 57.0
        async with log.turn():
            with pytest.raises(LockLostError):
                await log.append_within(transaction, entry("a", "APPLIED"))

        assert transaction.entries == []
