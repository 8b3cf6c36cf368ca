"""The program: it applies its changes, then lists the members."""

from __future__ import annotations

import asyncio
import os

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from aflamingock import ChangeApplied, Flamingock
from aflamingock.stores.sql import SQLAuditStore
from aflamingock.targets.sql import SQLTargetSystem

DATABASE_URL = os.environ.get("DATABASE_URL", "postgresql+asyncpg://localhost/postgres")

engine = create_async_engine(DATABASE_URL)
club_db = SQLTargetSystem("club-db", engine)
flamingock = Flamingock(
    changes="members.changes",
    audit_store=SQLAuditStore.from_target_system(club_db),
    target_systems=[club_db],
    service="members",
)


async def main() -> None:
    """Apply what is pending, telling each change, then list the members."""
    flamingock.on(ChangeApplied, lambda event: print(f"Applied: {event.change_id}"))
    async with flamingock:
        report = await flamingock.run()
        entries = [entry async for entry in flamingock.audit.entries()]

    print(f"{report.status}, {len(entries)} entries in the audit log")
    async with engine.connect() as db:
        for member in await db.execute(text("SELECT * FROM members ORDER BY id")):
            print(*member)

    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
