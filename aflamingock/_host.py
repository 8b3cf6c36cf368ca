"""The process and its host: who it is, what time it is, and which other processes live."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from itertools import pairwise

_PROC = "/proc"
_PACKAGE = os.path.dirname(__file__) + os.sep
_STEPS = "_steps"
"""The function that calls the coroutines of changes, step by step."""


def boot_time() -> float:
    """
    Return seconds on a clock that never steps and, on Linux, counts through suspend.

    ``time.monotonic`` stands still while the machine sleeps, so a lease judged by it would seem
    to live on after a resume (PEP 418).
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    return time.monotonic()


def host_name() -> str:
    """Return the name of this host."""
    import platform  # takes long to import

    return platform.node() or "unknown"


def user_name() -> str:
    """Return the name of the user that runs this process."""
    import getpass  # as above

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user often has no name
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def describe_process(pid: int) -> dict[str, str]:
    """
    Return what tells a process from every other one that ever had its id.

    :param pid: a living process of this host
    :return: boot id, PID namespace and start time; empty where the system does not tell
    """
    try:
        started = _start_time(pid)
        boot = _read("sys/kernel/random/boot_id").strip()
        namespace = os.readlink(os.path.join(_PROC, "self/ns/pid"))
    except OSError:
        return {}

    return {"boot": boot, "namespace": namespace, "started": started} if started else {}


def is_gone(pid: int, process: Mapping[str, str]) -> bool:
    """
    Say whether a process of this host has surely ended.

    Only for records of a store whose users all run on one host: there another boot id means an
    earlier boot. In another PID namespace nothing can be said of a process.

    :param process: what :func:`describe_process` returned in it
    """
    mine = describe_process(os.getpid())
    if not mine or not process:
        return False

    if process.get("boot") != mine["boot"]:
        return True

    if process.get("namespace") != mine["namespace"]:
        return False

    try:
        started = _start_time(pid)
    except OSError:  # the system hides it, or it is just ending
        return not _exists(pid)

    return started != process.get("started")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass

    return True


def _start_time(pid: int) -> str | None:
    stat = _read(f"{pid}/stat")
    # the name of the program, in brackets, may itself hold spaces and brackets (proc(5))
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]


def _read(name: str) -> str:
    with open(os.path.join(_PROC, name)) as file:
        return file.read()


def place_of_thread(thread: int | None) -> str:
    """
    Return the line that a thread is at, and the line of a change that has led there.

    :param thread: its ident
    """
    import traceback  # needed only where something is wrong

    frame = sys._current_frames().get(thread or 0)
    if frame is None:
        return "somewhere"

    stack = traceback.extract_stack(frame)
    told = [stack[-1]]
    for caller, called in pairwise(stack):
        if caller.name == _STEPS and caller.filename.startswith(_PACKAGE):
            told = [stack[-1], called] if called is not stack[-1] else [called]

    return ", called ".join(f"at {each.filename}:{each.lineno} in {each.name}" for each in told)
