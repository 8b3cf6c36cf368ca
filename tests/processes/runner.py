"""
A process that runs changes, as one of many instances of a service.

It tells on its standard output where it is. At each *point*, which is a moment just before or just
after something durable, it can end or stop itself.

Started as a program this is the *nursery*: it has imported what takes long, and forks a runner at
each order, so that hundreds of them cost little.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import anyio

from aflamingock import (
    Flamingock,
    FlamingockError,
    LockError,
    LockOptions,
    ManualInterventionError,
    RunReport,
)
from aflamingock.abc import AuditStore, TransactionalTargetSystem
from tests.databases import DATABASES, Place
from tests.processes.points import Pauses, Points, add_commit_points, add_points, say

Systems = tuple[TransactionalTargetSystem[Any], AuditStore[Any]]

_DRIVERS = {
    "sqlite": ("aflamingock.stores.sqlite",),
    "sqlalchemy": ("aflamingock.stores.sql", "aiosqlite"),
    "postgresql": ("aflamingock.stores.sql", "asyncpg"),
    "mariadb": ("aflamingock.stores.sql", "asyncmy"),
    "mongodb": ("aflamingock.stores.mongodb",),
    "motor": ("aflamingock.stores.mongodb", "motor.motor_asyncio"),
    "dynamodb": ("aflamingock.stores.dynamodb", "aioboto3"),
}
"""What may be imported before the fork: it starts no threads."""


@asynccontextmanager
async def systems(options: Mapping[str, Any]) -> AsyncIterator[Systems]:
    """Connect a target system and an audit store."""
    place = Place(**options["target"])
    database = DATABASES[place.kind]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(database.connect(place))
        target = database.target(client, place)
        if options["log"] is None:
            yield target, database.store_with(target, place)
            return

        place = Place(**options["log"])
        database = DATABASES[place.kind]
        client = await stack.enter_async_context(database.connect(place))
        yield target, database.store(client, place)


@asynccontextmanager
async def built(options: Mapping[str, Any]) -> AsyncIterator[Flamingock]:
    """Lend what runs the changes of a project."""
    folder = Path(options["folder"])
    points = Points(options.get("point"), options.get("signal", "SIGKILL"))
    pause = Pauses(options.get("pauses", {}), options.get("failing", ()))
    place = Place(**options["target"])
    dependencies = DATABASES[place.kind].dependencies(place)
    async with systems(options) as (target, store):
        add_commit_points(target, points)
        add_points(store, points)
        yield Flamingock(
            changes=folder / "changes",
            audit_store=store,
            target_systems=[target],
            dependencies={"pause": pause, "folder": folder} | dependencies,
            lock=LockOptions(**options["lock"]),
            transaction_mode=options["mode"],
        )


async def call(options: Mapping[str, Any]) -> RunReport:
    """Run or undo; SIGTERM cancels the task, as a command line would have it."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with built(options) as flamingock:
        if options.get("waits"):
            say("ready")
            await anyio.to_thread.run_sync(sys.stdin.readline)

        if "undo" in options:
            return await flamingock.undo(**options["undo"])

        return await flamingock.run()


def main(options: Mapping[str, Any]) -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="log %(message)s")
    try:
        report = asyncio.run(call(options))
    except FlamingockError as exc:
        say(f"raised {type(exc).__name__}: {exc}")
        codes = {LockError: 5, ManualInterventionError: 4}
        return next((code for kind, code in codes.items() if isinstance(exc, kind)), 1)
    except (asyncio.CancelledError, KeyboardInterrupt):
        say("interrupted")
        return 130

    applied = sum(change.status == "APPLIED" for change in report.changes())
    say(f"ended {report.status}, {applied} applied")
    return 0


def serve(orders: socket.socket) -> Mapping[str, Any]:
    """
    Fork a runner at each order, until there are no more; return in the runner.

    :param orders: gives options, with the runner's input and output, and a pipe to its keeper
    :return: the options
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the keepers need not be waited for
    while True:
        message, given, *_ = socket.recv_fds(orders, 65536, 3)
        if not message:
            sys.exit()

        options: Mapping[str, Any] = json.loads(message)
        _import_drivers(options)
        if os.fork() == 0:
            _begin(orders, *given)
            return options

        for descriptor in given:
            os.close(descriptor)


def _import_drivers(options: Mapping[str, Any]) -> None:
    if options["runner"] == "mongodb_runner":
        import_module("tests.processes.mongodb_runner")
        return

    for place in (options["target"], options["log"]):
        for module in _DRIVERS.get(place["kind"], ()) if place else ():
            if find_spec(module) is not None:
                import_module(module)


def _begin(orders: socket.socket, given: int, told: int, news: int) -> None:
    """Become the runner, and leave its keeper behind."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who started us may ignore it
    if runner := os.fork():
        orders.send(str(runner).encode())
        for descriptor in (given, told):
            os.close(descriptor)

        _keep(runner, news)

    for descriptor, standard in ((given, 0), (told, 1), (told, 2)):
        os.dup2(descriptor, standard)

    for descriptor in (given, told, news):
        os.close(descriptor)

    orders.close()


def _keep(runner: int, news: int) -> NoReturn:
    """Tell when the runner stops and how it ends."""
    while True:
        _, status = os.waitpid(runner, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            os.write(news, b"stopped\n")
            continue

        os.write(news, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)


if __name__ == "__main__":
    told = serve(socket.socket(fileno=int(sys.argv[1])))
    sys.exit(import_module(f"tests.processes.{told['runner']}").main(told))
