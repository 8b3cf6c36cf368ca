"""Many begin at the same moment, where there is nothing yet."""

from __future__ import annotations

from typing import Any

import anyio

from tests.databases import DATABASES
from tests.stores.kit import ENTRIES


async def test_ten_handles_open_and_create_an_empty_database(place):
    database = DATABASES[place.kind]
    begin = anyio.Event()

    async def work() -> None:
        async with database.connect(place) as client:
            await begin.wait()
            async with database.store(client, place) as store:
                await store.create()
                assert await store.last("shop", 1) == []

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(work)

        await anyio.wait_all_tasks_blocked()
        begin.set()

    async with database.connect(place) as client:
        made: Any = database.store(client, place)  # each of them can tell what is missing
        async with made as store:
            assert await store.verify_schema() == []
            await store.append(ENTRIES)
