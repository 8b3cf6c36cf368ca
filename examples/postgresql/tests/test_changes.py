"""How to test changes: all of them, in a schema of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from aflamingock import run_changes
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets.sql import SQLTargetSystem
from members.main import DATABASE_URL


@pytest.fixture
async def engine() -> AsyncIterator[AsyncEngine]:
    """Lend an engine that finds an empty schema, and nothing else."""
    schema = f"test_{uuid4().hex}"
    settings = {"server_settings": {"search_path": schema}}
    engine = create_async_engine(DATABASE_URL, connect_args=settings)
    async with engine.begin() as db:
        await db.execute(text(f"CREATE SCHEMA {schema}"))

    yield engine
    async with engine.begin() as db:
        await db.execute(text(f"DROP SCHEMA {schema} CASCADE"))

    await engine.dispose()


async def test_nobody_can_join_twice(engine: AsyncEngine) -> None:
    await run_changes(
        "members.changes",
        audit_store=MemoryAuditStore(),
        target_systems=[SQLTargetSystem("club-db", engine)],
    )

    with pytest.raises(IntegrityError, match="unique_email"):
        async with engine.begin() as db:
            await db.execute(
                text("INSERT INTO members (email, joined_on) VALUES ('ADA@example.org', now())")
            )
