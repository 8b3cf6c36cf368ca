"""
A node that speaks Couchbase's protocols, as a program: the SDK cannot tell it from a server.

It does what the SDK's key-value operations, its transactions and its management of collections
ask for, with the real server's rules for CAS, locks, expiry and deleted documents. It has one
node, keeps everything in memory, and knows no queries.
"""

from __future__ import annotations

import asyncio
import sys

from tests.servers.couchbase.cluster import Cluster
from tests.servers.couchbase.data import Connection
from tests.servers.couchbase.management import ManagementConnection


async def main(data_port: int, management_port: int) -> None:
    cluster = Cluster()
    cluster.data_port, cluster.management_port = data_port, management_port

    async def serve_data(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Connection(cluster, reader, writer).serve()

    async def serve_management(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ManagementConnection(cluster, reader, writer).serve()

    data = await asyncio.start_server(serve_data, "127.0.0.1", data_port)
    management = await asyncio.start_server(serve_management, "127.0.0.1", management_port)
    async with data, management:
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
