"""The processes of the tests: one that makes others, and those."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""How long to wait for what must happen, in seconds."""


class Runner:
    """
    A process of the service, and what it has said.

    :param options: what it is told, see the runner
    :param start: makes the process with its input, its output and where to tell news of it, and
        returns its id
    """

    def __init__(self, options: dict[str, Any], start: Callable[..., int]) -> None:
        given, self._input = os.pipe()
        output, told = os.pipe()
        news, keeper = os.pipe()
        try:
            self.pid = start(options, given, told, keeper)
        finally:
            for descriptor in (given, told, keeper):
                os.close(descriptor)

        self._lines: list[str] = []
        self.is_stopped = False
        self._code: int | None = None
        self._changed = threading.Condition()
        self._listeners = [
            threading.Thread(target=self._listen, args=listening)
            for listening in ((output, self._lines.append), (news, self._hear))
        ]
        for listener in self._listeners:
            listener.start()

    def _listen(self, descriptor: int, hear: Callable[[str], None]) -> None:
        with open(descriptor, encoding="utf-8") as lines:
            for line in lines:
                with self._changed:
                    hear(line.rstrip())
                    self._changed.notify_all()

    def _hear(self, news: str) -> None:
        if news == "stopped":
            self.is_stopped = True
        else:
            self._code = int(news.removeprefix("ended "))

    @property
    def output(self) -> str:
        return "\n".join(self._lines)

    @property
    def points(self) -> list[str]:
        """The points that it has passed."""
        return [line.removeprefix("point ") for line in self._lines if line.startswith("point ")]

    def has_said(self, *texts: str) -> bool:
        """Say whether there was a line with all of these texts."""
        return any(all(text in line for text in texts) for line in self._lines)

    def wait_until(self, happened: Callable[[], bool], *, within: float = PATIENCE) -> None:
        """Wait for something that its output or its end tells."""
        with self._changed:
            assert self._changed.wait_for(happened, within), self.output

    def wait_for(self, *texts: str) -> None:
        """Wait for a line with all of these texts."""
        self.wait_until(lambda: self.has_said(*texts))

    def wait_for_point(self, number: int) -> None:
        """Wait until it has said that it has come to a point, counted from 1."""
        self.wait_until(lambda: len(self.points) >= number)

    def wait_until_stopped(self) -> None:
        """Wait until it has stopped itself."""
        self.wait_until(lambda: self.is_stopped or self.has_ended)
        assert self.is_stopped, self.output

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._code is not None

    def send(self, number: signal.Signals) -> None:
        if not self.has_ended:
            os.kill(self.pid, number)

    def go(self) -> None:
        """Let go a runner that waits for it."""
        os.write(self._input, b"go\n")

    def end(self, *, within: float = PATIENCE) -> int:
        """Wait for its end, and return its exit code."""
        self.wait_until(lambda: self.has_ended, within=within)
        for listener in self._listeners:
            listener.join(PATIENCE)

        assert self._code is not None
        return self._code

    def kill(self) -> None:
        """End it the hard way."""
        self.send(signal.SIGKILL)
        self.end()

    def close(self) -> None:
        self.kill()
        os.close(self._input)


class Nursery:
    """Makes processes, from any thread."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._turn = threading.Lock()

    def start(self, options: dict[str, Any], *, runner: str = "runner") -> Runner:
        """
        Start a process.

        :param options: see the runner
        :param runner: which module of this folder it is
        """
        return Runner(options | {"runner": runner}, self._order)

    def _order(self, options: dict[str, Any], *descriptors: int) -> int:
        with self._turn:
            socket.send_fds(self._orders, [json.dumps(options).encode()], descriptors)
            return int(self._orders.recv(64))


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Start the process that forks others."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(PATIENCE)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.runner", str(theirs.fileno())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        try:
            yield Nursery(ours)
        finally:
            ours.close()
            process.wait(PATIENCE)
