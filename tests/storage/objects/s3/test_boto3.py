"""The tour of a client: boto3 with its defaults, integrity protections included."""

import asyncio
import io
import urllib.request
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from mainspring.core.ports import Database
from mainspring.storage.objects import Objects
from tests.storage.objects.s3.conftest import started
from tests.storage.objects.s3.raw import Reply, Signer
from tests.storage.objects.s3.running import Running, aside, code_of

MIB = 1 << 20


@pytest.fixture
async def running(tmp_path: Path, database: Any) -> AsyncIterator[Running]:
    """The application on the embedded database and on PostgreSQL."""
    async with started(tmp_path, {Database: database}) as one:
        yield one


async def test_what_boto3_puts_it_gets_lists_and_shares(running: Running) -> None:
    def tour() -> None:
        s3 = running.client()
        s3.create_bucket(Bucket="tour")
        s3.put_object(Bucket="tour", Key="a/b c+ü.txt", Body=b"hello", Metadata={"k": "v"}, ContentType="text/plain")
        got = s3.get_object(Bucket="tour", Key="a/b c+ü.txt")
        assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"hello", {"k": "v"}, "text/plain")
        listed: Any = s3.list_objects_v2(Bucket="tour")
        assert [one["Key"] for one in listed["Contents"]] == ["a/b c+ü.txt"]
        url = s3.generate_presigned_url("get_object", Params={"Bucket": "tour", "Key": "a/b c+ü.txt"})
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.read() == b"hello"
        ranged = s3.get_object(Bucket="tour", Key="a/b c+ü.txt", Range="bytes=1-3")
        assert (ranged["Body"].read(), ranged["ContentRange"]) == (b"ell", "bytes 1-3/5")
        s3.delete_object(Bucket="tour", Key="a/b c+ü.txt")
        s3.delete_bucket(Bucket="tour")
        assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == []

    await aside(tour)


async def test_a_large_file_goes_up_in_parts_and_comes_back_whole(running: Running) -> None:
    def tour() -> None:
        s3 = running.client()
        s3.create_bucket(Bucket="large")
        body = bytes(range(256)) * (13 * MIB // 256)
        config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)
        s3.upload_fileobj(io.BytesIO(body), "large", "file", Config=config)
        head = s3.head_object(Bucket="large", Key="file")
        assert (head["ContentLength"], head["ETag"][-3:]) == (len(body), '-3"')
        target = io.BytesIO()
        s3.download_fileobj("large", "file", target, Config=config)
        assert target.getvalue() == body
        part = s3.get_object(Bucket="large", Key="file", PartNumber=3)
        assert (part["PartsCount"], part["ContentLength"]) == (3, 3 * MIB)
        s3.copy({"Bucket": "large", "Key": "file"}, "large", "copy", Config=config)
        assert s3.head_object(Bucket="large", Key="copy")["ContentLength"] == len(body)
        known = s3.get_object_attributes(
            Bucket="large", Key="file", ObjectAttributes=["ObjectSize", "ObjectParts", "Checksum"]
        )
        assert (known["ObjectSize"], known["ObjectParts"]["TotalPartsCount"]) == (len(body), 3)

    await aside(tour)


async def test_a_listing_of_1100_keys_comes_in_pages_and_rolls_up_folders(running: Running) -> None:
    keys = [f"folder{number % 11:02}/{number:04}" for number in range(1_100)]
    objects = await running.mainspring.service(Objects)
    await objects.create_bucket("listing")
    await asyncio.gather(*(objects.put("listing", key, b"", size=0) for key in keys))

    def tour() -> None:
        s3 = running.client()
        pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="listing"))
        assert [one["Key"] for page in pages for one in page["Contents"]] == sorted(keys)
        assert [page["KeyCount"] for page in pages] == [1_000, 100]
        old = list(s3.get_paginator("list_objects").paginate(Bucket="listing"))
        assert [one["Key"] for page in old for one in page["Contents"]] == sorted(keys)
        rolled = s3.list_objects_v2(Bucket="listing", Delimiter="/", MaxKeys=7)
        assert [one["Prefix"] for one in rolled["CommonPrefixes"]] == [f"folder{number:02}/" for number in range(7)]
        rest = s3.list_objects_v2(Bucket="listing", Delimiter="/", ContinuationToken=rolled["NextContinuationToken"])
        assert [one["Prefix"] for one in rest["CommonPrefixes"]] == [f"folder{number:02}/" for number in range(7, 11)]
        gone = s3.delete_objects(Bucket="listing", Delete={"Objects": [{"Key": key} for key in keys[:1_000]]})
        assert len(gone["Deleted"]) == 1_000
        assert s3.list_objects_v2(Bucket="listing")["KeyCount"] == 100

    await aside(tour)


async def test_versions_are_kept_listed_copied_and_removed_one_by_one(running: Running) -> None:
    def tour() -> None:
        s3 = running.client()
        s3.create_bucket(Bucket="versions")
        s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket="versions", Key="k", Body=b"one")["VersionId"]
        second = s3.put_object(Bucket="versions", Key="k", Body=b"two")["VersionId"]
        marker = s3.delete_object(Bucket="versions", Key="k")
        assert marker["DeleteMarker"] is True
        with pytest.raises(ClientError) as missing:
            s3.get_object(Bucket="versions", Key="k")
        assert code_of(missing.value) == "NoSuchKey"
        assert s3.get_object(Bucket="versions", Key="k", VersionId=first)["Body"].read() == b"one"
        listed = s3.list_object_versions(Bucket="versions")
        assert [one["VersionId"] for one in listed["Versions"]] == [second, first]
        assert [one["IsLatest"] for one in listed["DeleteMarkers"]] == [True]
        s3.copy_object(Bucket="versions", Key="k", CopySource={"Bucket": "versions", "Key": "k", "VersionId": first})
        assert s3.get_object(Bucket="versions", Key="k")["Body"].read() == b"one"
        s3.delete_object(Bucket="versions", Key="k", VersionId=marker["VersionId"])
        assert "DeleteMarkers" not in s3.list_object_versions(Bucket="versions")

    await aside(tour)


async def test_a_condition_that_does_not_hold_changes_nothing(running: Running) -> None:
    def tour() -> None:
        s3 = running.client()
        s3.create_bucket(Bucket="conditions")
        etag = s3.put_object(Bucket="conditions", Key="k", Body=b"one", IfNoneMatch="*")["ETag"]
        for attempt in (
            lambda: s3.put_object(Bucket="conditions", Key="k", Body=b"two", IfNoneMatch="*"),
            lambda: s3.put_object(Bucket="conditions", Key="k", Body=b"two", IfMatch='"other"'),
            lambda: s3.get_object(Bucket="conditions", Key="k", IfMatch='"other"'),
            lambda: s3.delete_object(Bucket="conditions", Key="k", IfMatch='"other"'),
        ):
            with pytest.raises(ClientError) as refused:
                attempt()
            assert code_of(refused.value) == "PreconditionFailed"
        with pytest.raises(ClientError) as unchanged:
            s3.get_object(Bucket="conditions", Key="k", IfNoneMatch=etag)
        assert unchanged.value.response["ResponseMetadata"]["HTTPStatusCode"] == 304
        with pytest.raises(ClientError) as missing:
            s3.put_object(Bucket="conditions", Key="none", Body=b"", IfMatch=etag)
        assert code_of(missing.value) == "NoSuchKey"
        s3.put_object(Bucket="conditions", Key="k", Body=b"two", IfMatch=etag)
        assert s3.get_object(Bucket="conditions", Key="k")["Body"].read() == b"two"

    await aside(tour)


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
async def test_a_checksum_is_checked_kept_and_told(running: Running, algorithm: str) -> None:
    def tour() -> None:
        s3 = running.client()
        s3.create_bucket(Bucket="sums")
        put = s3.put_object(Bucket="sums", Key="k", Body=b"hello", ChecksumAlgorithm=algorithm)
        head = s3.head_object(Bucket="sums", Key="k", ChecksumMode="ENABLED")
        assert put[f"Checksum{algorithm}"] == head[f"Checksum{algorithm}"]
        assert head["ChecksumType"] == "FULL_OBJECT"
        assert s3.get_object(Bucket="sums", Key="k")["Body"].read() == b"hello"

    await aside(tour)


async def test_settings_tags_and_locks_are_kept_and_given_back(running: Running) -> None:
    def tour() -> None:
        s3 = running.client()
        s3.create_bucket(Bucket="settings", ObjectLockEnabledForBucket=True)
        tags = [{"Key": "team", "Value": "a&b"}]
        s3.put_bucket_tagging(Bucket="settings", Tagging={"TagSet": tags})
        assert s3.get_bucket_tagging(Bucket="settings")["TagSet"] == tags
        rule = {"AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["https://*.example"], "MaxAgeSeconds": 60}
        s3.put_bucket_cors(Bucket="settings", CORSConfiguration={"CORSRules": [rule]})
        assert s3.get_bucket_cors(Bucket="settings")["CORSRules"] == [rule]
        s3.put_object(Bucket="settings", Key="k", Body=b"", Tagging="a=1&b=2")
        assert len(s3.get_object_tagging(Bucket="settings", Key="k")["TagSet"]) == 2
        s3.put_object_tagging(Bucket="settings", Key="k", Tagging={"TagSet": tags})
        assert s3.get_object_tagging(Bucket="settings", Key="k")["TagSet"] == tags
        version = s3.head_object(Bucket="settings", Key="k")["VersionId"]
        s3.put_object_legal_hold(Bucket="settings", Key="k", LegalHold={"Status": "ON"})
        with pytest.raises(ClientError) as locked:
            s3.delete_object(Bucket="settings", Key="k", VersionId=version)
        assert code_of(locked.value) == "AccessDenied"
        s3.put_object_legal_hold(Bucket="settings", Key="k", LegalHold={"Status": "OFF"})
        s3.delete_object(Bucket="settings", Key="k", VersionId=version)

    await aside(tour)


@pytest.mark.parametrize("mode", ["AES256", "aws:kms", "customer"])
async def test_an_encrypted_object_opens_with_its_key_only(running: Running, mode: str) -> None:
    def tour() -> None:
        s3 = running.client()
        s3.create_bucket(Bucket="sealed")
        key: dict[str, Any] = (
            {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32} if mode == "customer" else {}
        )
        asked = key or {"ServerSideEncryption": mode}
        body = bytes(200_000)
        s3.put_object(Bucket="sealed", Key="k", Body=body, **asked)
        assert s3.get_object(Bucket="sealed", Key="k", **key)["Body"].read() == body
        if key:
            with pytest.raises(ClientError) as closed:
                s3.get_object(Bucket="sealed", Key="k")
            assert code_of(closed.value) == "InvalidRequest"
        else:
            assert s3.head_object(Bucket="sealed", Key="k")["ServerSideEncryption"] == mode

    await aside(tour)


async def test_a_commit_of_many_keys_is_all_or_nothing(running: Running) -> None:
    s3 = Signer(running)
    await s3.send("PUT", "/commit")
    await s3.send("PUT", "/commit/old", body=b"old")

    def put(key: str, text: bytes, condition: str = "") -> str:
        return f"<Put><Key>{key}</Key><Body>{b64encode(text).decode()}</Body>{condition}</Put>"

    async def commit(*operations: str) -> Reply:
        return await s3.send(
            "POST", "/commit", query=[("commit", "")], body=f"<Commit>{''.join(operations)}</Commit>".encode()
        )

    copy, delete = "<Copy><Key>copy</Key><Source>commit/old</Source></Copy>", "<Delete><Key>old</Key></Delete>"
    refused = await commit(put("a", b"1"), delete, put("b", b"2", "<IfMatch>x</IfMatch>"))
    assert (refused.status, refused.code) == (404, "NoSuchKey")
    assert (await s3.send("GET", "/commit/a")).status == 404
    assert (await s3.send("GET", "/commit/old")).body == b"old"
    done = await commit(put("a", b"1"), copy, delete, put("b", b"2", "<IfNoneMatch>*</IfNoneMatch>"))
    assert (done.status, done.body.count(b"<Stored>"), done.body.count(b"<Deleted>")) == (200, 3, 1)
    assert (await s3.send("GET", "/commit/copy")).body == b"old"
    assert (await s3.send("GET", "/commit/old")).status == 404
    assert (await commit()).code == "MalformedXML"


async def test_a_rename_moves_a_key_or_all_below_a_prefix(running: Running) -> None:
    s3 = Signer(running)
    await s3.send("PUT", "/rename")
    for key in ("one", "dir/a", "dir/b"):
        await s3.send("PUT", f"/rename/{key}", body=key.encode())
    for source, target in (("one", "two"), ("dir/", "moved/")):
        headers = {"x-amz-rename-source": f"/rename/{source}"}
        assert (await s3.send("PUT", f"/rename/{target}", query=[("renameObject", "")], headers=headers)).status == 200
    listed = await s3.send("GET", "/rename", query=[("list-type", "2")])
    assert [key.partition("<")[0] for key in listed.body.decode().split("<Key>")[1:]] == ["moved/a", "moved/b", "two"]
    assert (await s3.send("GET", "/rename/moved/a")).body == b"dir/a"
