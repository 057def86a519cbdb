"""One boto3 script for any S3 server: each step is a call, and what it answered in words that two servers can be compared by.

What no two servers can have in common (ids of versions and uploads, times, request ids) is left out or told only as whether
it is there; errors are told by status and code.

    python -m tests.storage.objects.s3.script ENDPOINT ACCESS_KEY SECRET_KEY        one line of JSON for each step
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import boto3
import botocore.config
from botocore.exceptions import ClientError

MIB = 1 << 20
BUCKET = "script"
PART = bytes(range(256)) * (5 * MIB // 256)
KEYS = ["a", "a b", "b/1", "b/2/deep", "b/2/deeper", "c+d", "e%20f", "z/ü"]

Told = dict[str, Any]
COMPARED = (
    "AcceptRanges",
    "Body",
    "CacheControl",
    "ChecksumCRC32",
    "ChecksumCRC64NVME",
    "ChecksumSHA256",
    "ChecksumType",
    "CommonPrefixes",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentLength",
    "ContentRange",
    "ContentType",
    "CopyObjectResult",
    "CopyPartResult",
    "DeleteMarker",
    "Delimiter",
    "ETag",
    "EncodingType",
    "IsTruncated",
    "KeyCount",
    "MaxKeys",
    "Metadata",
    "ObjectSize",
    "PartsCount",
    "Prefix",
    "Status",
    "StorageClass",
    "TagCount",
    "TagSet",
)
WITHIN = {
    "Contents": ("Key", "Size", "ETag", "StorageClass"),
    "Versions": ("Key", "Size", "ETag", "IsLatest"),
    "DeleteMarkers": ("Key", "IsLatest"),
    "Deleted": ("Key", "DeleteMarker"),
    "Errors": ("Key", "Code"),
    "Parts": ("PartNumber", "Size", "ETag"),
    "Uploads": ("Key",),
    "ObjectParts": ("TotalPartsCount",),
    "Retention": ("Mode",),
    "LegalHold": ("Status",),
    "CORSRules": ("AllowedMethods", "AllowedOrigins"),
    "PolicyStatus": ("IsPublic",),
    "PublicAccessBlockConfiguration": ("BlockPublicAcls", "BlockPublicPolicy"),
}
THERE = ("VersionId", "LastModified", "UploadId", "NextContinuationToken", "CopySourceVersionId")
"""Of these only whether they are there is compared."""


def told(answer: Any) -> Told:
    """What an answer says, as far as servers can be compared by it."""
    seen: Told = {"status": answer["ResponseMetadata"]["HTTPStatusCode"]}
    for name in COMPARED:
        if name in answer:
            value = answer[name].read().decode("latin-1") if name == "Body" else answer[name]
            if isinstance(value, dict):
                value = {key: one for key, one in value.items() if key != "LastModified"}
            if value is not None and value != "":
                seen[name] = value
    for name, fields in WITHIN.items():
        if name in answer:
            value = answer[name]
            rows = value if isinstance(value, list) else [value]
            seen[name] = [{field: row[field] for field in fields if field in row} for row in rows]
    there = [name for name in THERE if answer.get(name)]
    return {**seen, "there": there} if there else seen


Call = Callable[..., Any]


def client(address: str, access_key: str, secret_key: str) -> Any:
    """boto3 with its defaults but that nothing is tried twice, so that an error is seen."""
    config = botocore.config.Config(
        retries={"max_attempts": 1, "mode": "standard"}, signature_version="s3v4", s3={"addressing_style": "path"}
    )
    named = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", config=config, **named)


def play(s3: Any) -> dict[str, Told]:
    """Plays the script against the server of this client; gives what each step was told."""
    seen: dict[str, Told] = {}

    def step(name: str, call: Call, **arguments: Any) -> Any:
        assert name not in seen, f"two steps are called {name!r}"
        try:
            answer = call(**arguments)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            seen[name] = {"status": error.response["ResponseMetadata"]["HTTPStatusCode"], "code": code}
            return {}
        seen[name] = told(answer)
        return answer

    _buckets(s3, step)
    _objects(s3, step)
    _conditions(s3, step)
    _listings(s3, step)
    _parts(s3, step)
    _versions(s3, step)
    _settings(s3, step)
    return seen


def _buckets(s3: Any, step: Call) -> None:
    step("a bucket is made", s3.create_bucket, Bucket=BUCKET)
    step("it is there", s3.head_bucket, Bucket=BUCKET)
    step("another is not", s3.head_bucket, Bucket="nobody-has-this")
    step("made again it is ours", s3.create_bucket, Bucket=BUCKET, CreateBucketConfiguration={})
    step("a name that is none", s3.create_bucket, Bucket="No.Name")
    step("a missing bucket is listed", s3.list_objects_v2, Bucket="nobody-has-this")
    step("where it is", s3.get_bucket_location, Bucket=BUCKET)


def _objects(s3: Any, step: Call) -> None:
    of = {"Bucket": BUCKET, "Key": "k"}
    step("put", s3.put_object, Body=b"hello", Metadata={"some": "thing"}, ContentType="text/plain", **of)
    step("got", s3.get_object, **of)
    step("looked at", s3.head_object, **of)
    step("a range", s3.get_object, Range="bytes=1-3", **of)
    step("the last two", s3.get_object, Range="bytes=-2", **of)
    step("from the third", s3.get_object, Range="bytes=3-", **of)
    step("a range past the end", s3.get_object, Range="bytes=10-20", **of)
    step("a range that ends past the end", s3.get_object, Range="bytes=3-99", **of)
    step("nothing", s3.get_object, Bucket=BUCKET, Key="none")
    step("a look at nothing", s3.head_object, Bucket=BUCKET, Key="none")
    kept = {
        "CacheControl": "max-age=60",
        "ContentDisposition": "attachment",
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "ContentType": "application/json",
    }
    step("put with headers", s3.put_object, Bucket=BUCKET, Key="headers", Body=b"{}", **kept)
    step("they come back", s3.head_object, Bucket=BUCKET, Key="headers")
    step("others are asked for", s3.get_object, Bucket=BUCKET, Key="headers", ResponseContentType="text/html")
    step("an empty one", s3.put_object, Bucket=BUCKET, Key="empty", Body=b"")
    step("which is got", s3.get_object, Bucket=BUCKET, Key="empty")
    step("a range of nothing", s3.get_object, Bucket=BUCKET, Key="empty", Range="bytes=0-0")
    step("with a checksum", s3.put_object, Bucket=BUCKET, Key="summed", Body=b"hello", ChecksumAlgorithm="SHA256")
    step("told on request", s3.head_object, Bucket=BUCKET, Key="summed", ChecksumMode="ENABLED")
    step("a wrong checksum", s3.put_object, Bucket=BUCKET, Key="wrong", Body=b"hello", ChecksumCRC32="AAAAAA==")
    step(
        "a wrong digest",
        s3.put_object,
        Bucket=BUCKET,
        Key="wrong",
        Body=b"hello",
        ContentMD5="XrY7u+Ae7tCTyyK7j1rNww==",
    )
    step("a digest that is none", s3.put_object, Bucket=BUCKET, Key="wrong", Body=b"hello", ContentMD5="x")
    step("which is not there", s3.head_object, Bucket=BUCKET, Key="wrong")
    source = {"Bucket": BUCKET, "Key": "k"}
    step("a copy", s3.copy_object, Bucket=BUCKET, Key="copy", CopySource=source)
    step("has the metadata", s3.head_object, Bucket=BUCKET, Key="copy")
    other = {"MetadataDirective": "REPLACE", "Metadata": {"other": "thing"}, "ContentType": "text/html"}
    step("a copy with metadata of its own", s3.copy_object, Bucket=BUCKET, Key="copy", CopySource=source, **other)
    step("has that", s3.head_object, Bucket=BUCKET, Key="copy")
    step("a copy onto itself", s3.copy_object, CopySource=source, **of)
    step("a copy of nothing", s3.copy_object, Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "none"})
    step("tags", s3.put_object_tagging, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}, **of)
    step("come back", s3.get_object_tagging, **of)
    step("are counted", s3.head_object, **of)
    eleven = [{"Key": str(number), "Value": ""} for number in range(11)]
    step("too many tags", s3.put_object_tagging, Tagging={"TagSet": eleven}, **of)
    step("go", s3.delete_object_tagging, **of)
    step("and are gone", s3.get_object_tagging, **of)
    wanted = ["ETag", "ObjectSize", "StorageClass"]
    step("attributes", s3.get_object_attributes, ObjectAttributes=wanted, **of)
    step("a key of 1,025 bytes", s3.put_object, Bucket=BUCKET, Key="x" * 1_025, Body=b"")
    step("metadata of 3 KiB", s3.put_object, Bucket=BUCKET, Key="x", Body=b"", Metadata={"k": "x" * 3_000})
    step("a storage class that is none", s3.put_object, Bucket=BUCKET, Key="x", Body=b"", StorageClass="CHEAP")
    step("a delete", s3.delete_object, Bucket=BUCKET, Key="copy")
    step("a delete of nothing", s3.delete_object, Bucket=BUCKET, Key="none")
    several = [{"Key": key} for key in ("headers", "empty", "none")]
    step("several deletes", s3.delete_objects, Bucket=BUCKET, Delete={"Objects": several})
    quiet = {"Objects": [{"Key": "summed"}], "Quiet": True}
    step("a quiet delete", s3.delete_objects, Bucket=BUCKET, Delete=quiet)
    step("deletes of nothing at all", s3.delete_objects, Bucket=BUCKET, Delete={"Objects": []})
    step("a bucket that is not empty", s3.delete_bucket, Bucket=BUCKET)


def _conditions(s3: Any, step: Call) -> None:
    of = {"Bucket": BUCKET, "Key": "k"}
    etag, other = '"5d41402abc4b2a76b9719d911017c592"', '"00000000000000000000000000000000"'
    step("read if it is this one", s3.get_object, IfMatch=etag, **of)
    step("read if it is another", s3.get_object, IfMatch=other, **of)
    step("read if it is not this one", s3.get_object, IfNoneMatch=etag, **of)
    step("read if it is not another", s3.head_object, IfNoneMatch=other, **of)
    step("read if changed since long ago", s3.get_object, IfModifiedSince="2001-01-01", **of)
    step("read if unchanged since long ago", s3.get_object, IfUnmodifiedSince="2001-01-01", **of)
    step("make if absent, which it is not", s3.put_object, IfNoneMatch="*", Body=b"x", **of)
    step("make if absent, which it is", s3.put_object, Bucket=BUCKET, Key="new", Body=b"new", IfNoneMatch="*")
    step("change if it is another", s3.put_object, IfMatch=other, Body=b"x", **of)
    step("change if it is this one", s3.put_object, IfMatch=etag, Body=b"hello", **of)
    step("change what is not there", s3.put_object, Bucket=BUCKET, Key="none", IfMatch=etag, Body=b"x")
    source = {"Bucket": BUCKET, "Key": "k"}
    step("copy if it is another", s3.copy_object, Bucket=BUCKET, Key="new", CopySource=source, CopySourceIfMatch=other)
    step(
        "copy if it is not this",
        s3.copy_object,
        Bucket=BUCKET,
        Key="new",
        CopySource=source,
        CopySourceIfNoneMatch=etag,
    )
    step("delete if it is another", s3.delete_object, Bucket=BUCKET, Key="new", IfMatch=other)
    step("it is still there", s3.get_object, Bucket=BUCKET, Key="new")
    step(
        "delete if it is this one",
        s3.delete_object,
        Bucket=BUCKET,
        Key="new",
        IfMatch='"22af645d1859cb5ca6da0c484f1f37ea"',
    )


def _listings(s3: Any, step: Call) -> None:
    for key in ("k", "x"):
        s3.delete_object(Bucket=BUCKET, Key=key)
    for key in KEYS:
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    step("all keys", s3.list_objects_v2, Bucket=BUCKET)
    step("all keys, the old way", s3.list_objects, Bucket=BUCKET)
    step("folders", s3.list_objects_v2, Bucket=BUCKET, Delimiter="/")
    step("below a folder", s3.list_objects_v2, Bucket=BUCKET, Prefix="b/", Delimiter="/")
    step("by a prefix that is no folder", s3.list_objects_v2, Bucket=BUCKET, Prefix="b/2/deep")
    step("after a key", s3.list_objects_v2, Bucket=BUCKET, StartAfter="b/2/deep")
    first = step("three keys", s3.list_objects_v2, Bucket=BUCKET, MaxKeys=3)
    token = first.get("NextContinuationToken", "")
    step("the next three", s3.list_objects_v2, Bucket=BUCKET, MaxKeys=3, ContinuationToken=token)
    step("no keys", s3.list_objects_v2, Bucket=BUCKET, MaxKeys=0)
    step("keys encoded", s3.list_objects_v2, Bucket=BUCKET, EncodingType="url")
    step("a prefix of nothing", s3.list_objects_v2, Bucket=BUCKET, Prefix="none/")
    step("by another delimiter", s3.list_objects_v2, Bucket=BUCKET, Delimiter="e")
    step("two folders", s3.list_objects, Bucket=BUCKET, Delimiter="/", MaxKeys=2)
    step("after a marker", s3.list_objects, Bucket=BUCKET, Marker="c+d")


def _parts(s3: Any, step: Call) -> None:
    of = {"Bucket": BUCKET, "Key": "parts"}
    begun = step("an upload in parts", s3.create_multipart_upload, ContentType="text/plain", Metadata={"a": "b"}, **of)
    upload = {"UploadId": begun.get("UploadId", ""), **of}
    one = step("a part", s3.upload_part, PartNumber=1, Body=PART, **upload)
    two = step("the last part", s3.upload_part, PartNumber=2, Body=b"end", **upload)
    step("a part of no number", s3.upload_part, PartNumber=10_001, Body=b"", **upload)
    step("parts are listed", s3.list_parts, **upload)
    step("uploads are listed", s3.list_multipart_uploads, Bucket=BUCKET)
    step("nobody sees it yet", s3.head_object, **of)
    first, last = {"PartNumber": 1, "ETag": one.get("ETag")}, {"PartNumber": 2, "ETag": two.get("ETag")}
    step("in the wrong order", s3.complete_multipart_upload, MultipartUpload={"Parts": [last, first]}, **upload)
    missing = {"PartNumber": 3, "ETag": last["ETag"]}
    step(
        "with a part that is not there",
        s3.complete_multipart_upload,
        MultipartUpload={"Parts": [first, missing]},
        **upload,
    )
    step("complete", s3.complete_multipart_upload, MultipartUpload={"Parts": [first, last]}, **upload)
    step("it is there whole", s3.head_object, **of)
    step("its second part", s3.get_object, PartNumber=2, **of)
    step("a range over both", s3.get_object, Range=f"bytes={5 * MIB - 2}-{5 * MIB + 1}", **of)
    step("what is known of its parts", s3.get_object_attributes, ObjectAttributes=["ETag", "ObjectParts"], **of)
    begun = s3.create_multipart_upload(Bucket=BUCKET, Key="copied")
    upload = {"UploadId": begun["UploadId"], "Bucket": BUCKET, "Key": "copied"}
    source = {"Bucket": BUCKET, "Key": "parts"}
    span = f"bytes=0-{5 * MIB - 1}"
    step("a part by copy", s3.upload_part_copy, PartNumber=1, CopySource=source, CopySourceRange=span, **upload)
    small = step("a small part", s3.upload_part, PartNumber=2, Body=b"small", **upload)
    third = step("one more", s3.upload_part, PartNumber=3, Body=b"more", **upload)
    pair = [{"PartNumber": 2, "ETag": small.get("ETag")}, {"PartNumber": 3, "ETag": third.get("ETag")}]
    step("a small part within", s3.complete_multipart_upload, MultipartUpload={"Parts": pair}, **upload)
    step("given up", s3.abort_multipart_upload, **upload)
    step("given up again", s3.abort_multipart_upload, **upload)
    step("parts of what was given up", s3.list_parts, **upload)
    step("a part of what was given up", s3.upload_part, PartNumber=1, Body=b"", **upload)
    step("no uploads are left", s3.list_multipart_uploads, Bucket=BUCKET)


def _versions(s3: Any, step: Call) -> None:
    bucket = f"{BUCKET}-versions"
    of = {"Bucket": bucket, "Key": "k"}
    s3.create_bucket(Bucket=bucket)
    step("versioning has never been on", s3.get_bucket_versioning, Bucket=bucket)
    s3.put_object(Body=b"null", **of)
    step("versioning on", s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    step("versioning is on", s3.get_bucket_versioning, Bucket=bucket)
    first = step("a first version", s3.put_object, Body=b"one", **of).get("VersionId", "x")
    step("a second version", s3.put_object, Body=b"two", **of)
    step("the newest", s3.get_object, **of)
    step("the first again", s3.get_object, VersionId=first, **of)
    step("the null version", s3.get_object, VersionId="null", **of)
    marker = step("a marker", s3.delete_object, **of).get("VersionId", "x")
    step("a key that is deleted", s3.get_object, **of)
    step("a look at a key that is deleted", s3.head_object, **of)
    step("a marker is no object", s3.get_object, VersionId=marker, **of)
    step("all versions", s3.list_object_versions, Bucket=bucket)
    step("no keys are left", s3.list_objects_v2, Bucket=bucket)
    step("the marker goes", s3.delete_object, VersionId=marker, **of)
    step("and the newest is back", s3.get_object, **of)
    step("the first goes", s3.delete_object, VersionId=first, **of)
    step("and is gone", s3.get_object, VersionId=first, **of)
    step("what is left", s3.list_object_versions, Bucket=bucket)
    step("a version that is none", s3.get_object, VersionId="nonsense", **of)


def _settings(s3: Any, step: Call) -> None:
    of = {"Bucket": BUCKET}
    step("no policy", s3.get_bucket_policy, **of)
    step("a policy that is none", s3.put_bucket_policy, Policy="{}", **of)
    allow = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",'
        f'"Resource":"arn:aws:s3:::{BUCKET}/*"}}]}}'
    )
    step("a policy", s3.put_bucket_policy, Policy=allow, **of)
    step("is public", s3.get_bucket_policy_status, **of)
    step("no policy again", s3.delete_bucket_policy, **of)
    step("no rules for origins", s3.get_bucket_cors, **of)
    rules = {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://example.org"]}]}
    step("rules for origins", s3.put_bucket_cors, CORSConfiguration=rules, **of)
    step("rules for origins come back", s3.get_bucket_cors, **of)
    step("no tags of a bucket", s3.get_bucket_tagging, **of)
    step("tags of a bucket", s3.put_bucket_tagging, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}, **of)
    step("tags of a bucket come back", s3.get_bucket_tagging, **of)
    step("no lock", s3.get_object_lock_configuration, **of)
    step("a lock where there is none", s3.put_object_retention, Key="a", Retention={"Mode": "GOVERNANCE"}, **of)
    locked = f"{BUCKET}-locked"
    step("a bucket with locks", s3.create_bucket, Bucket=locked, ObjectLockEnabledForBucket=True)
    step("keeps versions", s3.get_bucket_versioning, Bucket=locked)
    held = step("put into it", s3.put_object, Bucket=locked, Key="k", Body=b"kept").get("VersionId", "x")
    step("held", s3.put_object_legal_hold, Bucket=locked, Key="k", LegalHold={"Status": "ON"})
    step("is held", s3.get_object_legal_hold, Bucket=locked, Key="k")
    step("what is held stays", s3.delete_object, Bucket=locked, Key="k", VersionId=held)
    step("let go", s3.put_object_legal_hold, Bucket=locked, Key="k", LegalHold={"Status": "OFF"})
    step("what is let go goes", s3.delete_object, Bucket=locked, Key="k", VersionId=held)
    step(
        "suspend where there are locks",
        s3.put_bucket_versioning,
        Bucket=locked,
        VersioningConfiguration={"Status": "Suspended"},
    )


if __name__ == "__main__":
    for name, seen in play(client(*sys.argv[1:])).items():
        print(json.dumps({"step": name, **seen}, ensure_ascii=False))
