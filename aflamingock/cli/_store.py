"""From the URL of an audit store to the store."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from ..abc import AuditStore
from ..exceptions import ConfigurationError

SQLITE = re.compile(r"(?P<head>sqlite(?:\+aiosqlite)?:///)(?P<path>.+)", re.DOTALL)

_PACKAGES = {"bson": "pymongo"}  # the package that is called bson is another one

Make = Callable[[str], AuditStore[Any]]

_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30})://")
_PLACE = re.compile(r"(?P<server>[^/]*//[^/?#]+)/(?P<name>[^/?#@]+)(?P<options>[?#].*)?", re.DOTALL)


def _sqlite(url: str) -> AuditStore[Any]:
    from ..stores.sqlite import SQLiteAuditStore  # loads a driver; so do those below

    found = SQLITE.fullmatch(url)
    if found is None or found["path"] == ":memory:":
        raise ConfigurationError(
            "--store: give sqlite:///relative.db or sqlite:////absolute.db, the path of a file."
        )

    return SQLiteAuditStore(found["path"])


def _sql(url: str) -> AuditStore[Any]:
    from ..stores.sql import SQLAuditStore

    # The older name of the scheme, which hosts of databases still hand out.
    return SQLAuditStore.from_url(re.sub(r"^postgres://", "postgresql://", url))


def _mongodb(url: str) -> AuditStore[Any]:
    from ..stores.mongodb import MongoDBAuditStore

    _, name, _ = _place(url, "the database", "mongodb://host:27017/shop")
    return MongoDBAuditStore.from_url(url, name)


def _dynamodb(url: str) -> AuditStore[Any]:
    from ..stores.dynamodb import DynamoDBAuditStore

    return DynamoDBAuditStore.from_url(url)


def _couchbase(url: str) -> AuditStore[Any]:
    from ..stores.couchbase import CouchbaseAuditStore

    server, name, options = _place(url, "the bucket", "couchbase://user:password@host/shop")
    return CouchbaseAuditStore.from_url(server + options, name)


def _place(url: str, what: str, example: str) -> tuple[str, str, str]:
    """Return what stands before the name at the end of a URL, the name, and what follows it."""
    found = _PLACE.fullmatch(url)
    if found is None:
        raise ConfigurationError(
            f"--store: name {what} at the end of the URL, as in {example}; in the user and the "
            "password write odd characters as %XX."
        )

    return found["server"], unquote(found["name"]), found["options"] or ""


_POSTGRESQL = "'aflamingock[sql]' asyncpg"
_MYSQL = "'aflamingock[sql]' asyncmy"
_KINDS: dict[str, tuple[Make, str]] = {
    "sqlite": (_sqlite, "aflamingock"),
    "sqlite+aiosqlite": (_sql, "'aflamingock[sql]'"),
    "postgresql": (_sql, _POSTGRESQL),
    "postgresql+asyncpg": (_sql, _POSTGRESQL),
    "postgres": (_sql, _POSTGRESQL),
    "mysql": (_sql, _MYSQL),
    "mysql+asyncmy": (_sql, _MYSQL),
    "mysql+aiomysql": (_sql, "'aflamingock[sql]' aiomysql"),
    "mariadb": (_sql, _MYSQL),
    "mariadb+asyncmy": (_sql, _MYSQL),
    "mariadb+aiomysql": (_sql, "'aflamingock[sql]' aiomysql"),
    "mongodb": (_mongodb, "'aflamingock[mongodb]'"),
    "mongodb+srv": (_mongodb, "'aflamingock[mongodb]'"),
    "dynamodb": (_dynamodb, "'aflamingock[dynamodb]'"),
    "couchbase": (_couchbase, "'aflamingock[couchbase]'"),
    "couchbases": (_couchbase, "'aflamingock[couchbase]'"),
}
"""What makes the store of each scheme, and what has to be installed for it."""


def store_at(url: str) -> AuditStore[Any]:
    """
    Return the audit store that a URL names; nothing is opened yet.

    The URL is never repeated in an error, for it may hold a password.

    :raises ConfigurationError: if the URL is none of a store, or its driver is not installed
    """
    found = _SCHEME.match(url)
    if found is None:
        raise ConfigurationError(f"--store: this is no URL. {_known()}")

    scheme = found["scheme"]
    if scheme not in _KINDS:
        raise ConfigurationError(f"--store: no audit store is known for {scheme}://. {_known()}")

    make, packages = _KINDS[scheme]
    try:
        return make(url)
    except ImportError as exc:
        raise _missing_driver(scheme, packages, exc) from exc
    except ConfigurationError as exc:
        if isinstance(exc.__cause__, ImportError):
            raise _missing_driver(scheme, packages, exc.__cause__) from exc

        raise


def _missing_driver(scheme: str, packages: str, exc: ImportError) -> ConfigurationError:
    if isinstance(exc, ModuleNotFoundError):
        name = (exc.name or "").partition(".")[0]
        name = _PACKAGES.get(name, name)
        why = f"needs {name}, which is not installed"
    else:
        why = f"needs a driver that cannot be imported ({exc})"

    return ConfigurationError(
        f"--store: {scheme}:// {why}. Install it with: python3 -m pip install {packages}"
    )


def _known() -> str:
    return (
        "Give sqlite:///path, postgresql://, mysql://, mariadb:// or mongodb:// with "
        "user:password@host/database, dynamodb://region or couchbase://user:password@host/bucket."
    )
