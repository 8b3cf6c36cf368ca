"""Changes that starve their process, and processes that are stopped in the middle of a renewal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
COMMAND = (
    *(sys.executable, "-m", "aflamingock"),
    *("--app", "tests.processes.starving:flamingock"),
)
PATIENCE = 60.0
LOCK_LOST = 5

HEAD = """
import os, sqlite3, threading
from pathlib import Path
import anyio
from aflamingock import Recovery, change

def tell(folder, what):
    with (folder / "effects.txt").open("a") as effects:
        effects.write(f"{{os.getpid()}} {{what}} {id}\\n")

async def begin(folder):
    tell(folder, "begins")
    while not (folder / "go").exists():
        await anyio.sleep(0.05)

@change(id="{id}", author="tests"{options})
class Step:
"""

BLOCKED_BY_A_DRIVER = """
    async def execute(self, folder: Path):
        await begin(folder)
        (folder / "locked.db").touch()
        one, other = (sqlite3.connect(folder / "locked.db", timeout=6) for _ in range(2))
        one.execute("BEGIN IMMEDIATE")
        try:
            other.execute("BEGIN IMMEDIATE")  # blocks
        except sqlite3.OperationalError:
            tell(folder, "ends")
"""

BLOCKED_WITHIN_A_TRANSACTION = """
    async def execute(self, db, folder: Path):
        await begin(folder)
        await db.exec_driver_sql("SELECT 1")
        threading.Event().wait(6)  # blocks
        tell(folder, "ends")
"""

EXHAUSTED = """
    async def execute(self, db, folder: Path):
        await begin(folder)
        await db.effects.insert_one({{}})
        await db.effects.find_one({{"$where": "sleep(4000) || true"}})
        tell(folder, "ends")
"""

WAITING = """
    async def execute(self, folder: Path):
        tell(folder, "begins")
        for _ in range(600 if "STARVING_STOP" in os.environ else 0):
            await anyio.sleep(0.1)

        tell(folder, "ends")

    async def rollback(self, folder: Path):
        tell(folder, "is taken back")
"""

QUICK = """
    async def execute(self, folder: Path):
        tell(folder, "begins")
        tell(folder, "ends")
"""


class Instance:
    """A process of the service, and what it has said."""

    def __init__(self, folder: Path, number: int, environment: dict[str, str]) -> None:
        self._output = folder / f"{number}.txt"
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [*COMMAND, "apply", "-v"],
                cwd=ROOT,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until it has said something."""
        self._wait(lambda: text in self.output)

    def wait_until_stopped(self) -> None:
        """Wait until it has stopped itself."""
        self._wait(lambda: os.waitpid(self.pid, os.WUNTRACED | os.WNOHANG)[0] == self.pid)

    def _wait(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def go_on(self) -> None:
        """Let it go on after it was stopped."""
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> int:
        """Wait for its end, and return its exit code."""
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.fail(self.output)

    def close(self) -> None:
        self._process.kill()
        self.end()


class Service:
    """The folder of a service, and its instances."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"STARVING_FOLDER": str(folder)}
        self._instances: list[Instance] = []
        (folder / "changes").mkdir()

    def add(self, *codes: str, options: str = "") -> None:
        """Write changes, in this order."""
        for id, code in zip("ab", codes, strict=False):
            given = options if code is codes[0] else ""
            text = (HEAD + code).format(id=id, options=given)
            self.file(id).write_text(text, "utf-8")

    def file(self, id: str) -> Path:
        return self.folder / "changes" / f"_{id}__{id}.py"

    def line_of(self, text: str) -> str:
        """Return the place of a line of the first change, as it is told."""
        file = self.file("a")
        lines = file.read_text().splitlines()
        number = next(number for number, line in enumerate(lines, 1) if text in line)
        return f"{file}:{number} in execute"

    def start(self, **environment: str) -> Instance:
        number = len(self._instances) + 1
        started = Instance(self.folder, number, self.environment | environment)
        self._instances.append(started)
        return started

    @property
    def effects(self) -> list[str]:
        """What the changes have done, with the numbers of the processes that did it."""
        file = self.folder / "effects.txt"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def log(self) -> list[str]:
        """The states of all changes, after making sure that no entry is missing."""
        arguments = ("audit", "list", "--history", "--json")
        told = subprocess.run(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env=os.environ | self.environment,
            capture_output=True,
            check=True,
        )
        entries = json.loads(told.stdout)["entries"]
        assert [one["sequence"] for one in entries] == list(range(1, len(entries) + 1))
        assert [one["epoch"] for one in entries] == sorted(one["epoch"] for one in entries)
        return [f"{one['changeId']} {one['state']}" for one in entries if one["changeId"]]

    def close(self) -> None:
        for instance in self._instances:
            instance.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with closing(Service(tmp_path)) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql", "mongodb"])
def starved(request: pytest.FixtureRequest, service: Service) -> Service:
    """A service whose first change leaves nothing to the heartbeat of a lease of 2 s."""
    if request.param == "sqlite":
        service.add(BLOCKED_BY_A_DRIVER, QUICK)
    elif request.param == "postgresql":
        url: URL = request.getfixturevalue("postgresql_url")
        service.environment["STARVING_URL"] = url.render_as_string(hide_password=False)
        service.add(BLOCKED_WITHIN_A_TRANSACTION, QUICK, options=', target_system="data"')
    else:
        service.environment["STARVING_URL"] = request.getfixturevalue("mongodb_url")
        service.environment["STARVING_DATABASE"] = request.getfixturevalue("mongodb_name")
        options = ', target_system="data", transactional=False'
        service.add(EXHAUSTED, QUICK, options=options)

    return service


def test_no_change_starves_the_heartbeat(starved: Service) -> None:
    first = starved.start()
    first.wait_for("default/a: started")
    contender = starved.start()
    contender.wait_for("aiting for")
    (starved.folder / "go").touch()

    assert first.end() == 0, first.output
    assert contender.end() == 0, contender.output

    by_one = [f"{first.pid} {what}" for what in ("begins a", "ends a", "begins b", "ends b")]
    assert starved.effects == by_one
    assert starved.log == ["a STARTED", "a APPLIED", "b STARTED", "b APPLIED"]
    assert "taken over" not in contender.output
    if "# blocks" in starved.file("a").read_text():
        blocked = next(line for line in first.output.splitlines() if "blocked for more" in line)
        assert f"at {starved.line_of('# blocks')}" in blocked
    else:
        assert "blocked for more than" not in first.output


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_process_that_is_stopped_in_a_renewal_is_fenced(service: Service, place: str) -> None:
    service.add(WAITING, QUICK, options=", recovery=Recovery.ALWAYS_RETRY")
    first = service.start(STARVING_STOP=place)
    first.wait_until_stopped()
    second = service.start()
    assert second.end() == 0, second.output
    effects, log = service.effects, service.log

    first.go_on()

    assert first.end() == LOCK_LOST, first.output
    assert (service.effects, service.log) == (effects, log)
    assert effects[-1] == f"{second.pid} ends b"
