from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from fastapi import FastAPI

from aflamingock.asgi import _waiting, lifespan
from aflamingock.exceptions import (
    ChangeFailedError,
    ManualInterventionError,
    PendingChangesError,
)
from tests.asgi.protocol import (
    Broken,
    CountingStore,
    First,
    Gate,
    get,
    living,
    log_of,
    make_flamingock,
    served,
    until,
)


class TestWait:
    async def test_it_serves_when_somebody_else_has_applied(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = CountingStore()
        served_at: list[str] = []
        gate = Gate()

        async def wait() -> None:
            async with living(make_flamingock(store=store), mode="wait") as state:
                assert state["flamingock_report"] is None
                served_at.append(gate.lines[-1])

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await until(lambda: "Waiting until" in caplog.text)
            await make_flamingock(gate, store=store).run()

        assert served_at == ["second"]
        assert "first, second; nobody is at work on them" in caplog.text

    async def test_it_gives_up_with_what_is_pending(self) -> None:
        with pytest.raises(PendingChangesError) as caught:
            async with living(make_flamingock(timeout=0.05), mode="wait"):
                pass

        assert len(caught.value.plan.pending) == 2

    async def test_a_change_at_work_elsewhere_is_waited_for_and_its_holder_named(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_waiting, "_TELLING_INTERVAL", 0.0)
        store = CountingStore()
        gate = Gate(is_open=False)

        async def wait() -> None:
            async with living(make_flamingock(store=store), mode="wait"):
                gate.lines.append("served")

        async with anyio.create_task_group() as group:
            group.start_soon(make_flamingock(gate, store=store).run)
            await gate.reached.wait()
            group.start_soon(wait)
            await until(lambda: "at work is" in caplog.text)
            gate.opened.set()

        assert gate.lines == ["first begins", "first", "second", "served"]

    async def test_a_change_that_needs_a_person_is_not_waited_for(self) -> None:
        store = CountingStore()
        with pytest.raises(ChangeFailedError):
            await make_flamingock(None, Broken, store=store).run()

        with pytest.raises(ManualInterventionError):
            async with living(make_flamingock(None, Broken, store=store), mode="wait"):
                pass

    async def test_a_long_list_is_cut(self) -> None:
        assert _waiting._listed(list("abcdefg")) == "a, b, c, d, e and 2 more"


class TestBackground:
    async def test_it_serves_at_once_and_applies_meanwhile(self) -> None:
        gate = Gate(is_open=False)
        flamingock = make_flamingock(gate)

        async with living(flamingock, mode="background") as state:
            assert state["flamingock_report"] is None
            await gate.reached.wait()
            assert flamingock.progress.state == "running"
            gate.opened.set()
            await until(lambda: flamingock.progress.state == "done")

        assert gate.lines == ["first begins", "first", "second"]

    async def test_the_end_of_the_application_cancels_and_rolls_back(self) -> None:
        gate = Gate(is_open=False)
        store = CountingStore()

        async with living(make_flamingock(gate, store=store), mode="background"):
            await gate.reached.wait()

        assert not store.is_open
        assert gate.lines == ["first begins", "first is rolled back"]
        assert await log_of(make_flamingock(store=store)) == [
            "first STARTED",
            "first FAILED",
            "first ROLLBACK_STARTED",
            "first ROLLED_BACK",
        ]

    async def test_an_error_is_logged_with_its_report(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        flamingock = make_flamingock(None, Broken)
        async with living(flamingock, mode="background") as state:
            await until(lambda: "could not be applied" in caplog.text)
            assert state["flamingock_start"].tell(flamingock.progress) == "failed"

        assert "no such warehouse" in caplog.text
        assert "broken: failed" in caplog.text

    async def test_an_error_of_the_inner_lifespan_passes_unchanged(self) -> None:
        gate = Gate(is_open=False)

        @asynccontextmanager
        async def inner(app: Any) -> AsyncIterator[None]:
            await gate.reached.wait()
            raise OSError("no pool")
            yield

        with pytest.raises(OSError, match="no pool"):
            async with living(make_flamingock(gate), inner, "background"):
                pass

        assert gate.lines[-1] == "first is rolled back"

    async def test_a_request_is_served_while_a_change_runs(self) -> None:
        gate = Gate(is_open=False)
        app = FastAPI(lifespan=lifespan(make_flamingock(gate, First), mode="background"))

        @app.get("/")
        async def hello() -> str:
            return "hello"

        async with served(app) as server:
            assert (await get(app, state=dict(server.state)))[0] == 200
            gate.opened.set()
