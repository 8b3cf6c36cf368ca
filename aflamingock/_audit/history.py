"""What was read of a log."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from .._records import AuditEntry
from .._states import AuditState, AuditType

TAIL = 8
"""How many of the last entries a start looks at."""


@dataclass(slots=True)
class History:
    """
    What was read of a log.

    :ivar sequence: the number of the last entry, 0 if there is none
    :ivar digest: the digest of the last entry
    :ivar epoch: the highest epoch
    :ivar last: the last entry of each change, by its id
    :ivar applied: the entry by which each change was applied last, whatever came after
    :ivar checkpoints: what the last entries attest if they are CHECKPOINTs: digests of pipelines
    """

    sequence: int = 0
    digest: str = ""
    epoch: int = 0
    last: dict[str, AuditEntry] = field(default_factory=dict)
    applied: dict[str, AuditEntry] = field(default_factory=dict)
    checkpoints: deque[str | None] = field(default_factory=lambda: deque(maxlen=TAIL))

    def add(self, entry: AuditEntry) -> None:
        """Take note of the entry that follows."""
        self.sequence, self.digest = entry.sequence, entry.digest
        self.epoch = max(self.epoch, entry.epoch)
        if entry.change_id is not None:
            self.last[entry.change_id] = entry
            if entry.state in (AuditState.APPLIED, AuditState.MANUAL_MARKED_AS_APPLIED):
                self.applied[entry.change_id] = entry

        if entry.type is AuditType.CHECKPOINT:
            self.checkpoints.append(entry.checksum)
        else:
            self.checkpoints.clear()


def is_up_to_date(tail: Sequence[AuditEntry], digest: str | None) -> bool:
    """
    Say whether the last entries tell that nothing is pending for a pipeline.

    :param tail: newest first
    :param digest: the pipeline's digest, ``None`` if it has none
    """
    for entry in tail:
        if entry.type is not AuditType.CHECKPOINT:
            return False

        if digest is not None and entry.checksum == digest:
            return True

    return False
