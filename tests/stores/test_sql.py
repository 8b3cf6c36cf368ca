"""The SQL store passes the suite on every database, and what is special about it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from aflamingock.exceptions import AuditStoreError, AuditStoreSchemaError, ConfigurationError
from aflamingock.stores.sql import SQLAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sql import SQLTargetSystem
from aflamingock.testing import AuditStoreSuite
from aflamingock.testing._log import chain
from tests.servers.sql import DATABASES, query, url_of
from tests.stores.kit import ENTRIES, FIRST, SECOND, check_that_it_must_be_open, last_numbers

pytestmark = pytest.mark.usefixtures("excused_sql")


@pytest.fixture(params=DATABASES)
def url(request):
    return url_of(request.param, request)


@pytest.fixture
async def store(url):
    async with SQLAuditStore.from_url(url) as store:
        await store.create()
        yield store


class TestOnSQLite(AuditStoreSuite):
    @pytest.fixture
    def make_store(self, tmp_path):
        return lambda: SQLAuditStore.from_url(f"sqlite:///{tmp_path / 'audit.db'}")


class TestOnPostgreSQL(AuditStoreSuite):
    @pytest.fixture
    def make_store(self, postgresql_url):
        return lambda: SQLAuditStore.from_url(postgresql_url)


class TestInASchema(AuditStoreSuite):
    """The same within a schema, under other names, on the engine of a user that is serializable."""

    @pytest.fixture
    async def make_store(self, postgresql_url):
        await query(postgresql_url, "CREATE SCHEMA audit")
        engine = create_async_engine(postgresql_url, isolation_level="SERIALIZABLE")
        target = SQLTargetSystem("shop", engine, schema="audit")
        names = {
            "audit_repository_name": "select",
            "lock_repository_name": "lock",
            "issue_repository_name": "issue",
        }
        yield lambda: SQLAuditStore.from_target_system(target, **names)
        await engine.dispose()


class TestOnMariaDB(AuditStoreSuite):
    @pytest.fixture
    def make_store(self, mariadb_url):
        return lambda: SQLAuditStore.from_url(mariadb_url)


class TestOnMariaDBWithAiomysql(AuditStoreSuite):
    @pytest.fixture
    def make_store(self, mariadb_url):
        return lambda: SQLAuditStore.from_url(mariadb_url.set(drivername="mariadb+aiomysql"))


async def test_what_the_embedded_store_wrote_is_found(tmp_path):
    async with SQLiteAuditStore(tmp_path / "audit.db") as embedded:
        await embedded.create()
        await embedded.append(ENTRIES)
        await embedded.swap_record(None, FIRST)
        async with SQLAuditStore.from_url(f"sqlite:///{tmp_path / 'audit.db'}") as store:
            assert await store.verify_schema() == []
            assert list(await store.last("shop", 9)) == ENTRIES[::-1]
            assert await store.swap_record(FIRST, SECOND)
            await store.append(chain(4)[3:])

        assert await last_numbers(embedded) == [4, 3, 2, 1]
        record = await embedded.read_record(FIRST.key)
        assert record is not None
        assert record.token == SECOND.token


async def test_what_is_missing_is_told_as_statements_that_create_it(url):
    forbidden = SQLAuditStore.from_url(url, auto_create=False)
    async with forbidden, SQLAuditStore.from_url(url) as store:
        commands = await store.verify_schema()
        assert len(commands) == 5
        with pytest.raises(AuditStoreError, match="auto_create=False") as error:
            await forbidden.create()

        assert commands[0] in str(error.value)

        for command in commands:
            lease = url.set(database=f"{url.database}.lease")
            is_lease = url.get_backend_name() == "sqlite" and "Lock" in command
            await query(lease if is_lease else url, command)

        assert await store.verify_schema() == []
        await forbidden.create()
        await forbidden.append(ENTRIES)
        assert await forbidden.swap_record(None, FIRST)


async def test_an_index_that_is_missing_is_created(store, url):
    drop = 'DROP INDEX "flamingockAuditLog_change"'
    if url.get_backend_name() == "mysql":
        drop = "DROP INDEX flamingockAuditLog_change ON flamingockAuditLog"

    await query(url, drop)
    [command] = await store.verify_schema()
    assert command.startswith("CREATE INDEX")
    await store.create()
    assert await store.verify_schema() == []


async def test_writing_before_creation_says_what_to_do(url):
    async with SQLAuditStore.from_url(url) as store:
        for write in (store.append(ENTRIES), store.swap_record(None, FIRST)):
            with pytest.raises(AuditStoreSchemaError, match=r"no such table.*create\(\)"):
                await write


async def test_an_operation_is_one_round_trip(store):
    seen: Counter[str] = Counter()

    def count(kind: str) -> Callable[..., None]:
        return lambda *_: seen.update([kind])

    await store.append(ENTRIES[:1])
    await store.swap_record(None, FIRST)
    for engine in {store._log.engine, store._lease.engine}:
        event.listen(engine.sync_engine, "before_cursor_execute", count("statement"))
        event.listen(engine.sync_engine.pool, "connect", count("connection"))
        event.listen(engine.sync_engine.pool, "reset", count("reset"))

    await store.append(ENTRIES[1:])
    await store.last("shop", 8)
    await store.read_record(FIRST.key)
    await store.swap_record(FIRST, SECOND)
    del seen["reset"]
    assert seen == {"statement": 4}


async def test_nothing_is_sent_around_a_statement(mariadb_url, postgresql_url):
    async with SQLAuditStore.from_url(mariadb_url) as store:
        await store.create()

        async def questions() -> int:
            async with store._log._connected() as connection:
                rows = await connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Questions'")
                return int(rows.mappings().one()["Value"])

        before = await questions()
        await store.append(ENTRIES[:2])
        await store.last("shop", 8)
        await store.swap_record(None, FIRST)
        assert await questions() == before + 4

    async with SQLAuditStore.from_url(postgresql_url) as store:
        await store.create()
        seen: list[str] = []
        async with store._log._connected() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            driver.add_query_logger(lambda record: seen.append(record.query))

        await store.append(ENTRIES[:2])
        await store.last("shop", 8)
        await store.swap_record(None, FIRST)
        # what goes through prepared statements is not logged; what surrounds them would be
        assert seen == []


async def test_the_users_pool_is_left_alone(url):
    engine = create_async_engine(url, pool_size=1, max_overflow=0)
    try:
        async with SQLAuditStore(engine) as store, engine.connect():
            await store.create()
            await store.append(ENTRIES)
            async with store.open_side_channel() as side:
                assert await side.swap_record(None, FIRST)

        async with engine.connect() as connection:
            await connection.rollback()
    finally:
        await engine.dispose()


async def test_sqlite_writes_only_within_an_open_transaction_and_the_servers_beside_it(url):
    store = SQLAuditStore.from_url(url)
    is_sqlite = url.get_backend_name() == "sqlite"

    assert store.exclusive_transactions is is_sqlite
    assert store.single_host is is_sqlite


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///audit.db", "SQLAuditStore('audit.db')"),
        ("postgresql://me:secret@host:5433/shop", "SQLAuditStore('postgresql://host:5433/shop')"),
        ("mysql+aiomysql://me:secret@host/shop?password=x", "SQLAuditStore('mysql://host/shop')"),
    ],
)
def test_its_name_is_short_and_keeps_the_secrets(url, name):
    assert repr(SQLAuditStore.from_url(url)) == name


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "postgresql://me:sec/ret@host:port/x",
        "oracle://me:secret@host/x",
        "sqlite+pysqlite:///audit.db",
        "sqlite://",
        "sqlite:///file:audit.db?uri=true",
        "unheard://me:secret@host",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secrets(url):
    with pytest.raises(ConfigurationError) as error:
        SQLAuditStore.from_url(url)

    assert "sec" not in str(error.value)


@pytest.mark.parametrize("name", ["", "a-b", 'a"b', "a" * 56, "SQLITE_x", "FlamingockLOCK"])
def test_an_odd_name_of_a_repository_is_refused(name):
    with pytest.raises(ConfigurationError, match="repositor"):
        SQLAuditStore.from_url("sqlite:///x.db", audit_repository_name=name)


def test_importing_it_imports_no_driver():
    code = (
        "import sys, aflamingock.stores.sql; "
        "drivers = {'asyncpg', 'asyncmy', 'aiomysql', 'aiosqlite'} & sys.modules.keys(); "
        "sys.exit(' '.join(drivers) or 0)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])


def test_an_odd_schema_is_refused():
    with pytest.raises(ConfigurationError, match="schema"):
        SQLAuditStore.from_url("postgresql://host/x", schema='a"b')


def test_the_markers_and_the_log_cannot_have_one_name():
    target = SQLTargetSystem.from_url("db", "sqlite:///x", marker_repository_name="flamingockLock")
    with pytest.raises(ConfigurationError, match="different names"):
        SQLAuditStore.from_target_system(target)


async def test_it_must_be_open(url):
    await check_that_it_must_be_open(SQLAuditStore.from_url(url))
