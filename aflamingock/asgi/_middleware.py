"""The hook for every other ASGI application."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import anyio

from .._payload import error_trace
from ..exceptions import ConfigurationError
from ._beside import task_beside
from ._interruption import StartInterruptedError
from ._start import Mode, Source, Start, check_mode, started

logger = logging.getLogger(__name__)

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_MESSAGES = ("lifespan.startup", "lifespan.shutdown")


class FlamingockMiddleware:
    """
    Serve an application when its changes are applied.

    The lifespan protocol is answered by the middleware, and passed on to an application that
    knows it. The server must speak it: a request that comes before a start is refused, for it
    would meet what the changes have yet to make.

    :param app: any ASGI application
    :param flamingock: as for :func:`lifespan`; requests find it in ``scope["state"]``
    :param mode: as for :func:`lifespan`
    :raises ConfigurationError: if there is no such mode
    """

    def __init__(self, app: Application, flamingock: Source, mode: Mode = "apply") -> None:
        check_mode(mode)
        self.app = app
        self._source = flamingock
        self._mode = mode
        self._start: Start | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Answer the lifespan protocol, pass on everything else.

        :raises ConfigurationError: if a request comes before a start
        """
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return

        if self._start is None:
            raise ConfigurationError(
                "A request came before the lifespan protocol's start, so that changes may be "
                'pending. Let the server speak the protocol (uvicorn: lifespan="on"; in a '
                "test: a client that sends lifespan events)."
            )

        state = {**scope.get("state", {}), **self._start.state}
        await self.app({**scope, "state": state}, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        phase = "startup"
        await receive()
        try:
            async with started(self._source, self._mode) as start:
                self._start = start
                if "state" in scope:
                    scope["state"].update(start.state)

                async with _application_started(self.app, scope):
                    await send({"type": "lifespan.startup.complete"})
                    phase = "shutdown"
                    await receive()
        except BaseException as exc:
            # A server takes an exception alone for "knows no lifespan", and serves.
            await send({"type": f"lifespan.{phase}.failed", "message": _told(exc)})
            if not isinstance(exc, Exception):
                raise

            return
        finally:
            self._start = None

        await send({"type": "lifespan.shutdown.complete"})


def _told(error: BaseException) -> str:
    plain = isinstance(error, _InnerFailedError) or (
        isinstance(error, StartInterruptedError) and error.__cause__ is None
    )
    return str(error) if plain else error_trace(error)


class _InnerFailedError(Exception):
    """The application said by the protocol that it could not start or end."""


class _InnerLifespan:
    """The server's side of the lifespan protocol, as the application sees it."""

    def __init__(self, app: Application, asgi_scope: Scope) -> None:
        self._app = app
        self._asgi_scope = asgi_scope
        self._cancel_scope = anyio.CancelScope()
        self._messages = list(_MESSAGES)
        self._is_started = False
        self.answered = anyio.Event()
        self.leaving = anyio.Event()
        self.failure: Exception | None = None

    async def run(self) -> None:
        try:
            with self._cancel_scope:
                await self._app(self._asgi_scope, self._receive, self._send)
        except Exception as exc:
            self._take(exc)
        finally:
            self.answered.set()

    def _take(self, error: Exception) -> None:
        if self.failure is not None:
            return

        if self._is_started:
            self.failure = error
            return

        logger.info(
            "The application does not know the lifespan protocol (%s: %s); the middleware "
            "completes it.",
            type(error).__name__,
            error,
        )

    async def _receive(self) -> Message:
        if self._messages != list(_MESSAGES):
            await self.leaving.wait()

        if not self._messages:
            # Nothing will come any more; some applications ask in an endless loop.
            self._cancel_scope.cancel()
            await anyio.sleep_forever()

        return {"type": self._messages.pop(0)}

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._is_started = True
            case "lifespan.startup.failed" | "lifespan.shutdown.failed":
                self.failure = _InnerFailedError(message.get("message", ""))
            case _:
                pass

        self.answered.set()


@asynccontextmanager
async def _application_started(app: Application, asgi_scope: Scope) -> AsyncIterator[None]:
    inner = _InnerLifespan(app, asgi_scope)
    async with task_beside(inner.run):
        await inner.answered.wait()
        if inner.failure is None:
            yield

        inner.leaving.set()

    if inner.failure is not None:
        raise inner.failure
