"""Histories written by hand."""

from __future__ import annotations

from typing import Any

from aflamingock import AuditEntry, AuditState, AuditType, Recovery, TxStrategy

from .events import Called, Event, Granted, History

STARTED, APPLIED = AuditState.STARTED, AuditState.APPLIED
FAILED, ROLLED_BACK = AuditState.FAILED, AuditState.ROLLED_BACK
ROLLBACK_STARTED, ROLLBACK_FAILED = AuditState.ROLLBACK_STARTED, AuditState.ROLLBACK_FAILED
RESOLVED_AS_APPLIED = AuditState.MANUAL_MARKED_AS_APPLIED
RESOLVED_AS_ROLLED_BACK = AuditState.MANUAL_MARKED_AS_ROLLED_BACK

SHARED: dict[str, Any] = {"tx_strategy": TxStrategy.TX_SHARED}
MARKED: dict[str, Any] = {"tx_strategy": TxStrategy.TX_SEPARATE_WITH_MARKER}
RETRIED: dict[str, Any] = {"recovery_strategy": Recovery.ALWAYS_RETRY}


def entry(state: AuditState, change_id: str | None = "a", **values: Any) -> AuditEntry:
    given: dict[str, Any] = {"service": "default", "execution_id": "run 1", "epoch": 1}
    return AuditEntry(change_id=change_id, state=state, **(given | {"attempt": 1} | values))


def sealed(*entries: AuditEntry) -> list[AuditEntry]:
    log: list[AuditEntry] = []
    for sequence, one in enumerate(entries, 1):
        log.append(one.sealed(sequence=sequence, previous=log[-1].digest if log else ""))

    return log


def history(*entries: AuditEntry, **values: Any) -> History:
    given: dict[str, Any] = {"stages": [["a", "b"]], "entries": sealed(*entries)}
    return History(**(given | values))


def call(method: Any, step: Any, time: float, **values: Any) -> Called:
    given: dict[str, Any] = {"runner": "one", "change_id": "a", "attempt": 1, "epoch": 1}
    return Called(time=time, method=method, step=step, **(given | values))


def executed(began: float, ended: float, **values: Any) -> list[Event]:
    return [call("execute", "began", began, **values), call("execute", "ended", ended, **values)]


def rolled_back(began: float, ended: float, **values: Any) -> list[Event]:
    return [call("rollback", "began", began, **values), call("rollback", "ended", ended, **values)]


def granted(runner: str, epoch: int, time: float, until: float) -> Granted:
    return Granted(time=time, runner=runner, epoch=epoch, sent_at=time - 0.1, until=until)


ATTEMPT = (entry(STARTED), entry(APPLIED))
AGAIN: dict[str, Any] = {"attempt": 2, "execution_id": "run 2", "epoch": 2}
CHECKPOINT = entry(APPLIED, None, type=AuditType.CHECKPOINT, epoch=2)
LEASE = granted("one", 1, 0, 9)
LATER = granted("two", 2, 10, 19)
