"""What all the changes of a run share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .._audit.log import AuditLog
from .._change import Change
from .._events import Listeners
from .._host import host_name, user_name
from .._injection.injection import Injector
from .._lease import HeldLease
from .._payload import storable_mapping, storable_text
from .._records import AuditEntry, new_id
from .._retry import Patience
from .._states import AuditState, AuditType, TxStrategy
from ..abc import AuditStore, TargetSystem, TransactionalTargetSystem

_IN_A_FIELD = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """
    Where entries come from. Its texts are storable.

    :ivar metadata: JSON values that go into every entry
    """

    service: str
    execution_id: str
    host: str
    user: str
    environment: str | None = None
    metadata: Mapping[str, Any]

    @classmethod
    def of_process(
        cls,
        *,
        service: str,
        user: str | None,
        environment: str | None,
        metadata: Mapping[str, Any],
    ) -> Origin:
        """
        Return this process as the origin of a new run.

        :param user: who runs it; the user of this process by default
        """
        return cls(
            service=service,
            execution_id=new_id(),
            host=storable_text(host_name(), _IN_A_FIELD),
            user=storable_text(user or user_name(), _IN_A_FIELD),
            environment=environment and storable_text(environment, _IN_A_FIELD),
            metadata=metadata,
        )

    def system_entry(self, type: AuditType, **values: Any) -> AuditEntry:
        """Return an entry of the system's own, which belongs to no change."""
        given = {"metadata": storable_mapping(self.metadata)} | values
        return AuditEntry(
            service=self.service,
            type=type,
            state=AuditState.APPLIED,
            execution_id=self.execution_id,
            execution_hostname=self.host,
            environment=self.environment,
            initiated_by=self.user,
            system_change=True,
            **given,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """
    What all the changes of a run share.

    :ivar targets: by id; under ``None`` the one of changes that name none
    """

    origin: Origin
    log: AuditLog
    store: AuditStore[Any]
    lease: HeldLease
    patience: Patience
    injector: Injector
    targets: Mapping[str | None, TargetSystem]
    listeners: Listeners
    transaction_mode: Literal["shared", "separate"]

    def transactional(self, target_id: str | None) -> TransactionalTargetSystem[Any] | None:
        """Return a target system, if there is such a one and it has transactions."""
        target = self.targets.get(target_id)
        return target if isinstance(target, TransactionalTargetSystem) else None

    def strategy(self, change: Change) -> TxStrategy:
        """Return how a change is tied together with its entry."""
        target = self.transactional(change.target_system)
        if not change.transactional or target is None:
            return TxStrategy.NON_TX

        if self.transaction_mode == "shared" and self.store.shares(target):
            return TxStrategy.TX_SHARED

        return TxStrategy.TX_SEPARATE_WITH_MARKER

    def entry(
        self, change: Change, stage: str, state: AuditState, *, method: str, **values: Any
    ) -> AuditEntry:
        """
        Return an entry about a change, not numbered yet.

        :param method: which of the change's coroutines it is about
        :param values: further fields of the entry
        """
        own = values.pop("metadata", {})  # first, because what is too much is left out
        metadata = {**own, **self.origin.metadata, **change.metadata, **own}
        if change.tags:
            metadata["tags"] = list(change.tags)

        strategy = values.pop("tx_strategy", None) or self.strategy(change)
        return AuditEntry(
            service=self.origin.service,
            state=state,
            execution_id=self.origin.execution_id,
            stage_id=stage,
            change_id=change.id,
            change_order=change.order,
            author=storable_text(change.author, _IN_A_FIELD),
            target_system_id=change.target_system,
            tx_strategy=strategy,
            transaction_flag=strategy is not TxStrategy.NON_TX,
            recovery_strategy=change.recovery,
            rollback_available=change.has_rollback,
            invoked_class=storable_text(change.invoked_class, _IN_A_FIELD),
            invoked_method=method,
            source_file=change.source and storable_text(change.source, _IN_A_FIELD),
            execution_hostname=self.origin.host,
            environment=self.origin.environment,
            initiated_by=self.origin.user,
            checksum=change.checksum,
            metadata=storable_mapping(metadata),
            **values,
        )
