"""The first lease in a database where there is nothing yet."""

from __future__ import annotations

import pytest

from aflamingock._lock.record import LeaseRecord
from aflamingock._records import Lease
from aflamingock._retry import Patience
from aflamingock.exceptions import AuditStoreError
from tests.databases import DATABASES

FIRST = Lease(service="shop", owner="run", epoch=1, ttl=60.0)
SECOND = Lease(service="shop", owner="run", epoch=2, ttl=60.0)


async def test_it_creates_what_it_needs(place):
    database = DATABASES[place.kind]
    async with database.connect(place) as client, database.store(client, place) as store:
        record = LeaseRecord(store, "shop", Patience(limit=30.0))
        assert not await record.swap(FIRST, SECOND)
        assert await record.read() is None

        assert await record.swap(None, FIRST)
        assert await record.swap(FIRST, SECOND)
        assert await record.stands(SECOND)


async def test_where_nothing_may_be_created_it_is_refused_with_the_commands(place):
    database = DATABASES[place.kind]
    async with (
        database.connect(place) as client,
        database.store(client, place, auto_create=False) as store,
    ):
        record = LeaseRecord(store, "shop", Patience(limit=30.0))
        with pytest.raises(AuditStoreError, match="auto_create=False"):
            await record.swap(None, FIRST)

        assert await record.read() is None
