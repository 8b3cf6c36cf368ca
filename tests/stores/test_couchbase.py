"""The Couchbase store passes the suite, and what is special about it."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

import pytest

from aflamingock import Flamingock, change
from aflamingock._records import Record
from aflamingock.exceptions import (
    AuditStoreError,
    ConfigurationError,
)
from aflamingock.stores.couchbase import CouchbaseAuditStore
from aflamingock.targets.couchbase import CouchbaseTargetSystem
from aflamingock.testing import AuditStoreSuite
from tests.servers.couchbase.fixtures import (
    BUCKET,
    cluster,
    couchbase_server,
    couchbase_url,
    scope_name,
)
from tests.stores.couchbase import make, store
from tests.stores.kit import ENTRIES, FIRST, SECOND, last_numbers

__all__ = ["cluster", "couchbase_server", "couchbase_url", "make", "scope_name", "store"]


class TestCouchbaseAuditStore(AuditStoreSuite):
    @pytest.fixture
    def make_store(self, cluster, scope_name):
        return lambda: CouchbaseAuditStore(cluster, BUCKET, scope_name=scope_name)


class TestWithOtherNames(AuditStoreSuite):
    """The same under other names, in the scope of a target."""

    @pytest.fixture
    def make_store(self, cluster, scope_name):
        def make() -> CouchbaseAuditStore:
            return CouchbaseAuditStore.from_target_system(
                CouchbaseTargetSystem("db", cluster, BUCKET, scope_name=scope_name),
                audit_repository_name="log",
                lock_repository_name="lock",
                issue_repository_name="issue",
            )

        return make


async def test_the_cluster_of_a_user_stays_open_and_that_of_the_store_does_not(
    cluster, couchbase_url, scope_name, make
):
    async with make() as store:
        await store.create()

    bucket = cluster.bucket(BUCKET)
    assert await bucket.collections().get_all_scopes()
    store = CouchbaseAuditStore.from_url(couchbase_url, BUCKET, scope_name=scope_name)
    for _ in range(2):
        async with store:
            await store.create()
            assert await last_numbers(store) == []
            own = store._keyspace.cluster

        with pytest.raises(RuntimeError, match="closed"):
            await own.bucket(BUCKET).on_connect()


async def test_a_cluster_of_its_own_leaves_no_thread(couchbase_url, scope_name):
    before = set(threading.enumerate())
    async with CouchbaseAuditStore.from_url(couchbase_url, BUCKET, scope_name=scope_name):
        pass

    assert [thread.name for thread in threading.enumerate() if thread not in before] == []


async def test_every_write_is_durable(couchbase_server, store):
    couchbase_server.forget()
    await store.append(ENTRIES)
    await store.swap_record(None, FIRST)
    await store.swap_record(FIRST, SECOND)
    writes = [c for c in couchbase_server.calls() if c.operation in ("INSERT", "REPLACE")]
    assert [call.is_durable for call in writes] == [True] * 3


async def test_what_is_missing_is_told_as_commands(make, scope_name):
    async with make(issue_repository_name="Faelle") as store:
        commands = await store.verify_schema()
        await store.create()
        assert await store.verify_schema() == []

    manage = "couchbase-cli collection-manage --cluster HOST --username ADMINISTRATOR"
    assert all(command.startswith(manage) for command in commands)
    assert [command.rpartition(f"--bucket {BUCKET} ")[2] for command in commands] == [
        f"--create-scope {scope_name}",
        f"--create-collection {scope_name}.flamingockAuditLog",
        f"--create-collection {scope_name}.flamingockLock",
        f"--create-collection {scope_name}.Faelle",
    ]


async def test_opening_and_reading_create_nothing(cluster, make, scope_name):
    async with make() as store:
        assert await last_numbers(store) == []
        assert [entry async for entry in store.entries("shop")] == []
        assert await store.read_record("k") is None
        assert list(await store.issues("shop")) == []

    scopes = await cluster.bucket(BUCKET).collections().get_all_scopes()
    assert scope_name not in [scope.name for scope in scopes]


async def test_what_others_create_is_seen(make):
    async with make() as early, make() as creator:
        await creator.create()
        await creator.append(ENTRIES)
        assert await last_numbers(early) == [3, 2, 1]


async def test_what_is_missing_is_named_where_nothing_may_be_created(make):
    async with make(auto_create=False) as store:
        with pytest.raises(AuditStoreError, match=r"auto_create=False.*\n.*--create-scope"):
            await store.create()

        async with make() as creator:
            await creator.create()

        await store.create()


async def test_the_roles_are_told_per_collection(make, scope_name):
    roles = make().permissions()

    assert f"scope_admin[{BUCKET}:{scope_name}]" in roles
    assert f"data_writer[{BUCKET}:{scope_name}:flamingockAuditLog]" in roles


async def test_a_record_that_was_touched_by_others_is_replaced(cluster, store, scope_name):
    await store.swap_record(None, FIRST)
    records = cluster.bucket(BUCKET).scope(scope_name).collection("flamingockLock")
    key = f"record::{FIRST.key}"
    locked = await records.get_and_lock(key, timedelta(seconds=5))
    await records.unlock(key, locked.cas)
    assert await store.swap_record(FIRST, SECOND)


async def test_a_swap_whose_answer_was_lost_is_recognised(store, make):
    await store.swap_record(None, FIRST)
    await store.swap_record(FIRST, SECOND)
    assert await store.swap_record(FIRST, SECOND)
    async with make() as other:
        assert await other.swap_record(FIRST, SECOND)
        assert await other.swap_record(None, SECOND)
        assert not await other.swap_record(None, FIRST)


async def test_long_names_have_keys(store):
    name = "ä" * 190
    record = Record(key=name, value={})
    assert await store.swap_record(None, record)
    assert (await store.read_record(name)).token == record.token


async def test_the_lease_is_renewed_in_the_loop_with_one_warning(store, caplog):
    @change(id="a", author="tests", order="1")
    class Change:
        async def execute(self) -> None:
            pass

    assert store.open_side_channel() is None
    with caplog.at_level(logging.WARNING, logger="aflamingock"):
        await Flamingock(changes=[Change], audit_store=store).run()

    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        f"{store!r} cannot be opened a second time"
    ]


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://me:se/cret@host",
        "couchbase://host",
        "couchbase://me:secret@",
        "couchbase://me:secret@host/bucket",
        "couchbase://me:secret@[host",
        "",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigurationError, match="no URL of Couchbase") as error:
        CouchbaseAuditStore.from_url(url, BUCKET)

    assert "cret" not in str(error.value)


@pytest.mark.parametrize("name", ["", "a b", "_a", "%a", "a.b", "ä", "a" * 252, "flamingockLock"])
def test_an_odd_name_of_a_repository_is_refused(name):
    with pytest.raises(ConfigurationError, match="repositor"):
        CouchbaseAuditStore.from_url("couchbase://a:b@c", "x", audit_repository_name=name)


@pytest.mark.parametrize(("bucket", "scope"), [("", "s"), ("a b", "s"), ("b", "_s"), ("b", "")])
def test_an_odd_name_of_a_place_is_refused(bucket, scope):
    with pytest.raises(ConfigurationError, match="name"):
        CouchbaseAuditStore.from_url("couchbase://a:b@c", bucket, scope_name=scope)


async def test_the_markers_and_the_log_cannot_have_one_name(cluster):
    target = CouchbaseTargetSystem("db", cluster, "x", marker_repository_name="flamingockIssues")
    with pytest.raises(ConfigurationError, match="different names"):
        CouchbaseAuditStore.from_target_system(target)


async def test_it_must_be_open(make, scope_name):
    store = make()
    assert repr(store) == f"CouchbaseAuditStore('{BUCKET}.{scope_name}')"
    for _ in range(2):
        for call in (store.last("shop", 1), store.create(), store.verify_schema()):
            with pytest.raises(ConfigurationError, match="not open"):
                await call

        await store.open()
        await store.aclose()
