"""Where a run keeps its log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aflamingock.abc import AuditStore
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore


@pytest.fixture(params=["memory", "sqlite"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AuditStore[Any]:
    """A store in memory, and one in a file."""
    return MemoryAuditStore() if request.param == "memory" else SQLiteAuditStore(tmp_path / "a.db")
