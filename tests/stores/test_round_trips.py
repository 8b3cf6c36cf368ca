"""What an operation costs, counted at the driver: connections that are set up do not count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aflamingock import AuditEntry, Flamingock, RunStatus
from aflamingock.abc import AuditStore
from aflamingock.testing._log import chain
from tests.databases import DATABASES, Place
from tests.stores.kit import ENTRIES, FIRST, SECOND, continued


@pytest.fixture
def calls() -> list[str]:
    return []


@asynccontextmanager
async def opened(place: Place, calls: list[str]) -> AsyncIterator[AuditStore[Any]]:
    database = DATABASES[place.kind]
    async with database.connect(place, calls) as client, database.store(client, place) as store:
        yield store


async def test_each_operation_is_one_round_trip(place, calls):
    async with opened(place, calls) as store:
        await store.create()
        assert await store.swap_record(None, FIRST)
        assert await store.last("shop", 8) == []  # nobody appends to what he has not read
        for operation in (
            lambda: store.append(ENTRIES[:1]),
            lambda: store.append(ENTRIES[1:]),
            lambda: store.last("shop", 8),
            lambda: store.read_record(FIRST.key),
            lambda: store.swap_record(FIRST, SECOND),  # a renewal
        ):
            calls.clear()
            await operation()
            assert len(calls) == 1


CHANGE = """
from aflamingock import change

@change(id="a", author="tests")
class A:
    async def execute(self):
        pass
"""


@pytest.fixture(scope="module")
def long_log() -> list[AuditEntry]:
    return chain(10_000, service="long", change_id="gone", epoch=1)


async def test_a_start_with_nothing_to_do_is_one_read_of_a_long_log(
    place, calls, tmp_path, long_log
):
    (tmp_path / "changes").mkdir()
    (tmp_path / "changes" / "_0001__a.py").write_text(CHANGE)
    async with opened(place, calls) as store:
        await Flamingock(changes=tmp_path / "changes", audit_store=store).run()
        applied = [entry async for entry in store.entries("default")]
        await DATABASES[place.kind].fill(place, continued(long_log, applied))

    calls.clear()
    async with opened(place, calls) as store:
        flamingock = Flamingock(changes=tmp_path / "changes", audit_store=store, service="long")
        report = await flamingock.run()

    assert report.status is RunStatus.NOTHING_TO_DO
    assert len(calls) == 1
    async with opened(place, calls) as store:
        assert [entry.sequence for entry in await store.last("long", 1)] == [10_003]
