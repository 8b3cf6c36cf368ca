"""Stores for the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from aflamingock._audit import log as _audit
from aflamingock.abc import AuditStore
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(_audit, "_LOOK_AGAIN_AFTER", 0.0)


@pytest.fixture
def memory() -> MemoryAuditStore:
    return MemoryAuditStore()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path) -> AsyncIterator[AuditStore[Any]]:
    given: AuditStore[Any] = MemoryAuditStore()
    if request.param == "sqlite":
        given = SQLiteAuditStore(tmp_path / "audit.db")

    async with given as store:
        await store.create()
        yield store
