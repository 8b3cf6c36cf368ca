"""What the engine costs, as ratios to the bare work; run by ``nox -s bench``."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from itertools import count, islice
from pathlib import Path
from statistics import median
from time import perf_counter
from types import ModuleType
from typing import Any

import aiosqlite

from aflamingock import AuditEntry, AuditState, Flamingock, Recovery, RunStatus, Stage, change
from aflamingock._discovery import load_pipeline
from aflamingock.stores.sqlite import SQLiteAuditStore

KNOWN = 500
APPLIED = 1_000
SIZES = (1_000, 10_000, 100_000)
PAUSE = 0.05

CHANGE = '''
import asyncio

from aflamingock import change


@change(id="change-{number:04}", author="bench")
class Change:
    """Do next to nothing."""

    async def execute(self) -> None:
        await asyncio.sleep(0)

    async def rollback(self) -> None:
        await asyncio.sleep(0)
'''

IMPORT = """
from time import perf_counter
import asyncio, anyio, anyio.lowlevel, anyio.to_thread
started = perf_counter()
import aflamingock
print(perf_counter() - started)
"""

Measured = Callable[[], Awaitable[float]]


class Table:
    """The figures, and the goals that they missed."""

    def __init__(self) -> None:
        self._missed: list[str] = []
        print(f"{'what':<66}{'figure':>12}{'goal':>12}")

    def add(self, what: str, figure: float, goal: float | None = None, unit: str = "") -> None:
        """Print a figure, and whether it is above its goal."""
        wanted = "" if goal is None else f"<= {goal:g}{unit}"
        missed = goal is not None and figure > goal
        mark = "   missed" if missed else ""
        print(f"{what:<66}{f'{figure:.2f}{unit}':>12}{wanted:>12}{mark}", flush=True)
        if missed:
            self._missed.append(what)

    def end(self) -> None:
        """Print what missed its goal."""
        print(f"\nGoals missed: {', '.join(self._missed) or 'none'}")


def write_changes(folder: Path, number: int) -> Path:
    """Write the files of so many changes."""
    folder.mkdir()
    for position in range(1, number + 1):
        text = CHANGE.format(number=position)
        (folder / f"_{position:04}__change_{position}.py").write_text(text, "utf-8")

    return folder


async def interleaved(repeats: int, *cases: Measured) -> list[float]:
    """Measure every case in turn, many times, and return the median of each."""
    rounds = [[await case() for case in cases] for _ in range(repeats)]
    return [median(times) for times in zip(*rounds, strict=True)]


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return the seconds that *work* takes."""
    started = perf_counter()
    await work()
    return perf_counter() - started


def service(folder: Path, log: Path) -> Flamingock:
    """Return a service as it starts: nothing is known or open."""
    return Flamingock(changes=folder, audit_store=SQLiteAuditStore(log))


def history(folder: Path, size: int) -> Iterator[AuditEntry]:
    """Yield a log in which every change was applied, and again and again before that."""
    pipeline = load_pipeline([Stage("default", location=folder)], profiles=(), targets=())
    states = (
        AuditState.STARTED,
        AuditState.APPLIED,
        AuditState.ROLLBACK_STARTED,
        AuditState.ROLLED_BACK,
    )
    changes = list(pipeline.changes())
    digest = ""
    # whatever the size is, the last entry of every change has to be an APPLIED
    first = -(size - 1) % (len(changes) * len(states)) + 2 * len(changes)
    for sequence, step in enumerate(islice(count(first), size - 1), 1):
        lap, place = divmod(step // 2, len(changes))
        one = changes[place]
        entry = AuditEntry(
            service="default",
            state=states[lap % 2 * 2 + step % 2],
            execution_id="filled",
            stage_id="default",
            change_id=one.id,
            change_order=one.order,
            author=one.author,
            attempt=lap + 1,
            recovery_strategy=Recovery.MANUAL_INTERVENTION,
            rollback_available=True,
            invoked_class=one.invoked_class,
            invoked_method="execute",
            source_file=one.source,
            execution_hostname="bench",
            checksum=one.checksum,
        ).sealed(sequence=sequence, previous=digest, epoch=1)
        digest = entry.digest
        yield entry


async def fill(log: Path, folder: Path, size: int) -> None:
    """Write a log of so many entries, the last one a CHECKPOINT."""
    entries = history(folder, size)
    async with SQLiteAuditStore(log) as store:
        await store.create()
        while batch := list(islice(entries, 500)):
            await store.append(batch)

        report = await service(folder, log).run()
        assert report.status is RunStatus.NOTHING_TO_DO
        (last,) = await store.last("default", 1)
        assert (last.sequence, last.type) == (size, "CHECKPOINT")


async def measure_no_op_starts(table: Table, folder: Path, logs: dict[int, Path]) -> None:
    """Compare starts with nothing to do, and hold them against a bare read."""

    def start(log: Path) -> Measured:
        return lambda: timed(lambda: service(folder, log).run())

    async def bare_read() -> None:
        async with aiosqlite.connect(logs[SIZES[-1]]) as connection:
            statement = "SELECT * FROM flamingockAuditLog WHERE service = ? "
            statement += "ORDER BY sequence DESC LIMIT 8"
            await connection.execute_fetchall(statement, ("default",))

    def bytes_of_files() -> None:
        for path in sorted(folder.iterdir()):
            path.read_bytes()

    starts = [start(logs[size]) for size in SIZES]
    *times, read, files = await interleaved(
        25,
        *starts,
        lambda: timed(bare_read),
        lambda: timed(lambda: asyncio.to_thread(bytes_of_files)),
    )
    for size, seconds in zip(SIZES, times, strict=True):
        goal = None if size == SIZES[0] else 1.2
        what = f"start with nothing to do, {size:,} entries / {SIZES[0]:,} entries"
        table.add(what, seconds / times[0], goal)

    table.add(f"  the first of them, {KNOWN} changes", times[0] * 1000, unit=" ms")
    table.add("  against a bare read of the last rows", times[0] / read)
    table.add("  against that and a bare read of the changes' files", times[0] / (read + files))


async def measure_applying(table: Table, folder: Path) -> None:
    """Hold the applying of many changes against as many durable inserts and the changes alone."""
    folders = count(1)

    async def apply() -> float:
        files, log = new_project(folder, next(folders))
        seconds = await timed(lambda: service(files, log).run())
        assert len(await rows_of(log)) == 2 * APPLIED + 1
        return seconds

    files, sample = new_project(folder, 0)
    await service(files, sample).run()
    rows = await rows_of(sample)

    async def insert() -> float:
        _, log = new_project(folder, next(folders))
        async with SQLiteAuditStore(log) as store:
            await store.create()

        return await timed(lambda: bare_inserts(log, rows))

    async def execute() -> float:
        files, _ = new_project(folder, next(folders))
        return await timed(lambda: bare_changes(files))

    applied, inserts, changes = await interleaved(5, apply, insert, execute)
    what = f"apply {APPLIED:,} / {APPLIED + 1:,} durable inserts and the changes' own work"
    table.add(what, applied / (inserts + changes), 1.5)
    table.add("  each change", applied / APPLIED * 1000, unit=" ms")
    table.add("  of that its durable insert", inserts / APPLIED * 1000, unit=" ms")
    table.add("  of that its own work: import and execute", changes / APPLIED * 1000, unit=" ms")


def new_project(folder: Path, number: int) -> tuple[Path, Path]:
    """Return a new folder of many changes, and the path of a log."""
    return write_changes(folder / f"files-{number}", APPLIED), folder / f"files-{number}.db"


async def rows_of(log: Path) -> list[Any]:
    """Return all rows of a log."""
    statement = "SELECT * FROM flamingockAuditLog ORDER BY sequence"
    async with aiosqlite.connect(log) as connection:
        return list(await connection.execute_fetchall(statement))


async def bare_inserts(log: Path, rows: list[Any]) -> None:
    """Insert the rows in as many statements as a run does, each of them durably."""
    one = f"({', '.join('?' * len(rows[0]))})"
    groups = [rows[:1], *(rows[start : start + 2] for start in range(1, len(rows), 2))]
    async with aiosqlite.connect(log, isolation_level=None) as connection:
        await connection.execute("PRAGMA synchronous=FULL")
        for group in groups:
            shape = ", ".join([one] * len(group))
            values = [value for row in group for value in row]
            await connection.execute(f"INSERT INTO flamingockAuditLog VALUES {shape}", values)


async def bare_changes(files: Path) -> None:
    """Run the changes' modules, then the changes."""
    for path in sorted(files.iterdir()):
        module = ModuleType(path.stem)
        exec(compile(path.read_bytes(), path, "exec"), vars(module))
        await module.Change().execute()


async def measure_concurrency(table: Table) -> None:
    """Hold stages that run at the same time against their critical path."""

    def changes(stage: str, number: int) -> list[type]:
        def one(position: int) -> type:
            class Change:
                async def execute(self) -> None:
                    await asyncio.sleep(PAUSE)

            declare = change(id=f"{stage}-{position}", author="bench", order=f"{position:03}")
            return declare(Change)

        return [one(position) for position in range(number)]

    stages = [
        Stage("first", location=changes("first", 4)),
        Stage("short", location=changes("short", 6), after=["first"]),
        Stage("long", location=changes("long", 12), after=["first"]),
        Stage("aside", location=changes("aside", 10), after=()),
        Stage("last", location=changes("last", 4), after=["short", "long"]),
    ]

    async def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            store = SQLiteAuditStore(Path(folder, "audit.db"))
            return await timed(Flamingock(stages=stages, audit_store=store).run)

    (seconds,) = await interleaved(5, run)
    table.add("concurrent stages / their critical path", seconds / (20 * PAUSE), 1.1)


def peak_memory(folder: Path, log: Path) -> float:
    """Return the peak in bytes of a start that finds one more change, in a process of its own."""
    command = [sys.executable, __file__, "memory", str(folder), str(log)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak_memory(folder: Path, log: Path) -> None:
    """Plan, which reads the whole log, and print the peak of it."""
    tracemalloc.start()
    plan = asyncio.run(service(folder, log).plan())
    assert len(plan.pending) == 1
    print(tracemalloc.get_traced_memory()[1])


def import_time(compiled: Path) -> float:
    """Return the seconds that the package takes to import, compiled, once anyio is there."""
    command = [sys.executable, "-X", f"pycache_prefix={compiled}", "-c", IMPORT]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(answer.stdout)


async def main(folder: Path) -> None:
    """Measure everything."""
    table = Table()
    changes = write_changes(folder / "changes", KNOWN)
    logs = {size: folder / f"{size}.db" for size in SIZES}
    for size, log in logs.items():
        await fill(log, changes, size)

    await measure_no_op_starts(table, changes, logs)
    await measure_applying(table, folder)
    await measure_concurrency(table)
    one_more = write_changes(folder / "more", KNOWN + 1)
    small, *_, large = (peak_memory(one_more, log) for log in logs.values())
    table.add(f"peak memory, {SIZES[-1]:,} entries / {SIZES[0]:,} entries", large / small, 1.2)
    table.add(f"  at {SIZES[0]:,} entries", small / 2**20, unit=" MiB")
    imports = [import_time(folder / "compiled") for _ in range(16)]
    table.add("import of aflamingock, beyond anyio", median(imports[1:]) * 1000, 40, " ms")
    table.end()


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        print_peak_memory(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            asyncio.run(main(Path(temporary)))
