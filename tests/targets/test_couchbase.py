"""The Couchbase target passes the suite, and what is special about it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from couchbase.exceptions import (
    DocumentExistsException,
    DocumentNotFoundException,
)
from couchbase.transactions import TransactionGetMultiSpec

from aflamingock import Flamingock, InjectionError, change
from aflamingock.exceptions import (
    ConfigurationError,
    FlamingockError,
)
from aflamingock.stores.couchbase import CouchbaseAuditStore
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets.couchbase import CouchbaseTargetSystem
from aflamingock.testing import TargetSystemSuite
from tests.servers.couchbase.fixtures import (
    BUCKET,
    cluster,
    couchbase_url,
    scope_name,
)
from tests.targets.couchbase import VALUES, insert, is_there, make, place, rows, target

__all__ = ["cluster", "couchbase_url", "make", "place", "scope_name", "target"]


class TestCouchbaseTargetSystem(TargetSystemSuite):
    @pytest.fixture
    def make_target(self, make):
        return make

    async def write(self, objects, value):
        try:
            await objects["session"].insert(objects["collection"], value, {"value": value})
        except FlamingockError:
            await objects["collection"].insert(value, {"value": value})

    async def read(self, objects):
        return [value for value in VALUES if await is_there(objects["collection"], value)]

    async def commit(self, objects):
        await objects["session"]._commit()

    async def roll_back(self, objects):
        await objects["session"]._rollback()


async def test_what_is_offered_is_known_without_opening(make, scope_name):
    target = make()

    assert [(offer.names, offer.type.__name__) for offer in target.offers()] == [
        (("cluster",), "AsyncCluster"),
        (("bucket", "db"), "AsyncBucket"),
        (("scope",), "AsyncScope"),
        (("collection",), "AsyncCollection"),
        (("session", "transaction"), "AttemptContext"),
    ]
    assert repr(target) == f"CouchbaseTargetSystem('db', '{BUCKET}.{scope_name}')"


async def test_a_context_is_of_no_use_outside_its_transaction(target):
    async with target.handles() as objects:
        with pytest.raises(FlamingockError, match="no transaction here, or it is over"):
            await insert(target, objects["session"], "a")

    async with target.transaction() as session:
        await insert(target, session, "a")

    with pytest.raises(FlamingockError, match="no transaction here, or it is over"):
        await insert(target, session, "b")

    assert await rows(target) == ["a"]


async def test_a_context_does_what_that_of_the_sdk_does(target):
    async with target.transaction() as session:
        collection = target.objects(session)["collection"]
        for key in "abc":
            await insert(target, session, key)

        await session.replace(await session.get(collection, "a"), {"x": 1})
        await session.remove(await session.get(collection, "b"))
        with pytest.raises(DocumentNotFoundException):
            await session.get(collection, "b")

        assert await rows(target) == []

    assert await rows(target) == ["a", "c"]
    async with target.transaction() as session:
        both = await session.get_multi([TransactionGetMultiSpec(collection, key) for key in "ac"])

    assert [both.content_as[dict](index) for index in range(2)] == [{"x": 1}, {}]


async def test_an_error_that_breaks_nothing_may_be_handled(target):
    async with target.transaction() as session:
        await insert(target, session, "a")

    async with target.transaction() as session:
        with suppress(DocumentExistsException):
            await insert(target, session, "a")

        await insert(target, session, "b")

    assert await rows(target) == ["a", "b"]


async def test_what_was_removed_is_inserted_again_by_a_transaction(target):
    async with target.handles() as objects:
        await objects["collection"].insert("a", {})
        await objects["collection"].remove("a")

    for _ in range(2):
        async with target.transaction() as session:
            await insert(target, session, "a")

        assert await rows(target) == ["a"]
        async with target.transaction() as session:
            collection = target.objects(session)["collection"]
            await session.remove(await session.get(collection, "a"))

        assert await rows(target) == []


async def test_a_change_without_the_context_is_refused_where_it_is_transactional(target):
    @change(id="a", author="tests", order="1", target_system="db")
    class Bare:
        async def execute(self, collection) -> None:
            await collection.insert("a", {})

    flamingock = Flamingock(changes=[Bare], audit_store=MemoryAuditStore(), target_systems=[target])
    with pytest.raises(InjectionError, match="execute: .* does not take .* 'session'"):
        await flamingock.run()

    assert await rows(target) == []


async def test_tombstones_expire_by_themselves(target, cluster, scope_name):
    await target.claim_marker("k", "c")
    markers = cluster.bucket(BUCKET).scope(scope_name).collection("flamingockMarkers")
    found = await markers.get("k", with_expiry=True)
    left = found.expiry_time.replace(tzinfo=UTC) - datetime.now(UTC)
    assert timedelta(days=1) < left <= timedelta(days=2)


async def test_a_marker_is_removed_where_there_never_was_one(target, cluster, scope_name):
    await target.remove_marker("k")
    scopes = await cluster.bucket(BUCKET).collections().get_all_scopes()
    [collections] = [scope.collections for scope in scopes if scope.name == scope_name]
    assert "flamingockMarkers" not in [collection.name for collection in collections]


async def test_a_cluster_of_its_own_is_shared_with_the_store_and_closed_with_the_last(
    couchbase_url, place
):
    target = CouchbaseTargetSystem.from_url("db", couchbase_url, BUCKET, **place)
    store = CouchbaseAuditStore.from_target_system(target)
    other = CouchbaseTargetSystem.from_url("db", couchbase_url, BUCKET, **place)
    assert (store.shares(target), store.shares(other)) == (True, False)

    for _ in range(2):
        with pytest.raises(ConfigurationError, match="not open"):
            _ = target.cluster

        async with store:
            async with target:
                own = target.cluster
                async with target.transaction() as session:
                    await insert(target, session, "a")

                written: Any = target.objects(session)["collection"]
                await written.remove("a")

            assert await store.last("default", 1) == []

        with pytest.raises(RuntimeError, match="closed"):
            await own.bucket(BUCKET).on_connect()


async def test_it_must_be_open(make):
    target = make()
    for _ in range(2):
        for use in (target.handles, target.transaction):
            with pytest.raises(ConfigurationError, match="not open"):
                async with use():
                    pass

        for call in (target.claim_marker("k", "c"), target.remove_marker("k")):
            with pytest.raises(ConfigurationError, match="not open"):
                await call

        await target.open()
        await target.aclose()


@pytest.mark.parametrize(
    "options",
    [
        {"marker_repository_name": "_a"},
        {"scope_name": "a b"},
        {"collection_name": ""},
        {"transaction_timeout": 0},
        {"transaction_timeout": float("nan")},
    ],
)
async def test_odd_options_are_refused(cluster, options):
    with pytest.raises(ConfigurationError):
        CouchbaseTargetSystem("db", cluster, BUCKET, **options)
