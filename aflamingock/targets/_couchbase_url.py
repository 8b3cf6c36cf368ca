"""The URL of a Couchbase cluster, and the cluster that is connected by it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
from urllib.parse import unquote, urlsplit, urlunsplit

from acouchbase.cluster import AsyncCluster
from couchbase.auth import PasswordAuthenticator
from couchbase.options import ClusterOptions, ClusterTimeoutOptions

from .._resource import Resource
from ..exceptions import ConfigurationError
from ._couchbase import settled

_SCHEMES = {"couchbase", "couchbases"}
_BOOTSTRAP = timedelta(seconds=8)
"""How long a cluster is looked for."""


def read_url(url: str) -> tuple[str, str, str]:
    """
    Return the URL without credentials, the user and the password.

    :raises ConfigurationError: if it is no URL of Couchbase
    """
    try:
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        parts, user, password = urlsplit(""), "", ""

    hosts = parts.netloc.rpartition("@")[2]
    if parts.scheme not in _SCHEMES or not (user and password and hosts) or parts.path.strip("/"):
        # It is not repeated: it may hold a password.
        raise ConfigurationError(
            "This is no URL of Couchbase. Give couchbase://USER:PASSWORD@HOST or couchbases://…; "
            "special characters have to be percent-encoded."
        )

    return urlunsplit((parts.scheme, hosts, "", parts.query, "")), user, password


class OwnCluster(Resource):
    """
    A cluster that we connect: one for all who use it at once, closed with the last.

    :param url: ``couchbase://USER:PASSWORD@HOST``, or ``couchbases://`` for TLS
    :ivar cluster: the one that is in use, if one is
    :raises ConfigurationError: if it is no such URL
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        read_url(url)
        self._url = url
        self.cluster: AsyncCluster | None = None

    async def _connect(self, stack: AsyncExitStack) -> None:
        self.cluster = await _connect(self._url)
        stack.push_async_callback(self.cluster.close)
        stack.callback(self._forget)

    def _forget(self) -> None:
        self.cluster = None

    def __repr__(self) -> str:
        """Return the class, and nothing of the URL."""
        return f"{type(self).__name__}()"


async def _connect(url: str) -> AsyncCluster:
    # The SDK's reports are off, because their threads would go on when the cluster is closed.
    address, user, password = read_url(url)
    timeouts = ClusterTimeoutOptions(bootstrap_timeout=_BOOTSTRAP)
    options = ClusterOptions(
        PasswordAuthenticator(user, password),
        timeout_options=timeouts,
        enable_tracing=False,
        enable_metrics=False,
    )
    return await settled(lambda: AsyncCluster.connect(address, options))
