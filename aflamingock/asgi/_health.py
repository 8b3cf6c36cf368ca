"""Routes that tell an orchestrator how the application is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._flamingock import Flamingock
from ._start import Source, Start

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute


def health_routes(flamingock: Source, prefix: str = "") -> list[BaseRoute]:
    """
    Return the routes ``/livez``, ``/readyz`` and ``/health`` for Starlette or FastAPI.

    ``/livez`` is 200 as long as the process answers. ``/readyz`` is 200 when the work of the
    start is done and 503 before, with its progress. ``/health`` asks the audit store: 200 if it
    is up, 503 if it is down.

    :param flamingock: what :func:`lifespan` or :class:`FlamingockMiddleware` was given; if that
        is a function, the Flamingock is taken from the state of the request
    :param prefix: what the paths begin with
    :raises ImportError: if Starlette is not installed
    """
    try:
        from starlette.responses import JSONResponse
        from starlette.routing import Route
    except ImportError as exc:
        raise ImportError(
            "health_routes needs Starlette. Install it: pip install 'aflamingock[starlette]'"
        ) from exc

    async def livez(request: Request) -> Response:
        return JSONResponse({"status": "up"})

    async def readyz(request: Request) -> Response:
        is_ready, progress = _readiness(_found(flamingock, request), _start_of(request))
        return JSONResponse(progress, 200 if is_ready else 503)

    async def health(request: Request) -> Response:
        found = _found(flamingock, request)
        told = await found.health() if found else {"status": "down", "error": _NOT_STARTED}
        return JSONResponse(told, 200 if told["status"] == "up" else 503)

    endpoints = {"/livez": livez, "/readyz": readyz, "/health": health}
    return [Route(prefix + path, endpoint) for path, endpoint in endpoints.items()]


_NOT_STARTED = (
    "No Flamingock was started: give the application lifespan() or the FlamingockMiddleware."
)


def _found(source: Source, request: Request) -> Flamingock | None:
    if isinstance(source, Flamingock):
        return source

    found: Flamingock | None = getattr(request.state, "flamingock", None)
    return found


def _start_of(request: Request) -> Start | None:
    start: Start | None = getattr(request.state, "flamingock_start", None)
    return start


def _readiness(flamingock: Flamingock | None, start: Start | None) -> tuple[bool, dict[str, Any]]:
    if flamingock is None:
        return False, {"state": "idle", "error": _NOT_STARTED}

    progress = flamingock.progress
    is_ours = start is not None and start.flamingock is flamingock
    state = start.tell(progress) if start is not None and is_ours else progress.state
    return state == "done", {
        "state": state,
        "done": progress.done,
        "total": progress.total,
        "change": progress.change_id,
        "holder": progress.holder,
    }
