"""One process of a schedule: a run or an undo that meets its fault, or the one at the end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import anyio

from aflamingock import (
    AuditEntry,
    ChangeContext,
    Flamingock,
    LockOptions,
    ManualInterventionError,
    Recovery,
    Resolution,
    Verification,
    change,
)
from tests.history.events import Commit

from .backend import Backend
from .recorder import Recorder, ended, record_store, record_target
from .schedule import Mode, Schedule, Worker

IDS = ("a", "b", "c")
_LONGEST = 0.02
_LAST_RUNS = 20
_LAST_TIMEOUT = 60.0


def is_transactional(mode: Mode, id: str) -> bool:
    """Say whether a change is in a transaction; the second one always is."""
    return mode in ("shared", "separate", "marker") or id == "b"


class Changes:
    """
    The changes of a worker.

    :param fails: whether the code of one of them may raise
    """

    def __init__(
        self, backend: Backend, recorder: Recorder, mode: Mode, *, seed: int, fails: bool
    ) -> None:
        self._backend = backend
        self._recorder = recorder
        self._mode = mode
        self._random = Random(seed)
        self._failing = self._random.choice(IDS) if fails else None

    def all(self) -> list[type]:
        """Return them in their order."""
        return [
            self._in_transaction(id) if is_transactional(self._mode, id) else self._alone(id)
            for id in IDS
        ]

    def _in_transaction(self, id: str) -> type:
        leave, call = self._backend.leave, self._recorder.call

        async def execute(self: object, db, context: ChangeContext) -> None:
            with call("execute", context):
                await leave(db, id, "execute", context.attempt)
                await work(id)

        async def rollback(self: object, db, context: ChangeContext) -> None:
            with call("rollback", context):
                await leave(db, id, "rollback", context.attempt)

        work = self._work
        declare = change(id=id, author="chaos", order=id, target_system="data")
        return declare(type("InTransaction", (), {"execute": execute, "rollback": rollback}))

    def _alone(self, id: str) -> type:
        call, work, ask = self._recorder.call, self._work, self._recorder.verify

        async def execute(self: object, context: ChangeContext) -> None:
            with call("execute", context):
                await work(id)

        async def rollback(self: object, context: ChangeContext) -> None:
            with call("rollback", context):
                await anyio.lowlevel.checkpoint()

        async def verify(self: object) -> Verification:
            return ask(id)

        members: dict[str, Any] = {"execute": execute, "rollback": rollback}
        if self._mode == "verify":
            members["verify"] = verify

        retries = self._mode == "retry"
        recovery = Recovery.ALWAYS_RETRY if retries else Recovery.MANUAL_INTERVENTION
        return change(id=id, author="chaos", order=id, recovery=recovery)(
            type("Alone", (), members)
        )

    async def _work(self, id: str) -> None:
        await anyio.sleep(self._random.uniform(0, _LONGEST))
        if id == self._failing:
            self._failing = None
            raise ValueError("the broker said no")


def build(
    backend: Backend, schedule: Schedule, recorder: Recorder, worker: Worker | None
) -> Flamingock:
    """Return the service as a worker runs it; ``None`` for the one without faults."""
    target = backend.target()
    store = backend.store(target, apart=schedule.mode == "marker")
    record_store(store, recorder)
    record_target(target, recorder)
    changes = Changes(
        backend,
        recorder,
        schedule.mode,
        seed=worker.seed if worker else 0,
        fails=worker is not None and worker.fails,
    )
    return Flamingock(
        changes=changes.all(),
        audit_store=store,
        target_systems=[target],
        service=backend.service,
        lock=LockOptions(
            ttl=schedule.ttl if worker else backend.last_ttl,
            timeout=2.0 if worker else _LAST_TIMEOUT,
            retry_interval=0.05,
        ),
        transaction_mode="shared" if schedule.mode != "separate" else "separate",
    )


def run_worker(backend: Backend, schedule: Schedule, number: int, name: str) -> None:
    """Be one of the workers of a schedule."""
    worker = schedule.workers[number]
    fault = worker.fault
    recorder = Recorder(
        backend.folder / "events",
        name,
        point=fault.point if fault else None,
        stops=fault is not None and fault.stops_for is not None,
    )
    flamingock = build(backend, schedule, recorder, worker)
    work = flamingock.undo(last=1) if worker.undoes else flamingock.run()
    recorder.write(ended(recorder, asyncio.run(_outcome(work))))


def make_an_end(backend: Backend, schedule: Schedule, name: str) -> None:
    """Be the worker without faults, and the person whom it asks; write down what is left."""
    recorder = Recorder(backend.folder / "events", name, point=None, stops=False)

    async def work() -> tuple[list[AuditEntry], list[Commit]]:
        flamingock = build(backend, schedule, recorder, None)
        async with flamingock:
            for _ in range(_LAST_RUNS):
                error = await _outcome(flamingock.run())
                recorder.write(ended(recorder, error))
                if isinstance(error, ManualInterventionError):
                    with suppress(*backend.last_errors):
                        for issue in error.issues:
                            answer = _answer(recorder, issue)
                            await flamingock.audit.resolve(issue.change_id, answer)
                elif not isinstance(error, backend.last_errors):
                    break

            entries = [entry async for entry in flamingock.audit.entries()]

        return entries, list(await backend.commits())

    entries, commits = asyncio.run(work())
    left = {
        "entries": [entry.to_document() for entry in entries],
        "commits": [asdict(commit) for commit in commits],
    }
    (backend.folder / "left").write_text(json.dumps(left))


def _answer(recorder: Recorder, issue: Any) -> Resolution:
    is_done = recorder.verify(issue.change_id) is Verification.APPLIED
    return Resolution.APPLIED if is_done else Resolution.ROLLED_BACK


async def _outcome(work: Any) -> BaseException | None:
    try:
        await work
    except BaseException as exc:
        logging.getLogger("chaos").exception("ended")
        return exc

    return None


def log_to(folder: Path, name: str) -> None:
    """Let the log of this process, and whatever else it says, go to a file."""
    file = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(file, stream)

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s.%(msecs)03d %(message)s", datefmt="%H:%M:%S"
    )
