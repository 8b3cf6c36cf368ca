"""
Put each deliberate fault into a copy of the project, and see that a test finds it.

Run by ``nox -s mutants``; ``nox -s mutants -- R3`` tries those with such a rule only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from queue import SimpleQueue

from .mutant import MUTANTS, Mutant

_PROJECT = Path(__file__).resolve().parents[2]
_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "dist")
_AT_ONCE = 2
_PATIENCE = 600.0
_ALL_PASSED, _SOME_FAILED = 0, 1


def main(words: Sequence[str]) -> int:
    """Try the mutants, print what became of each, and return how many live."""
    mutants = [mutant for mutant in MUTANTS if all(word in mutant.rule for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(_AT_ONCE):
            copy = Path(folder, f"copy-{number}")
            shutil.copytree(_PROJECT, copy, ignore=_NOT_COPIED)
            copies.put(copy)

        code, output = run_tests(Path(folder, "copy-0"), _once(mutants), "-n", str(_AT_ONCE))
        if code != _ALL_PASSED:
            print(f"The tests fail without any fault:\n{output}")
            return 1

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            lives = list(threads.map(lambda mutant: survives(mutant, copies), mutants))

    print(f"{len(mutants) - sum(lives)} of {len(mutants)} mutants were found.")
    return sum(lives)


def _once(mutants: Collection[Mutant]) -> Collection[str]:
    return {*chain(*(mutant.tests for mutant in mutants))}


def survives(mutant: Mutant, copies: SimpleQueue[Path]) -> bool:
    """Try one mutant in a copy that is free, and say whether no test has found it."""
    copy = copies.get()
    try:
        with mutated(copy / "aflamingock" / mutant.file, mutant):
            code, output = run_tests(copy, mutant.tests)
    finally:
        copies.put(copy)

    found = next((line for line in output.splitlines() if line.startswith("FAILED ")), "")
    verdict = "found" if code == _SOME_FAILED else "LIVES"
    print(f"{verdict}  {mutant.rule}\n       {found[:110]}", flush=True)
    return code != _SOME_FAILED


@contextmanager
def mutated(file: Path, mutant: Mutant) -> Iterator[None]:
    """Keep a fault in a file for the length of the block."""
    text = file.read_text("utf-8")
    if text.count(mutant.found) != 1:
        raise SystemExit(f"{mutant.rule}: its text stands {text.count(mutant.found)} times.")

    try:
        file.write_text(text.replace(mutant.found, mutant.replaced), "utf-8")
        yield
    finally:
        file.write_text(text, "utf-8")


def run_tests(copy: Path, tests: Collection[str], *options: str) -> tuple[int, str]:
    """Run tests of a copy until the first failure, and return pytest's exit code and output."""
    quietly = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")
    command = (sys.executable, *quietly, *options, *sorted(tests))
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        return _SOME_FAILED, "FAILED by taking too long"

    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
