"""
Runs schedules: forks workers, kills and stops them, and asks the checker what to think of it.

It has imported everything before it forks, so a worker is there in milliseconds; it has no thread
and no event loop of its own. Called as a script by the tests; prints each seed whose history
violates an invariant, and at the end what was done.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aflamingock import Action, AuditEntry
from aflamingock._host import boot_time
from aflamingock._plan import plan as plan_module
from aflamingock._plan.decision import next_action
from tests.history.checker import violations
from tests.history.events import Commit, Died, Event, History, to_line

from .backend import BACKENDS, Backend
from .recorder import read_events
from .schedule import MODES, Schedule, Worker, schedule
from .worker import IDS, log_to, make_an_end, run_worker

_LOOKS_EVERY = 0.003
_WITHIN = 60.0


def fork(body: Callable[[], None], folder: Path, name: str) -> int:
    """Start a process that runs *body* and ends; return its id."""
    pid = os.fork()
    if pid:
        return pid

    code = 1
    try:
        log_to(folder, name)
        body()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Parent:
    """Whoever has started this process; without it, this one does not go on."""

    def __init__(self) -> None:
        self._pid = os.getppid()

    def wait(self, seconds: float) -> None:
        """Pause; end this process if the parent has ended."""
        time.sleep(seconds)
        if os.getppid() != self._pid:
            raise SystemExit("The process that has asked for this is gone.")


@dataclass(slots=True)
class Process:
    """A worker as the driver sees it."""

    worker: Worker
    name: str
    pid: int
    faults_at: float | None
    goes_on_at: float | None = None
    is_over: bool = False
    done: Counter[str] = field(default_factory=Counter)

    def look(self, folder: Path) -> None:
        """Take note of what has become of it, and do to it what is due."""
        pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
        fault = self.worker.fault
        if pid and os.WIFSTOPPED(status):
            if fault is None or fault.stops_for is None:
                self._kill(folder)
                return

            self.done["stopped"] += 1
            self.goes_on_at = boot_time() + fault.stops_for
        elif pid:
            self.is_over = True
            self.done["killed"] += os.WIFSIGNALED(status)
            return

        if self.goes_on_at is not None and boot_time() >= self.goes_on_at:
            self.goes_on_at = None
            os.kill(self.pid, signal.SIGCONT)

        if self.faults_at is not None and boot_time() >= self.faults_at:
            self.faults_at = None
            # a worker that is to be killed is stopped first: its last event then comes before
            os.kill(self.pid, signal.SIGSTOP)

    def _kill(self, folder: Path) -> None:
        with (folder / "events").open("a") as events:
            events.write(to_line(Died(time=boot_time(), runner=self.name)))

        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """End it if it has not ended."""
        if not self.is_over:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.is_over = True


def play(plan: Schedule, backend: Backend, parent: Parent) -> tuple[list[str], Counter[str]]:
    """Run a schedule to its end; return what contradicts the invariants, and what was done."""
    folder = backend.folder
    began = boot_time()
    waiting = sorted(enumerate(plan.workers), key=lambda item: item[1].starts_after)
    processes: list[Process] = []
    try:
        while waiting or not all(process.is_over for process in processes):
            while waiting and boot_time() >= began + waiting[0][1].starts_after:
                number, worker = waiting.pop(0)
                processes.append(_start(plan, backend, number, worker))

            for process in processes:
                if not process.is_over:
                    process.look(folder)

            if boot_time() > began + _WITHIN:
                return [f"I9: workers have not ended within {_WITHIN:g} s"], Counter()

            parent.wait(_LOOKS_EVERY)

        done = sum((process.done for process in processes), Counter({"schedules": 1}))
        return _check_end(plan, backend, parent), done
    finally:
        for process in processes:
            process.end()


def _start(plan: Schedule, backend: Backend, number: int, worker: Worker) -> Process:
    name = f"worker-{number}"
    pid = fork(lambda: run_worker(backend, plan, number, name), backend.folder, name)
    fault = worker.fault
    timed = fault is not None and fault.point is None
    faults_at = boot_time() + fault.after if fault and timed else None
    return Process(worker, name, pid, faults_at)


def _check_end(plan: Schedule, backend: Backend, parent: Parent) -> list[str]:
    folder = backend.folder
    pid = fork(lambda: make_an_end(backend, plan, "the end"), folder, "the-end")
    deadline = boot_time() + _WITHIN
    ended, status = 0, 0
    try:
        while not ended and boot_time() < deadline:
            parent.wait(_LOOKS_EVERY)
            ended, status = os.waitpid(pid, os.WNOHANG)
    finally:
        if not ended:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    if not ended:
        return [f"I9: the last run has not ended within {_WITHIN:g} s"]

    if status != 0:
        return [f"I11: the last run was ended with status {status}"]

    return violations(_history(plan, folder, read_events(folder / "events")))


def _history(plan: Schedule, folder: Path, events: list[Event]) -> History:
    left = json.loads((folder / "left").read_text())
    return History(
        stages=[IDS],
        entries=[AuditEntry.from_document(document) for document in left["entries"]],
        events=events,
        commits=[Commit(**commit) for commit in left["commits"]],
        verified=frozenset(IDS) - {"b"} if plan.mode == "verify" else frozenset(),
        pauses_are_bounded=plan.pauses_are_bounded,
    )


def play_all(seeds: range, given: argparse.Namespace) -> int:
    """Run the schedules of some seeds; tell what was found, and return whether anything was."""
    total: Counter[str] = Counter()
    kind = BACKENDS[given.database]
    parent = Parent()
    for seed in seeds:
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
        plan = schedule(seed, single_host=kind.single_host, mode=given.mode)
        found, done = play(plan, kind(given.url, folder, f"s{seed}"), parent)
        total += done
        total[plan.mode] += 1
        if found:
            total["violated"] += 1
            _tell(plan, given.database, found, folder)

        if not (found and given.keep):
            shutil.rmtree(folder)

    print(json.dumps(total), flush=True)
    return 1 if total["violated"] else 0


def _tell(plan: Schedule, database: str, found: list[str], folder: Path) -> None:
    print(f"seed {plan.seed} on {database} ({plan.mode}), in {folder}: {plan}")
    for text in found:
        print(f"  {text}", flush=True)

    for log in sorted(folder.glob("*.log")):
        print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")


def import_what_workers_import(database: str, url: str) -> None:
    """Import once, before any fork, whatever a worker turns out to import."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    kind = BACKENDS[database]

    def be_a_worker() -> None:
        plan = schedule(0, single_host=kind.single_host)
        make_an_end(kind(url, folder, f"warm-up-{os.getpid()}"), plan, "the end")
        (folder / "modules").write_text("\n".join(sys.modules))

    pid = fork(be_a_worker, folder, "the-end")
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError((folder / "the-end.log").read_text())

    for name in (folder / "modules").read_text().splitlines():
        importlib.import_module(name)

    shutil.rmtree(folder)


def _next_action_without_markers(*args: Any, **kwargs: Any) -> Action:
    action = next_action(*args, **kwargs)
    return Action.APPLY if action is Action.RESOLVE_MARKER else action


def main() -> int:
    """Run the schedules that the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", choices=list(BACKENDS), default="sqlite")
    parser.add_argument("--url", default="")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the folder of what was violated")
    parser.add_argument("--mode", choices=MODES, help="only this one")
    parser.add_argument(
        "--without-markers", action="store_true", help="break the engine, to see that it is seen"
    )
    given = parser.parse_args()
    parent = Parent()
    import_what_workers_import(given.database, given.url)
    if given.without_markers:
        vars(plan_module)["next_action"] = _next_action_without_markers

    gc.freeze()
    seeds = range(given.first, given.first + given.count)
    pids = []
    for job in range(given.jobs):
        pid = os.fork()
        if not pid:
            os._exit(play_all(seeds[job :: given.jobs], given))

        pids.append(pid)

    codes: list[int] = []
    while pids:
        parent.wait(_LOOKS_EVERY)
        pid, status = os.waitpid(pids[0], os.WNOHANG)
        if pid:
            codes.append(os.waitstatus_to_exitcode(status))
            pids.pop(0)

    return max(code != 0 for code in codes)


if __name__ == "__main__":
    sys.exit(main())
