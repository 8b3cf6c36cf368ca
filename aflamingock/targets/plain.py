"""A target system for everything that has no transactions: brokers, buckets, REST, files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from ..abc import Offer, TargetSystem


class NonTransactionalTargetSystem(TargetSystem):
    """
    Lends out the objects that it was given, and never opens or closes them.

    :param id: what changes call it in ``target_system=``
    :param dependencies: the objects; a change asks for one by its keyword or by its class
    """

    def __init__(self, id: str, **dependencies: object) -> None:
        super().__init__(id)
        self._dependencies = dependencies

    async def _connect(self, stack: AsyncExitStack) -> None:
        """Do nothing: the objects are the user's."""

    def offers(self) -> Sequence[Offer]:
        """Return an offer for each object."""
        return tuple(
            Offer(names=(name,), type=type(value)) for name, value in self._dependencies.items()
        )

    @asynccontextmanager
    async def handles(self) -> AsyncIterator[Mapping[str, object]]:
        """Lend the objects, by their keywords."""
        yield dict(self._dependencies)

    def __repr__(self) -> str:
        """Return the class and the id."""
        return f"{type(self).__name__}({self.id!r})"
