"""URLs with a password in which something is odd: whoever refuses one does not repeat it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from traceback import TracebackException

import pytest

from aflamingock import ConfigurationError
from aflamingock.cli._store import store_at
from aflamingock.stores.couchbase import CouchbaseAuditStore
from aflamingock.stores.dynamodb import DynamoDBAuditStore
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.stores.sql import SQLAuditStore
from aflamingock.targets.dynamodb import DynamoDBTargetSystem
from aflamingock.targets.mongodb import MongoDBTargetSystem
from aflamingock.targets.sql import SQLTargetSystem

WORD = "hunter2"
SCHEMES = (
    *("postgresql", "postgres", "postgresql+asyncpg", "mysql", "mysql+aiomysql", "sqlite"),
    *("sqlite+aiosqlite", "mongodb", "mongodb+srv", "couchbase", "dynamodb", "postgresq", ""),
)
ODD = ("", *"@/:#?[]%&;\\", " ", "\n", "\0", "%zz", "@/", "/@", ":@", "?@", "//")
ENDS = ("@127.0.0.1:1/shop", "@127.0.0.1:port/shop", "@[::1/shop", "@127.0.0.1", "@/shop", "")

MAKERS: dict[str, Callable[[str], object]] = {
    "store_at": store_at,
    "SQLAuditStore": SQLAuditStore.from_url,
    "SQLTargetSystem": lambda url: SQLTargetSystem.from_url("db", url),
    "MongoDBAuditStore": lambda url: MongoDBAuditStore.from_url(url, "shop"),
    "MongoDBTargetSystem": lambda url: MongoDBTargetSystem.from_url("db", url, "shop"),
    "DynamoDBAuditStore": DynamoDBAuditStore.from_url,
    "DynamoDBTargetSystem": lambda url: DynamoDBTargetSystem.from_url("db", url),
    "CouchbaseAuditStore": lambda url: CouchbaseAuditStore.from_url(url, "shop"),
}


def told_of(make: Callable[[str], object], url: str) -> str:
    """Return how what is made calls itself, or all that is told with the refusal."""
    try:
        return repr(make(url))
    except ConfigurationError as exc:
        chain: BaseException | None = exc
        told = ""
        while chain is not None:
            told += "".join(TracebackException.from_exception(chain).format_exception_only())
            chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)

        return told


@pytest.mark.parametrize("maker", MAKERS)
def test_an_odd_url_is_not_repeated(maker: str) -> None:
    for scheme, odd, end in product(SCHEMES, ODD, ENDS):
        password = f"{WORD}{odd}{WORD}"
        url = f"{scheme}://me:{password}{end}" if scheme else f"me:{password}{end}"
        if "@" in odd and not end:
            continue  # a URL like any other, of a host or a database of that name

        assert WORD not in told_of(MAKERS[maker], url), url
