"""The MongoDB store passes the suite with both drivers, and what is special about it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import PyMongoError
from pymongo.monitoring import CommandListener

from aflamingock._records import Record
from aflamingock.exceptions import AuditStoreError, AuditStoreIndexError
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.targets import _mongodb as plumbing
from aflamingock.targets.mongodb import MongoDBTargetSystem
from aflamingock.testing import AuditStoreSuite
from tests.servers.mongodb import ADMIN
from tests.stores import mongodb as kit
from tests.stores.kit import ENTRIES, FIRST, SECOND, last_numbers
from tests.stores.mongodb import side_channel

client = kit.client


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


async def test_a_client_of_a_class_of_ones_own_is_fine(mongodb_url, mongodb_name, excused):
    class Client(AsyncMongoClient):
        pass

    async with Client(mongodb_url) as client, MongoDBAuditStore(client, mongodb_name) as store:
        assert await last_numbers(store) == []
