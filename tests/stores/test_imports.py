"""What is imported with a store or a target system: its own driver, and no other."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CODE = """
import sys
from importlib import import_module

import_module(sys.argv[1])
drivers = {
    "aiosqlite", "sqlalchemy", "asyncpg", "asyncmy", "aiomysql", "pymongo", "motor",
    "aioboto3", "aiobotocore", "boto3", "botocore", "acouchbase", "couchbase",
}
print(*sorted(drivers & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("module", "drivers"),
    [
        ("stores.memory", set()),
        ("targets.plain", set()),
        *((f"{kind}.sqlite", {"aiosqlite"}) for kind in ("stores", "targets")),
        *((f"{kind}.sql", {"sqlalchemy"}) for kind in ("stores", "targets")),
        *((f"{kind}.mongodb", {"pymongo"}) for kind in ("stores", "targets")),
        *((f"{kind}.dynamodb", {"botocore"}) for kind in ("stores", "targets")),
        *((f"{kind}.couchbase", {"acouchbase", "couchbase"}) for kind in ("stores", "targets")),
    ],
)
def test_a_store_and_a_target_import_no_driver_but_their_own(
    module: str, drivers: set[str]
) -> None:
    command = [sys.executable, "-W", "error", "-c", _CODE, f"aflamingock.{module}"]
    imported = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert set(imported.split()) <= drivers
