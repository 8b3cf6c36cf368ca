"""What holds for the file of a SQLite database, whichever driver it is reached by."""

from __future__ import annotations

import logging
import os

from anyio.to_thread import run_sync

logger = logging.getLogger(__name__)

PERMISSIONS = (
    "The user of the process has to write the file of the database and those beside it, whose "
    "names begin with its name, and the folder that they are in."
)

_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs"}


def in_file(statement: str, path: str) -> str:
    """Return a statement as a command that says in which file it is to be run."""
    return f"{statement}; -- in {path}"


async def network_file_system(path: str) -> str | None:
    """
    Return the kind of the network file system that a file is on, where this is known.

    SQLite's locks cannot be relied on there: see https://www.sqlite.org/faq.html#q5.
    """
    return await run_sync(_network_file_system, path)


async def warn_of_network_file_system(path: str) -> None:
    """Log a warning if a target's file, which is its user's own, is on such a file system."""
    if kind := await network_file_system(path):
        logger.warning(
            "%s lies on a network file system (%s), where SQLite cannot lock files reliably: "
            "transactions of other hosts may damage it. Use a local disk, or a database server.",
            path,
            kind,
            extra={"action": "network-file-system"},
        )


def _network_file_system(path: str, mounts: str = "/proc/mounts") -> str | None:
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as lines:
            fields = [line.split(" ") for line in lines]
    except OSError:
        return None

    place = os.path.realpath(path)
    kinds = {point.replace("\\040", " "): kind for _, point, kind, *_ in fields}
    holding = [point for point in kinds if f"{place}/".startswith(f"{point.rstrip('/')}/")]
    kind = kinds[max(holding, key=len)] if holding else ""
    return kind if kind in _NETWORK_FILE_SYSTEMS else None
