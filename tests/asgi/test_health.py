from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from aflamingock.asgi import FlamingockMiddleware, Mode, health_routes, lifespan
from aflamingock.exceptions import AuditStoreConnectionError
from tests.asgi.protocol import (
    Broken,
    CountingStore,
    First,
    Gate,
    Server,
    get,
    make_flamingock,
    served,
    until,
)


async def ask(app: Any, server: Server, path: str) -> tuple[int, Any]:
    status, body = await get(app, path, state=dict(server.state))
    return status, json.loads(body)


async def test_a_started_application_is_alive_ready_and_healthy() -> None:
    flamingock = make_flamingock()
    app = FastAPI(lifespan=lifespan(flamingock), routes=health_routes(flamingock))

    async with served(app) as server:
        assert await ask(app, server, "/livez") == (200, {"status": "up"})
        status, progress = await ask(app, server, "/readyz")
        assert status == 200
        assert progress["state"] == "done"
        assert progress.keys() == {"state", "done", "total", "change", "holder"}
        assert await ask(app, server, "/health") == (
            200,
            {"status": "up", "audit-store": "Available"},
        )


@pytest.mark.parametrize("mode", ["wait", "verify"])
async def test_a_start_without_a_run_is_ready_when_it_serves(mode: Mode) -> None:
    store = CountingStore()
    await make_flamingock(store=store).run()
    flamingock = make_flamingock(store=store)
    app = Starlette(routes=health_routes(flamingock), lifespan=lifespan(flamingock, mode=mode))

    async with served(app) as server:
        assert (await ask(app, server, "/readyz"))[0] == 200


async def test_readiness_tells_the_progress_of_the_background() -> None:
    gate = Gate(is_open=False)
    flamingock = make_flamingock(gate)
    app = Starlette(
        routes=health_routes(flamingock), lifespan=lifespan(flamingock, mode="background")
    )

    async def is_ready() -> bool:
        return (await ask(app, server, "/readyz"))[0] == 200

    async with served(app) as server:
        await gate.reached.wait()
        status, progress = await ask(app, server, "/readyz")
        assert status == 503
        assert progress == {
            "state": "running",
            "done": 0,
            "total": 2,
            "change": "first",
            "holder": None,
        }
        assert (await ask(app, server, "/livez"))[0] == 200

        gate.opened.set()
        await until(is_ready)


async def test_a_failed_background_is_never_ready() -> None:
    flamingock = make_flamingock(None, Broken)
    app = Starlette(
        routes=health_routes(flamingock), lifespan=lifespan(flamingock, mode="background")
    )

    async def has_failed() -> bool:
        return bool((await ask(app, server, "/readyz"))[1]["state"] == "failed")

    async with served(app) as server:
        await until(has_failed)
        assert (await ask(app, server, "/readyz"))[0] == 503


async def test_a_second_background_run_is_not_ready_by_the_first() -> None:
    gate = Gate(is_open=False)
    store = CountingStore()
    flamingock = make_flamingock(gate, First, store=store)
    start = Starlette(
        routes=health_routes(flamingock), lifespan=lifespan(flamingock, mode="background")
    )
    gate.opened.set()
    await flamingock.run()

    async with served(start) as server:
        assert server.state["flamingock_start"].tell(flamingock.progress) != "done"


async def test_a_flamingock_made_at_the_start_is_found_on_the_request() -> None:
    app = Starlette(routes=health_routes(make_flamingock, prefix="/ops"))
    wrapped = FlamingockMiddleware(app, make_flamingock)

    async with served(wrapped) as server:
        assert (await ask(wrapped, server, "/ops/readyz"))[0] == 200
        assert (await ask(wrapped, server, "/ops/health"))[0] == 200


async def test_without_a_start_there_is_nothing_to_be_ready() -> None:
    made_later = Starlette(routes=health_routes(make_flamingock))
    given = Starlette(routes=health_routes(make_flamingock()))

    assert json.loads((await get(given, "/readyz"))[1])["state"] == "idle"
    for path in ("/readyz", "/health"):
        status, body = await get(made_later, path)
        assert status == 503
        assert "No Flamingock was started" in json.loads(body)["error"]


async def test_a_run_of_one_s_own_makes_ready_too() -> None:
    flamingock = make_flamingock()
    app = Starlette(routes=health_routes(flamingock))
    await flamingock.run()

    assert (await get(app, "/readyz"))[0] == 200


class FailingStore(CountingStore):
    """Cannot be reached once it is told so."""

    is_down = False

    async def last(self, service: str, count: int) -> Any:
        if self.is_down:
            raise AuditStoreConnectionError("Unable to connect to audit store.")

        return await super().last(service, count)


async def test_a_store_that_is_down_is_told() -> None:
    store = FailingStore()
    flamingock = make_flamingock(store=store, timeout=0.05)
    app = Starlette(routes=health_routes(flamingock), lifespan=lifespan(flamingock))

    async with served(app) as server:
        store.is_down = True
        status, told = await ask(app, server, "/health")

    assert status == 503
    assert told["status"] == "down"
    assert told["audit-store"] == "Unavailable"


def test_without_starlette_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "starlette.responses", None)

    with pytest.raises(ImportError, match=r"pip install 'aflamingock\[starlette\]'"):
        health_routes(make_flamingock())
