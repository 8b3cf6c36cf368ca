"""What the tests of the MongoDB store have in common."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from aflamingock.abc import AuditStore
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.targets import _mongodb as plumbing
from aflamingock.targets.mongodb import MongoDBTargetSystem
from tests.stores.kit import ENTRIES


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
