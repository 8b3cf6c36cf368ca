"""A server's side of the ASGI protocols, and the Flamingocks that the tests start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from aflamingock import Flamingock, LockOptions, change
from aflamingock.asgi import lifespan
from aflamingock.stores.memory import MemoryAuditStore

PATIENCE = 20.0


class Server:
    """Speaks the lifespan protocol with one application."""

    def __init__(self, app: Callable[..., Any], *, has_state: bool = True) -> None:
        self.state: dict[str, Any] = {}
        self.error: BaseException | None = None
        self._app = app
        self._scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        if has_state:
            self._scope["state"] = self.state

        self._asked: list[str] = ["lifespan.startup"]
        self._leaving = anyio.Event()
        self._answered = anyio.Event()
        self.answers: list[dict[str, Any]] = []

    @property
    def answer(self) -> str:
        return str(self.answers[-1]["type"]) if self.answers else "nothing"

    @property
    def message(self) -> str:
        return str(self.answers[-1]["message"])

    async def receive(self) -> dict[str, str]:
        if self._asked:
            return {"type": self._asked.pop()}

        await self._leaving.wait()
        return {"type": "lifespan.shutdown"}

    async def send(self, message: dict[str, Any]) -> None:
        self.answers.append(message)
        self._answered.set()

    async def live(self) -> None:
        try:
            await self._app(self._scope, self.receive, self.send)
        except Exception as exc:
            self.error = exc
        finally:
            self._answered.set()

    async def start(self) -> None:
        with anyio.fail_after(PATIENCE):
            await self._answered.wait()

    def stop(self) -> None:
        self._leaving.set()


@asynccontextmanager
async def served(app: Callable[..., Any], *, has_state: bool = True) -> AsyncIterator[Server]:
    """Start an application, yield when it has answered, and stop it."""
    server = Server(app, has_state=has_state)
    async with anyio.create_task_group() as group:
        group.start_soon(server.live)
        await server.start()
        yield server
        server.stop()


@asynccontextmanager
async def living(*arguments: Any, **settings: Any) -> AsyncIterator[Any]:
    """Enter a lifespan as a framework does, without an application."""
    async with lifespan(*arguments, **settings)(None) as state:
        yield state


async def get(app: Callable[..., Any], path: str = "/", **scope: Any) -> tuple[int, bytes]:
    """Send one request and return status and body of the answer."""
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    request = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [],
    }
    await app(request | scope, receive, send)
    return answers[0]["status"], b"".join(a.get("body", b"") for a in answers[1:])


class Gate:
    """What a change of the tests does: it notes that it came, and waits until it may go on."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.lines: list[str] = []
        self.reached = anyio.Event()
        self.opened = anyio.Event()
        if is_open:
            self.opened.set()


@change(id="first", author="tests", order="1")
class First:
    """Pass the gate."""

    async def execute(self, gate: Gate) -> None:
        gate.lines.append("first begins")
        gate.reached.set()
        await gate.opened.wait()
        gate.lines.append("first")

    async def rollback(self, gate: Gate) -> None:
        gate.lines.append("first is rolled back")


@change(id="second", author="tests", order="2")
class Second:
    """Leave a line."""

    async def execute(self, gate: Gate) -> None:
        gate.lines.append("second")


@change(id="broken", author="tests", order="3")
class Broken:
    """Fail."""

    async def execute(self) -> None:
        raise ValueError("no such warehouse")


class CountingStore(MemoryAuditStore):
    """Knows whether it is open."""

    @property
    def is_open(self) -> bool:
        return self._users > 0


def make_flamingock(
    gate: Gate | None = None,
    *changes: type,
    store: MemoryAuditStore | None = None,
    timeout: float = 20.0,
) -> Flamingock:
    """Return a Flamingock over a memory store that waits in short steps."""
    return Flamingock(
        changes=list(changes or (First, Second)),
        audit_store=store or CountingStore(),
        dependencies=[gate or Gate()],
        lock=LockOptions(timeout=timeout, retry_interval=0.01),
    )


async def until(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Return when something holds that no event tells."""
    with anyio.fail_after(PATIENCE):
        while True:
            answer = holds()
            if answer if isinstance(answer, bool) else await answer:
                return

            await anyio.sleep(0.01)


async def log_of(flamingock: Flamingock) -> list[str]:
    """Return the states of the changes' entries, in order."""
    async with flamingock:
        return [
            f"{entry.change_id} {entry.state}"
            async for entry in flamingock.audit.entries()
            if entry.change_id
        ]
