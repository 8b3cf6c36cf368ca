"""The door for ASGI servers: changes are applied before the first request is served."""

from __future__ import annotations

from ._health import health_routes
from ._interruption import StartInterruptedError
from ._lifespan import lifespan
from ._middleware import FlamingockMiddleware
from ._start import Mode

__all__ = ["FlamingockMiddleware", "Mode", "StartInterruptedError", "health_routes", "lifespan"]
