from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError

import pytest

from aflamingock.cli import _app, main

from .conftest import Project


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let the program be imported anew."""
    for name in [name for name in sys.modules if name.startswith("aflamingock.cli._")]:
        monkeypatch.delitem(sys.modules, name)

    return monkeypatch


@pytest.fixture
def signals() -> Iterator[None]:
    """Give the signals back to this process, which goes on after the command."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_the_command_says_how_to_install_it(
    fresh: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        fresh.setitem(sys.modules, name, None)

    fresh.setitem(sys.modules, missing, None)

    assert main(["--version"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "python3 -m pip install 'aflamingock[cli]'" in captured.err
    assert missing in captured.err


def test_another_missing_module_is_not_taken_for_the_extra(fresh: pytest.MonkeyPatch) -> None:
    fresh.setitem(sys.modules, "aflamingock._flamingock", None)

    with pytest.raises(ModuleNotFoundError, match="_flamingock"):
        main(["--version"])


def test_a_checkout_that_is_not_installed_has_no_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raise_error(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_app, "version", raise_error)

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "aflamingock, not installed\n"


def test_a_reader_that_goes_away_is_no_traceback(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(1, "create-users")
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        code = main([*project.options, "apply"])

    assert code == 1
    assert project.effects == ["create-users"]


def test_the_package_can_be_run(
    signals: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["aflamingock", "--version"])

    with pytest.raises(SystemExit) as raised:
        runpy.run_module("aflamingock", run_name="__main__", alter_sys=False)

    assert raised.value.code == 0
    assert capsys.readouterr().out.startswith("aflamingock")
