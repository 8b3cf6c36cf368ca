"""The URL of an audit store in Couchbase, and the cluster that is connected by it."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import unquote, urlsplit, urlunsplit

from acouchbase.cluster import AsyncCluster
from couchbase.auth import PasswordAuthenticator
from couchbase.options import ClusterOptions, ClusterTimeoutOptions

from ..exceptions import ConfigurationError
from ..targets._couchbase import settled

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
            "The URL of the audit store is no URL of Couchbase. Give couchbase://USER:PASSWORD@HOST"
            " or couchbases://…; special characters have to be percent-encoded."
        )

    return urlunsplit((parts.scheme, hosts, "", parts.query, "")), user, password


async def connect(url: str) -> AsyncCluster:
    """
    Return a cluster of our own, in this event loop.

    The SDK's reports are off, because their threads would go on when the cluster is closed.
    """
    address, user, password = read_url(url)
    timeouts = ClusterTimeoutOptions(bootstrap_timeout=_BOOTSTRAP)
    options = ClusterOptions(
        PasswordAuthenticator(user, password),
        timeout_options=timeouts,
        enable_tracing=False,
        enable_metrics=False,
    )
    return await settled(lambda: AsyncCluster.connect(address, options))
