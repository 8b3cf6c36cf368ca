"""Schedules each in a process of its own, for a driver that now and then aborts its process."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

# The SDK of Couchbase 4.6.3 throws where nobody catches it when a transaction is out of time.
ABORTING = frozenset({"couchbase"})

_ENDS_WITHIN = 600


def rage_apart(name: str, *, first: int, at_once: int, enough: int, most: int) -> int:
    """
    Run schedules until the replies of enough writes were lost, and print what was found.

    A schedule whose process was aborted is counted, and not judged.

    :param first: the seed of the first one
    :param most: how many schedules to run at the most
    :return: how many have failed, and one more if there were not enough
    """
    schedules = lost = failed = aborted = 0
    with ThreadPoolExecutor(at_once) as pool:
        while lost < enough and schedules < most:
            seeds = range(first + schedules, first + schedules + at_once)
            for ended in pool.map(partial(_run, name), seeds):
                schedules += 1
                if ended.returncode == -signal.SIGABRT:
                    aborted += 1
                    continue

                found = re.search(r"applied but reply lost: (\d+)", ended.stdout)
                lost += int(found[1]) if found else 0
                if ended.returncode:
                    failed += 1
                    print(ended.stdout, ended.stderr, flush=True)

    print(
        f"{name}: {schedules} schedules, each in a process of its own, {failed} with violations, "
        f"{aborted} aborted by the driver; applied but reply lost: {lost}",
        flush=True,
    )
    return failed + (lost < enough)


def _run(name: str, seed: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.network.chaos", "--only", name]
    return subprocess.run(
        [*command, "--seed", str(seed), "--schedules", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=_ENDS_WITHIN,
    )
