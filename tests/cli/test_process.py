from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Project

pytestmark = pytest.mark.processes

SLOW = """
import anyio
from pathlib import Path

from aflamingock import change


@change(id="slow", author="tests")
class Slow:
    async def execute(self) -> None:
        await anyio.Path("begun").touch()
        await anyio.sleep(10)

    async def rollback(self) -> None:
        await anyio.Path("taken-back").touch()
"""
INTERRUPTED_BEFORE_IT_LISTENS = """
import signal
import sys

from aflamingock.cli import run_process


def interrupt(frame, event, argument):
    if event == "call" and frame.f_code is signal.signal.__code__:
        sys.setprofile(None)
        signal.raise_signal(signal.SIGINT)


sys.setprofile(interrupt)
sys.exit(run_process())
"""
BLOCKED = """
import time
from pathlib import Path

from aflamingock import change


@change(id="blocked", author="tests")
class Blocked:
    def execute(self) -> None:
        Path("begun").touch()
        time.sleep(30)
"""


def start(project: Project, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        project.command(*arguments),
        cwd=project.folder,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(project.folder / "begun")
    return process


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def states(project: Project) -> list[str]:
    listed = project.call("audit", "list", "--history", "--json").document
    return [entry["state"] for entry in listed["entries"]]


def read_terminal(command: list[str], project: Project) -> str:
    """Run a command in a pseudo-terminal, and return all that it has written there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    try:
        while select.select([ours], [], [], 60)[0]:
            written += os.read(ours, 65536)
    except OSError:  # the other end is closed: Linux says so by an error
        pass

    os.close(ours)
    assert process.wait() == 0
    return written.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_takes_the_running_change_back(project: Project, number: int) -> None:
    (project.changes / "_0001__slow.py").write_text(SLOW, "utf-8")
    process = start(project, "apply", "--json")

    process.send_signal(number)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert json.loads(out)["error"] == {
        "type": "Interrupted",
        "message": "Interrupted.",
        "exitCode": 130,
    }
    assert "Once more" in err
    assert (project.folder / "taken-back").exists()
    assert states(project) == ["STARTED", "FAILED", "ROLLBACK_STARTED", "ROLLED_BACK"]
    assert project.call("lock", "status").out.startswith("state: free")


def test_the_second_signal_ends_at_once(project: Project) -> None:
    (project.changes / "_0001__blocked.py").write_text(BLOCKED, "utf-8")
    process = start(project, "apply")

    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    told = ""
    while "Once more" not in told:
        told += process.stderr.readline()

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)

    assert process.returncode == 130
    assert states(project) == ["STARTED"]
    assert project.call("issue", "list").out.splitlines()[1].startswith("blocked\tSTARTED")


def test_results_and_progress_go_to_two_streams(project: Project) -> None:
    project.write(1, "create-users", execute='print("noise")')

    outcome = project.process("apply")

    assert outcome.code == 0
    assert "noise" in outcome.err
    assert "noise" not in outcome.out
    assert "\x1b" not in outcome.out + outcome.err
    assert outcome.out.isascii()
    assert outcome.out.startswith("STAGE\tCHANGE\tSTATUS")


def test_a_terminal_gets_a_table(project: Project) -> None:
    project.write(1, "create-users")

    shown = read_terminal(project.command("apply"), project)

    assert "─" in shown
    assert "create-users" in shown
    assert "\t" not in shown
    assert "1/1" in shown


def test_ctrl_c_before_it_is_listened_to_ends_it_in_a_word(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_BEFORE_IT_LISTENS],
        env=project.environment,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 130
    assert done.stderr == "\nInterrupted.\n"


def test_ctrl_c_while_the_program_is_loaded_ends_it_in_a_word(project: Project) -> None:
    (project.folder / "typer.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)\n"
    )

    outcome = project.process("apply")

    assert outcome.code == 130
    assert outcome.err == "\nInterrupted.\n"


def test_ctrl_c_after_the_answer_ends_the_process_in_a_word(project: Project) -> None:
    app = project.write_app(
        "import atexit, os, signal, time\n"
        "flamingock = made()\n"
        "atexit.register(time.sleep, 30)\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
    )
    project.options = ["--app", app]

    outcome = project.process("plan")

    assert outcome.code == 130
    assert outcome.out == "Nothing to do.\n"
    assert outcome.err == "\nInterrupted.\n"


def test_a_signal_that_is_ignored_stays_ignored(project: Project) -> None:
    project.write(1, "kills", execute="import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *project.command("apply")]

    done = subprocess.run(
        ignoring, cwd=project.folder, env=project.environment, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert "1 applied" in done.stdout
