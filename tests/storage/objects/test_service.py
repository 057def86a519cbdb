"""Objects as other code uses them, on both databases: what is put is what is read, and refusals change nothing."""

import asyncio
import hashlib
import random
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mainspring.storage.objects import Checksum, Objects
from mainspring.storage.objects.checksums import ALGORITHMS
from mainspring.storage.objects.conditions import ReadIf, WriteIf
from mainspring.storage.objects.errors import (
    BadDigest,
    BadRequest,
    BucketAlreadyExists,
    BucketAlreadyOwnedByYou,
    BucketNotEmpty,
    EntityTooLarge,
    IncompleteBody,
    InvalidArgument,
    InvalidBucketName,
    InvalidDigest,
    InvalidRange,
    InvalidRequest,
    KeyTooLong,
    MetadataTooLarge,
    MethodNotAllowed,
    NoSuchBucket,
    NoSuchConfiguration,
    NoSuchKey,
    NoSuchVersion,
    NotModified,
    ObjectsError,
    PreconditionFailed,
)
from mainspring.storage.objects.model import Versioning
from mainspring.storage.objects.moves import Changes, Copy, Delete, Source
from mainspring.storage.objects.staging import StagedPut, Wish
from tests.storage.objects.conftest import SMALL_BYTES, STRIPE_BYTES, bytes_of, keys_of

SIZES = (0, 1, SMALL_BYTES, SMALL_BYTES + 1, STRIPE_BYTES, STRIPE_BYTES + 1, 3 * STRIPE_BYTES + 17)
HARD_KEYS = [
    "../../x",
    "//",
    "/leading",
    "a\x00b",
    "tab\tnew\nline",
    "ü/😀",
    "%2F",
    " ",
    ".",
    "x" * 1024,
    "\x7f",
    "\uffff",
]


def body_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def chunks(body: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        await asyncio.sleep(0)
        yield body[at : at + size]


async def test_what_is_put_is_what_is_read_whole_and_in_ranges(objects: Objects) -> None:
    for size in SIZES:
        await put_and_read(objects, size)


async def put_and_read(objects: Objects, size: int) -> None:
    body = body_of(size)
    made = await objects.put("box", "k", chunks(body), size=size, headers={"content-type": "x/y"}, metadata={"a": "b"})
    assert made.etag == hashlib.md5(body, usedforsecurity=False).hexdigest() and made.size == size
    reader = await objects.get("box", "k")
    assert await reader.read() == body
    assert (reader.object.headers, reader.object.metadata) == ({"content-type": "x/y"}, {"a": "b"})
    for first, last in ((0, 0), (1, size // 2 + 1), (size // 2, None), (None, 7), (STRIPE_BYTES - 1, STRIPE_BYTES)):
        expected = body[-last:] if first is None and last else body[first : None if last is None else last + 1]
        if expected and (first is None or first < size):
            assert await bytes_of(objects, "k", range=(first, last)) == expected
        else:
            with pytest.raises(InvalidRange):
                await objects.get("box", "k", (first, last))


async def test_a_key_is_stored_and_listed_byte_for_byte_and_never_touches_a_path(objects: Objects) -> None:
    for key in HARD_KEYS:
        await objects.put("box", key, key.encode())
    assert await keys_of(objects) == sorted(HARD_KEYS, key=str.encode)
    for key in HARD_KEYS:
        assert await bytes_of(objects, key) == key.encode()
        await objects.delete("box", key)
    assert await keys_of(objects) == []


async def test_a_bad_bucket_name_is_refused(objects: Objects) -> None:
    for name in ("ab", "Abc", "a_b", "-ab", "ab-", "a..b", "a.-b", "1.2.3.4", "x" * 64, "xn--abc", "../x"):
        with pytest.raises(InvalidBucketName):
            await objects.create_bucket(name)


async def test_buckets_are_made_listed_and_removed_only_when_empty(objects: Objects) -> None:
    await objects.create_bucket("second", owner="me")
    with pytest.raises(BucketAlreadyOwnedByYou):
        await objects.create_bucket("second", owner="me")
    with pytest.raises(BucketAlreadyExists):
        await objects.create_bucket("second", owner="you")
    assert [one.name for one in await objects.list_buckets()] == ["box", "second"]
    assert [one.name for one in await objects.list_buckets(owner="me")] == ["second"]
    assert [one.name for one in await objects.list_buckets(prefix="b")] == ["box"]
    await objects.put("second", "k", b"x")
    with pytest.raises(BucketNotEmpty):
        await objects.delete_bucket("second")
    await objects.delete("second", "k")
    await objects.delete_bucket("second")
    for call in (objects.put("second", "k", b""), objects.get("second", "k"), objects.list("second")):
        with pytest.raises(NoSuchBucket):
            await call
    with pytest.raises(NoSuchBucket):
        await objects.delete_bucket("second")


async def test_a_bucket_keeps_documents_of_settings(objects: Objects) -> None:
    with pytest.raises(NoSuchConfiguration):
        await objects.setting("box", "cors")
    await objects.set_setting("box", "cors", b"<x/>")
    await objects.set_setting("box", "cors", b"<y/>")
    assert await objects.setting("box", "cors") == b"<y/>"
    assert (await objects.bucket_with_settings("box"))[1] == {"cors": b"<y/>"}
    await objects.set_setting("box", "cors", None)
    assert (await objects.bucket_with_settings("box"))[1] == {}


REFUSALS: list[tuple[type[ObjectsError], dict[str, Any]]] = [
    (KeyTooLong, {"key": "x" * 1025}),
    (InvalidArgument, {"key": ""}),
    (InvalidArgument, {"key": "\ud800"}),
    (MetadataTooLarge, {"metadata": {"a": "x" * 2048}}),
    (BadRequest, {"tags": {str(n): "" for n in range(11)}}),
    (InvalidArgument, {"tags": {"x" * 129: ""}}),
    (InvalidArgument, {"tags": {"x": "y" * 257}}),
    (BadDigest, {"md5": b64encode(bytes(16)).decode()}),
    (InvalidDigest, {"md5": "short"}),
    (InvalidDigest, {"md5": "AAAA"}),
    (BadDigest, {"checksum": Checksum("CRC32", "AAAAAA==")}),
    (BadDigest, {"checksum": Checksum("SHA256", b64encode(bytes(32)).decode())}),
    (InvalidRequest, {"checksum": Checksum("CRC32", "AAAA")}),
    (InvalidRequest, {"checksum": Checksum("MD7")}),
    (IncompleteBody, {"size": 4}),
    (IncompleteBody, {"size": 2}),
    (EntityTooLarge, {"size": 6 << 30}),
    (PreconditionFailed, {"condition": WriteIf(none_match="*")}),
    (PreconditionFailed, {"condition": WriteIf(match='"0123"')}),
    (NoSuchKey, {"key": "other", "condition": WriteIf(match="*")}),
    (NoSuchBucket, {"bucket": "nowhere"}),
]


async def test_a_refused_put_stores_nothing(objects: Objects) -> None:
    await objects.put("box", "k", b"before")
    for refusal, asked in REFUSALS:
        with pytest.raises(refusal):
            await objects.put(**{"bucket": "box", "key": "k", "body": b"abc", **asked})
        assert await keys_of(objects) == ["k"] and await bytes_of(objects, "k") == b"before"


async def test_a_body_that_breaks_off_leaves_nothing(objects: Objects) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield body_of(2 * STRIPE_BYTES + 1)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await objects.put("box", "k", broken())
    assert await keys_of(objects) == []


async def test_an_asked_checksum_is_computed_compared_and_kept(objects: Objects) -> None:
    for algorithm in ALGORITHMS:
        for size in (3, 2 * STRIPE_BYTES + 1):
            body = body_of(size)
            made = await objects.put("box", "k", body, checksum=Checksum(algorithm))
            assert made.checksum is not None and made.checksum.algorithm == algorithm
            again = await objects.put("box", "k", body, checksum=made.checksum)
            assert (await objects.head("box", "k")).checksum == again.checksum == made.checksum
            if algorithm == "SHA256":
                assert made.checksum.value == b64encode(hashlib.sha256(body).digest()).decode()


async def test_of_many_conditional_writers_exactly_one_wins(objects: Objects) -> None:
    async def create(number: int) -> bool:
        try:
            await objects.put("box", "k", b"%d" % number, condition=WriteIf(none_match="*"))
        except PreconditionFailed:
            return False
        return True

    assert sum(await asyncio.gather(*(create(number) for number in range(20)))) == 1
    etag = (await objects.head("box", "k")).etag

    async def replace(number: int) -> bool:
        try:
            await objects.put(
                "box", "k", body_of(SMALL_BYTES * (1 + number % 2 * 2), number), condition=WriteIf(match=etag)
            )
        except PreconditionFailed:
            return False
        return True

    assert sum(await asyncio.gather(*(replace(number) for number in range(20)))) == 1


async def test_reads_and_deletes_obey_their_conditions(objects: Objects) -> None:
    made = await objects.put("box", "k", b"1")
    second = made.modified_us // 1_000_000
    for condition, refusal in (
        (ReadIf(match='"x"'), PreconditionFailed),
        (ReadIf(none_match=f'"{made.etag}"'), NotModified),
        (ReadIf(none_match="*"), NotModified),
        (ReadIf(modified_since_s=second), NotModified),
        (ReadIf(unmodified_since_s=second - 1), PreconditionFailed),
    ):
        with pytest.raises(refusal):
            await objects.get("box", "k", condition=condition)
    for condition in (
        ReadIf(match=f'"x", "{made.etag}"', unmodified_since_s=second - 1),
        ReadIf(none_match='"x"', modified_since_s=second),
        ReadIf(modified_since_s=second - 1),
    ):
        assert (await objects.head("box", "k", condition=condition)).etag == made.etag
    with pytest.raises(PreconditionFailed):
        await objects.delete("box", "k", condition=WriteIf(match="x"))
    await objects.delete("box", "k", condition=WriteIf(match=made.etag))
    with pytest.raises(NoSuchKey):
        await objects.delete("box", "k", condition=WriteIf(match="*"))


async def test_versioning_replaces_nothing_and_a_delete_puts_a_marker_on_top(objects: Objects) -> None:
    first = await objects.put("box", "k", b"null")
    assert first.version == "null"
    await objects.set_versioning("box", Versioning.ENABLED)
    second = await objects.put("box", "k", b"2")
    third = await objects.put("box", "k", body_of(STRIPE_BYTES))
    marker = await objects.delete("box", "k")
    assert marker.marker and marker.version
    with pytest.raises(NoSuchKey) as refused:
        await objects.get("box", "k")
    assert refused.value.more["marker"] == marker.version
    with pytest.raises(MethodNotAllowed):
        await objects.get("box", "k", version=marker.version)
    assert await bytes_of(objects, "k", version="null") == b"null"
    assert await bytes_of(objects, "k", version=second.version) == b"2"
    page = await objects.list_versions("box")
    assert [(one.version, one.marker, one.latest) for one in page.entries] == [
        (marker.version, True, True),
        (third.version, False, False),
        (second.version, False, False),
        ("null", False, False),
    ]
    assert await keys_of(objects) == []
    assert (await objects.delete("box", "k", marker.version)).marker
    assert await bytes_of(objects, "k") == body_of(STRIPE_BYTES)
    await objects.set_versioning("box", Versioning.SUSPENDED)
    await objects.put("box", "k", b"new null")
    assert [one.version for one in (await objects.list_versions("box")).entries] == [
        "null",
        third.version,
        second.version,
    ]
    assert (await objects.delete("box", "k")).version == "null"
    assert [one.marker for one in (await objects.list_versions("box")).entries] == [True, False, False]
    with pytest.raises(NoSuchVersion):
        await objects.get("box", "k", version="0" * 32)
    with pytest.raises(InvalidArgument):
        await objects.get("box", "k", version="what")


async def test_a_versioned_bucket_reads_as_of_a_moment(objects: Objects) -> None:
    await objects.set_versioning("box", Versioning.ENABLED)
    first = await objects.put("box", "k", b"1")
    second = await objects.put("box", "k", b"2")
    deleted = await objects.delete("box", "k")
    await objects.put("box", "other", b"3")
    assert deleted.version is not None
    assert await bytes_of(objects, "k", as_of_us=first.seq) == b"1"
    assert await bytes_of(objects, "k", as_of_us=second.seq) == b"2"
    for moment in (first.seq - 1, int(deleted.version[:16], 16)):
        with pytest.raises(NoSuchKey):
            await objects.get("box", "k", as_of_us=moment)
    assert await keys_of(objects, as_of_us=second.seq) == ["k"]
    assert await keys_of(objects) == ["other"]


async def test_a_copy_moves_no_byte_and_lives_without_its_source(objects: Objects) -> None:
    body = body_of(3 * STRIPE_BYTES)
    for key, content in (("large", body), ("small", b"s")):
        await objects.put("box", key, content, metadata={"a": "1"}, tags={"t": "1"})
        made, _ = await objects.copy(Source("box", key), "box", f"{key} copy", changes=Changes(metadata={"b": "2"}))
        assert made.metadata == {"b": "2"} and made.tags == {"t": "1"}
        await objects.delete("box", key)
        assert await bytes_of(objects, f"{key} copy") == content
    with pytest.raises(PreconditionFailed):
        await objects.copy(Source("box", "large copy", condition=ReadIf(match="x")), "box", "y")
    with pytest.raises(NoSuchKey):
        await objects.copy(Source("box", "large"), "box", "y")
    itself, _ = await objects.copy(Source("box", "large copy"), "box", "large copy", changes=Changes(metadata={}))
    assert itself.metadata == {} and await bytes_of(objects, "large copy") == body


async def test_a_copy_with_another_checksum_reads_its_source_again(objects: Objects) -> None:
    await objects.put("box", "k", b"abc", headers={"content-type": "a/b"})
    made, _ = await objects.copy(Source("box", "k"), "box", "c", checksum=Checksum("SHA256"))
    assert made.checksum is not None and made.checksum.algorithm == "SHA256" and made.headers == {"content-type": "a/b"}
    assert await bytes_of(objects, "c") == b"abc"


async def test_a_rename_takes_the_bytes_along(objects: Objects) -> None:
    for content in (b"small", body_of(2 * STRIPE_BYTES)):
        await objects.put("box", "a", content, tags={"x": "y"})
        renamed = await objects.rename("box", "a", "b")
        assert renamed.tags == {"x": "y"} and await keys_of(objects) == ["b"]
        assert await bytes_of(objects, "b") == content
    with pytest.raises(NoSuchKey):
        await objects.rename("box", "a", "c")
    await objects.put("box", "a", b"")
    with pytest.raises(PreconditionFailed):
        await objects.rename("box", "a", "b", condition=WriteIf(none_match="*"))
    assert await keys_of(objects) == ["a", "b"]


async def test_a_prefix_is_renamed_at_once_and_keeps_its_history_with_versioning(objects: Objects) -> None:
    for number in range(30):
        await objects.put("box", f"old/{number:02}", b"%d" % number)
    assert await objects.rename_prefix("box", "old/", "new/") == 30
    assert await keys_of(objects) == [f"new/{number:02}" for number in range(30)]
    await objects.set_versioning("box", Versioning.ENABLED)
    assert await objects.rename_prefix("box", "new/0", "third/") == 10
    assert await bytes_of(objects, "third/7") == b"7"
    assert await bytes_of(objects, "new/07", version="null") == b"7"
    for source, target in (("new", "new/x"), ("absent", "y")):
        with pytest.raises((InvalidRequest, NoSuchKey)):
            await objects.rename_prefix("box", source, target)


async def test_a_commit_of_many_keys_happens_whole_or_not_at_all(objects: Objects) -> None:
    large = body_of(2 * STRIPE_BYTES)
    await objects.put("box", "a", b"a")
    await objects.put("box", "gone", b"gone")
    done = await objects.commit(
        "box",
        [
            StagedPut("b", b"small"),
            StagedPut("c", chunks(large), len(large), Wish(metadata={"m": "1"})),
            Copy(Source("box", "a"), "d"),
            Copy(Source("box", "b"), "e"),
            Delete("gone"),
        ],
    )
    assert len(done) == 5 and await keys_of(objects) == ["a", "b", "c", "d", "e"]
    assert await bytes_of(objects, "c") == large and await bytes_of(objects, "e") == b"small"
    with pytest.raises(PreconditionFailed) as refused:
        await objects.commit("box", [StagedPut("f", b"f"), Delete("a"), Delete("b", condition=WriteIf(match="x"))])
    assert refused.value.more["operation"] == 2
    assert await keys_of(objects) == ["a", "b", "c", "d", "e"]


async def test_tags_are_set_read_and_taken_off(objects: Objects) -> None:
    await objects.put("box", "k", b"", tags={"a": "1"})
    await objects.set_tags("box", "k", {"b": "2", "c": ""})
    assert (await objects.head("box", "k")).tags == {"b": "2", "c": ""}
    await objects.set_tags("box", "k", {})
    assert (await objects.head("box", "k")).tags == {}
    with pytest.raises(NoSuchKey):
        await objects.set_tags("box", "other", {})
    await objects.set_acl("box", "k", b"acl")
    assert (await objects.head("box", "k")).acl == b"acl"


async def test_many_small_puts_at_once_share_pages(objects: Objects) -> None:
    bodies = {f"k{number}": body_of(number * 13, number) for number in range(200)}
    await asyncio.gather(*(objects.put("box", key, body) for key, body in bodies.items()))
    assert await keys_of(objects) == sorted(bodies)
    for key, body in bodies.items():
        assert await bytes_of(objects, key) == body
