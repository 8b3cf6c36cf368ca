"""Where the log is, what changes touch, and where they say what they have done."""

from __future__ import annotations

from pathlib import Path

import pytest

from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem


@pytest.fixture
def done() -> list[str]:
    return []


@pytest.fixture
def store() -> MemoryAuditStore:
    return MemoryAuditStore()


@pytest.fixture
def shop(tmp_path: Path) -> SQLiteTargetSystem:
    return SQLiteTargetSystem("shop", tmp_path / "shop.db")
