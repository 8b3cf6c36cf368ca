from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import pytest

from aflamingock import AuditEntry
from aflamingock.stores.sqlite import SQLiteAuditStore

pytestmark = pytest.mark.processes

PATIENCE = 60.0
BOUND = 3.0

APPLICATION = """
import os, time
from pathlib import Path
from aflamingock import Flamingock, LockOptions
from aflamingock.asgi import FlamingockMiddleware, lifespan
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

HERE = Path(__file__).parent

def make():
    data = SQLiteTargetSystem("data", HERE / "data.db")
    return Flamingock(
        changes=HERE / "changes",
        audit_store=SQLiteAuditStore.from_target_system(data),
        target_systems=[data],
        dependencies={"folder": HERE},
        lock=LockOptions(retry_interval=0.1),
    )

async def process(request):
    time.sleep(0.05)  # while this worker is busy, another one takes the next request
    return PlainTextResponse(str(os.getpid()))

routes = [Route("/", process)]
app = Starlette(routes=routes, lifespan=lifespan(make))
wrapped = FlamingockMiddleware(Starlette(routes=routes), make)
"""

APPENDING = """
from pathlib import Path
from aflamingock import change

@change(id="line-{number}", author="tests")
class Line:
    async def execute(self, folder: Path):
        with (folder / "lines.txt").open("a") as lines:
            lines.write("{number}\\n")
"""

SLOW = """
import anyio
from pathlib import Path
from aflamingock import change

@change(id="slow", author="tests", {settings})
class Slow:
    async def execute(self, folder: Path{parameter}):
        (folder / "begun").touch()
        if not (folder / "quick").exists():
            await anyio.sleep(10)

    async def rollback(self, folder: Path):
        (folder / "rolled back").touch()
"""

FAILING = """
from aflamingock import change

@change(id="failing", author="tests")
class Failing:
    async def execute(self):
        raise ValueError("no such warehouse")
"""


class Shop:
    """A folder with an application, its changes, and what is left behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[str]] = []
        (folder / "changes").mkdir()
        (folder / "application.py").write_text(APPLICATION)

    def add(self, name: str, code: str) -> None:
        (self.folder / "changes" / name).write_text(code)

    def serve(self, app: str = "app", *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "uvicorn", f"application:{app}", "--port", "0"]
        with (self.folder / "output.txt").open("a") as output:
            process = subprocess.Popen(
                [*command, *options],
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self._running.append(process)
        return process

    @property
    def output(self) -> str:
        return (self.folder / "output.txt").read_text()

    def url(self) -> str:
        until(lambda: "Uvicorn running on" in self.output, lambda: self.output)
        return str(re.findall(r"Uvicorn running on (http://\S+)", self.output)[-1])

    def stop(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.terminate()

            process.wait(PATIENCE)

    async def entries(self) -> list[AuditEntry]:
        async with SQLiteAuditStore(self.folder / "data.db") as store:
            return [entry async for entry in store.entries("default")]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.stop()


def until(holds: Callable[[], bool], told: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


def ask(url: str) -> str:
    with urlopen(url, timeout=PATIENCE) as response:
        return str(response.read().decode())


async def test_four_workers_apply_each_change_once_and_all_serve(shop: Shop) -> None:
    for number in range(1, 51):
        shop.add(f"_{number:04}__line.py", APPENDING.format(number=number))

    shop.serve("app", "--workers", "4")
    url = shop.url()
    until(lambda: shop.output.count("Application startup complete") == 4, lambda: shop.output)
    with ThreadPoolExecutor(16) as pool:
        until(lambda: len(set(pool.map(ask, [url] * 64))) == 4, lambda: shop.output)

    assert (shop.folder / "lines.txt").read_text().split() == [str(n) for n in range(1, 51)]
    entries = await shop.entries()
    assert [entry.sequence for entry in entries] == list(range(1, 102))
    assert len({entry.execution_id for entry in entries}) == 1


NON_TX = SLOW.format(settings="transactional=False", parameter="")
TX = SLOW.format(settings='target_system="data"', parameter=", db")


@pytest.mark.parametrize("app", ["app", "wrapped"])
@pytest.mark.parametrize(
    ("code", "states", "rolled_back"),
    [
        (NON_TX, ["STARTED", "FAILED", "ROLLBACK_STARTED", "ROLLED_BACK"], True),
        (TX, ["STARTED", "FAILED"], False),
    ],
    ids=["non-tx", "tx"],
)
async def test_sigterm_during_a_change_ends_the_start_cleanly(
    shop: Shop, app: str, code: str, states: list[str], rolled_back: bool
) -> None:
    shop.add("_0001__slow.py", code)
    process = shop.serve(app)
    until((shop.folder / "begun").exists, lambda: shop.output)

    process.send_signal(signal.SIGTERM)
    code_of_exit = process.wait(BOUND)

    assert code_of_exit != 0
    assert "start-up was interrupted by SIGTERM" in shop.output
    assert "Uvicorn running" not in shop.output
    assert [entry.state for entry in await shop.entries()] == states
    assert (shop.folder / "rolled back").exists() is rolled_back

    (shop.folder / "quick").touch()
    shop.serve(app)
    shop.url()
    later = [entry.state for entry in await shop.entries()][len(states) :]
    assert later == ["STARTED", "APPLIED", "APPLIED"]


@pytest.mark.parametrize("app", ["app", "wrapped"])
@pytest.mark.parametrize("lifespan", ["auto", "on"])
def test_a_failing_change_is_never_served(shop: Shop, app: str, lifespan: str) -> None:
    shop.add("_0001__failing.py", FAILING)

    process = shop.serve(app, "--lifespan", lifespan)

    assert process.wait(PATIENCE) != 0
    assert "no such warehouse" in shop.output
    assert "Uvicorn running" not in shop.output


def test_without_the_protocol_the_middleware_serves_nothing(shop: Shop) -> None:
    shop.add("_0001__failing.py", FAILING)
    shop.serve("wrapped", "--lifespan", "off")

    with pytest.raises(OSError, match="500"):
        ask(shop.url())

    assert "before the lifespan protocol's start" in shop.output


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
def test_ctrl_c_while_waiting_for_a_change_ends_the_start(shop: Shop) -> None:
    shop.add("_0001__slow.py", NON_TX)
    process = shop.serve()
    until((shop.folder / "begun").exists, lambda: shop.output)

    process.send_signal(signal.SIGINT)

    assert process.wait(BOUND) != 0
    assert "interrupted by SIGINT" in shop.output
