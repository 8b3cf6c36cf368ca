"""Secrets in what changes raise: they reach neither log, entry, report, event nor output."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anyio
import pytest

from aflamingock import (
    AuditState,
    ChangeFailed,
    Event,
    Flamingock,
    FlamingockError,
    RunFailedError,
)
from aflamingock.abc import AuditStore
from aflamingock.asgi import lifespan
from aflamingock.cli import main
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from tests.kit import entry, leave, raising, step

SECRET = "hunter2hunter2"
KEY = "AKIAHUNTERHUNTER2XYZ"
TEXT = "\n".join(
    (
        f"no postgresql://app:{SECRET}@db/shop",
        f"no mongodb+srv://app:{SECRET}@db/shop?w=1",
        f"connect(user='app', password='{SECRET}')",
        f"aws_secret_access_key={SECRET} of {KEY}",
        f"Authorization: Bearer {SECRET}",
        f'{{"token": "{SECRET}"}}',
    )
)


def plain(text: str) -> Exception:
    return ConnectionError(text)


def chained(text: str) -> Exception:
    error = ValueError("outer")
    error.__cause__ = ConnectionError(text)
    error.__context__ = OSError(text)
    return error


def noted(text: str) -> Exception:
    error = ValueError("outer")
    error.add_note(text)
    return error


def grouped(text: str) -> Exception:
    return ExceptionGroup("outer", [ValueError("x"), ExceptionGroup("inner", [OSError(text)])])


@pytest.fixture(params=[plain, chained, noted, grouped])
def error(request: pytest.FixtureRequest) -> Exception:
    made: Exception = request.param(TEXT)
    return made


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AuditStore[Any]:
    if request.param == "memory":
        return MemoryAuditStore()

    return SQLiteAuditStore(tmp_path / "audit.db")


def check(*told: object) -> None:
    """Make sure that no secret is in what was told."""
    for each in told:
        assert SECRET not in str(each)
        assert KEY not in str(each)
        assert SECRET not in repr(each)


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Return the log as it is shown, with the tracebacks."""
    return caplog.text + "".join(f"{record.__dict__}" for record in caplog.records)


async def test_what_a_change_raises_is_told_without_secrets(
    store: AuditStore[Any], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aflamingock")
    flamingock = Flamingock(changes=[step("a", [], body=raising(error))], audit_store=store)
    events: list[ChangeFailed] = []
    flamingock.on(ChangeFailed, events.append)
    async with flamingock:
        with pytest.raises(RunFailedError) as caught:
            await flamingock.run()

        entries = [one.to_document() async for one in flamingock.audit.entries()]

    report = caught.value.report
    assert report is not None
    assert any("***" in str(one.get("errorTrace")) for one in entries)
    check(caught.value, report, report.to_dict(), report.summary, entries, logged(caplog))
    check(*(repr(event) for event in events))


async def test_what_a_rollback_raises_is_told_without_secrets(
    store: AuditStore[Any], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    failing = step("a", [], body=raising(ValueError("first")), rollback=raising(error))
    flamingock = Flamingock(changes=[failing], audit_store=store)
    async with flamingock:
        with pytest.raises(RunFailedError) as caught:
            await flamingock.run()

        entries = [one.to_document() async for one in flamingock.audit.entries()]
        issues = [issue.to_document() for issue in await flamingock.audit.issues()]
        kept = [issue.to_document() for issue in await store.issues("default")]

    assert caught.value.report is not None
    check(caught.value, caught.value.report.to_dict(), entries, issues, kept, logged(caplog))
    check(*getattr(caught.value.__cause__, "__notes__", ()))


async def test_what_a_verify_raises_is_told_without_secrets(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryAuditStore()
    await leave(store, entry("a", AuditState.STARTED))
    asked = step("a", [], verify=raising(error))
    with pytest.raises(FlamingockError) as caught:
        await Flamingock(changes=[asked], audit_store=store).run()

    assert "The verify of change 'a' has failed" in caplog.text
    check(caught.value, logged(caplog))


async def test_what_a_listener_raises_is_told_without_secrets(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def listener(event: object) -> None:
        raise error

    flamingock = Flamingock(changes=[step("a", [])], audit_store=MemoryAuditStore())
    flamingock.on(Event, listener)
    await flamingock.run()

    assert "Listener" in caplog.text
    check(logged(caplog))


async def test_what_ends_a_start_in_the_background_is_told_without_secrets(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    flamingock = Flamingock(
        changes=[step("a", [], body=raising(error))], audit_store=MemoryAuditStore()
    )
    async with lifespan(flamingock, mode="background")(None):
        with anyio.fail_after(30):
            while "could not be applied in the background" not in caplog.text:  # noqa: ASYNC110 - logging
                await anyio.sleep(0.01)

    check(logged(caplog))


@pytest.mark.parametrize("location", ["secretive", "secretive.changes"])
async def test_what_changes_raise_on_import_is_told_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "secretive").mkdir()
    (tmp_path / "secretive" / "__init__.py").write_text(f"raise OSError({TEXT!r})")
    flamingock = Flamingock(changes=location, audit_store=MemoryAuditStore())

    with pytest.raises(FlamingockError, match="OSError") as caught:
        await flamingock.run()

    check(caught.value)


@pytest.mark.parametrize("options", [[], ["--json"], ["-v"], ["-vv", "--json"]])
def test_the_command_line_tells_no_secrets(
    tmp_path: Path,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "changes").mkdir()
    (tmp_path / "changes" / "_0001__a.py").write_text(
        "from aflamingock import change\n"
        "@change(id='a', author='tests')\n"
        "class A:\n"
        "    async def execute(self):\n"
        "        try:\n"
        f"            raise OSError({TEXT!r})\n"
        "        except OSError as exc:\n"
        f"            exc.add_note({TEXT!r})\n"
        f"            raise ExceptionGroup('both', [exc]) from ValueError({TEXT!r})\n"
    )
    shared = ["--changes", "changes", "--store", "sqlite:///audit.db"]
    assert main([*shared, "apply", *options]) == 1
    for more in (["audit", "list", "--history", "--extended"], ["issue", "get"], ["status"]):
        assert main([*shared, *more, *options]) == 0

    told = capsys.readouterr()
    check(told.out, told.err)
