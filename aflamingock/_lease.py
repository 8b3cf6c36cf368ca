"""What a lease means: to the run that holds it, and to those who look at it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ._records import Lease
from .exceptions import AuditStoreError, LockLostError, SystemBusyError

_LONGEST_TTL = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeaseStatus:
    """
    Who may work, as far as one look can tell.

    :ivar state: ``free``, ``held``, or ``expired``: held by one that did not renew it in time
    """

    state: str
    lease: Lease | None

    @property
    def held(self) -> bool:
        """Whether a run holds the lease."""
        return self.state == "held"

    @property
    def epoch(self) -> int:
        """The number of the last grant, 0 before the first."""
        return self.lease.epoch if self.lease else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the status as JSON values."""
        if self.lease is None:
            return {"state": self.state}

        lease = self.lease
        return {
            "state": self.state,
            "service": lease.service,
            "epoch": lease.epoch,
            "host": lease.host,
            "pid": lease.pid,
            "owner": lease.owner,
            "since": lease.since.isoformat(),
            "changeId": lease.change_id,
            "ttlSeconds": lease.ttl,
            "renewedSecondsAgo": lease.age,
        }


def is_dead(lease: Lease, *, watched: float, holder_gone: bool = False) -> bool:
    """
    Say whether a lease may be taken over.

    Clocks of two hosts are never compared: the age comes from the store's clock, and what was
    watched from the watcher's own. That one has seen the same token for longer than a renewal
    takes, which comes every ttl/6 with jitter, defeats a store's clock that steps forward. One
    that was set back knows no age for as long; then twice the ttl is watched. A store without a
    clock is watched for the whole ttl, as in DynamoDB's lock client (awslabs).

    :param watched: seconds for which this process has seen the lease's token
    :param holder_gone: whether the holder's process has surely ended
    """
    if lease.released or holder_gone:
        return True

    ttl = min(lease.ttl, _LONGEST_TTL)
    if lease.age is None:
        return watched > ttl * 1.05 + 1.0

    return (lease.age > ttl and watched > ttl / 4) or watched > ttl * 2


class HeldLease:
    """
    The lease of a run at work, as far as this process can know.

    Every time is counted from *before* the request that wrote the lease was sent, on a clock that
    counts through suspend. Two deadlines follow (client-go's leader election has the same two):
    without a renewal for 2/3 of the ttl the running change is cancelled, and shortly before the
    lease may be taken over nothing is written or rolled back any more.

    The heartbeat writes it from its own thread, and the run reads it: single attributes only.

    :param lease: as it was granted
    :param sent_at: when the granting request was sent
    :param clock: seconds that never step back
    :ivar change_id: what the run is carrying out; written into the lease at the next renewal
    """

    def __init__(self, lease: Lease, *, sent_at: float, clock: Callable[[], float]) -> None:
        self.lease = lease
        self.change_id: str | None = None
        self._clock = clock
        self._sent_at = sent_at
        self._lost: str | None = None
        self._unrenewed: float | None = None

    @property
    def epoch(self) -> int:
        """The number of the grant."""
        return self.lease.epoch

    @property
    def must_renew_by(self) -> float:
        """When, on the clock, a running change is cancelled for want of a renewal."""
        return self._sent_at + self.lease.ttl * 2 / 3

    @property
    def stops_at(self) -> float:
        """When, on the clock, the right to write and to roll back ends."""
        ttl = self.lease.ttl
        return self._sent_at + ttl - max(ttl / 20, min(1.0, ttl / 6))

    @property
    def remaining(self) -> float:
        """The seconds until nothing may be written any more; 0 if that is so already."""
        return 0.0 if self._lost else max(0.0, self.stops_at - self._clock())

    @property
    def is_standing(self) -> bool:
        """Whether something may be written."""
        return self.remaining > 0

    def renewed(self, lease: Lease, *, sent_at: float) -> None:
        """Take note of a renewal that was sent at *sent_at*."""
        self.lease, self._sent_at = lease, sent_at

    def lose(self, reason: str) -> None:
        """
        Take note that the lease is somebody else's.

        :param reason: the rest of the sentence "The lease of service … "
        """
        self._lost = reason

    def lapse(self) -> None:
        """Take note that the run is ended for want of a renewal, though one may still come."""
        self._unrenewed = self._clock() - self._sent_at

    def check(self) -> None:
        """
        Stand before each irreversible step.

        Synchronous on purpose: after a pause the next step runs before any timer.

        :raises LockLostError: if nothing may be written any more
        """
        if not self.is_standing:
            raise self.error()

    def check_renewed(self) -> None:
        """
        Stand before each step of a running change.

        :raises LockLostError: if the lease was lost, or not renewed for 2/3 of its ttl
        """
        if self._lost or self._clock() >= self.must_renew_by:
            raise self.error()

    @contextmanager
    def explaining(self) -> Generator[None]:
        """
        Tell what a store or a target says in the block, after the loss of the lease, as the loss.

        A server ends the connections and transactions of a process that was stopped for too long.

        :raises LockLostError: in place of such an error
        """
        try:
            yield
        except (AuditStoreError, SystemBusyError) as exc:
            if self.is_standing:
                raise

            raise self.error() from exc

    def error(self) -> LockLostError:
        """Return the error that tells of the loss."""
        unrenewed = self._unrenewed or self._clock() - self._sent_at
        reason = self._lost or (
            f"was not renewed for {unrenewed:.1f} s of its "
            f"{self.lease.ttl:g} s: this process was stopped, or the audit store was out of reach"
        )
        return LockLostError(
            f"The lease of service {self.lease.service!r} {reason}. This run has stopped and "
            "writes nothing more; the audit log tells how far it came. Start again to go on."
        )
