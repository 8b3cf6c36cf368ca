"""What every test runs under."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from aflamingock.stores.memory import MemoryAuditStore

# Servers that every test may ask for; each is started when one does, and not before. What others
# import comes first, so that pytest finds it new.
pytest_plugins = (
    "tests.servers.postgresql",
    "tests.servers.mariadb",
    "tests.servers.sql",
    "tests.servers.mongodb",
    "tests.servers.replica_set",
    "tests.servers.dynamodb",
    "tests.places",
)


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Fail a test in which aflamingock blocks the event loop."""
    with blockbuster_ctx("aflamingock") as active:
        # coverage takes a lock of its own where a thread of ours begins
        for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
            active.functions[name].can_block_in("coverage/collector.py", "lock_data")

        yield active


@pytest.fixture
def done() -> list[str]:
    """What changes say that they have done."""
    return []


@pytest.fixture
def store() -> MemoryAuditStore:
    """Where the log is kept, unless a module has something else in mind."""
    return MemoryAuditStore()
