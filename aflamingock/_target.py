"""The interface of a target system: what changes touch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

from ._resource import Resource
from ._states import MarkerOutcome

SessionT = TypeVar("SessionT")


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


class TargetSystem(Resource):
    """
    What changes touch.

    :ivar id: what changes call it in ``target_system=``
    """

    def __init__(self, id: str) -> None:
        super().__init__()
        self.id = id

    @abstractmethod
    def offers(self) -> Sequence[Offer]:
        """Return what changes may ask for; known without a connection."""

    @abstractmethod
    def handles(self) -> AbstractAsyncContextManager[Mapping[str, object]]:
        """Lend the objects of the offers, by their first names, outside a transaction."""


class TransactionalTargetSystem(TargetSystem, Generic[SessionT]):
    """
    A target system that can run a change in a transaction.

    :ivar needs_session_parameter: whether such a change must ask for the offer called
        ``session``, because the driver cannot bind it to what else the change uses
    """

    needs_session_parameter: bool = False

    async def require_transactions(self) -> None:
        """
        Make sure that the server has transactions, before any change is carried out.

        :raises ConfigurationError: if it has none
        """

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[SessionT]:
        """
        Run a transaction: committed at the end of the block, rolled back if the block raises.

        While the block runs, the transaction cannot be ended by the code in it. Whatever is
        raised, a cancellation too, means that nothing was committed, but for the error that says
        that it is not known.

        :raises UnknownOutcomeError: if the commit may or may not have been done
        :raises SystemBusyError: if it could not be begun; nothing was done
        """

    async def announce(self) -> str | None:
        """
        Return the identity of a transaction to come; the audit log keeps it from the start.

        Nothing is done in the system. Whatever is announced and never run ends with the target.

        :return: to be given to :meth:`announced`; ``None`` where no process can leave a transaction
            open behind it
        """
        return None

    def announced(self, identity: str | None) -> AbstractAsyncContextManager[SessionT]:
        """
        Run a transaction as :meth:`transaction` does, under the identity that was announced.

        :param identity: ``None`` if there is none
        """
        return self.transaction()

    async def end_orphan(self, identity: str) -> None:
        """
        End the transaction of a process that is gone, which keeps locked what it has written.

        :param identity: of a transaction that may have ended, or never have begun
        :raises SystemBusyError: if it could not be ended just now
        """

    @abstractmethod
    def objects(self, session: SessionT) -> Mapping[str, object]:
        """Return the objects of the offers, by their first names, bound to a transaction."""

    async def has_committed(self, session: SessionT) -> bool:
        """
        Say whether a part of an open transaction may stand already, whatever becomes of the rest.

        Asked once, when the change has ended, in whatever way. It must not raise.
        """
        return False

    @abstractmethod
    async def insert_marker(self, session: SessionT, key: str, change_id: str) -> None:
        """
        Say, as the last statement of a transaction, that it was committed.

        :param key: the id of the attempt's first entry
        :raises LockLostError: if somebody has claimed the marker, so that the transaction must
            never be committed
        """

    @abstractmethod
    async def claim_marker(self, key: str, change_id: str) -> MarkerOutcome:
        """
        Insert the marker *key* as ABORTED, so that its transaction can never be committed.

        Atomic and durable. If there is a marker already, nothing is written.

        :return: ``COMMITTED`` if the transaction was committed, else ``ABORTED``
        """

    @abstractmethod
    async def remove_marker(self, key: str) -> None:
        """Remove the marker *key*, and ABORTED ones that are older than a day."""
