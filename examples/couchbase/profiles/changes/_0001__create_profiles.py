from __future__ import annotations

from acouchbase.bucket import AsyncBucket

from aflamingock import Verification, change


@change(
    id="create-profiles",
    author="user-team",
    target_system="profiles",
    transactional=False,  # a transaction holds documents, and no collections
)
class CreateProfiles:
    """Create the collection of profiles."""

    async def execute(self, bucket: AsyncBucket) -> None:
        await bucket.collections().create_collection("_default", "profiles")

    async def rollback(self, bucket: AsyncBucket) -> None:
        await bucket.collections().drop_collection("_default", "profiles")

    async def verify(self, bucket: AsyncBucket) -> Verification:
        """Say, after a crash, whether the collection is there."""
        scopes = await bucket.collections().get_all_scopes()
        names = [collection.name for scope in scopes for collection in scope.collections]
        return Verification.APPLIED if "profiles" in names else Verification.NOT_APPLIED
