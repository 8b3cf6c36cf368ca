"""What an annotation may say beside its type."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Named:
    """
    Ask for a dependency by its name, whatever its type: ``Annotated[Queue, Named("orders")]``.

    :ivar name: a key of ``dependencies``, or a name that the target system gives
    """

    name: str


class NonLockGuarded:
    """
    Ask for a dependency without its guard: ``Annotated[Metrics, NonLockGuarded]``.

    It can then be used after the lease ended; for what changes nothing.
    """
