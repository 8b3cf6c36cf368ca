"""The command line in a folder of its own, called in this process or as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aflamingock.cli import main

ROOT = Path(__file__).parents[2]
STORE = "sqlite:///audit.db"

CHANGE = """
from pathlib import Path

from aflamingock import Recovery, Verification, change


@change(id="{id}", author="tests"{options})
class Change:
    def execute(self) -> None:
        {execute}
{more}
"""
ROLLBACK = """
    def rollback(self) -> None:
        with Path("effects.txt").open("a") as file:
            file.write("-{id}\\n")
"""
APPLIES = """with Path("effects.txt").open("a") as file:
            file.write("{id}\\n")"""
FAILS = 'raise ValueError("the broker said no")'


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Project:
    """A folder with changes, an audit store and the command line."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.changes = folder / "changes"
        self.changes.mkdir()
        self.options = ["--changes", "changes", "--store", STORE]
        self._capture = capture

    def write(
        self,
        order: int,
        id: str,
        *,
        execute: str = APPLIES,
        more: str = ROLLBACK,
        options: str = "",
    ) -> Path:
        """Write a change into the folder of changes."""
        path = self.changes / f"_{order:04}__{id.replace('-', '_')}.py"
        body = CHANGE.format(
            id=id, options=options, execute=execute.format(id=id), more=more.format(id=id)
        )
        path.write_text(body, "utf-8")
        return path

    def write_app(self, text: str, *, name: str = "shop_app") -> str:
        """Write a module that makes ``flamingock``; return what ``--app`` takes."""
        head = (
            "from pathlib import Path\n"
            "from aflamingock import Flamingock, LockOptions\n"
            "from aflamingock.stores.sqlite import SQLiteAuditStore\n"
            "here = Path(__file__).parent\n"
            "def made(**options):\n"
            "    store = SQLiteAuditStore(here / 'audit.db')\n"
            "    return Flamingock(changes=here / 'changes', audit_store=store, **options)\n"
        )
        (self.folder / f"{name}.py").write_text(head + text, "utf-8")
        return f"{name}:flamingock"

    @property
    def effects(self) -> list[str]:
        """What the changes have done, one line each."""
        file = self.folder / "effects.txt"
        return file.read_text().split() if file.exists() else []

    def call(self, *arguments: str, options: Sequence[str] | None = None) -> Outcome:
        """Run a command in this process."""
        self._capture.readouterr()
        code = main([*(self.options if options is None else options), *arguments])
        captured = self._capture.readouterr()
        return Outcome(code=code, out=captured.out, err=captured.err)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a process."""
        return [sys.executable, "-m", "aflamingock", *self.options, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process."""
        return os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}

    def process(self, *arguments: str) -> Outcome:
        """Run a command as a process of its own."""
        run = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        return Outcome(code=run.returncode, out=run.stdout, err=run.stderr)


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Project]:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so would the processes of the tests
        signal.signal(signal.SIGINT, signal.default_int_handler)

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Project(tmp_path, capsys)
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
