from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette

from aflamingock import AuditState, Flamingock
from aflamingock.asgi import _start, lifespan
from aflamingock.exceptions import (
    ChangeFailedError,
    ConfigurationError,
    PendingChangesError,
)
from tests.asgi.protocol import (
    Broken,
    CountingStore,
    Gate,
    Second,
    get,
    living,
    make_flamingock,
    served,
    until,
)


async def test_changes_are_applied_before_the_inner_lifespan_and_closed_after_it() -> None:
    gate = Gate()
    store = CountingStore()

    @asynccontextmanager
    async def inner(app: Starlette) -> AsyncIterator[dict[str, str]]:
        assert store.is_open
        gate.lines.append("inner begins")
        yield {"pool": "of connections"}
        assert store.is_open
        gate.lines.append("inner ends")

    flamingock = make_flamingock(gate, store=store)
    app = Starlette(lifespan=lifespan(flamingock, inner=inner))

    async with served(app) as server:
        assert server.answer == "lifespan.startup.complete"
        assert server.state["flamingock"] is flamingock
        assert [c.change_id for c in server.state["flamingock_report"].applied] == [
            "first",
            "second",
        ]
        assert server.state["pool"] == "of connections"

    assert server.answer == "lifespan.shutdown.complete"
    assert gate.lines == ["first begins", "first", "second", "inner begins", "inner ends"]
    assert not store.is_open


async def test_an_inner_lifespan_without_state_is_welcome() -> None:
    @asynccontextmanager
    async def inner(app: Any) -> AsyncIterator[None]:
        yield

    async with living(make_flamingock(), inner=inner) as state:
        assert "flamingock" in state


async def test_the_state_of_the_inner_lifespan_has_the_last_word() -> None:
    @asynccontextmanager
    async def inner(app: Any) -> AsyncIterator[dict[str, str]]:
        yield {"flamingock_report": "mine"}

    async with living(make_flamingock(), inner) as state:
        assert state["flamingock_report"] == "mine"


async def test_requests_of_fastapi_find_flamingock_and_report() -> None:
    app = FastAPI(lifespan=lifespan(make_flamingock()))

    @app.get("/")
    async def applied(request: Request) -> list[str]:
        entries = request.state.flamingock.audit.entries()
        assert len(request.state.flamingock_report.applied) == 2
        return [e.change_id async for e in entries if e.state is AuditState.APPLIED and e.change_id]

    async with served(app) as server:
        assert await get(app, state=dict(server.state)) == (200, b'["first","second"]')


async def test_a_failed_change_stops_the_start_and_names_its_error() -> None:
    entered: list[str] = []

    @asynccontextmanager
    async def inner(app: Any) -> AsyncIterator[None]:
        entered.append("inner")
        yield

    store = CountingStore()
    flamingock = make_flamingock(None, Broken, Second, store=store)

    async with served(Starlette(lifespan=lifespan(flamingock, inner))) as server:
        assert server.answer == "lifespan.startup.failed"
        assert "no such warehouse" in server.message
        assert "broken" in server.message

    assert isinstance(server.error, ChangeFailedError)
    assert entered == []
    assert not store.is_open


async def test_an_error_of_the_inner_lifespan_closes_the_flamingock() -> None:
    @asynccontextmanager
    async def inner(app: Any) -> AsyncIterator[None]:
        raise OSError("no pool")
        yield

    store = CountingStore()

    with pytest.raises(OSError, match="no pool"):
        async with living(make_flamingock(store=store), inner):
            pass

    assert not store.is_open


async def test_a_function_makes_the_flamingock_at_each_start() -> None:
    made: list[Flamingock] = []

    def make() -> Flamingock:
        made.append(make_flamingock())
        return made[-1]

    for _ in range(2):
        async with living(make) as state:
            assert state["flamingock"] is made[-1]

    assert len(made) == 2


async def test_a_coroutine_function_makes_the_flamingock_too() -> None:
    async def make() -> Flamingock:
        await anyio.lowlevel.checkpoint()
        return make_flamingock()

    async with living(make) as state:
        assert len(state["flamingock_report"].applied) == 2


@pytest.mark.parametrize("source", ["shop.main:flamingock", lambda: None])
async def test_what_is_no_flamingock_is_refused(source: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no Flamingock and does not return one"):
        async with living(source):
            pass


def test_an_unknown_mode_is_refused_at_once_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match='"apply", "wait", "verify", "background"'):
        lifespan(make_flamingock(), mode="later")  # type: ignore[arg-type]  # a wrong argument is the test


async def test_verify_refuses_to_start_while_something_is_pending() -> None:
    gate = Gate()
    with pytest.raises(PendingChangesError) as caught:
        async with living(make_flamingock(gate), mode="verify"):
            pass

    assert [planned.change.id for planned in caught.value.plan.pending] == ["first", "second"]
    assert gate.lines == []


async def test_verify_serves_when_nothing_is_pending() -> None:
    flamingock = make_flamingock()
    await flamingock.run()

    async with living(flamingock, mode="verify") as state:
        assert state["flamingock_report"] is None


async def test_a_long_start_advises_a_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_start, "_LONG_START", 0.0)
    gate = Gate(is_open=False)

    async with anyio.create_task_group() as group:
        group.start_soon(_open_when_advised, gate, caplog)
        async with living(make_flamingock(gate)):
            pass

    assert "`aflamingock apply`" in caplog.text
    assert 'mode="wait"' in caplog.text


async def _open_when_advised(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    await until(lambda: "`aflamingock apply`" in caplog.text)
    gate.opened.set()


async def test_a_short_start_advises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with living(make_flamingock()):
        pass

    assert "aflamingock apply" not in caplog.text
