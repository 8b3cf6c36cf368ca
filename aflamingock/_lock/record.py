"""The record of a service's lease in the audit store: read, swapped, and given back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .._records import Lease, new_id
from .._retry import Patience, answered
from ..abc import AuditStore
from ..exceptions import AuditStoreSchemaError, UnknownOutcomeError


async def swapped(store: AuditStore[Any], current: Lease | None, new: Lease) -> bool:
    """
    Write the lease *new* if *current* still stands: not in a table that has disappeared.

    :raises AuditStoreSchemaError: if there is no table for a first lease
    """
    replaced = current.to_record() if current else None
    try:
        return await store.swap_record(replaced, new.to_record())
    except AuditStoreSchemaError:
        if current is None:
            raise

        return False


class LeaseRecord:
    """
    The one record that all runners of a service swap for another.

    No call waits for ever, whatever the store does.

    :param patience: how to try again what surely was not done
    """

    def __init__(self, store: AuditStore[Any], service: str, patience: Patience) -> None:
        self._store = store
        self._key = Lease.key(service)
        self._patience = patience

    async def read(self) -> Lease | None:
        """Return the lease last written, dead or alive."""
        record = await self._patience(
            lambda: answered(lambda: self._store.read_record(self._key), by=self._store)
        )
        return Lease.from_record(record) if record else None

    async def stands(self, lease: Lease) -> bool:
        """Say whether *lease* is the one last written."""
        found = await self.read()
        return found is not None and found.token == lease.token

    async def swap(self, current: Lease | None, new: Lease) -> bool:
        """
        Write the lease *new* if *current* still stands; creates what a first one needs.

        :raises UnknownOutcomeError: if it is not known whether it was written
        """
        try:
            return await self._swap(current, new)
        except AuditStoreSchemaError:
            await self._patience(lambda: answered(self._store.create, by=self._store))

        return await self._swap(current, new)

    async def _swap(self, current: Lease | None, new: Lease) -> bool:
        return await self._patience(
            lambda: answered(
                lambda: swapped(self._store, current, new), by=self._store, writes=True
            )
        )

    async def surely_swap(self, current: Lease | None, new: Lease) -> bool:
        """Write the lease *new* if *current* still stands; an answer that is lost is looked up."""
        try:
            return await self.swap(current, new)
        except UnknownOutcomeError:
            return await self.stands(new)

    async def give_back(self, lease: Lease) -> None:
        """Write that a lease is free, unless somebody else holds it."""
        released = replace(lease, token=new_id(), released=True, change_id=None)
        if await self.surely_swap(lease, released):
            return

        # a renewal was under way when the heartbeat was stopped, and had been done
        found = await self.read()
        if found is not None and (found.owner, found.epoch) == (lease.owner, lease.epoch):
            await self.surely_swap(found, replace(released, token=new_id()))
