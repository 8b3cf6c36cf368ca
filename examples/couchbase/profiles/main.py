"""The program: it connects, applies its changes, then shows the profiles."""

from __future__ import annotations

import asyncio
import os

from acouchbase.cluster import AsyncCluster
from couchbase.auth import PasswordAuthenticator
from couchbase.options import ClusterOptions

from aflamingock import Flamingock
from aflamingock.stores.couchbase import CouchbaseAuditStore
from aflamingock.targets.couchbase import CouchbaseTargetSystem

URL = os.environ.get("COUCHBASE_URL", "couchbase://localhost")
USER = os.environ.get("COUCHBASE_USER", "Administrator")
PASSWORD = os.environ.get("COUCHBASE_PASSWORD", "password")
BUCKET = os.environ.get("COUCHBASE_BUCKET", "profiles")


async def connect() -> AsyncCluster:
    """Connect, in the event loop that the cluster is used in."""
    return await AsyncCluster.connect(URL, ClusterOptions(PasswordAuthenticator(USER, PASSWORD)))


def flamingock_on(cluster: AsyncCluster) -> Flamingock:
    """Say what is changed, and where the log of it is kept."""
    profiles = CouchbaseTargetSystem("profiles", cluster, BUCKET)
    return Flamingock(
        changes="profiles.changes",
        audit_store=CouchbaseAuditStore.from_target_system(profiles),
        target_systems=[profiles],
        service="profiles",
    )


async def flamingock() -> Flamingock:
    """Be what the command line asks for: it calls this in its own event loop."""
    return flamingock_on(await connect())


async def main() -> None:
    """Apply what is pending, and show two profiles."""
    cluster = await connect()
    print(await flamingock_on(cluster).run())

    profiles = cluster.bucket(BUCKET).scope("_default").collection("profiles")
    for name in ("ada", "grace"):
        found = await profiles.get(name)
        print(name, found.content_as[dict])

    await cluster.close()


if __name__ == "__main__":
    asyncio.run(main())
