"""Settings that are documents, object lock, encryption across copies, and lists of uploads and parts, by boto3."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from mainspring.core.accounts.model import OPERATOR
from mainspring.core.keys import KeyStore
from tests.storage.objects.s3.running import Running, aside, code_of

NOTHING: dict[str, Any] = {}


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return code_of(error.value)


async def test_every_configuration_comes_back_as_it_was_put(running: Running) -> None:
    keys = await running.mainspring.service(KeyStore)
    loop = asyncio.get_running_loop()

    def make_key(name: str) -> None:
        asyncio.run_coroutine_threadsafe(keys.create(OPERATOR, name), loop).result(60)

    def tour() -> None:
        s3 = running.client()
        s3.create_bucket(Bucket="settings")
        s3.put_bucket_versioning(Bucket="settings", VersioningConfiguration={"Status": "Enabled"})
        key = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "photos"}}
        for name, argument, value, answer in (
            ("encryption", "ServerSideEncryptionConfiguration", {"Rules": [key]}, "ServerSideEncryptionConfiguration"),
            ("request_payment", "RequestPaymentConfiguration", {"Payer": "Requester"}, NOTHING),
            ("accelerate_configuration", "AccelerateConfiguration", {"Status": "Enabled"}, NOTHING),
            (
                "replication",
                "ReplicationConfiguration",
                {
                    "Role": "arn:aws:iam::000000000001:role/r",
                    "Rules": [
                        {"ID": "a", "Prefix": "", "Status": "Enabled", "Destination": {"Bucket": "arn:aws:s3:::b"}}
                    ],
                },
                "ReplicationConfiguration",
            ),
            (
                "ownership_controls",
                "OwnershipControls",
                {"Rules": [{"ObjectOwnership": "ObjectWriter"}]},
                "OwnershipControls",
            ),
        ):
            getattr(s3, f"put_bucket_{name}")(Bucket="settings", **{argument: value})
            got = getattr(s3, f"get_bucket_{name}")(Bucket="settings")
            assert (got[answer] if answer else {one: got[one] for one in value}) == value
        metrics = {"Id": "m", "Filter": {"Prefix": "a/"}}
        s3.put_bucket_metrics_configuration(Bucket="settings", Id="m", MetricsConfiguration=metrics)
        assert s3.get_bucket_metrics_configuration(Bucket="settings", Id="m")["MetricsConfiguration"] == metrics
        assert s3.list_bucket_metrics_configurations(Bucket="settings")["MetricsConfigurationList"] == [metrics]
        s3.delete_bucket_metrics_configuration(Bucket="settings", Id="m")
        assert refused(s3.get_bucket_metrics_configuration, Bucket="settings", Id="m") == "NoSuchConfiguration"
        assert refused(s3.put_object, Bucket="settings", Key="k", Body=b"hello") == "KMS.NotFoundException"
        make_key("photos")
        sealed = s3.put_object(Bucket="settings", Key="k", Body=b"hello")
        assert (sealed["ServerSideEncryption"], sealed["SSEKMSKeyId"]) == ("aws:kms", "photos")
        s3.delete_bucket_encryption(Bucket="settings")
        assert refused(s3.get_bucket_encryption, Bucket="settings") == "ServerSideEncryptionConfigurationNotFoundError"

    await aside(tour)


async def test_a_locked_version_stays_until_its_time(running: Running) -> None:
    def tour() -> None:
        s3 = running.client()
        s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
        default = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
        configuration = {"ObjectLockEnabled": "Enabled", "Rule": default}
        s3.put_object_lock_configuration(Bucket="locked", ObjectLockConfiguration=configuration)
        assert s3.get_object_lock_configuration(Bucket="locked")["ObjectLockConfiguration"] == configuration
        governed = s3.put_object(Bucket="locked", Key="k", Body=b"1")["VersionId"]
        assert s3.head_object(Bucket="locked", Key="k")["ObjectLockMode"] == "GOVERNANCE"
        assert refused(s3.delete_object, Bucket="locked", Key="k", VersionId=governed) == "AccessDenied"
        s3.delete_object(Bucket="locked", Key="k", VersionId=governed, BypassGovernanceRetention=True)
        until = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
        kept = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
        strict = s3.put_object(Bucket="locked", Key="k", Body=b"2", **kept)["VersionId"]
        assert s3.get_object_retention(Bucket="locked", Key="k")["Retention"]["RetainUntilDate"] == until
        for bypass in ({}, {"BypassGovernanceRetention": True}):
            assert refused(s3.delete_object, Bucket="locked", Key="k", VersionId=strict, **bypass) == "AccessDenied"
        shorter = {"Mode": "COMPLIANCE", "RetainUntilDate": until - timedelta(hours=1)}
        assert refused(s3.put_object_retention, Bucket="locked", Key="k", Retention=shorter) == "AccessDenied"
        longer = {"Mode": "COMPLIANCE", "RetainUntilDate": until + timedelta(hours=1)}
        s3.put_object_retention(Bucket="locked", Key="k", Retention=longer)
        s3.delete_object(Bucket="locked", Key="k")
        assert s3.get_object(Bucket="locked", Key="k", VersionId=strict)["Body"].read() == b"2"
        past = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": datetime(2020, 1, 1, tzinfo=UTC)}
        assert refused(s3.put_object, Bucket="locked", Key="x", Body=b"", **past) == "InvalidArgument"
        suspended = {"Status": "Suspended"}
        assert (
            refused(s3.put_bucket_versioning, Bucket="locked", VersioningConfiguration=suspended)
            == "InvalidBucketState"
        )

    await aside(tour)


async def test_a_copy_changes_how_an_object_is_sealed(running: Running) -> None:
    def tour() -> None:
        s3 = running.client()
        s3.create_bucket(Bucket="sealed")
        body = bytes(range(256)) * 1_200
        own = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "o" * 32}
        s3.put_object(Bucket="sealed", Key="own", Body=body, **own)
        source = {"Bucket": "sealed", "Key": "own"}
        opened = {f"CopySource{name}": value for name, value in own.items()}
        s3.copy_object(Bucket="sealed", Key="ours", CopySource=source, ServerSideEncryption="AES256", **opened)
        assert s3.get_object(Bucket="sealed", Key="ours")["Body"].read() == body
        other = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "x" * 32}
        s3.copy_object(Bucket="sealed", Key="other", CopySource={"Bucket": "sealed", "Key": "ours"}, **other)
        assert (
            s3.get_object(Bucket="sealed", Key="other", Range="bytes=70000-70003", **other)["Body"].read()
            == body[70000:70004]
        )
        assert refused(s3.get_object, Bucket="sealed", Key="other", **own) == "AccessDenied"
        assert refused(s3.copy_object, Bucket="sealed", Key="no", CopySource=source) == "InvalidRequest"
        upload = s3.create_multipart_upload(Bucket="sealed", Key="parts", **own)["UploadId"]
        part = s3.upload_part(Bucket="sealed", Key="parts", UploadId=upload, PartNumber=1, Body=body, **own)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        s3.complete_multipart_upload(Bucket="sealed", Key="parts", UploadId=upload, MultipartUpload=parts)
        assert s3.get_object(Bucket="sealed", Key="parts", **own)["Body"].read() == body

    await aside(tour)


async def test_uploads_and_parts_are_listed_in_pages(running: Running) -> None:
    def tour() -> None:
        s3 = running.client()
        s3.create_bucket(Bucket="pages")
        uploads = {
            key: s3.create_multipart_upload(Bucket="pages", Key=key)["UploadId"] for key in ("a/1", "a/2", "b", "c")
        }
        found = [
            one["Key"]
            for page in s3.get_paginator("list_multipart_uploads").paginate(
                Bucket="pages", PaginationConfig={"PageSize": 3}
            )
            for one in page["Uploads"]
        ]
        assert found == ["a/1", "a/2", "b", "c"]
        rolled = s3.list_multipart_uploads(Bucket="pages", Delimiter="/")
        assert ([one["Prefix"] for one in rolled["CommonPrefixes"]], len(rolled["Uploads"])) == (["a/"], 2)
        for number in (1, 2, 7):
            s3.upload_part(Bucket="pages", Key="b", UploadId=uploads["b"], PartNumber=number, Body=b"x")
        arguments = {"Bucket": "pages", "Key": "b", "UploadId": uploads["b"], "PaginationConfig": {"PageSize": 2}}
        pages = list(s3.get_paginator("list_parts").paginate(**arguments))
        assert [[one["PartNumber"] for one in page["Parts"]] for page in pages] == [[1, 2], [7]]
        assert refused(s3.delete_bucket, Bucket="pages") == "BucketNotEmpty"
        for key, id in uploads.items():
            s3.abort_multipart_upload(Bucket="pages", Key=key, UploadId=id)
        s3.delete_bucket(Bucket="pages")

    await aside(tour)
