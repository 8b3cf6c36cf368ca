"""A small service whose changes take their time, so that it can be interrupted in the middle."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from aflamingock import AuditEntry, AuditState, Flamingock, LockOptions
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.processes.kit import check_log

HEAD = """
from pathlib import Path
import anyio
from aflamingock import Verification, change

@change(id="{id}", author="tests"{options})
class Step:
"""

NON_TX = """
    async def execute(self, folder: Path, pace: float):
        (folder / "{id}").touch()
        await anyio.sleep(pace)

    async def rollback(self, folder: Path, pace: float):
        await anyio.sleep(pace / 2)
        (folder / "{id}").unlink()

    def verify(self, folder: Path):
        is_there = (folder / "{id}").exists()
        return Verification.APPLIED if is_there else Verification.NOT_APPLIED
"""

TX = """
    async def execute(self, db, pace: float):
        await db.execute("CREATE TABLE IF NOT EXISTS effects (id TEXT)")
        await db.execute("INSERT INTO effects VALUES ('{id}')")
        await anyio.sleep(pace)
"""

STEPS = {"a": NON_TX, "b": TX, "c": NON_TX, "d": TX, "e": NON_TX}

_CERTAIN = {AuditState.APPLIED, AuditState.FAILED, AuditState.ROLLED_BACK}
_DOUBTFUL = {AuditState.STARTED, AuditState.FAILED, AuditState.ROLLBACK_STARTED}
"""After which a change without a transaction has perhaps an effect, if nobody could say more."""


def build(folder: Path, *, pace: float = 0.06) -> Flamingock:
    """
    Return the service whose changes lie in a folder.

    :param pace: how long each of them takes, in seconds
    """
    data = SQLiteTargetSystem("data", folder / "data.db")
    return Flamingock(
        changes=folder / "changes",
        audit_store=SQLiteAuditStore.from_target_system(data),
        target_systems=[data],
        dependencies={"folder": folder, "pace": pace},
        lock=LockOptions(timeout=10, retry_interval=0.1),
    )


def here() -> Flamingock:
    """Return the service in the working directory."""
    return build(Path.cwd())


def new_shop(folder: Path) -> Path:
    """Write the changes, and return *folder*."""
    (folder / "changes").mkdir(parents=True)
    (folder / "output.txt").touch()
    for number, (id, code) in enumerate(STEPS.items(), 1):
        options = ', target_system="data"' if code is TX else ""
        path = folder / "changes" / f"_{number:04}__{id}.py"
        path.write_text((HEAD + code).format(id=id, options=options), "utf-8")

    return folder


async def _entries_of(flamingock: Flamingock) -> list[AuditEntry]:
    entries = [entry async for entry in flamingock.audit.entries()]
    check_log(entries)
    return entries


def _last_states(entries: Sequence[AuditEntry]) -> dict[str, AuditState]:
    return {entry.change_id: entry.state for entry in entries if entry.change_id}


def effects_of(folder: Path) -> list[str]:
    """Return the changes that have an effect, once for each time."""
    files = [id for id in STEPS if (folder / id).exists()]
    if not (folder / "data.db").exists():
        return files

    with closing(sqlite3.connect(folder / "data.db")) as connection:
        try:
            return sorted(files + [id for (id,) in connection.execute("SELECT id FROM effects")])
        except sqlite3.OperationalError:  # no transaction was committed yet
            return files


async def check_truth(folder: Path, *, in_order: bool, told: str) -> None:
    """
    Make sure that the log says what stands, and that the next run makes an end of it.

    :param in_order: whether the run had the time to bring its last change to an end
    :param told: what the process has said
    """
    async with build(folder, pace=0.0) as flamingock:
        states = _last_states(await _entries_of(flamingock))
        effects = effects_of(folder)
        for id, code in STEPS.items():
            state = states.get(id)
            if code is TX or in_order or state not in _DOUBTFUL:
                assert (id in effects) == (state is AuditState.APPLIED), f"{id} {state} {told}"

        if in_order:
            assert set(states.values()) <= _CERTAIN, f"{states} {told}"
            assert (await flamingock.lock.status()).state == "free", told

        await flamingock.run()
        states = _last_states(await _entries_of(flamingock))

    assert effects_of(folder) == list(STEPS), told
    assert states == dict.fromkeys(STEPS, AuditState.APPLIED), told
