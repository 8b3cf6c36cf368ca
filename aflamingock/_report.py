"""What a run did, and how it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Self

from ._records import new_id


class ChangeStatus(StrEnum):
    """What became of a change in a run; of one IN_DOUBT the outcome could not be recorded."""

    APPLIED = "APPLIED"
    ALREADY_APPLIED = "ALREADY_APPLIED"
    FAILED = "FAILED"
    ROLLED_BACK = "ROLLED_BACK"
    ROLLBACK_FAILED = "ROLLBACK_FAILED"
    MANUAL_INTERVENTION = "MANUAL_INTERVENTION"
    IN_DOUBT = "IN_DOUBT"
    NOT_REACHED = "NOT_REACHED"
    WOULD_ROLL_BACK = "WOULD_ROLL_BACK"


class RunStatus(StrEnum):
    """How a run ended."""

    SUCCESS = "SUCCESS"
    NOTHING_TO_DO = "NOTHING_TO_DO"
    FAILED = "FAILED"
    BLOCKED = "BLOCKED"
    LOCK_LOST = "LOCK_LOST"
    SKIPPED = "SKIPPED"
    DISABLED = "DISABLED"
    DRY_RUN = "DRY_RUN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    How far the current or the last run is.

    :ivar state: ``idle``, ``waiting`` (for another run), ``running``, ``done`` or ``failed``
    :ivar done: how many changes are applied of the *total* that the run has to apply
    :ivar change_id: the change being carried out
    :ivar holder: on whom the run waits
    """

    state: Literal["idle", "waiting", "running", "done", "failed"] = "idle"
    done: int = 0
    total: int = 0
    change_id: str | None = None
    holder: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChangeReport:
    """
    What a run did with one change.

    :ivar duration: seconds in the change's own code
    :ivar error: what the change raised, in one line, if it raised
    """

    change_id: str
    stage: str
    author: str | None = None
    target_system: str | None = None
    file: str | None = None
    status: ChangeStatus
    attempt: int = 0
    duration: float = 0.0
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "changeId": self.change_id,
            "author": self.author,
            "targetSystem": self.target_system,
            "file": self.file,
            "status": self.status.value,
            "attempt": self.attempt,
            "durationSeconds": round(self.duration, 6),
            "error": self.error,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageReport:
    """What a run did with the changes of one stage, in their order."""

    name: str
    changes: tuple[ChangeReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {"name": self.name, "changes": [change.to_dict() for change in self.changes]}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunReport:
    """
    What a run did.

    :ivar stages: empty where the run found at once that there was nothing to do
    :ivar warnings: sentences: drift that is tolerated, unknown changes, and the like
    :ivar duration: seconds, waiting included
    """

    service: str
    execution_id: str
    status: RunStatus
    started_at: datetime
    duration: float
    stages: tuple[StageReport, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_nothing(cls, service: str, status: RunStatus) -> Self:
        """Return the report of a run that did not begin."""
        return cls(
            service=service,
            execution_id=new_id(),
            status=status,
            started_at=datetime.now(UTC),
            duration=0.0,
        )

    def changes(self) -> Iterator[ChangeReport]:
        """Yield the report of every change."""
        for stage in self.stages:
            yield from stage.changes

    def with_status(self, status: ChangeStatus) -> tuple[ChangeReport, ...]:
        """Return the reports of the changes of which *status* became."""
        return tuple(change for change in self.changes() if change.status is status)

    @property
    def applied(self) -> tuple[ChangeReport, ...]:
        """The changes that this run applied."""
        return self.with_status(ChangeStatus.APPLIED)

    @property
    def summary(self) -> str:
        """The run in one line."""
        counts = {
            status: len(found) for status in ChangeStatus if (found := self.with_status(status))
        }
        told = ", ".join(f"{n} {_words(status)}" for status, n in counts.items()) or "no change"
        if self.status is RunStatus.DRY_RUN:
            return f"Dry run: {told}; nothing was done"

        return f"{_words(self.status).capitalize()}: {told} in {self.duration:.2f} s"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "service": self.service,
            "executionId": self.execution_id,
            "status": self.status.value,
            "startedAt": self.started_at.isoformat(),
            "durationSeconds": round(self.duration, 6),
            "summary": self.summary,
            "stages": [stage.to_dict() for stage in self.stages],
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        """Return the summary, then a line for each change that is not long applied."""
        lines = [self.summary]
        for change in self.changes():
            if change.status is not ChangeStatus.ALREADY_APPLIED:
                place = f" ({change.file})" if change.file and change.error else ""
                error = f": {change.error}" if change.error else ""
                lines.append(
                    f"  {change.stage}/{change.change_id}: {_words(change.status)}{error}{place}"
                )

        return "\n".join(lines)


def _words(status: StrEnum) -> str:
    if status is ChangeStatus.WOULD_ROLL_BACK:
        return "would be rolled back"

    return status.value.replace("_", " ").lower()
