"""Whatever the command line is given, it ends with a documented code and one clear sentence."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aflamingock.cli import main
from aflamingock.cli._output import printable

CODES = {0, 1, 2, 3, 4, 5, 6, 7}
COMMANDS = (
    *("apply", "plan", "validate", "status", "undo", "new", "audit list", "audit fix"),
    *("audit permissions", "audit", "issue list", "issue get", "issue", "lock status"),
    *("lock release", "lock", "test-connection", ""),
)
FLAGS = (
    *("--json", "-v", "--history", "--extended", "--guidance", "--force", "--dry-run", "--yes"),
    *("--write", "--version", "--help"),
)
OPTIONS = (
    *("--app", "--changes", "--store", "--service", "--since", "--limit", "--last", "--to"),
    *("--change", "-c", "-r", "--resolution", "--reason", "--by", "--author"),
    *("--target-system",),
)
# What an operating system can hand over: bytes without NUL; those outside UTF-8 are surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
BYTES = st.binary(max_size=12).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))
VALUES = (
    TEXTS
    | BYTES
    | st.text(string.printable, max_size=12)
    | st.sampled_from(
        (
            *("changes", "effects.txt", ".", "/", "..", "nowhere/at/all", "x" * 5000, "-1", "0"),
            *("99999999999999999999", "1 day ago", "999999 weeks ago", "2026-13-45", "0001-01-01"),
            *("9999-12-31T23:59:59+00:00", "a", "nobody", "APPLIED", "ROLLED_BACK", "os", "os:"),
            *("os:path", "os:getcwd", "os:environ", "json:nothing", "nowhere:x", ":", "a:b:c"),
            *("sqlite:///audit.db", "sqlite:///", "sqlite:////", "sqlite:///:memory:", "://", "x"),
            *("sqlite:///changes", "sqlite:///nowhere/audit.db", "sqlite:///effects.txt"),
            *(f"sqlite:///{'x' * 300}", "sqlite:///audit.db?x=1", "ftp://app:hunter2@host/x"),
            *("mongodb://app:hunter2@/", "postgresql://app:hunter2@[::1", "mysql://"),
            *("postgresql://app:hunter2@host:port/x", "dynamodb://", "dynamodb://!"),
        )
    )
)
WORDS = (
    st.sampled_from(FLAGS).map(lambda flag: [flag])
    | st.tuples(st.sampled_from(OPTIONS), VALUES).map(list)
    | VALUES.map(lambda value: [value])
)
CHANGE = "_0001__a.py"
HERE = ["--changes", "changes", "--store", "sqlite:///audit.db"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with one change, which fails."""
    made = tmp_path_factory.mktemp("project")
    (made / "changes").mkdir()
    (made / "effects.txt").write_text("no database")
    (made / "changes" / CHANGE).write_text(
        "from aflamingock import change\n"
        "@change(id='a', author='tests')\n"
        "class A:\n"
        "    async def execute(self):\n"
        "        raise ValueError('the broker said no')\n"
    )
    with contextlib.chdir(made):
        yield made


def call(arguments: list[str]) -> tuple[int, str, str]:
    """Return the exit code of the command line, and what it has said on both streams."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)

    told = []
    for stream in (out, err):
        stream.flush()
        told.append(stream.buffer.getvalue().decode())

    return code, told[0], told[1]


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    command=st.sampled_from(COMMANDS),
    words=st.lists(WORDS, max_size=4),
    here=st.booleans(),
)
def test_any_arguments_end_with_a_documented_code_and_a_sentence(
    folder: Path, command: str, words: list[list[str]], here: bool
) -> None:
    rest = [part for word in words for part in word]
    arguments = [*(HERE if here else []), *command.split(), *rest]

    code, out, err = call(arguments)
    written = [path for path in folder.rglob("*.py") if path.name != CHANGE]
    for path in written:  # by new: the next arguments find what these have found
        path.unlink()

    assert code in CODES
    assert "Unexpected" not in out + err
    assert "hunter2" not in out + err or written, "only a title may be given back as it was"
    assert printable(out + err) == out + err
    if out.startswith("{"):
        assert json.loads(out).get("error", {"exitCode": 0})["exitCode"] == code
        return

    if "-v" not in rest:
        assert "Traceback" not in err

    if code:
        assert re.search(r"^error: .+|^Error: .+|Usage: ", out + err, re.MULTILINE)
