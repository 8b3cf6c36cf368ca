"""What MariaDB commits within a transaction, unseen before, is for a person to judge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from blockbuster import BlockBuster
from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from aflamingock import (
    AuditState,
    ChangeFailedError,
    Flamingock,
    FlamingockError,
    ManualInterventionError,
    RollbackFailedError,
    TxStrategy,
    Verification,
    change,
)
from aflamingock.abc import AuditStore
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sql import SQLAuditStore
from aflamingock.targets.sql import SQLTargetSystem
from tests.kit import entries
from tests.servers import sql
from tests.servers.sql import query, url_of

Body = Callable[[AsyncConnection], Awaitable[object]]

DDL = "CREATE TABLE IF NOT EXISTS u (x INTEGER)"


class Shop:
    """A target system, and a log in its database or not."""

    def __init__(self, url: URL, *, shared: bool) -> None:
        self._url = url
        self.target = SQLTargetSystem.from_url("shop", url)
        self.store: AuditStore[Any] = (
            SQLAuditStore.from_target_system(self.target) if shared else MemoryAuditStore()
        )

    def build(self, body: Body, *, undo: Body | None = None, **options: Any) -> Flamingock:
        """Return what executes *body* after an insertion."""

        class Step:
            async def execute(self, db: AsyncConnection) -> None:
                await db.execute(text("INSERT INTO t VALUES (1)"))
                await body(db)

            async def rollback(self, db: AsyncConnection) -> None:
                await db.execute(text("DELETE FROM t"))
                if undo is not None:
                    await undo(db)

        declared = change(id="a", author="tests", order="1", target_system="shop", **options)
        return Flamingock(
            changes=[declared(Step)], audit_store=self.store, target_systems=[self.target]
        )

    async def rows(self) -> list[int]:
        return [x for (x,) in await query(self._url, "SELECT x FROM t ORDER BY x")]

    async def last(self) -> tuple[AuditState, TxStrategy]:
        left = [one for one in await entries(self.store) if one.change_id == "a"][-1]
        return left.state, left.tx_strategy


@pytest.fixture(params=["mysql+asyncmy", "mysql+aiomysql"])
def url(request: pytest.FixtureRequest, blockbuster: BlockBuster) -> URL:
    sql.excuse_drivers(blockbuster)
    return url_of(request.param, request)


@pytest.fixture
async def shop(url: URL) -> Shop:
    """A database with procedures that commit; one driver has the log there, one elsewhere."""
    await query(url, "CREATE TABLE t (x INTEGER PRIMARY KEY) ENGINE=InnoDB")
    for name, body in {
        "creating": DDL,
        "committing": "COMMIT; START TRANSACTION",
        "failing": f"{DDL}; SIGNAL SQLSTATE '45000'",
    }.items():
        await query(url, f"CREATE PROCEDURE {name}() BEGIN {body}; END")

    return Shop(url, shared=url.drivername == "mysql+asyncmy")


def doing(*statements: str, hidden: bool = False) -> Body:
    async def body(db: AsyncConnection) -> None:
        for statement in statements:
            with suppress(*([Exception] if hidden else [])):
                await db.execute(text(statement))

    return body


async def behind(db: AsyncConnection) -> None:
    """Commit where SQLAlchemy does not see it."""
    raw = await db.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.commit()


@pytest.mark.parametrize(
    "body",
    [
        doing("CALL creating()"),
        doing("CALL creating()", "SELECT 1", hidden=True),
        doing("CALL committing()"),
        doing("CALL committing()", "INSERT INTO t VALUES (1)"),
        doing("CALL failing()"),
        doing("EXECUTE IMMEDIATE 'COMMIT'"),
        doing("SELECT 1; COMMIT"),
        behind,
    ],
)
async def test_a_commit_that_is_found_afterwards_is_for_a_person_to_judge(
    shop: Shop, body: Body
) -> None:
    flamingock = shop.build(body)
    with pytest.raises(ChangeFailedError):
        await flamingock.run()

    assert await shop.last() == (AuditState.FAILED, TxStrategy.NON_TX)
    with pytest.raises(ManualInterventionError):
        await flamingock.run()

    assert await shop.rows() == [1]
    (issue,) = await flamingock.audit.issues()
    assert issue.change_id == "a"


async def test_the_error_says_what_to_do(shop: Shop) -> None:
    with pytest.raises(ChangeFailedError, match="what was done before may stand") as caught:
        await shop.build(doing("CALL committing()")).run()

    assert "transactional=False" in str(caught.value.__cause__)
    assert "transactional=False" in ((await entries(shop.store))[-1].error_trace or "")


async def test_so_it_is_when_the_run_is_cut_off(shop: Shop) -> None:
    with anyio.CancelScope() as scope:

        async def body(db: AsyncConnection) -> None:
            await db.execute(text("CALL committing()"))
            scope.cancel()
            await anyio.sleep_forever()

        await shop.build(body).run()

    assert await shop.last() == (AuditState.FAILED, TxStrategy.NON_TX)
    assert await shop.rows() == [1]


async def test_so_it_is_in_an_undo(shop: Shop) -> None:
    flamingock = shop.build(doing(), undo=doing("CALL committing()"))
    await flamingock.run()
    with pytest.raises(RollbackFailedError):
        await flamingock.undo(last=1)

    assert await shop.last() == (AuditState.ROLLBACK_FAILED, TxStrategy.NON_TX)
    with pytest.raises(ManualInterventionError):
        await flamingock.run()


async def test_verify_can_judge_instead_of_a_person(shop: Shop) -> None:
    class Step:
        async def execute(self, db: AsyncConnection) -> None:
            await db.execute(text("INSERT INTO t VALUES (1)"))
            await db.execute(text("CALL creating()"))

        async def verify(self, db: AsyncConnection) -> Verification:
            found = (await db.execute(text("SELECT x FROM t"))).all()
            return Verification.APPLIED if found else Verification.NOT_APPLIED

    declared = change(id="a", author="tests", order="1", target_system="shop")(Step)
    flamingock = Flamingock(
        changes=[declared], audit_store=shop.store, target_systems=[shop.target]
    )
    with pytest.raises(FlamingockError):
        await flamingock.run()

    await flamingock.run()

    assert (await shop.last())[0] is AuditState.APPLIED
    assert await shop.rows() == [1]


@pytest.mark.parametrize(
    "statements",
    [
        ["INSERT INTO t VALUES (1)"],
        ["SAVEPOINT s", "ROLLBACK TO SAVEPOINT s", "INSERT INTO t VALUES (1)"],
        ["CREATE TABLE u (x INTEGER)"],
        ["COMMIT"],
        ["KILL CONNECTION_ID()"],
    ],
)
async def test_other_failures_have_left_nothing_and_are_made_again(
    shop: Shop, statements: list[str]
) -> None:
    with pytest.raises(ChangeFailedError):
        await shop.build(doing(*statements)).run()

    state, strategy = await shop.last()
    assert state is AuditState.FAILED
    assert strategy is not TxStrategy.NON_TX
    assert await shop.rows() == []
    await shop.build(doing()).run()
    assert await shop.rows() == [1]


async def test_a_deadlock_has_left_nothing(shop: Shop, url: URL) -> None:
    """InnoDB rolls the transaction back, which is no commit."""
    await query(url, "INSERT INTO t VALUES (10), (20), (30)")

    async def meet(db: AsyncConnection) -> None:
        await db.execute(text("UPDATE t SET x = 11 WHERE x = 10"))
        async with shop.target.engine.connect() as other:
            # who has written more is not the victim
            await other.execute(text("UPDATE t SET x = 31 WHERE x = 30"))
            await other.execute(text("INSERT INTO t VALUES (41), (42), (43), (44)"))
            await other.execute(text("UPDATE t SET x = 21 WHERE x = 20"))
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(other.execute, text("UPDATE t SET x = 12 WHERE x = 10"))
                    await anyio.sleep(0.3)
                    with suppress(DBAPIError):
                        await db.execute(text("UPDATE t SET x = 22 WHERE x = 20"))
            finally:
                await other.rollback()

    with pytest.raises(ChangeFailedError):
        await shop.build(meet).run()

    state, strategy = await shop.last()
    assert state is AuditState.FAILED
    assert strategy is not TxStrategy.NON_TX
    assert await shop.rows() == [10, 20, 30]
