"""An audit store on a simulated server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from aflamingock import AuditEntry
from aflamingock._records import Issue, Record
from aflamingock.abc import AuditStore, TargetSystem
from aflamingock.exceptions import AuditStoreConnectionError, SystemBusyError, UnknownOutcomeError

from ..history.events import Appended, Released
from .network import Told
from .process import Process
from .target import Session, SimulatedTarget

if TYPE_CHECKING:
    from .scenario import Scenario

T = TypeVar("T")

_READ = Told(
    refused=AuditStoreConnectionError, lost=AuditStoreConnectionError, busy=SystemBusyError
)
_WRITE = Told(refused=AuditStoreConnectionError, lost=UnknownOutcomeError, busy=SystemBusyError)
_WRITE_WITHIN = Told(
    refused=AuditStoreConnectionError,
    lost=UnknownOutcomeError,
    busy=SystemBusyError,
    may_double=False,
)


class SimulatedStore(AuditStore[Session]):
    """What one process has of the audit store."""

    def __init__(self, scenario: Scenario, process: Process) -> None:
        super().__init__()
        self._scenario = scenario
        self._process = process
        self._database = scenario.main
        self.exclusive_transactions = scenario.main.exclusive
        self.single_host = scenario.single_host

    async def _connect(self, stack: AsyncExitStack) -> None:
        """Do nothing: every call finds its way."""

    async def create(self) -> None:
        """Create the tables."""
        await self._call("create", self._database.create, _WRITE)

    async def last(self, service: str, count: int) -> Sequence[AuditEntry]:
        """Return the last entries, newest first."""
        return await self._call("last", lambda: self._database.last(count), _READ)

    async def entries(
        self, service: str, *, after: int = 0, brief: bool = False
    ) -> AsyncIterator[AuditEntry]:
        """Yield the entries in the order of their numbers."""
        size = self._scenario.batch
        while batch := await self._read(after, size):
            for entry in batch:
                yield entry

            after = batch[-1].sequence

    async def _read(self, after: int, size: int) -> Sequence[AuditEntry]:
        return await self._call("read", lambda: self._database.read(after, size), _READ)

    async def append(
        self, entries: Sequence[AuditEntry], *, session: Session | None = None
    ) -> None:
        """Insert entries."""
        kept = tuple(entries)
        if session is not None:
            transaction = session.transaction
            await self._call(
                "append within",
                lambda: self._database.append_within(transaction, kept),
                _WRITE_WITHIN,
            )
            return

        await self._call("append", lambda: self._database.append(kept), _WRITE)
        self._scenario.acknowledged(self._process, kept)

    async def read_record(self, key: str) -> Record | None:
        """Return a record with its age."""
        return await self._call("read record", lambda: self._database.record(key), _READ)

    async def swap_record(self, current: Record | None, new: Record) -> bool:
        """Write the record *new* if *current* still stands."""
        if current is not None and new.value.get("released"):
            self._note_release(current, new)

        return await self._call("swap", lambda: self._database.swap(current, new), _WRITE)

    def _note_release(self, current: Record, new: Record) -> None:
        epoch = new.value["epoch"]
        if self._process.is_alive and current.value["epoch"] == epoch:  # else it is by force
            now = self._scenario.world.now
            self._scenario.record(Released(time=now, runner=self._process.name, epoch=epoch))

    async def verify_schema(self) -> list[str]:
        """Return nothing: nothing can be missing."""
        return await self._call("verify schema", list[str], _READ)

    def permissions(self) -> str:
        """Return that there is nothing to allow."""
        return "A simulation needs no permissions."

    async def save_issue(self, issue: Issue) -> None:
        """Keep an issue."""
        await self._call("save issue", lambda: self._database.save_issue(issue), _WRITE)

    async def issues(self, service: str) -> Sequence[Issue]:
        """Return the kept issues."""
        return await self._call("issues", lambda: list(self._database.issues.values()), _READ)

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[AuditStore[Any]]:
        await self._call("connect", lambda: None, _READ)
        yield SimulatedStore(self._scenario, self._process)

    def open_side_channel(self) -> Any:
        """Return a second connection, where there are any."""
        return self._channel() if self._scenario.has_side_channel else None

    def shares(self, target: TargetSystem) -> bool:
        """Say whether the target system is on the same server."""
        return isinstance(target, SimulatedTarget) and target.database is self._database

    async def _call(self, what: str, serve: Callable[[], T], told: Told) -> T:
        return await self._scenario.network.call(self._process, what, serve, told)

    def __repr__(self) -> str:
        """Return the class."""
        return "SimulatedStore()"


def acknowledged(world_now: float, process: Process, entry: AuditEntry) -> Appended:
    """Return the event of an entry whose writing was answered."""
    return Appended(
        time=world_now,
        runner=process.name,
        entry_id=entry.entry_id,
        sequence=entry.sequence,
        digest=entry.digest,
    )
