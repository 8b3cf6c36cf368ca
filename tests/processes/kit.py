"""What these tests share: changes in a folder, processes that run them, and what is left behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio

from aflamingock import AuditEntry, Flamingock, Issue, Resolution, RunReport
from aflamingock.abc import AuditStore
from tests.databases import DATABASES, Database
from tests.places import Places

from .process import Nursery, Runner
from .runner import built, systems

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """
    Where changes and log are.

    :ivar target: the kind of database that the changes work on
    :ivar log: that of the log, if it is not there
    :ivar mode: whether changes and log share transactions where they can
    """

    target: str
    log: str | None = None
    mode: str = "shared"


LAYOUTS = {
    "one file": Layout(target="sqlite"),
    "separate": Layout(target="sqlite", mode="separate"),
    "two files": Layout(target="sqlite", log="sqlite"),
    "mongodb": Layout(target="mongodb"),
    "postgresql": Layout(target="postgresql"),
    "mongodb, log in postgresql": Layout(target="mongodb", log="postgresql"),
    "postgresql, log in mongodb": Layout(target="postgresql", log="mongodb"),
    "sqlalchemy": Layout(target="sqlalchemy"),
    "mariadb": Layout(target="mariadb"),
    "motor": Layout(target="motor"),
    "dynamodb": Layout(target="dynamodb"),
    "couchbase": Layout(target="couchbase"),
}

LOCK = {"ttl": 60, "timeout": 5, "retry_interval": 0.1}
"""A start that had to wait for the end of a dead one's lease would fail."""

SHORT = {"ttl": 2, "timeout": 5, "retry_interval": 0.1}
"""For a process that is stopped, or killed where nobody sees that it is gone."""

LONG = {"ttl": 60, "timeout": 50, "retry_interval": 0.1}

HEAD = """
from pathlib import Path
import anyio
from aflamingock import Recovery, Verification, change

@change(id="{id}", author="tests"{options})
class Step:
"""

LINE = """
    async def execute(self, folder: Path):
        with (folder / "effects.txt").open("a") as effects:
            effects.write("{id}\\n")
"""

NON_TX = """
    async def execute(self, folder: Path, pause):
        await self.tell(folder, "{id}")
        await pause("execute {id}")
        await self.tell(folder, "{id} to its end")

    async def rollback(self, folder: Path, pause):
        await self.tell(folder, "not {id}")
        await pause("rollback {id}")
        await self.tell(folder, "not {id} to its end")

    async def tell(self, folder, line):
        async with await anyio.open_file(folder / "effects.txt", "a") as effects:
            await effects.write(line + "\\n")
"""

VERIFY = """
    def verify(self, folder: Path):
        answer = (folder / "answer").read_text()
        return Verification[answer]
"""

LOOK = """
    def verify(self, folder: Path):
        file = folder / "effects.txt"
        done = file.exists() and "{id} to its end" in file.read_text()
        return Verification.APPLIED if done else Verification.NOT_APPLIED
"""

RETRIED = ", recovery=Recovery.ALWAYS_RETRY"


class Project:
    """
    A folder with changes, a log, and what the changes have done.

    :param nursery: makes its processes
    :param places: gives its databases
    """

    def __init__(
        self, folder: Path, nursery: Nursery, places: Places, layout: str = "one file"
    ) -> None:
        self.folder = folder
        self._nursery = nursery
        self._places = places
        self._runners: list[Runner] = []
        (folder / "changes").mkdir(parents=True)
        self.layout = layout

    @property
    def layout(self) -> str:
        """One of the layouts."""
        return self._layout

    @layout.setter
    def layout(self, name: str) -> None:
        self._layout = name
        layout = LAYOUTS[name]
        self._target = self._places(layout.target, self.folder)
        self._log = layout.log and self._places(layout.log, self.folder)

    @property
    def database(self) -> Database:
        """The kind of database that the changes work on."""
        return DATABASES[self._target.kind]

    @property
    def is_on_one_host(self) -> bool:
        """Whether the end of a process is seen at once by the others."""
        return DATABASES[(self._log or self._target).kind].single_host

    @property
    def lock(self) -> dict[str, float]:
        """What a start is given that comes after others: on one host the end of those is seen."""
        return LOCK if self.is_on_one_host else LONG

    def clear(self) -> None:
        """Begin with empty databases again, and without effects."""
        self.layout = self._layout
        (self.folder / "effects.txt").unlink(missing_ok=True)

    def add(self, *ids: str, code: str, options: str = "") -> None:
        """Write changes, in this order."""
        for order, id in enumerate(ids, 1):
            path = self.folder / "changes" / f"_{order:04}__{id}.py"
            path.write_text((HEAD + code).format(id=id, options=options), "utf-8")

    def add_transactional(self, *ids: str) -> None:
        """Write changes that work on the database, in this order."""
        anyio.run(self.database.prepare, self._target)
        self.add(*ids, code=self.database.change, options=', target_system="data"')

    def start(self, **options: Any) -> Runner:
        """Start a process; see the runner for the options."""
        runner = self._nursery.start(self.options(**options))
        self._runners.append(runner)
        return runner

    def run(self, *, ends_with: int = 0, **options: Any) -> Runner:
        """Start a process and wait for its end."""
        runner = self.start(**options)
        assert runner.end() == ends_with, runner.output
        return runner

    def close(self) -> None:
        """Leave no process behind."""
        with ExitStack() as stack:
            for runner in self._runners:
                stack.callback(runner.close)

    def entries(self) -> list[AuditEntry]:
        """Return the log, after making sure that it is sound."""

        async def read(store: AuditStore[Any]) -> list[AuditEntry]:
            return [entry async for entry in store.entries("default")]

        entries = self._with_store(read)
        check_log(entries)
        return entries

    def _with_store(self, read: Callable[[AuditStore[Any]], Awaitable[T]]) -> T:
        async def call() -> T:
            async with systems(self.options()) as (_, store), store:
                return await read(store)

        return anyio.run(call)

    def log(self) -> list[str]:
        """Return the log as words: states with their attempts, and types of system entries."""
        return [_word(entry) for entry in self.entries()]

    def states(self, change_id: str) -> list[str]:
        """Return the words about one change."""
        return [_word(entry) for entry in self.entries() if entry.change_id == change_id]

    def options(self, **given: Any) -> dict[str, Any]:
        """Return what a runner is told."""
        return {
            "folder": str(self.folder),
            "target": asdict(self._target),
            "log": self._log and asdict(self._log),
            "mode": LAYOUTS[self._layout].mode,
            "lock": self.lock,
        } | given

    def call_here(self, call: Callable[[Flamingock], Awaitable[T]], **options: Any) -> T:
        """Call in this process, where blocking the loop is an error, and a start costs little."""

        async def called() -> T:
            async with built(self.options(**options)) as flamingock:
                return await call(flamingock)

        return anyio.run(called)

    def run_here(self, **options: Any) -> RunReport:
        """Run in this process."""
        return self.call_here(Flamingock.run, **options)

    def undo_here(self, last: int) -> RunReport:
        """Undo in this process."""
        return self.call_here(lambda flamingock: flamingock.undo(last=last))

    def issues(self) -> list[Issue]:
        """Return what needs a person."""
        return list(self.call_here(lambda flamingock: flamingock.audit.issues()))

    def kept_issues(self) -> dict[str, str]:
        """Return the status of every issue that the store keeps, by the state of its change."""
        issues = self._with_store(lambda store: store.issues("default"))
        return {issue.state: issue.status for issue in issues}

    def resolve(self, change_id: str, resolution: Resolution) -> None:
        """Be that person."""
        self.call_here(lambda flamingock: flamingock.audit.resolve(change_id, resolution))

    def lease_is_free(self) -> bool:
        """Say whether the last holder has given the lease back."""
        return self.call_here(lambda flamingock: flamingock.lock.status()).state == "free"

    @property
    def lines(self) -> list[str]:
        """What changes outside of transactions have done."""
        file = self.folder / "effects.txt"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def rows(self) -> list[str]:
        """What changes in transactions have done."""
        return anyio.run(self.database.effects, self._target)


def _word(entry: AuditEntry) -> str:
    return f"{entry.state} {entry.attempt}" if entry.change_id else str(entry.type)


def check_log(entries: Sequence[AuditEntry]) -> None:
    """Make sure that a log is one history, without gaps and unchanged."""
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    assert len({entry.entry_id for entry in entries}) == len(entries)
    epochs = [entry.epoch for entry in entries]
    assert epochs == sorted(epochs)
    digest = ""
    for entry in entries:
        digest = entry.compute_digest(digest)
        assert entry.digest == digest, f"entry {entry.sequence} does not fit"


def without_repeats(lines: Sequence[str]) -> list[str]:
    """Return each line where it stands first."""
    return list(dict.fromkeys(lines))
