from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from aflamingock import Verification, change

DROP = text("DROP INDEX CONCURRENTLY IF EXISTS unique_email")
CREATE = text("CREATE UNIQUE INDEX CONCURRENTLY unique_email ON members (lower(email))")
IS_VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('unique_email')")


@change(
    id="unique-email",
    author="club-team",
    target_system="club-db",
    transactional=False,  # CONCURRENTLY keeps nobody waiting, and cannot be in a transaction
)
class UniqueEmail:
    """Let nobody join twice: an index that is built while the club goes on."""

    async def execute(self, db: AsyncConnection) -> None:
        await db.execute(DROP)  # what is left of a try that was cut off
        await db.execute(CREATE)

    async def rollback(self, db: AsyncConnection) -> None:
        await db.execute(DROP)

    async def verify(self, db: AsyncConnection) -> Verification:
        """Say, after a crash, whether the index was built to its end."""
        is_valid = await db.scalar(IS_VALID)
        return Verification.APPLIED if is_valid else Verification.NOT_APPLIED
