"""The sources of apps and changes that work with real drivers."""

from __future__ import annotations

KINDS = ("postgresql", "mariadb", "mongodb", "motor", "dynamodb", "couchbase")


SQL = """
from aflamingock.stores.sql import SQLAuditStore
from aflamingock.targets.sql import SQLTargetSystem

target = SQLTargetSystem.from_url("db", URL)
store = SQLAuditStore.from_target_system(target)
"""


MONGODB = """
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.targets.mongodb import MongoDBTargetSystem

target = MongoDBTargetSystem.from_url("db", URL, "shop")
store = MongoDBAuditStore.from_target_system(target)
"""


MOTOR = """
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.targets.mongodb import MongoDBTargetSystem
from motor.motor_asyncio import AsyncIOMotorClient

target = MongoDBTargetSystem("db", AsyncIOMotorClient(URL), "shop")
store = MongoDBAuditStore.from_target_system(target)
"""


DYNAMODB = """
import aioboto3
from aflamingock.stores.dynamodb import DynamoDBAuditStore
from aflamingock.targets.dynamodb import DynamoDBTargetSystem

session = aioboto3.Session(
    aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="eu-west-1"
)
target = DynamoDBTargetSystem("db", session, endpoint_url=URL)
store = DynamoDBAuditStore.from_target_system(target)
"""


COUCHBASE = """
from aflamingock.stores.couchbase import CouchbaseAuditStore

store = target = CouchbaseAuditStore.from_url(URL, "test")
"""


STORES = dict(zip(KINDS, (SQL, SQL, MONGODB, MOTOR, DYNAMODB, COUCHBASE), strict=True))


APP = """
URL, KEY, SECRET = {url!r}, {key!r}, {secret!r}

async def flamingock():
    from pathlib import Path
    from aflamingock import Flamingock
{body}
    print(repr(store), store, repr(target), target, f"{{store}} {{target}}")
    made = Flamingock(changes=Path("changes"), audit_store=store)
    print(repr(made), await made.health())
    return made
"""


CHANGE = """
from aflamingock import change

URL, KEY, SECRET = {url!r}, {key!r}, {secret!r}

@change(id="a", author="tests")
class A:
    async def execute(self):
        try:
            {connect}
        except Exception as exc:
            raise RuntimeError(f"no way into {{URL}}: {{exc!r}}") from exc
"""


SQL_CALL = """
            from sqlalchemy.ext.asyncio import create_async_engine
            async with create_async_engine(URL).connect(): pass
"""


MONGODB_CALL = """
            from pymongo import AsyncMongoClient
            async with AsyncMongoClient(URL, serverSelectionTimeoutMS=1000) as client:
                await client.admin.command("ping")
"""


MOTOR_CALL = """
            from motor.motor_asyncio import AsyncIOMotorClient
            client = AsyncIOMotorClient(URL, serverSelectionTimeoutMS=1000)
            try: await client.admin.command("ping")
            finally: client.close()
"""


DYNAMODB_CALL = """
            import aioboto3
            keys = dict(aws_access_key_id=KEY, aws_secret_access_key=SECRET)
            session = aioboto3.Session(**keys, region_name="eu-west-1")
            async with session.client("dynamodb", endpoint_url=URL) as client:
                try: await client.list_tables()
                except Exception as exc: raise ValueError(f"{keys} {exc}") from exc
"""


COUCHBASE_CALL = """
            from acouchbase.cluster import AsyncCluster
            from couchbase.auth import PasswordAuthenticator
            from datetime import timedelta
            from couchbase.options import ClusterOptions, ClusterTimeoutOptions
            timeouts = ClusterTimeoutOptions(bootstrap_timeout=timedelta(seconds=2))
            options = ClusterOptions(PasswordAuthenticator("a", SECRET), timeout_options=timeouts)
            try: await AsyncCluster.connect(URL, options)
            except Exception as exc: raise ValueError(f"password={SECRET!r} {exc}") from exc
"""


CALLS = dict(
    zip(
        KINDS,
        (SQL_CALL, SQL_CALL, MONGODB_CALL, MOTOR_CALL, DYNAMODB_CALL, COUCHBASE_CALL),
        strict=True,
    )
)


REFUSED_SQL = """
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from aflamingock import change

WORD = "hun" + "ter2"  # so that no line of the traceback has it
STATEMENTS = (
    "INSERT INTO users (name) VALUES (:word)",
    "INSERT INTO users (name, age) VALUES ('x', :word)",
    f"CREATE USER somebody PASSWORD = '{{WORD}}'",
)

@change(id="a", author="tests")
class A:
    async def execute(self):
        engine, errors = create_async_engine({url!r}), []
        async with engine.begin() as connection:
            columns = "name VARCHAR(99) PRIMARY KEY, age INT"
            await connection.execute(text(f"CREATE TABLE users ({{columns}})"))
            await connection.execute(text(STATEMENTS[0]), {{"word": WORD}})

        for statement in STATEMENTS:
            values = {{"word": WORD}} if ":word" in statement else {{}}
            try:
                async with engine.begin() as connection:
                    await connection.execute(text(statement), values)
            except Exception as exc:
                errors.append(exc)

        await engine.dispose()
        assert len(errors) == 3
        raise ExceptionGroup("they were refused", errors)
"""


REFUSED_MONGODB = """
from pymongo import AsyncMongoClient
from aflamingock import change

WORD = "hun" + "ter2"

@change(id="a", author="tests")
class A:
    async def execute(self):
        async with AsyncMongoClient({url!r}) as client:
            try:
                await client[{name!r}].users.insert_one({{"_id": WORD}})
                await client[{name!r}].users.insert_one({{"_id": WORD}})
            except Exception as exc:
                raise ExceptionGroup("they were refused", [exc])
"""
