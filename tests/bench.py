"""What the engine costs, as ratios to the bare work; run by ``nox -s bench``."""

from __future__ import annotations

import asyncio
import os
import runpy
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from itertools import count, islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import aiosqlite

from aflamingock import AuditEntry, AuditState, Flamingock, RunStatus, Stage, change
from aflamingock._discovery.discovery import read_pipeline
from aflamingock.stores.sqlite import SQLiteAuditStore

KNOWN = 500
APPLIED = 1_000
SIZES = (1_000, 10_000, 100_000)
PAUSE = 0.05
ANSWER = 0.001
"""Seconds that a server near by takes to answer."""

CHANGE = '''
import asyncio

from aflamingock import change


@change(id="change-{number:04}", author="bench")
class Change:
    """Wait for an answer."""

    async def execute(self) -> None:
        await asyncio.sleep({pause})
'''

IMPORT = """
from time import perf_counter
import asyncio, anyio, anyio.lowlevel, anyio.to_thread
started = perf_counter()
import aflamingock
print(perf_counter() - started)
"""

LAST_ROWS = "SELECT * FROM flamingockAuditLog WHERE service = ? ORDER BY sequence DESC LIMIT 8"
ALL_ROWS = "SELECT * FROM flamingockAuditLog ORDER BY sequence"

Measured = Callable[[], Awaitable[float]]


def show(what: str, figure: float, goal: float | None = None, unit: str = "") -> None:
    """Print a figure, and whether it misses its goal."""
    wanted = "" if goal is None else f"<= {goal:g}{unit}"
    mark = "   missed" if goal is not None and figure > goal else ""
    print(f"{what:<66}{f'{figure:.2f}{unit}':>12}{wanted:>12}{mark}", flush=True)


def write_changes(folder: Path, number: int, *, pause: float = 0) -> Path:
    """Write the files of so many changes, each of which waits for *pause* seconds."""
    folder.mkdir(parents=True)
    for position in range(1, number + 1):
        text = CHANGE.format(number=position, pause=pause)
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
    pipeline, _ = read_pipeline([Stage("default", location=folder)], profiles=(), targets=())
    changes, digest = list(pipeline.changes()), ""
    # one is left out for the CHECKPOINT, and the last entry of every change is an APPLIED
    first = -size % (2 * len(changes)) + 1
    for sequence, step in enumerate(range(first, first + size - 1), 1):
        lap, place = divmod(step // 2, len(changes))
        one = changes[place]
        entry = AuditEntry(
            service="default",
            state=AuditState.APPLIED if step % 2 else AuditState.STARTED,
            execution_id="filled",
            stage_id="default",
            change_id=one.id,
            change_order=one.order,
            author=one.author,
            attempt=lap + 1,
            invoked_class=one.invoked_class,
            invoked_method="execute",
            source_file=one.source,
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


async def measure_no_op_starts(folder: Path, logs: dict[int, Path]) -> None:
    """Compare starts with nothing to do, and hold them against a bare read."""

    def start(log: Path) -> Measured:
        return lambda: timed(lambda: service(folder, log).run())

    async def bare_read() -> None:
        async with aiosqlite.connect(logs[SIZES[-1]]) as connection:
            await connection.execute_fetchall(LAST_ROWS, ("default",))

    async def bare_files() -> None:
        await asyncio.to_thread(lambda: [path.read_bytes() for path in folder.iterdir()])

    starts = [start(logs[size]) for size in SIZES]
    bare = (lambda: timed(bare_read)), (lambda: timed(bare_files))
    *times, read, files = await interleaved(25, *starts, *bare)
    for size, seconds in zip(SIZES, times, strict=True):
        goal = None if size == SIZES[0] else 1.2
        what = f"start with nothing to do, {size:,} entries / {SIZES[0]:,} entries"
        show(what, seconds / times[0], goal)

    show(f"  the first of them, {KNOWN} changes", times[0] * 1000, unit=" ms")
    show("  against a bare read of the last rows", times[0] / read)
    show("  against that and a bare read of the changes' files", times[0] / (read + files))


async def measure_applying(folder: Path) -> float:
    """
    Hold the applying of many changes against as many durable inserts and the changes alone.

    :return: the seconds of a durable insert
    """
    applied, inserts, changes = await applying(folder / "waiting", ANSWER)
    what = f"apply {APPLIED:,} / {APPLIED + 1:,} durable inserts and the changes' own work"
    show(what, applied / (inserts + changes), 1.5)
    show("  each change, which waits for one answer", applied / APPLIED * 1000, unit=" ms")
    show("  of that its durable insert", inserts / APPLIED * 1000, unit=" ms")
    show("  of that its own work: import and execute", changes / APPLIED * 1000, unit=" ms")
    applied, inserts, changes = await applying(folder / "empty", 0)
    show("  the same, if a change does nothing at all", applied / (inserts + changes), 1.5)
    added = applied - inserts - changes
    show("  what is added to the work of such a change", added / APPLIED * 1000, unit=" ms")
    return inserts / APPLIED


async def applying(folder: Path, pause: float) -> list[float]:
    """Return the seconds of applying, of the inserts alone and of the changes alone."""
    folders = count(1)

    def new_project(number: int) -> tuple[Path, Path]:
        files = write_changes(folder / f"files-{number}", APPLIED, pause=pause)
        return files, folder / f"files-{number}.db"

    async def apply() -> float:
        files, log = new_project(next(folders))
        seconds = await timed(lambda: service(files, log).run())
        assert len(await rows_of(log)) == 2 * APPLIED + 1
        return seconds

    files, sample = new_project(0)
    await service(files, sample).run()
    rows = await rows_of(sample)

    async def insert() -> float:
        _, log = new_project(next(folders))
        await create(log)
        return await timed(lambda: bare_inserts(log, rows))

    async def execute() -> float:
        files, _ = new_project(next(folders))
        return await timed(lambda: bare_changes(files))

    return await interleaved(3, apply, insert, execute)


async def create(log: Path) -> None:
    """Create an empty log."""
    async with SQLiteAuditStore(log) as store:
        await store.create()


async def rows_of(log: Path) -> list[Any]:
    """Return all rows of a log."""
    async with aiosqlite.connect(log) as connection:
        return list(await connection.execute_fetchall(ALL_ROWS))


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
    for path in sorted(os.listdir(files)):
        module = runpy.run_path(os.path.join(files, path))
        await module["Change"]().execute()


async def measure_concurrency(insert: float) -> None:
    """Hold stages that run at the same time against their critical path, of 20 changes."""

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
            log = Path(folder, "audit.db")
            await create(log)
            return await timed(Flamingock(stages=stages, audit_store=SQLiteAuditStore(log)).run)

    async def critical_path() -> float:
        async def wait() -> None:
            for _ in range(20):
                await asyncio.sleep(PAUSE)

        return await timed(wait)

    seconds, critical = await interleaved(5, run, critical_path)
    show("concurrent stages / their critical path", seconds / critical, 1.1)
    show("  / that and a durable insert for each of it", seconds / (critical + 20 * insert))


def figure_of(*arguments: str | Path) -> float:
    """Return what a Python process of its own prints."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *map(str, arguments)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(answer.stdout)


def print_peak_memory(folder: Path, log: Path) -> None:
    """Plan, which reads the whole log, and print the peak of it."""
    tracemalloc.start()
    plan = asyncio.run(service(folder, log).plan())
    assert len(plan.pending) == 1
    print(tracemalloc.get_traced_memory()[1])


async def main(folder: Path) -> None:
    """Measure everything."""
    print(f"{'what':<66}{'figure':>12}{'goal':>12}")
    changes = write_changes(folder / "changes", KNOWN)
    logs = {size: folder / f"{size}.db" for size in SIZES}
    for size, log in logs.items():
        await fill(log, changes, size)

    await measure_no_op_starts(changes, logs)
    insert = await measure_applying(folder)
    await measure_concurrency(insert)
    one_more = write_changes(folder / "more", KNOWN + 1)
    small, *_, large = (figure_of(__file__, "memory", one_more, log) for log in logs.values())
    show(f"peak memory, {SIZES[-1]:,} entries / {SIZES[0]:,} entries", large / small, 1.2)
    show(f"  at {SIZES[0]:,} entries", small / 2**20, unit=" MiB")
    compiled = f"pycache_prefix={folder / 'compiled'}"
    imports = [figure_of("-X", compiled, "-c", IMPORT) for _ in range(16)]
    show("import of aflamingock, beyond anyio", median(imports[1:]) * 1000, 40, " ms")


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        print_peak_memory(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            asyncio.run(main(Path(temporary)))
