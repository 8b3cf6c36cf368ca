"""The MongoDB store passes the suite with both drivers, and what is special about it."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import anyio
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import PyMongoError
from pymongo.monitoring import CommandListener

from aflamingock._records import Record
from aflamingock.abc import AuditStore
from aflamingock.exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    AuditStoreIndexError,
    AuditStorePermissionError,
    ConfigurationError,
    FlamingockError,
    SequenceConflictError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.targets import _mongodb as plumbing
from aflamingock.targets.mongodb import MongoDBTargetSystem
from aflamingock.testing import AuditStoreSuite
from aflamingock.testing._log import chain
from tests.servers.mongodb import ADMIN, failing
from tests.stores.kit import ENTRIES, FIRST, SECOND, last_numbers


class TestMongoDBAuditStore(AuditStoreSuite):
    @pytest.fixture
    def make_store(self, connect, mongodb_url, mongodb_name):
        return lambda: MongoDBAuditStore(connect(mongodb_url), mongodb_name)


class TestWithAnOddClient(AuditStoreSuite):
    """The same with a client that reads and writes carelessly, under other names."""

    @pytest.fixture
    def make_store(self, connect, mongodb_url, mongodb_name):
        def make() -> MongoDBAuditStore:
            client = connect(
                mongodb_url,
                w=0,
                readPreference="secondaryPreferred",
                readConcernLevel="local",
                document_class=RawBSONDocument,
                tz_aware=True,
                timeoutMS=60_000,
                maxPoolSize=1,
            )
            target = MongoDBTargetSystem("db", client, mongodb_name)
            return MongoDBAuditStore.from_target_system(
                target,
                audit_repository_name="log",
                lock_repository_name="lock",
                issue_repository_name="issue",
            )

        return make


class TestFromURL(AuditStoreSuite):
    """The same with clients of the store's own."""

    @pytest.fixture
    def make_store(self, mongodb_url, mongodb_name, excused):
        return lambda: MongoDBAuditStore.from_url(mongodb_url, mongodb_name)


@pytest.fixture
def client(connect, mongodb_url):
    return connect(mongodb_url)


@pytest.fixture
async def store(client, mongodb_name):
    async with MongoDBAuditStore(client, mongodb_name) as store:
        await store.create()
        yield store


@pytest.fixture
async def shared(client, mongodb_name):
    target = MongoDBTargetSystem("db", client, mongodb_name)
    async with target, MongoDBAuditStore.from_target_system(target) as store:
        await store.create()
        yield target, store


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(plumbing, "PATIENCE", 1.0)


def side_channel(store) -> AbstractAsyncContextManager[AuditStore[Any]]:
    channel: AbstractAsyncContextManager[AuditStore[Any]] | None = store.open_side_channel()
    assert channel is not None
    return channel


async def effects(target) -> int:
    async with target.handles() as objects:
        count: int = await objects["db"].effects.count_documents({})
        return count


async def work(target, store, entries=ENTRIES[:1]) -> None:
    async with target.transaction() as session:
        await target.objects(session)["db"].effects.insert_one({}, session=session)
        await store.append(entries, session=session)


async def test_entries_are_part_of_the_transaction_of_a_target(shared):
    target, store = shared
    assert store.shares(target)
    with suppress(ZeroDivisionError):
        async with target.transaction() as session:
            await store.append(ENTRIES[:1], session=session)
            raise ZeroDivisionError

    assert await last_numbers(store) == []
    async with target.transaction() as session:
        await store.append(ENTRIES[:1], session=session)
        assert await last_numbers(store) == []

    assert await last_numbers(store) == [1]
    await work(target, store, ENTRIES[1:])
    assert await last_numbers(store) == [3, 2, 1]
    assert await effects(target) == 1


async def test_a_taken_number_ends_the_transaction_of_a_target(shared):
    target, store = shared
    await store.append(ENTRIES[:2])
    with pytest.raises(SequenceConflictError) as error:
        await work(target, store, ENTRIES[1:2])

    assert error.value.sequence == 2
    assert error.value.state is ENTRIES[1].state
    assert await effects(target) == 0


async def test_a_number_that_is_taken_meanwhile_ends_the_transaction_of_a_target(shared):
    target, store = shared

    async def change() -> None:
        async with target.transaction() as session:
            await target.objects(session)["db"].effects.insert_one({}, session=session)
            await store.append(ENTRIES[:2])
            await store.append(ENTRIES[1:], session=session)

    with pytest.raises(SequenceConflictError) as error:
        await change()

    assert error.value.sequence == 2
    assert await last_numbers(store) == [2, 1]
    assert await effects(target) == 0


async def test_another_transaction_with_the_same_number_is_busy(shared):
    target, store = shared

    async def outer() -> None:
        async with target.transaction() as session:
            await store.append(ENTRIES[:1], session=session)
            with pytest.raises(SystemBusyError, match="nothing was done"):
                await work(target, store)

    await outer()
    assert await last_numbers(store) == [1]
    assert await effects(target) == 0


async def test_no_entry_is_written_where_the_transaction_has_been_ended(shared):
    target, store = shared

    async def change() -> None:
        async with target.transaction() as session:
            await type(session).abort_transaction(session)
            await store.append(ENTRIES, session=session)

    with pytest.raises(FlamingockError, match="was ended by the code in it"):
        await change()

    assert await last_numbers(store) == []


async def test_what_the_store_does_by_itself_is_not_part_of_a_transaction(shared, mongodb_url):
    target, store = shared
    other = MongoDBAuditStore.from_url(mongodb_url, target.database_name)
    with suppress(ZeroDivisionError):
        async with other, target.transaction() as session:
            await target.objects(session)["db"].effects.insert_one({}, session=session)
            await store.append(ENTRIES[:1])
            await store.swap_record(None, FIRST)
            await other.append(ENTRIES[1:2])
            assert await last_numbers(other) == [2, 1]
            raise ZeroDivisionError

    assert await last_numbers(store) == [2, 1]
    assert await store.read_record(FIRST.key) is not None
    assert await effects(target) == 0


async def test_only_the_same_client_shares_transactions(shared, connect, mongodb_url):
    target, _ = shared
    assert MongoDBAuditStore(target.client, "other").shares(target)
    assert not MongoDBAuditStore(connect(mongodb_url), target.database_name).shares(target)
    assert not MongoDBAuditStore.from_url(mongodb_url, target.database_name).shares(target)


async def test_the_lease_is_renewed_while_a_transaction_is_open(shared):
    target, store = shared
    await store.swap_record(None, FIRST)
    async with target.transaction() as session:
        await store.append(ENTRIES, session=session)
        async with side_channel(store) as channel:
            assert await channel.swap_record(FIRST, SECOND)


async def test_the_clients_of_users_stay_open_and_those_of_the_store_do_not(
    client, mongodb_url, mongodb_name
):
    async with MongoDBAuditStore(client, mongodb_name) as store:
        await store.create()

    assert (await client.admin.command("ping"))["ok"]
    store = MongoDBAuditStore.from_url(mongodb_url, mongodb_name)
    async with store:
        assert await last_numbers(store) == []
        own = store._client

    with pytest.raises(PyMongoError, match="after close"):
        await own.admin.command("ping")


class Commands(CommandListener):
    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event) -> None:
        pass

    def failed(self, event) -> None:
        pass


async def test_each_operation_is_one_round_trip(connect, mongodb_url, mongodb_name):
    commands = Commands()
    client = connect(mongodb_url, event_listeners=[commands])
    async with MongoDBAuditStore(client, mongodb_name) as store:
        assert commands.names == []
        await store.create()
        await store.swap_record(None, FIRST)
        commands.names.clear()
        await store.append(ENTRIES[:1])
        await store.append(ENTRIES[1:])
        await store.last("shop", 8)
        await store.swap_record(FIRST, SECOND)
        await store.read_record(FIRST.key)

    assert commands.names == ["insert", "insert", "find", "update", "find"]


async def test_collections_and_indexes_are_as_asked(client, mongodb_url, mongodb_name):
    async with MongoDBAuditStore(client, mongodb_name, issue_repository_name="Faelle") as store:
        commands = await store.verify_schema()
        await store.create()
        assert await store.verify_schema() == []

    shell = f'db.getSiblingDB("{mongodb_name}")'
    log, issues = (f'{shell}.getCollection("{n}")' for n in ("flamingockAuditLog", "Faelle"))
    assert commands == [
        f'{shell}.createCollection("flamingockAuditLog")',
        f'{shell}.createCollection("flamingockLock")',
        f'{shell}.createCollection("Faelle")',
        f'{log}.createIndex({{"targetSystemId": 1, "createdAt": -1}})',
        f'{log}.createIndex({{"author": 1, "state": 1}})',
        f'{issues}.createIndex({{"createdAt": -1, "status": 1}})',
    ]
    with MongoClient[dict[str, Any]](mongodb_url) as other:
        assert set(other[mongodb_name].list_collection_names()) == {
            "flamingockAuditLog",
            "flamingockLock",
            "Faelle",
        }


async def test_opening_and_reading_create_nothing(client, mongodb_url, mongodb_name):
    async with MongoDBAuditStore(client, mongodb_name) as store:
        assert await last_numbers(store) == []
        assert [entry async for entry in store.entries("shop")] == []
        assert await store.read_record("k") is None
        assert list(await store.issues("shop")) == []

    with MongoClient[dict[str, Any]](mongodb_url) as other:
        assert mongodb_name not in other.list_database_names()


async def test_what_is_missing_is_named_where_nothing_may_be_created(
    client, mongodb_url, mongodb_name
):
    async with MongoDBAuditStore(client, mongodb_name, auto_create=False) as store:
        for call in (store.create(), store.swap_record(None, FIRST)):
            with pytest.raises(AuditStoreError, match=r"auto_create=False.*\n.*createCollection"):
                await call

        with MongoClient[dict[str, Any]](mongodb_url) as other:
            assert mongodb_name not in other.list_database_names()

        async with MongoDBAuditStore(client, mongodb_name) as creator:
            await creator.create()

        await store.create()
        assert await store.swap_record(None, FIRST)


async def test_an_index_in_the_way_is_told(client, mongodb_url, mongodb_name):
    with MongoClient[dict[str, Any]](mongodb_url) as other:
        other[mongodb_name].flamingockAuditLog.create_index("x", name="author_1_state_1")

    async with MongoDBAuditStore(client, mongodb_name) as store:
        with pytest.raises(
            AuditStoreIndexError,
            match=r"(?s)Failed to create audit store indexes.*createIndex\(\{\"author\"",
        ) as error:
            await store.create()

    assert isinstance(error.value.__cause__, PyMongoError)


@pytest.mark.parametrize("name", ["flamingockAuditLog", "flamingockLock", "flamingockIssues"])
async def test_a_view_in_the_place_of_a_collection_is_told(client, mongodb_url, mongodb_name, name):
    with MongoClient[dict[str, Any]](mongodb_url) as other:
        other[mongodb_name].create_collection(name, viewOn="somewhere", pipeline=[])

    async with MongoDBAuditStore(client, mongodb_name) as store:
        for call in (store.create, store.verify_schema):
            with pytest.raises(AuditStoreIndexError, match="Failed to create") as error:
                await call()

            assert f'the collection "{name}" in database' in str(error.value)
            assert str(error.value).endswith(f'createCollection("{name}")')


CALLS = (
    lambda store: store.create(),
    lambda store: store.last("shop", 1),
    lambda store: store.append(ENTRIES),
    lambda store: store.swap_record(None, FIRST),
)


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
async def test_an_unreachable_server_is_told(connect, impatient, call):
    store = MongoDBAuditStore(connect("mongodb://me:secret@127.0.0.1:1/?replicaSet=rs0"), "audit")
    async with store:
        with pytest.raises(
            AuditStoreConnectionError,
            match=r"Unable to connect to audit store: .*'audit' \(127\.0\.0\.1:\d+\).* Verify",
        ) as error:
            await call(store)

    assert isinstance(error.value.__cause__, PyMongoError)
    assert "secret" not in str(error.value)


def test_an_unreachable_server_is_waited_for_less_than_15_seconds():
    assert 5 <= plumbing.PATIENCE <= 12


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
async def test_a_wrong_password_is_told(connect, guarded_mongodb, call):
    store = MongoDBAuditStore(connect(guarded_mongodb.url(ADMIN[0], "wr:ng")), "audit")
    async with store:
        with pytest.raises(
            AuditStoreConnectionError,
            match="Unable to connect to audit store: .* not accept the user or the password",
        ) as error:
            await call(store)

    assert "wr" not in str(error.value)


async def test_a_client_without_a_user_is_told(connect, guarded_mongodb):
    async with MongoDBAuditStore(connect(guarded_mongodb.url()), "audit") as store:
        with pytest.raises(AuditStoreConnectionError, match="asks for a user and a password"):
            await store.last("shop", 1)


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
async def test_a_missing_right_is_told(connect, guarded_mongodb, call):
    with guarded_mongodb.client(*ADMIN) as admin:
        with suppress(PyMongoError):
            admin.admin.command("dropUser", "guest")

        admin.admin.command("createUser", "guest", pwd="p", roles=[{"role": "read", "db": "x"}])

    async with MongoDBAuditStore(connect(guarded_mongodb.url("guest", "p")), "audit") as store:
        with pytest.raises(
            AuditStorePermissionError,
            match=r"Insufficient permissions to create collections/tables: .*permissions\(\)",
        ):
            await call(store)


async def test_the_least_role_suffices_and_cannot_change_the_log(connect, guarded_mongodb):
    role = MongoDBAuditStore(connect(guarded_mongodb.url()), "audit").permissions()
    prefix = 'db.getSiblingDB("audit").createRole('
    assert role.startswith(prefix)
    wanted = json.loads(role.removeprefix(prefix).removesuffix(")"))
    with guarded_mongodb.client(*ADMIN) as admin:
        admin.drop_database("audit")
        for command in ("dropAllUsersFromDatabase", "dropAllRolesFromDatabase"):
            admin.audit.command(command)

        admin.audit.command("createRole", wanted.pop("role"), **wanted)
        admin.audit.command("createUser", "audit", pwd="p", roles=["flamingockAudit"])

    url = f"{guarded_mongodb.url('audit', 'p')}&authSource=audit"
    client = connect(url)
    async with MongoDBAuditStore(client, "audit") as store:
        await store.create()
        await store.append(ENTRIES)
        assert await store.swap_record(None, FIRST)
        assert await store.swap_record(FIRST, SECOND)
        assert list(await store.issues("shop")) == []
        assert await last_numbers(store) == [3, 2, 1]
        async with side_channel(store) as channel:
            assert await channel.read_record(FIRST.key) is not None

    for change in (
        client.audit.flamingockAuditLog.delete_many({}),
        client.audit.flamingockAuditLog.update_many({}, {"$set": {"state": "APPLIED"}}),
    ):
        with pytest.raises(PyMongoError, match="not authorized"):
            await change


LOST, STEPPED_DOWN = {"closeConnection": True}, {"errorCode": 91}
NOTHING_WRITTEN = STEPPED_DOWN | {"errorLabels": ["NoWritesPerformed", "RetryableWriteError"]}


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (LOST, UnknownOutcomeError),
        (STEPPED_DOWN, UnknownOutcomeError),
        (NOTHING_WRITTEN, SystemBusyError),
    ],
)
@pytest.mark.parametrize("command", ["insert", "update"])
async def test_a_write_that_fails_again_and_again_is_told(
    store, mongodb_url, impatient, command, failure, error
):
    call = store.append(ENTRIES) if command == "insert" else store.swap_record(None, FIRST)
    with (
        failing(mongodb_url, command, times=9999, **failure),
        pytest.raises(error, match="nothing was done|may or may not have been done"),
    ):
        await call


@pytest.mark.parametrize("failure", [LOST, STEPPED_DOWN])
async def test_a_read_that_fails_again_and_again_is_busy(store, mongodb_url, impatient, failure):
    with failing(mongodb_url, "find", times=9999, **failure), pytest.raises(SystemBusyError):
        await last_numbers(store)


@pytest.mark.parametrize("entries", [ENTRIES[:1], ENTRIES])
async def test_a_majority_that_does_not_answer_is_told(store, mongodb_url, entries):
    with (
        failing(mongodb_url, "insert", writeConcernError={"code": 64, "errmsg": "late"}),
        pytest.raises(UnknownOutcomeError),
    ):
        await store.append(entries)

    with anyio.fail_after(10):
        while len(await last_numbers(store)) < len(entries):  # noqa: ASYNC110 - the server's event
            await anyio.sleep(0.01)


async def test_writes_ask_a_majority_for_its_journal_whatever_the_client_asks(
    connect, mongodb_url, mongodb_name
):
    asked: list[object] = []

    class Listener(CommandListener):
        def started(self, event):
            if event.command_name in ("insert", "update"):
                asked.append(event.command.get("writeConcern"))

        def succeeded(self, event):
            """Nothing is asked of the answer."""

        def failed(self, event):
            """Nothing is asked of the failure."""

    client = connect(mongodb_url, w=1, event_listeners=[Listener()])
    async with MongoDBAuditStore(client, mongodb_name) as store:
        await store.create()
        await store.append(ENTRIES)
        await store.swap_record(None, Record(key="lease", value={}))

    assert asked
    assert all(each == {"w": "majority", "j": True} for each in asked), asked


async def test_a_single_failure_of_the_network_is_not_noticed(store, mongodb_url):
    with failing(mongodb_url, "insert", closeConnection=True):
        await store.append(ENTRIES)

    with failing(mongodb_url, "find", closeConnection=True):
        assert await last_numbers(store) == [3, 2, 1]


async def test_a_refusal_is_told_without_values(store, mongodb_url):
    with (
        failing(mongodb_url, "insert", errorCode=2),
        pytest.raises(AuditStoreError, match="refused: BadValue"),
    ):
        await store.append(ENTRIES[:1])

    with pytest.raises(AuditStoreError, match="refused: DocumentTooLarge"):
        await store.append(chain(1, error_trace="x" * 17_000_000))


async def test_a_store_of_a_client_that_tells_nothing_has_no_side_channel(client, mongodb_name):
    made = client.delegate if plumbing.driver_of(client) == "motor" else client
    del vars(made)["_init_kwargs"]
    assert MongoDBAuditStore(client, mongodb_name).open_side_channel() is None


async def test_a_side_channel_has_the_credentials_of_the_client(connect, guarded_mongodb):
    client = connect(
        f"mongodb://{guarded_mongodb.address}", username=ADMIN[0], password=ADMIN[1], minPoolSize=3
    )
    async with MongoDBAuditStore(client, "other") as store:
        await store.swap_record(None, Record(key="k", value={}))
        async with side_channel(store) as channel:
            assert await channel.read_record("k") is not None

        await client.drop_database("other")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:se/cret@host/db",
        "mongodb://me:se/cret@host",
        "mongodb://me:secret@host:port",
        "mongodb://me:secret@host/?tls=true&tlsCAFile=/missing",
        "",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigurationError, match="no URL of MongoDB") as error:
        MongoDBAuditStore.from_url(url, "audit")

    assert "cret" not in str(error.value)
    assert error.value.__suppress_context__


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a$b", "x" * 64, "a/b", "a\0"])
def test_an_odd_name_of_a_database_is_refused(name):
    with pytest.raises(ConfigurationError, match="database"):
        MongoDBAuditStore.from_url("mongodb://localhost", name)


@pytest.mark.parametrize("name", ["", "a-b", "a.b", "a$b", "a" * 56, "flamingockLock"])
def test_an_odd_name_of_a_repository_is_refused(name):
    with pytest.raises(ConfigurationError, match="repositor"):
        MongoDBAuditStore.from_url("mongodb://localhost", "x", audit_repository_name=name)


async def test_the_markers_and_the_log_cannot_have_one_name(client):
    target = MongoDBTargetSystem("db", client, "x", marker_repository_name="flamingockIssues")
    with pytest.raises(ConfigurationError, match="different names"):
        MongoDBAuditStore.from_target_system(target)


def test_a_client_of_another_kind_is_refused():
    with (
        MongoClient[dict[str, Any]]("mongodb://localhost", connect=False) as client,
        pytest.raises(ConfigurationError, match="Give an AsyncMongoClient"),
    ):
        MongoDBAuditStore(client, "x")  # type: ignore[arg-type]  # a wrong argument is the test


async def test_a_client_of_a_class_of_ones_own_is_fine(mongodb_url, mongodb_name, excused):
    class Client(AsyncMongoClient):
        pass

    async with Client(mongodb_url) as client, MongoDBAuditStore(client, mongodb_name) as store:
        assert await last_numbers(store) == []


async def test_it_must_be_open(client):
    store = MongoDBAuditStore(client, "audit")
    assert repr(store) == "MongoDBAuditStore('audit')"
    for _ in range(2):
        for call in (store.last("shop", 1), store.create(), store.verify_schema()):
            with pytest.raises(ConfigurationError, match="not open"):
                await call

        await store.open()
        await store.aclose()


async def test_many_append_at_one_number_while_a_transaction_holds_it(shared):
    target, store = shared
    refused = []

    async def append() -> None:
        with pytest.raises(SequenceConflictError) as error:
            await store.append(ENTRIES[:1])

        refused.append(error.value.sequence)

    async with anyio.create_task_group() as group, target.transaction() as session:
        await store.append(ENTRIES[:1], session=session)
        for _ in range(3):
            group.start_soon(append)

        await anyio.sleep(0.1)

    assert refused == [1, 1, 1]
    assert await last_numbers(store) == [1]
