"""What the tests of the MongoDB target have in common."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import MongoClient

from aflamingock.targets import _mongodb as plumbing
from aflamingock.targets import _mongodb_transaction as transactions
from aflamingock.targets.mongodb import MongoDBTargetSystem


@pytest.fixture
def client(connect, mongodb_url):
    return connect(mongodb_url)


@pytest.fixture
async def target(client, mongodb_url, mongodb_name):
    with MongoClient[dict[str, Any]](mongodb_url) as other:
        other[mongodb_name].t.insert_one({"_id": "seed"})

    async with MongoDBTargetSystem("db", client, mongodb_name) as target:
        yield target


@pytest.fixture
def impatient(monkeypatch):
    for module in (plumbing, transactions):
        monkeypatch.setattr(module, "PATIENCE", 1.0)


async def rows(target) -> list[Any]:
    async with target.handles() as objects:
        found = objects["db"].t.find({"_id": {"$ne": "seed"}}, sort=[("_id", 1)])
        return [document["_id"] for document in await found.to_list(None)]


async def insert(target, session, value) -> None:
    await target.objects(session)["db"].t.insert_one({"_id": value}, session=session)
