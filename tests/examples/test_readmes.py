"""The README of an example does what it says, line by line, on servers that are started for it."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import dynamodb, free_port, give_up, guarded
from tests.servers.couchbase import fixtures as couchbase

# What the examples need is taken over by assignment.

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = re.compile(r"(?:(?<=127\.0\.0\.1:)|(?<=--port ))\d+")
PATIENCE = 200.0

# As a terminal would be, but that the first error ends it, and all that is in the background.
# The tests of an example have the plugin that it names, and no other.
TERMINAL = """
set -eu
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
aflamingock() {{ python -m aflamingock "$@"; }}
export PATH={programs}:"$PATH" PYTHONPATH={root} PYTHONIOENCODING=utf-8
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 PYTEST_ADDOPTS="-p pytest_asyncio.plugin"
cd {folder}
"""

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

Settings = Mapping[str, str]


def couchbase_settings(request: pytest.FixtureRequest) -> Settings:
    stack = ExitStack()
    request.addfinalizer(stack.close)
    server = couchbase.CouchbaseServer(stack)  # of its own, as below
    user, password = couchbase.ADMINISTRATOR
    return {
        "COUCHBASE_URL": f"couchbase://127.0.0.1:{server.port}",
        "COUCHBASE_USER": user,
        "COUCHBASE_PASSWORD": password,
        "COUCHBASE_BUCKET": couchbase.BUCKET,
    }


def mongodb_settings(request: pytest.FixtureRequest) -> Settings:
    url: str = request.getfixturevalue("mongodb_url")
    return {"MONGODB_URL": url.replace("/?", f"/{request.getfixturevalue('mongodb_name')}?")}


def dynamodb_settings(request: pytest.FixtureRequest) -> Settings:
    server = dynamodb.DynamoDBServer()  # of its own: the example has no prefix for its tables
    request.addfinalizer(server.stop)
    return {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_DEFAULT_REGION": dynamodb.KEYS["region_name"],
        "AWS_ACCESS_KEY_ID": dynamodb.KEYS["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": dynamodb.KEYS["aws_secret_access_key"],
    }


def postgresql_settings(request: pytest.FixtureRequest) -> Settings:
    url = request.getfixturevalue("postgresql_url")
    return {"DATABASE_URL": url.render_as_string(hide_password=False)}


SETTINGS: Mapping[str, Callable[[pytest.FixtureRequest], Settings]] = {
    "couchbase": couchbase_settings,
    "dynamodb": dynamodb_settings,
    "fastapi-mongodb": mongodb_settings,
    "postgresql": postgresql_settings,
}

# What each of them prints, in this order.
PROOFS: Mapping[str, tuple[str, ...]] = {
    "couchbase": (
        "split-names: applied",
        "grace {'given': 'Grace', 'family': 'Hopper'}",
        "Nothing to do",
        "grace {'given': 'Grace', 'family': 'Hopper'}",
        "split-names: rolled back",
        r"split-names\s+ROLLED_BACK",
        "split-names: applied",
        "grace {'given': 'Grace', 'family': 'Hopper'}",
    ),
    "dynamodb": (
        "welcome-bonus: applied",
        r"ada +70\nbank +900\ngrace +80",
        r"Nothing to do.*\nada +70\nbank +900\ngrace +80",
        r"welcome-bonus\s+WOULD_ROLL_BACK",
        "welcome-bonus: rolled back",
        r"ada +70\nbank +900\ngrace +80",
        "2 passed",
    ),
    "fastapi-mongodb": (
        r"prices-with-currency\s+APPLY\b",
        '"name":"Tea","price":{"amount":4.5,"currency":"EUR"}}',
        "Nothing to do",
        r"prices-with-currency\s+APPLIED",
        "prices-with-currency: rolled back",
        "prices-with-currency: applied",
        "2 passed",
    ),
    "mixed-targets": (
        "create-invoice-bucket: applied",
        r"register-order-schema\s+ROLLBACK_FAILED",
        "Exit code 1",
        r"register-order-schema\s+VERIFY",
        r"register-order-schema: started \(attempt 2\)",
        "Success: 3 applied, 2 already applied",
        "Nothing to do",
        "create-orders-topic: rolled back",
        r"DELETE /invoices HTTP/1.1.* 204",
        "create-invoice-bucket: rolled back",
        "1 passed",
    ),
    "postgresql": (
        "Applied: unique-email",
        r"1 Ada@example.org 1815-12-10\n",
        "NOTHING_TO_DO",
        r"1 Ada@example.org 1815-12-10\n",
        r"unique-email: rolled back\n.*add-joined-on: rolled back",
        r"add-joined-on\s+APPLY\s+ROLLED_BACK",
        r"1 Ada@example.org 1815-12-10\n",
        "1 passed",
    ),
}


@pytest.mark.parametrize("name", PROOFS)
def test_the_commands_of_an_example_show_what_they_promise(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for program in ("bash", "curl"):
        if shutil.which(program) is None:
            give_up(f"The READMEs of the examples need {program}.")

    settings = SETTINGS[name](request) if name in SETTINGS else {}
    folder = tmp_path / name
    shutil.copytree(ROOT / "examples" / name, folder)

    code, output = run(terminal(folder, settings) + commands(folder / "README.md"), tmp_path)

    assert code == 0, output
    for proof in PROOFS[name]:
        found = re.search(proof, output)
        assert found, f"{proof} is missing in what follows:\n{output}"
        output = output[found.end() :]


def test_every_example_is_tried() -> None:
    folders = {path.parent.name for path in ROOT.glob("examples/*/README.md")}

    assert folders - {"quickstart"} == set(PROOFS)


def terminal(folder: Path, settings: Settings) -> str:
    """Return what a script begins with."""
    places = {"programs": Path(sys.executable).parent, "root": ROOT, "folder": folder}
    start = TERMINAL.format(**{name: shlex.quote(str(path)) for name, path in places.items()})
    return start + "".join(f"export {key}={shlex.quote(settings[key])}\n" for key in settings)


def commands(page: Path) -> str:
    """Return the commands of a page, on ports that nobody listens on."""
    text = "".join(BLOCK.findall(page.read_text("utf-8")))
    ports = {port: str(free_port()) for port in PORT.findall(text)}
    return PORT.sub(lambda found: ports[found[0]], text)


def run(script: str, folder: Path) -> tuple[int, str]:
    """Run a script to its end, and return its exit code and what it has printed."""
    file, log = folder / "commands.sh", folder / "output.txt"
    file.write_text(script, "utf-8")
    with guarded(["bash", "-v", str(file)], log=log) as process:
        code = process.wait(PATIENCE)

    return code, log.read_text("utf-8", errors="replace")
