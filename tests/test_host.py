"""This process, its host and its clock, and which other processes live."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from aflamingock import _host
from aflamingock._host import boot_time, describe_process, host_name, is_gone, user_name

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        yield process
        process.kill()


class TestBootTime:
    def test_it_never_steps_back(self):
        moments = [boot_time() for _ in range(1000)]

        assert moments == sorted(moments)

    def test_a_system_without_such_a_clock_has_the_monotonic_one(self, monkeypatch):
        monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
        before = time.monotonic()

        assert before <= boot_time() <= time.monotonic()


class TestNames:
    def test_a_host_without_a_name_is_unknown(self, monkeypatch):
        monkeypatch.setattr("platform.node", lambda: "")

        assert host_name() == "unknown"

    def test_a_host_has_its_name(self, monkeypatch):
        monkeypatch.setattr("platform.node", lambda: "db-1")

        assert host_name() == "db-1"

    def test_a_user_has_its_name(self, monkeypatch):
        monkeypatch.setattr(getpass, "getuser", lambda: "ann")

        assert user_name() == "ann"

    @pytest.mark.parametrize("error", [KeyError, OSError, ImportError])
    def test_a_user_without_a_name_has_a_number(self, monkeypatch, error):
        def getuser() -> str:
            raise error

        monkeypatch.setattr(getpass, "getuser", getuser)
        monkeypatch.setattr(os, "getuid", lambda: 1042, raising=False)

        assert user_name() == "uid 1042"

    def test_a_user_without_even_a_number_is_unknown(self, monkeypatch):
        def getuser() -> str:
            raise ImportError

        monkeypatch.setattr(getpass, "getuser", getuser)
        monkeypatch.delattr(os, "getuid", raising=False)

        assert user_name() == "unknown"


@linux
class TestProcesses:
    def test_a_process_is_told_by_boot_namespace_and_start(self, child):
        mine, other = describe_process(os.getpid()), describe_process(child.pid)

        assert mine.keys() == {"boot", "namespace", "started"}
        assert (mine["boot"], mine["namespace"]) == (other["boot"], other["namespace"])
        assert int(mine["started"]) <= int(other["started"])

    def test_a_living_process_is_not_gone(self, child):
        assert not is_gone(child.pid, describe_process(child.pid))
        assert not is_gone(os.getpid(), describe_process(os.getpid()))

    def test_a_process_that_was_killed_is_gone(self, child):
        described = describe_process(child.pid)
        child.kill()
        child.wait()

        assert is_gone(child.pid, described)
        assert describe_process(child.pid) == {}

    def test_a_zombie_is_gone(self, child):
        described = describe_process(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert is_gone(child.pid, described)

    def test_another_process_with_the_same_id_does_not_stand_for_it(self, child):
        assert is_gone(child.pid, describe_process(child.pid) | {"started": "1"})

    def test_a_process_of_an_earlier_boot_is_gone(self, child):
        assert is_gone(child.pid, describe_process(child.pid) | {"boot": "earlier"})

    def test_nothing_can_be_said_of_another_namespace(self):
        elsewhere = describe_process(os.getpid()) | {"namespace": "pid:[1]", "started": "1"}

        assert not is_gone(1, elsewhere)

    def test_nothing_can_be_said_of_a_process_that_told_nothing(self):
        assert not is_gone(1, {})

    def test_a_program_may_be_called_anything(self, monkeypatch, tmp_path):
        stat = "7 (a) R 1 (b)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 2 3 4 5"
        monkeypatch.setattr(_host, "_PROC", _fake_proc(tmp_path, {7: stat}))

        assert describe_process(7)["started"] == "4711"


def _fake_proc(folder: Path, stats: dict[int, str]) -> Path:
    (folder / "sys/kernel/random").mkdir(parents=True)
    (folder / "sys/kernel/random/boot_id").write_text("this-boot\n")
    (folder / "self/ns").mkdir(parents=True)
    (folder / "self/ns/pid").symlink_to("pid:[4026531836]")
    for pid, stat in stats.items():
        (folder / str(pid)).mkdir()
        (folder / str(pid) / "stat").write_text(stat)

    return folder


@linux
class TestHiddenProcesses:
    """A system may hide the processes of other users (``hidepid`` of proc(5))."""

    _DESCRIBED: ClassVar = {
        "boot": "this-boot",
        "namespace": "pid:[4026531836]",
        "started": "1",
    }

    @pytest.fixture
    def proc(self, monkeypatch, tmp_path) -> Path:
        mine = Path(f"/proc/{os.getpid()}/stat").read_text()
        proc = _fake_proc(tmp_path, {os.getpid(): mine})
        monkeypatch.setattr(_host, "_PROC", proc)
        return proc

    def test_a_living_process_that_is_not_shown_is_not_gone(self, proc, child):
        assert not is_gone(child.pid, self._DESCRIBED)

    def test_a_process_that_is_neither_shown_nor_known_is_gone(self, proc, child):
        child.kill()
        child.wait()

        assert is_gone(child.pid, self._DESCRIBED)

    def test_a_living_process_that_must_not_be_read_is_not_gone(self, proc, child, monkeypatch):
        monkeypatch.setattr(Path, "read_text", _failing_for(child.pid, PermissionError))

        assert not is_gone(child.pid, self._DESCRIBED)


@linux
def test_a_process_that_ends_while_it_is_looked_at_is_gone(child, monkeypatch):
    described = describe_process(child.pid)
    child.kill()
    child.wait()
    monkeypatch.setattr(Path, "read_text", _failing_for(child.pid, ProcessLookupError))

    assert is_gone(child.pid, described)


def _failing_for(pid: int, error: type[OSError]):
    original = Path.read_text

    def read_text(self: Path, *arguments, **keywords) -> str:
        if self.parts[-2:] == (str(pid), "stat"):
            raise error

        return original(self, *arguments, **keywords)

    return read_text


class TestWithoutProc:
    @pytest.fixture(autouse=True)
    def _no_proc(self, monkeypatch, tmp_path):
        monkeypatch.setattr(_host, "_PROC", tmp_path / "missing")

    def test_a_process_tells_nothing(self):
        assert describe_process(os.getpid()) == {}

    def test_no_process_is_gone_for_sure(self):
        assert not is_gone(1, {"boot": "b", "namespace": "n", "started": "1"})
