"""The program: it connects, applies its changes, then shows the profiles."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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


@asynccontextmanager
async def connected() -> AsyncIterator[AsyncCluster]:
    """Lend a cluster, connected in the event loop that it is used in."""
    options = ClusterOptions(PasswordAuthenticator(USER, PASSWORD))
    cluster = await AsyncCluster.connect(URL, options)
    try:
        yield cluster
    finally:
        await cluster.close()


def flamingock_on(cluster: AsyncCluster) -> Flamingock:
    """Say what is changed, and where the log of it is kept."""
    profiles = CouchbaseTargetSystem("profiles", cluster, BUCKET)
    return Flamingock(
        changes="profiles.changes",
        audit_store=CouchbaseAuditStore.from_target_system(profiles),
        target_systems=[profiles],
        service="profiles",
    )


@asynccontextmanager
async def flamingock() -> AsyncIterator[Flamingock]:
    """Be what the command line asks for: it opens and closes this in its own event loop."""
    async with connected() as cluster:
        yield flamingock_on(cluster)


async def main() -> None:
    """Apply what is pending, and show two profiles."""
    async with connected() as cluster:
        print(await flamingock_on(cluster).run())

        profiles = cluster.bucket(BUCKET).scope("_default").collection("profiles")
        for name in ("ada", "grace"):
            found = await profiles.get(name)
            print(name, found.content_as[dict])


if __name__ == "__main__":
    asyncio.run(main())
