"""
A process that has everything imported, forks servers, and ends each of them at its moment.

It reads orders from its standard input, JSON lines with ``folder`` and ``moment`` (the seconds
from the fork to SIGTERM), and answers each with the exit code and the seconds that the end took.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from aflamingock import Flamingock, LockOptions
from aflamingock.asgi import lifespan
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem

LONGEST_END = 30.0


def build(folder: Path) -> Flamingock:
    """Return the service whose changes lie in a folder."""
    data = SQLiteTargetSystem("data", folder / "data.db")
    return Flamingock(
        changes=folder / "changes",
        audit_store=SQLiteAuditStore.from_target_system(data),
        target_systems=[data],
        dependencies={"folder": folder},
        lock=LockOptions(retry_interval=0.1),
    )


def serve(folder: Path) -> None:
    """Serve, with what is said in a file."""
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    app = Starlette(lifespan=lifespan(lambda: build(folder)))
    uvicorn.run(app, port=0)


def fork(folder: Path) -> int:
    """Return the id of a process that serves."""
    child = os.fork()
    if child:
        return child

    code = 1
    try:
        serve(folder)
        code = 0
    except SystemExit as exc:
        code = int(exc.code or 0)
    finally:
        os._exit(code)


def end(child: int) -> dict[str, Any]:
    """Send SIGTERM, and wait for the end: as long as a test would, but not for ever."""
    os.kill(child, signal.SIGTERM)
    told = time.monotonic()
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() - told > LONGEST_END:
            os.kill(child, signal.SIGKILL)

        time.sleep(0.002)

    return {"code": os.waitstatus_to_exitcode(ended[1]), "seconds": time.monotonic() - told}


def main() -> None:
    """Carry out the orders until there are no more."""
    for line in sys.stdin:
        order = json.loads(line)
        child = fork(Path(order["folder"]))
        time.sleep(order["moment"])
        print(json.dumps(end(child)), flush=True)


if __name__ == "__main__":
    main()
