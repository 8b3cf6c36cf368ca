from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from aflamingock.asgi import FlamingockMiddleware
from aflamingock.exceptions import ConfigurationError, PendingChangesError
from tests.asgi.protocol import (
    Broken,
    CountingStore,
    First,
    Gate,
    Server,
    get,
    log_of,
    make_flamingock,
    served,
    until,
)


async def http_only(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http", "only HTTP is spoken here"
    applied = len(scope["state"]["flamingock_report"].applied)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d applied" % applied})


class Inner:
    """An application that speaks the lifespan protocol word by word."""

    def __init__(self, *answers: dict[str, str], error_at: int | None = None) -> None:
        self.heard: list[str] = []
        self._answers = answers
        self._error_at = error_at

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for number, answer in enumerate(self._answers):
            self.heard.append((await receive())["type"])
            if number == self._error_at:
                raise ValueError("inner fault")

            await send(answer)


STARTED = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}


@pytest.mark.parametrize("has_state", [True, False])
async def test_an_application_without_lifespan_is_served_after_the_run(has_state: bool) -> None:
    store = CountingStore()
    flamingock = make_flamingock(store=store)
    app = FlamingockMiddleware(http_only, flamingock)

    async with served(app, has_state=has_state) as server:
        assert server.answer == "lifespan.startup.complete"
        assert server.state.get("flamingock") is (flamingock if has_state else None)
        assert await get(app) == (200, b"2 applied")
        assert store.is_open

    assert server.answer == "lifespan.shutdown.complete"
    assert not store.is_open


async def test_start_and_end_are_passed_on_inside_of_the_flamingock_s_life() -> None:
    store = CountingStore()
    inner = Inner(STARTED, STOPPED)

    async with served(FlamingockMiddleware(inner, make_flamingock(store=store))) as server:
        assert inner.heard == ["lifespan.startup"]

    assert inner.heard == ["lifespan.startup", "lifespan.shutdown"]
    assert server.answers == [STARTED, STOPPED]


async def test_the_state_of_the_application_is_kept() -> None:
    @asynccontextmanager
    async def pool(app: Starlette) -> AsyncIterator[dict[str, str]]:
        yield {"pool": "of connections"}

    def hello(request: Request) -> PlainTextResponse:
        assert request.state.flamingock is flamingock
        return PlainTextResponse(request.state.pool)

    flamingock = make_flamingock()
    app = Starlette(
        routes=[Route("/", hello)],
        lifespan=pool,
        middleware=[Middleware(FlamingockMiddleware, flamingock=flamingock)],
    )

    async with served(app) as server:
        assert await get(app, state=dict(server.state)) == (200, b"of connections")


async def test_an_application_that_asks_for_ever_is_left() -> None:
    async def asking(scope: Any, receive: Any, send: Any) -> None:
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})

    async with served(FlamingockMiddleware(asking, make_flamingock())) as server:
        pass

    assert server.answers == [STARTED, STOPPED]


async def test_an_application_that_listens_for_its_end_beforehand_hears_it_then() -> None:
    heard: list[str] = []

    async def eager(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        async with anyio.create_task_group() as group:
            group.start_soon(listen, receive)
            await anyio.wait_all_tasks_blocked()
            await send(STARTED)
        await send(STOPPED)

    async def listen(receive: Any) -> None:
        heard.append((await receive())["type"])

    async with served(FlamingockMiddleware(eager, make_flamingock())):
        assert heard == []

    assert heard == ["lifespan.shutdown"]


async def test_a_failed_change_is_told_to_the_server() -> None:
    inner = Inner(STARTED, STOPPED)
    store = CountingStore()
    app = FlamingockMiddleware(inner, make_flamingock(None, Broken, store=store))

    async with served(app) as server:
        assert server.answer == "lifespan.startup.failed"
        assert "no such warehouse" in server.message

    assert len(server.answers) == 1
    assert inner.heard == []
    assert server.error is None
    assert not store.is_open


async def test_pending_changes_are_told_in_verify_mode() -> None:
    async with served(FlamingockMiddleware(http_only, make_flamingock(), "verify")) as server:
        assert server.answer == "lifespan.startup.failed"
        assert PendingChangesError.__name__ in server.message


async def test_a_failed_start_of_the_application_is_passed_on() -> None:
    store = CountingStore()
    inner = Inner({"type": "lifespan.startup.failed", "message": "no pool"})

    async with served(FlamingockMiddleware(inner, make_flamingock(store=store))) as server:
        pass

    assert server.answers == [{"type": "lifespan.startup.failed", "message": "no pool"}]
    assert not store.is_open


async def test_a_failed_end_of_the_application_is_passed_on() -> None:
    inner = Inner(STARTED, {"type": "lifespan.shutdown.failed", "message": "pool is stuck"})

    async with served(FlamingockMiddleware(inner, make_flamingock())) as server:
        pass

    assert server.answers[-1] == {"type": "lifespan.shutdown.failed", "message": "pool is stuck"}


async def test_an_error_at_the_end_of_the_application_is_passed_on() -> None:
    inner = Inner(STARTED, STOPPED, error_at=1)

    async with served(FlamingockMiddleware(inner, make_flamingock())) as server:
        pass

    assert server.answer == "lifespan.shutdown.failed"
    assert "inner fault" in server.message


async def test_starlette_s_failed_start_reaches_the_server_once() -> None:
    @asynccontextmanager
    async def inner(app: Starlette) -> AsyncIterator[None]:
        raise OSError("no pool")
        yield

    app = FlamingockMiddleware(Starlette(lifespan=inner), make_flamingock())
    async with served(app) as server:
        pass

    assert len(server.answers) == 1
    assert "no pool" in server.message


async def test_a_request_before_the_start_is_refused() -> None:
    app = FlamingockMiddleware(http_only, make_flamingock())

    with pytest.raises(ConfigurationError, match="before the lifespan protocol's start"):
        await get(app)


async def test_a_cancelled_start_is_told_and_stays_a_cancellation() -> None:
    gate = Gate(is_open=False)
    store = CountingStore()
    server = Server(FlamingockMiddleware(http_only, make_flamingock(gate, First, store=store)))

    async with anyio.create_task_group() as group:
        group.start_soon(server.live)
        await gate.reached.wait()
        group.cancel_scope.cancel()

    assert server.answer == "lifespan.startup.failed"
    assert server.error is None
    assert (await log_of(make_flamingock(store=store)))[-1] == "first ROLLED_BACK"


async def test_background_mode_shows_the_report_when_there_is_one() -> None:
    gate = Gate(is_open=False)
    flamingock = make_flamingock(gate)
    app = FlamingockMiddleware(report_or_none, flamingock, mode="background")

    async def has_report() -> bool:
        return await get(app) == (200, b"report")

    async with served(app):
        assert await get(app) == (200, b"none")
        gate.opened.set()
        await until(has_report)


async def report_or_none(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return

    body = b"report" if scope["state"]["flamingock_report"] else b"none"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def test_an_unknown_mode_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="There is no mode 'later'"):
        FlamingockMiddleware(http_only, make_flamingock(), mode="later")  # type: ignore[arg-type]  # a wrong argument is the test
