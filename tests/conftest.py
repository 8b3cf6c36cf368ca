"""What every test runs under."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Fail a test in which aflamingock blocks the event loop."""
    with blockbuster_ctx("aflamingock") as active:
        yield active
