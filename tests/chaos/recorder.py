"""Writes down what happens in a worker, and lets its fault happen at its point."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from aflamingock import AuditEntry, ChangeContext, FlamingockError, Record, Verification
from aflamingock._host import boot_time
from aflamingock._lease import HeldLease
from aflamingock._records import Lease
from aflamingock.abc import AuditStore, TransactionalTargetSystem
from tests.history.events import (
    Appended,
    Called,
    Died,
    Ended,
    Event,
    Granted,
    Released,
    Renewed,
    from_line,
    to_line,
)


class Recorder:
    """
    Appends events to a file that all workers share, each in one write.

    :param point: at which of its points this worker meets its fault, counted from 1
    :param stops: whether it is stopped there, or killed
    :ivar tried: by their tokens, what to tell of leases if it turns out that they were written
    """

    def __init__(
        self, path: Path, runner: str, *, point: int | None = None, stops: bool = False
    ) -> None:
        self.runner = runner
        self.tried: dict[str, Callable[[], None]] = {}
        self._path = path
        self._point = point
        self._stops = stops
        self._passed = 0
        self._guard = threading.Lock()

    def write(self, event: Event) -> None:
        """Write an event down."""
        with self._path.open("ab", buffering=0) as file:
            file.write(to_line(event).encode())

    def passes(self) -> None:
        """Pass a point: a moment just before or just after something durable."""
        with self._guard:
            self._passed += 1
            is_there = self._passed == self._point

        if is_there and self._stops:
            os.kill(os.getpid(), signal.SIGSTOP)
        elif is_there:
            self.write(Died(time=boot_time(), runner=self.runner))
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def call(self, method: Literal["execute", "rollback"], context: ChangeContext) -> Any:
        """Write down how a call of a change begins and ends."""

        def told(step: Literal["began", "ended", "raised"]) -> None:
            self.write(
                Called(
                    time=boot_time(),
                    runner=self.runner,
                    change_id=context.change_id,
                    method=method,
                    step=step,
                    attempt=context.attempt,
                    epoch=context.epoch,
                )
            )

        self.passes()
        told("began")
        try:
            self.passes()
            yield
            self.passes()
        except BaseException:
            told("raised")
            raise

        told("ended")
        self.passes()

    def verify(self, change_id: str) -> Verification:
        """Say what became of a change, by what is written here."""
        calls = [event for event in read_events(self._path) if isinstance(event, Called)]
        last = max(
            (call for call in calls if call.change_id == change_id),
            key=lambda call: call.time,
            default=None,
        )
        if last is None or (last.method, last.step) == ("rollback", "ended"):
            return Verification.NOT_APPLIED

        is_done = (last.method, last.step) == ("execute", "ended")
        return Verification.APPLIED if is_done else Verification.PARTIAL


def ended(recorder: Recorder, error: BaseException | None) -> Ended:
    """Return how a run has ended."""
    return Ended(
        time=boot_time(),
        runner=recorder.runner,
        error=type(error).__name__ if error else None,
        text=_told(error),
        is_public=error is None or isinstance(error, FlamingockError),
    )


def _told(error: BaseException | None) -> str:
    told = []
    while error is not None:
        told.append(f"{type(error).__name__}: {error}")
        error = error.__cause__

    return " <- ".join(told)


def read_events(path: Path) -> list[Event]:
    """Return everything that was written down."""
    return [from_line(line) for line in path.read_text().splitlines()]


def record_store(store: AuditStore[Any], recorder: Recorder) -> None:
    """Put points around what a store writes, and write down what it has done."""
    append, side_channel = store.append, store.open_side_channel

    async def recorded_append(entries: Sequence[AuditEntry], *, session: Any = None) -> None:
        recorder.passes()
        await append(entries, session=session)
        if session is None:
            for entry in entries:
                recorder.write(_appended(recorder, entry))

        recorder.passes()

    def recorded_side_channel() -> AbstractAsyncContextManager[AuditStore[Any]] | None:
        channel = side_channel()
        return channel and _recorded(channel, recorder)

    _put(store, append=recorded_append, open_side_channel=recorded_side_channel)
    _record_lease(store, recorder)


def _appended(recorder: Recorder, entry: AuditEntry) -> Appended:
    return Appended(
        time=boot_time(),
        runner=recorder.runner,
        entry_id=entry.entry_id,
        sequence=entry.sequence,
        digest=entry.digest,
    )


@asynccontextmanager
async def _recorded(
    channel: AbstractAsyncContextManager[AuditStore[Any]], recorder: Recorder
) -> AsyncIterator[AuditStore[Any]]:
    async with channel as store:
        _record_lease(store, recorder)
        yield store


def _record_lease(store: AuditStore[Any], recorder: Recorder) -> None:
    swap, read = store.swap_record, store.read_record
    tried = recorder.tried

    async def recorded_swap(current: Record | None, new: Record) -> bool:
        recorder.passes()
        if new.value["released"]:
            epoch = new.value["epoch"]
            recorder.write(Released(time=boot_time(), runner=recorder.runner, epoch=epoch))
        else:
            tried[new.token] = partial(_tell_lease, recorder, current, new, boot_time())

        swapped = await swap(current, new)
        tell = tried.pop(new.token, None)
        if swapped and tell is not None:
            tell()

        recorder.passes()
        return swapped

    async def recorded_read(key: str) -> Record | None:
        found = await read(key)
        tell = tried.pop(found.token, None) if found else None
        if tell is not None:  # the answer to the swap was lost
            tell()

        return found

    _put(store, swap_record=recorded_swap, read_record=recorded_read)


def _tell_lease(recorder: Recorder, current: Record | None, new: Record, sent_at: float) -> None:
    epoch = new.value["epoch"]
    is_renewal = current is not None and current.value["epoch"] == epoch
    given: dict[str, Any] = {"time": boot_time(), "runner": recorder.runner, "epoch": epoch}
    held = HeldLease(Lease.from_record(new), sent_at=sent_at, clock=boot_time)
    given["until"] = held.stops_at
    recorder.write(Renewed(**given) if is_renewal else Granted(**given, sent_at=sent_at))


def record_target(target: TransactionalTargetSystem[Any], recorder: Recorder) -> None:
    """Put points around every commit of a target system, and around its markers."""
    transaction = target.transaction

    @asynccontextmanager
    async def recorded_transaction(*identity: Any) -> AsyncIterator[Any]:
        recorder.passes()
        async with transaction(*identity) as session:
            yield session
            recorder.passes()

        recorder.passes()

    def recorded(method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any) -> Any:
            recorder.passes()
            answer = await method(*arguments)
            recorder.passes()
            return answer

        return call

    _put(
        target,
        transaction=recorded_transaction,
        claim_marker=recorded(target.claim_marker),
        remove_marker=recorded(target.remove_marker),
    )


def _put(given: object, **methods: object) -> None:
    for name, method in methods.items():
        setattr(given, name, method)
