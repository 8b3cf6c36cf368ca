"""A SQLite store on a new file."""

from __future__ import annotations

import pytest

from aflamingock.stores.sqlite import SQLiteAuditStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.db"


@pytest.fixture
async def store(path):
    async with SQLiteAuditStore(path) as store:
        await store.create()
        yield store
