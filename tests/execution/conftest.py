"""What changes touch."""

from __future__ import annotations

from pathlib import Path

import pytest

from aflamingock.targets.sqlite import SQLiteTargetSystem


@pytest.fixture
def shop(tmp_path: Path) -> SQLiteTargetSystem:
    return SQLiteTargetSystem("shop", tmp_path / "shop.db")
