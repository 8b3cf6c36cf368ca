"""A SQLite target on a new file, with a table."""

from __future__ import annotations

import pytest

from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.targets.sqlite import run


@pytest.fixture
def path(tmp_path):
    return tmp_path / "target.db"


@pytest.fixture
async def target(path):
    async with SQLiteTargetSystem("db", path, busy_timeout=0.1) as target:
        await run(target, "CREATE TABLE t (x UNIQUE)")
        yield target
