"""Where the tables of DynamoDB are, and what they may be called."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from anyio.to_thread import run_sync
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]  # botocore has no types

from ..exceptions import ConfigurationError
from ._refusal import Naming

if TYPE_CHECKING:
    import aioboto3  # type: ignore[import-untyped]  # aioboto3 has no types

_ATTEMPTS = 3
_CONNECT_WITHIN = 2.0
_READ_WITHIN = 5.0
_SETTINGS = {"endpoint_url", "profile_name"}

check_names = Naming(
    form=re.compile(r"[A-Za-z0-9_.-]{3,255}", re.ASCII),
    told="a table of DynamoDB, which is the prefix and the name of a repository. Give 3 to 255 "
    "letters, digits, underscores, hyphens and dots.",
)


class Place:
    """
    Where tables are: an account's region, or an endpoint of one's own.

    :param region_name: that of the session by default
    :param endpoint_url: that of the region by default
    :raises ConfigurationError: if an argument is wrong
    """

    def __init__(
        self, session: aioboto3.Session, region_name: str | None, endpoint_url: str | None
    ) -> None:
        if not any(cls.__module__.startswith("aioboto3") for cls in type(session).__mro__):
            raise ConfigurationError(
                f"{type(session).__module__}.{type(session).__qualname__} is no session of "
                "aioboto3. Give an aioboto3.Session."
            )

        self.session = session
        self.region_name: str = str(region_name or session.region_name or "")
        self.endpoint_url = endpoint_url
        self._is_loaded = False
        if not self.region_name:
            raise ConfigurationError(
                "The region of DynamoDB is not known. Give region_name=, or dynamodb://REGION in a "
                "URL, or set AWS_DEFAULT_REGION."
            )

        if endpoint_url is not None:
            _check_endpoint(endpoint_url)

    def is_same(self, other: Place) -> bool:
        """Say whether both are one place, reached with the same credentials."""
        return self.session is other.session and str(self) == str(other)

    async def preload(self) -> None:
        """Read the driver's models of DynamoDB, once, in a worker thread: the files are large."""
        if not self._is_loaded:
            loader = self.session._session.get_component("data_loader")
            await run_sync(_preload, loader, self.region_name)
            self._is_loaded = True

    def client(self) -> AbstractAsyncContextManager[Any]:
        """Return a new client, to be entered."""
        return self._made(self.session.client)

    def resource(self) -> AbstractAsyncContextManager[Any]:
        """Return a new service resource, to be entered."""
        return self._made(self.session.resource)

    def _made(self, make: Callable[..., Any]) -> AbstractAsyncContextManager[Any]:
        # here, because it takes 0.1 s
        from botocore.config import Config  # type: ignore[import-untyped]  # botocore has no types

        made: AbstractAsyncContextManager[Any] = make(
            "dynamodb",
            region_name=self.region_name,
            endpoint_url=self.endpoint_url,
            config=Config(
                connect_timeout=_CONNECT_WITHIN,
                read_timeout=_READ_WITHIN,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            ),
        )
        return made

    def __str__(self) -> str:
        """Return how messages call it."""
        at = f" at {self.endpoint_url}" if self.endpoint_url else ""
        return f"DynamoDB in {self.region_name}{at}"


def session_at(url: str) -> tuple[Any, str | None, str | None]:
    """
    Return the session, the region and the endpoint that a URL names.

    :raises ConfigurationError: if it is no URL of DynamoDB
    """
    try:
        parts = urlsplit(url)
        settings = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    except ValueError:
        parts, settings = urlsplit(""), {}

    if (
        parts.scheme != "dynamodb"
        or parts.netloc != (parts.hostname or "")
        or parts.path.strip("/")
        or settings.keys() - _SETTINGS
    ):  # the URL is not repeated: it may hold a password
        raise ConfigurationError(
            "This is no URL of DynamoDB. Give dynamodb://REGION, or dynamodb:// for the region of "
            f"the environment, and after a ? any of {', '.join(sorted(_SETTINGS))}. Credentials "
            "come from the environment or the profile."
        )

    import aioboto3  # takes 0.5 s

    try:
        session = aioboto3.Session(profile_name=settings.get("profile_name"))
    except BotoCoreError as exc:
        said = str(exc).removesuffix(".")
        raise ConfigurationError(f"The URL of DynamoDB cannot be used: {said}.") from exc

    return session, parts.hostname, settings.get("endpoint_url")


def _check_endpoint(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_fine = parts.scheme in ("http", "https") and parts.hostname and not parts.username
    except ValueError:
        is_fine = False

    if not is_fine:  # the URL is not repeated: it may hold a password
        raise ConfigurationError(
            "endpoint_url= is no URL of an endpoint. Give one such as http://127.0.0.1:8000, "
            "without a user: credentials belong to the session."
        )


def _preload(loader: Any, region_name: str) -> None:
    from botocore.session import Session  # type: ignore[import-untyped]  # botocore has no types

    # A session of its own, because one must not be used by two threads; the loader keeps what it
    # has read. What goes wrong here goes wrong again where somebody can be told.
    with suppress(BotoCoreError):
        session = Session()
        session.register_component("data_loader", loader)
        version = loader.determine_latest_version("dynamodb", "resources-1")
        for api_version in (None, version):  # a client asks for the first, a resource for both
            loader.load_service_model("dynamodb", "resources-1", api_version)
            session.create_client(
                "dynamodb",
                region_name=region_name,
                api_version=api_version,
                aws_access_key_id="none",
                aws_secret_access_key="none",
            )
