"""
The databases that tests go through one by one: how each is reached, and what changes do in it.

Another one is a subclass of :class:`Database`, an entry in :data:`DATABASES`, and a way to make an
empty one in :mod:`tests.places`. Drivers are imported where they are used.
"""

from __future__ import annotations

from .couchbase import Couchbase
from .database import Database as Database
from .database import Place as Place
from .dynamodb import DynamoDB
from .mongodb import MongoDB
from .sql import SQL
from .sqlite import SQLite

DATABASES: dict[str, Database] = {
    "sqlite": SQLite(),
    "sqlalchemy": SQL(single_host=True),
    "postgresql": SQL(),
    "mariadb": SQL(),
    "mongodb": MongoDB("pymongo"),
    "motor": MongoDB("motor"),
    "dynamodb": DynamoDB(),
    "couchbase": Couchbase(),
}
SERVERS = tuple(name for name, database in DATABASES.items() if not database.single_host)
UNCOUNTED = ("sqlite",)
FAMILIES = tuple(name for name in DATABASES if name not in UNCOUNTED)
"""Those whose driver tells of each round trip."""
