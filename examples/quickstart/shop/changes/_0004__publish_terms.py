from __future__ import annotations

from pathlib import Path

import anyio

from aflamingock import Verification, change


@change(id="publish-terms", author="legal-team")
class PublishTerms:
    """Publish the terms of sale: a file, which no transaction covers."""

    async def execute(self, folder: Path) -> None:
        await anyio.Path(folder, "terms.txt").write_text("Goods may be returned for 30 days.\n")

    async def rollback(self, folder: Path) -> None:
        await anyio.Path(folder, "terms.txt").unlink(missing_ok=True)

    async def verify(self, folder: Path) -> Verification:
        is_there = await anyio.Path(folder, "terms.txt").exists()
        return Verification.APPLIED if is_there else Verification.NOT_APPLIED
