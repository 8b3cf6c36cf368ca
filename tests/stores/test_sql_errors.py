"""What the SQL store says when it cannot work; every failure is that of a real server."""

from __future__ import annotations

import threading
from contextlib import suppress

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from aflamingock.exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    AuditStoreIndexError,
    AuditStorePermissionError,
    SequenceConflictError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.stores import _sql
from aflamingock.stores.sql import SQLAuditStore
from aflamingock.testing._log import chain
from aflamingock.testing._patience import insist
from tests.servers import free_port
from tests.servers.sql import SERVERS, query, url_of
from tests.stores.kit import ENTRIES, FIRST, SECOND, last_numbers

pytestmark = pytest.mark.usefixtures("excused_sql")


@pytest.fixture(params=SERVERS)
def url(request):
    return url_of(request.param, request)


@pytest.fixture
def role(request, url):
    """Give a user who may connect, and no more; the password is the name."""
    kind = "postgresql" if url.get_backend_name() == "postgresql" else "mariadb"
    return request.getfixturevalue(f"{kind}_role")


async def assert_unreachable(url: URL, words: str) -> None:
    async with SQLAuditStore.from_url(url) as store:
        for call in (
            store.create,
            store.verify_schema,
            lambda: store.last("shop", 1),
            lambda: store.append(ENTRIES),
            lambda: store.swap_record(FIRST, SECOND),
        ):
            with (
                anyio.fail_after(15),
                pytest.raises(AuditStoreConnectionError, match=words) as error,
            ):
                await call()

            assert str(error.value).startswith("Unable to connect to audit store: ")
            assert error.value.__cause__ is not None
            assert "secret" not in f"{error.value} {error.value.__cause__}"


@pytest.mark.parametrize("driver", ["postgresql", *SERVERS[1:]])
async def test_a_port_that_nobody_listens_on_is_unreachable(driver):
    url = URL.create(driver, "me", "secret", "127.0.0.1", free_port(), "shop")
    await assert_unreachable(url, "does not answer. Verify host and port")


@pytest.mark.parametrize("driver", ["postgresql", *SERVERS[1:]])
async def test_a_server_that_says_nothing_is_unreachable(driver, monkeypatch):
    monkeypatch.setattr(_sql, "_CONNECTING_TIME", 0.2)

    async def be_silent(stream):
        async with stream:
            await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, be_silent)
        url = URL.create(driver, "me", "secret", "127.0.0.1", port, "shop")
        await assert_unreachable(url, "does not answer. Verify host and port")
        group.cancel_scope.cancel()


async def test_a_wrong_password_is_refused(url, role):
    await assert_unreachable(url.set(username=role, password="secret"), "refuses the user or the")


async def test_a_missing_database_is_named(url):
    await assert_unreachable(url.set(database="missing"), "missing has no such database")


async def test_a_missing_folder_is_told(tmp_path):
    await assert_unreachable(
        URL.create("sqlite", database=f"{tmp_path}/missing/audit.db"), "cannot be opened"
    )


async def refused_by(store: SQLAuditStore) -> None:
    async with store:
        for call in (store.last("shop", 1), store.create()):
            with pytest.raises(AuditStoreConnectionError, match="that it is a database"):
                await call


async def test_a_file_that_is_no_database_is_told(tmp_path):
    await anyio.Path(tmp_path / "audit.db").write_text("Dear diary, " * 100)
    await refused_by(SQLAuditStore.from_url(f"sqlite:///{tmp_path}/audit.db"))


async def test_a_file_that_cannot_be_opened_leaves_no_thread_behind(tmp_path, monkeypatch):
    begun: list[str] = []
    start = threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        begun.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    await refused_by(SQLAuditStore.from_url(f"sqlite:///{tmp_path}/missing/audit.db"))
    # aiosqlite's, which it would not wait for
    assert [name for name in begun if "_connection_worker" in name] == []


@pytest.mark.parametrize("may_connect", [True, False])
async def test_a_user_without_rights_is_told_which(url, role, may_connect):
    theirs = url.set(username=role, password=role)
    if url.get_backend_name() == "mysql":
        # without any right on it, the database itself is refused
        if may_connect:
            await query(url, f"GRANT SHOW VIEW ON {url.database}.* TO {role}")
    elif not may_connect:
        await query(url, f"REVOKE CONNECT ON DATABASE {url.database} FROM PUBLIC")

    async with SQLAuditStore.from_url(theirs) as store:
        with pytest.raises(AuditStorePermissionError) as error:
            await store.create()

    assert str(error.value).startswith("Insufficient permissions to create collections/tables: ")
    assert "GRANT SELECT, INSERT, UPDATE ON" in str(error.value)
    assert isinstance(error.value.__cause__, DBAPIError)


async def test_the_rights_that_are_told_are_enough_and_no_more(url, role):
    async with SQLAuditStore.from_url(url) as store:
        await store.create()
        for grant in store.permissions().splitlines():
            await query(url, grant.replace("aflamingock@'%'", role).replace("aflamingock", role))

    async with SQLAuditStore.from_url(url.set(username=role, password=role)) as store:
        await store.create()
        await store.append(ENTRIES)
        assert await store.swap_record(None, FIRST)
        assert await store.swap_record(FIRST, SECOND)
        assert await last_numbers(store) == [3, 2, 1]
        assert list(await store.issues("shop")) == []

        quoted = store._log.engine.dialect.identifier_preparer.format_table(store._entries)
        for statement in (f"DELETE FROM {quoted}", f"UPDATE {quoted} SET epoch = 0"):
            with pytest.raises(DBAPIError, match=r"denied"):
                await query(url.set(username=role, password=role), statement)


async def test_an_index_that_cannot_be_created_is_told_with_its_statement(url, role):
    async with SQLAuditStore.from_url(url) as store:
        await store.create()
        quote = store.engine.dialect.identifier_preparer.quote
        index, table = quote("flamingockIssues_status"), quote("flamingockIssues")
        is_mysql = url.get_backend_name() == "mysql"
        await query(url, f"DROP INDEX {index}" + (f" ON {table}" if is_mysql else ""))
        if is_mysql:
            await query(url, f"GRANT SELECT ON {url.database}.* TO {role}")

    async with SQLAuditStore.from_url(url.set(username=role, password=role)) as store:
        with pytest.raises(
            AuditStoreIndexError,
            match=f"Failed to create audit store indexes.*CREATE INDEX {index}",
        ) as error:
            await store.create()

    assert isinstance(error.value.__cause__, DBAPIError)


async def test_a_table_or_index_of_another_shape_is_told(url):
    types = "service VARCHAR(9), sequence INTEGER"
    async with SQLAuditStore.from_url(url) as store:
        preparer = store.engine.dialect.identifier_preparer
        log, index = (
            preparer.quote(n) for n in ("flamingockAuditLog", "flamingockAuditLog_change")
        )
        on_log = f" ON {log}" if url.get_backend_name() == "mysql" else ""
        for shape in (f"CREATE TABLE {log} ({types})", f"CREATE VIEW {log} AS SELECT 1 AS service"):
            await query(url, shape)
            for call in (store.create, store.verify_schema):
                with pytest.raises(
                    AuditStoreIndexError, match='Failed to create.*table "flam(.|\\n)*CREATE TABLE'
                ):
                    await call()

            await query(url, f"DROP {shape.split()[1]} {log}")

        await store.create()
        await query(url, f"DROP INDEX {index}{on_log}")
        await query(url, f"CREATE INDEX {index} ON {log} (epoch)")
        with pytest.raises(AuditStoreIndexError, match='index "flamingockAuditLog_change" in .*'):
            await store.create()


async def test_an_index_whose_name_is_taken_elsewhere_is_told(postgresql_url):
    await query(postgresql_url, "CREATE TABLE other (id INTEGER)")
    await query(postgresql_url, 'CREATE INDEX "flamingockAuditLog_change" ON other (id)')
    async with SQLAuditStore.from_url(postgresql_url) as store:
        with pytest.raises(AuditStoreIndexError, match=r'index "flamingockAuditLog_change" in .*'):
            await store.create()


async def test_a_missing_schema_is_told(postgresql_url):
    async with SQLAuditStore.from_url(postgresql_url, schema="missing") as store:
        assert await last_numbers(store) == []
        with pytest.raises(AuditStoreError, match='schema "missing" does not exist'):
            await store.create()


async def kill_connections(url: URL) -> None:
    if url.get_backend_name() == "postgresql":
        await query(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()",
        )
        return

    for row in await query(
        url,
        "SELECT id FROM information_schema.processlist WHERE db = :db AND id <> connection_id()",
        db=url.database,
    ):
        await query(url, f"KILL {row.id}")


async def test_a_write_whose_answer_is_lost_is_of_unknown_outcome(url):
    async with SQLAuditStore.from_url(url) as store:
        await store.create()
        await store.append(ENTRIES)
        await kill_connections(url)
        with pytest.raises(UnknownOutcomeError, match="lost"):
            await store.append(chain(4)[3:])

        await store.append(chain(4)[3:])
        await kill_connections(url)
        assert await last_numbers(store) == [4, 3, 2, 1]


async def test_a_locked_row_is_busy(url):
    async with SQLAuditStore.from_url(url) as store, SQLAuditStore.from_url(url) as other:
        await store.create()
        async with other.engine.connect() as connection:
            await connection.execute(store._entries.insert(), ENTRIES[0].to_document())
            with pytest.raises(SystemBusyError, match="busy, and nothing was done"):
                await store.append(ENTRIES[:1])

            await connection.rollback()

        await store.append(ENTRIES[:1])


async def test_an_answer_that_does_not_come_is_of_unknown_outcome(url, monkeypatch):
    async with SQLAuditStore.from_url(url) as store, SQLAuditStore.from_url(url) as other:
        await store.create()
        await store.last("shop", 1)
        monkeypatch.setattr(_sql, "_ANSWERING_TIME", 0.2)
        async with other.engine.connect() as connection:
            await connection.execute(store._entries.insert(), ENTRIES[0].to_document())
            with pytest.raises(UnknownOutcomeError, match="lost"):
                await store.append(ENTRIES[:1])

            await connection.rollback()

        monkeypatch.undo()
        with suppress(SequenceConflictError):  # MySQL has gone on with it, and done it
            await insist(lambda: store.append(ENTRIES[:1]))

        assert await last_numbers(store) == [1]
