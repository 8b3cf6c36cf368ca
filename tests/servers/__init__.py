"""
The servers that tests talk to: found, or started for the length of a session.

Each listens on the loopback only, keeps its data in a temporary folder, and is ended with the
tests, however those end: it is the child of a guardian that waits for the end of its own input.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

REQUIRED = "AFLAMINGOCK_REQUIRE_SERVERS"

_STARTING_TIME = 60.0
_ENDING_TIME = 30.0
_ENTERED = pytest.StashKey[dict[object, Any]]()

T = TypeVar("T")


def give_up(reason: str) -> NoReturn:
    """Skip for want of a server, or fail where servers are required."""
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason} ({REQUIRED}=1)", pytrace=False)

    pytest.skip(reason)


def once(config: pytest.Config, running: Callable[[], AbstractContextManager[T]]) -> T:
    """
    Enter a context at the first call in this process, and leave it when the session ends.

    A fixture of the scope of the session is not enough: each module that takes it over has its own.
    """
    entered = config.stash.setdefault(_ENTERED, {})
    if running not in entered:
        with ExitStack() as stack:
            entered[running] = stack.enter_context(running())
            config.add_cleanup(stack.pop_all().close)

    found: T = entered[running]
    return found


def free_port() -> int:
    """
    Return a port of the loopback that nobody listens on.

    Not one of those that the system gives to clients: it might, before the server takes it.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


@contextmanager
def data_folder() -> Iterator[Path]:
    """Lend a folder with a short path, as sockets need it."""
    folder = Path(tempfile.mkdtemp(prefix="aflamingock-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def guarded(command: Sequence[str], *, log: Path) -> Iterator[subprocess.Popen[str]]:
    """
    Run a server under a guardian, which ends it when this process closes the pipe, or dies.

    :param command: the server and its arguments; it must stay in the foreground
    :param log: where its output goes
    """
    guardian = [sys.executable, str(Path(__file__).with_name("guardian.py")), *command]
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            guardian, stdin=subprocess.PIPE, stdout=output, stderr=output, text=True
        )

    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_ENDING_TIME)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[str], *, log: Path) -> None:
    """
    Wait until a server answers.

    :raises RuntimeError: with the end of the log, if it ends or does not answer in time
    """
    deadline = time.monotonic() + _STARTING_TIME
    while time.monotonic() < deadline and process.poll() is None:
        if ready():
            return

        time.sleep(0.05)

    raise RuntimeError(f"The server did not start: {log.read_text(errors='replace')[-2000:]}")
