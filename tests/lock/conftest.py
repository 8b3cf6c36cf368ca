"""The time of a test, and stores that live in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from aflamingock.abc import AuditStore
from aflamingock.stores.memory import MemoryAuditStore
from tests.lock.kit import Memory, SQLite, Time


@pytest.fixture
def time() -> Time:
    return Time(1000.0)


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
