"""
A process that has everything imported, forks others, and sends each of them signals.

It reads orders from its standard input, JSON lines with ``folder``, ``work`` (``"serve"`` or
``"apply"``) and ``signals``: pairs of a name and the seconds to wait before it is sent. It answers
each with the exit code and the seconds from the first signal to the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

import aflamingock.cli._app  # noqa: F401 - so that no child imports it
from aflamingock.asgi import lifespan
from aflamingock.cli import run_process
from tests.shop import build

LONGEST_END = 30.0
INTERRUPTED = 130
ROOT = Path(__file__).parents[1]


class Forker:
    """That process, seen from a test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def interrupt(
        self, work: str, folder: Path, *signals: tuple[signal.Signals, float]
    ) -> dict[str, Any]:
        """
        Let a process work, send it signals, and wait for its end.

        :param signals: each with the seconds to wait before it
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        named = [(number.name, pause) for number, pause in signals]
        order = {"folder": str(folder), "work": work, "signals": named}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """Wait for its end."""
        self._process.communicate(timeout=2 * LONGEST_END)


def serve(folder: Path) -> int:
    """Serve in a folder."""
    uvicorn.run(Starlette(lifespan=lifespan(lambda: build(folder))), port=0)
    return 0


def apply(folder: Path) -> int:
    """Apply on the command line."""
    sys.argv = ["aflamingock", "--app", "tests.shop:here", "apply"]
    return run_process()


WORK = {"serve": serve, "apply": apply}


def fork(order: dict[str, Any]) -> int:
    """Return the id of a process that works, with what is said in a file of its folder."""
    child = os.fork()
    if child:
        return child

    code = 1
    try:
        os.chdir(order["folder"])
        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(output, stream)

        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        code = WORK[order["work"]](Path(order["folder"]))
        sys.stdout.flush()
    except SystemExit as exc:
        code = int(exc.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def leave(number: int, frame: FrameType | None) -> None:
    """End as a process does whose interpreter is still starting."""
    os._exit(INTERRUPTED)


def end(child: int, signals: list[tuple[str, float]]) -> dict[str, Any]:
    """Send signals, and wait for the end: as long as a test would, but not for ever."""
    told = None
    ended = (0, 0)
    for name, pause in signals:
        time.sleep(pause)
        told = told or time.monotonic()
        ended = os.waitpid(child, os.WNOHANG)
        if ended[0]:
            break

        os.kill(child, signal.Signals[name])

    assert told is not None
    while not ended[0]:
        if time.monotonic() - told > LONGEST_END:
            os.kill(child, signal.SIGKILL)

        time.sleep(0.002)
        ended = os.waitpid(child, os.WNOHANG)

    return {"code": os.waitstatus_to_exitcode(ended[1]), "seconds": time.monotonic() - told}


def main() -> None:
    """Carry out the orders until there are no more."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    signal.signal(signal.SIGINT, leave)  # who started us may ignore it
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(end(fork(order), order["signals"])), flush=True)


if __name__ == "__main__":
    main()
