"""The memory store passes the suite, and what is special about it."""

from __future__ import annotations

import pytest

from aflamingock._records import Record
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets.plain import NonTransactionalTargetSystem
from aflamingock.testing import AuditStoreSuite


class TestMemoryAuditStore(AuditStoreSuite):
    @pytest.fixture
    def make_store(self):
        return MemoryAuditStore().twin


async def test_two_stores_know_nothing_of_each_other():
    async with MemoryAuditStore() as one, MemoryAuditStore() as other:
        await one.swap_record(None, Record(key="k", value={}))

        assert await other.read_record("k") is None


async def test_records_age_by_the_given_clock():
    now = 100.0
    async with MemoryAuditStore(clock=lambda: now) as store:
        await store.swap_record(None, Record(key="k", value={}))
        now = 107.5
        record = await store.read_record("k")

    assert record is not None
    assert record.age == 7.5


async def test_a_value_that_is_changed_after_the_swap_is_not_changed_in_the_store():
    value = {"list": [1]}
    async with MemoryAuditStore() as store:
        await store.swap_record(None, Record(key="k", value=value))
        value["list"].append(2)
        record = await store.read_record("k")

    assert record is not None
    assert record.value == {"list": [1]}


def test_memory_shares_no_transaction():
    assert not MemoryAuditStore().shares(NonTransactionalTargetSystem("other"))
