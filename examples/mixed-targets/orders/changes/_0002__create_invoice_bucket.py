from __future__ import annotations

import aioboto3

from aflamingock import Verification, change


@change(id="create-invoice-bucket", author="order-team", target_system="invoices")
class CreateInvoiceBucket:
    """Create the bucket for invoices; S3 has no transactions, so `verify` can look."""

    async def execute(self, aws: aioboto3.Session) -> None:
        async with aws.client("s3") as s3:
            place = {"LocationConstraint": aws.region_name}  # us-east-1 wants none
            await s3.create_bucket(Bucket="invoices", CreateBucketConfiguration=place)

    async def rollback(self, aws: aioboto3.Session) -> None:
        async with aws.client("s3") as s3:
            await s3.delete_bucket(Bucket="invoices")

    async def verify(self, aws: aioboto3.Session) -> Verification:
        async with aws.client("s3") as s3:
            buckets = (await s3.list_buckets())["Buckets"]

        is_there = any(bucket["Name"] == "invoices" for bucket in buckets)
        return Verification.APPLIED if is_there else Verification.NOT_APPLIED
