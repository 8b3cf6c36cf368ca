"""What the coroutines of changes may ask for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """
    Something that a target system gives to the coroutines of changes.

    :ivar names: the parameter names that mean it where there is no annotation; the first is its
        key among the target's objects
    :ivar type: what an annotation must name
    """

    names: tuple[str, ...]
    type: type


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeContext:
    """
    What a change may know of its own execution; asked for by annotation.

    :ivar epoch: the epoch of the lease, for targets that can compare it
    :ivar check: raises :exc:`LockLostError` if the lease has ended; for long loops
    """

    service: str
    environment: str | None
    execution_id: str
    stage: str
    change_id: str
    target_system: str | None
    attempt: int
    epoch: int
    logger: logging.Logger
    check: Callable[[], None]
