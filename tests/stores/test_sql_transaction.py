"""The SQL store within the transactions of a target, and beside them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from aflamingock import AuditEntry, Flamingock, TxStrategy, change
from aflamingock.exceptions import (
    ChangeFailedError,
    FlamingockError,
    SequenceConflictError,
    SystemBusyError,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sql import SQLAuditStore
from aflamingock.targets.plain import NonTransactionalTargetSystem
from aflamingock.targets.sql import SQLTargetSystem
from tests.kit import entries, history
from tests.servers import sql
from tests.servers.sql import DATABASES, query, url_of
from tests.stores.kit import ENTRIES, FIRST, SECOND, check_shared_transaction, last_numbers

pytestmark = pytest.mark.usefixtures("excused_sql")


@pytest.fixture(params=DATABASES)
def url(request):
    return url_of(request.param, request)


@pytest.fixture
async def target(url):
    await query(url, "CREATE TABLE effect (x INTEGER)")
    async with SQLTargetSystem.from_url("shop-db", url) as target:
        yield target


@pytest.fixture
async def store(target):
    async with SQLAuditStore.from_target_system(target) as store:
        await store.create()
        yield store


async def effects(url: URL) -> list[int]:
    return [x for (x,) in await query(url, "SELECT x FROM effect ORDER BY x")]


async def test_entries_are_part_of_the_transaction_of_a_target(store, target, url):
    await check_shared_transaction(store, target)
    async with target.transaction() as session:
        await session.execute(text("INSERT INTO effect VALUES (1)"))
        await store.append(ENTRIES[1:2], session=session)

    assert await last_numbers(store) == [2, 1]
    assert await effects(url) == [1]


async def test_a_taken_number_ends_the_transaction_of_a_target(store, target, url):
    await store.append(ENTRIES[:2])

    async def execute() -> None:
        async with target.transaction() as session:
            await session.execute(text("INSERT INTO effect VALUES (1)"))
            await store.append(ENTRIES[1:2], session=session)

    with pytest.raises(SequenceConflictError) as error:
        await execute()

    assert error.value.sequence == 2
    assert error.value.state is ENTRIES[1].state
    assert await effects(url) == []


async def test_no_entry_is_written_where_the_transaction_has_been_ended(store, target):
    async def execute() -> None:
        async with target.transaction() as session:
            with suppress(FlamingockError):
                await session.rollback()

            await store.append(ENTRIES, session=session)

    with pytest.raises(FlamingockError, match="ended by a statement"):
        await execute()

    assert await last_numbers(store) == []


async def test_the_lease_is_renewed_while_a_transaction_is_open(store, target):
    """On SQLite, too, where an append has to wait."""
    await store.swap_record(None, FIRST)
    async with target.transaction() as session:
        await session.execute(text("INSERT INTO effect VALUES (1)"))
        async with store.open_side_channel() as channel:
            assert await channel.swap_record(FIRST, SECOND)

        if not store.exclusive_transactions:
            await store.append(ENTRIES)


async def test_a_file_that_is_locked_is_busy(tmp_path):
    url = sql.sqlite_url(tmp_path).update_query_dict({"timeout": "0.1"})
    target = SQLTargetSystem.from_url("shop-db", url)
    async with target, SQLAuditStore.from_target_system(target) as store:
        await store.create()
        async with target.transaction():
            with pytest.raises(SystemBusyError, match="busy, and nothing was done: database is lo"):
                await store.append(ENTRIES)


async def test_a_store_shares_the_transactions_of_its_engine_only(url):
    engine, other = create_async_engine(url), create_async_engine(url)
    store = SQLAuditStore(engine)

    assert store.shares(SQLTargetSystem("a", engine))
    assert store.shares(SQLTargetSystem("a", engine.execution_options(logging_token="a")))
    assert not store.shares(SQLTargetSystem("a", other))
    assert not store.shares(NonTransactionalTargetSystem("b"))


@change(id="a", author="tests", order="1", target_system="shop-db")
class Good:
    async def execute(self, db: AsyncConnection) -> None:
        await db.execute(text("INSERT INTO effect VALUES (1)"))

    async def rollback(self, db: AsyncConnection) -> None:
        await db.execute(text("DELETE FROM effect"))


@change(id="b", author="tests", order="2", target_system="shop-db")
class Bad:
    async def execute(self, connection) -> None:
        await connection.execute(text("INSERT INTO effect VALUES (2)"))
        raise ZeroDivisionError


@change(id="c", author="tests", order="3", target_system="shop-db", transactional=False)
class Outside:
    async def execute(self, session) -> None:
        await session.execute(text("CREATE TABLE other (x INTEGER)"))


def strategies(log: list[AuditEntry]) -> set[TxStrategy]:
    return {entry.tx_strategy for entry in log if entry.change_id == "a"}


async def test_a_change_and_its_entry_are_committed_together(store, target, url):
    flamingock = Flamingock(changes=[Good, Bad], audit_store=store, target_systems=[target])
    with pytest.raises(ChangeFailedError):
        await flamingock.run()

    assert await history(store) == ["a STARTED", "a APPLIED", "b STARTED", "b FAILED"]
    assert strategies(await entries(store)) == {TxStrategy.TX_SHARED}
    assert await effects(url) == [1]

    whole = Flamingock(changes=[Good, Outside], audit_store=store, target_systems=[target])
    await whole.run()
    await whole.run()
    assert await effects(url) == [1]
    await whole.undo(change_id="a")
    assert await effects(url) == []


async def test_a_change_with_another_store_leaves_a_marker(target, url):
    log = MemoryAuditStore()
    flamingock = Flamingock(changes=[Good, Bad], audit_store=log, target_systems=[target])
    with pytest.raises(ChangeFailedError):
        await flamingock.run()

    assert await history(log) == ["a STARTED", "a APPLIED", "b STARTED", "b FAILED"]
    assert strategies(await entries(log)) == {TxStrategy.TX_SEPARATE_WITH_MARKER}
    assert await effects(url) == [1]
    await flamingock.undo(change_id="a")
    assert await effects(url) == []
