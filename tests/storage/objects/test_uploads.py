"""Uploads in parts: nothing is visible before it is completed, and what is completed is the parts in their order."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mainspring.storage.objects import Checksum, Objects
from mainspring.storage.objects.conditions import WriteIf
from mainspring.storage.objects.errors import (
    BadDigest,
    EntityTooSmall,
    InvalidArgument,
    InvalidPart,
    InvalidPartNumber,
    InvalidPartOrder,
    InvalidRequest,
    NoSuchUpload,
    PreconditionFailed,
    SlowDown,
)
from mainspring.storage.objects.moves import Complete
from mainspring.storage.objects.multipart import Wanted
from mainspring.storage.objects.staging import Wish
from tests.storage.objects.conftest import STRIPE_BYTES, MakeStore, bytes_of, keys_of, stores

PARTS = [random.Random(number).randbytes(size) for number, size in enumerate((STRIPE_BYTES + 5, 2 * STRIPE_BYTES, 9))]


@pytest.fixture
async def make_store(database: Any, tmp_path: Path) -> AsyncIterator[MakeStore]:
    """On the embedded database and on PostgreSQL."""
    async with stores(database, tmp_path) as make:
        yield make


async def upload(objects: Objects, key: str = "k", wish: Wish | None = None) -> tuple[str, list[Wanted]]:
    id = await objects.uploads.begin("box", key, wish)
    rows = await asyncio.gather(
        *(objects.uploads.put_part("box", key, id, number, part) for number, part in enumerate(PARTS, 1))
    )
    return id, [Wanted(row.number, row.etag) for row in rows]


async def test_parts_become_one_object_that_is_read_whole_in_ranges_and_by_part(objects: Objects) -> None:
    wish = Wish(metadata={"a": "b"}, tags={"t": "1"}, headers={"content-type": "x/y"})
    id, wanted = await upload(objects, wish=wish)
    assert await keys_of(objects) == []
    made = await objects.uploads.complete("box", "k", id, wanted)
    digests = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in PARTS)
    assert made.etag == hashlib.md5(digests, usedforsecurity=False).hexdigest() + "-3"
    assert (made.metadata, made.tags, made.headers) == ({"a": "b"}, {"t": "1"}, {"content-type": "x/y"})
    body = b"".join(PARTS)
    assert await bytes_of(objects, "k") == body
    assert await bytes_of(objects, "k", range=(STRIPE_BYTES, len(body) - 2)) == body[STRIPE_BYTES : len(body) - 1]
    for number, part in enumerate(PARTS, 1):
        assert await bytes_of(objects, "k", part=number) == part
    with pytest.raises(InvalidPartNumber):
        await objects.get("box", "k", part=4)
    assert await objects.uploads.complete("box", "k", id, wanted) == made
    with pytest.raises(NoSuchUpload):
        await objects.uploads.put_part("box", "k", id, 1, b"")


async def test_what_is_wrong_with_a_completion_leaves_the_upload_open(objects: Objects) -> None:
    id, wanted = await upload(objects)
    first, second, third = wanted
    for parts, refusal in (
        ([second, first], InvalidPartOrder),
        ([first, first], InvalidPartOrder),
        ([Wanted(1, "0" * 32)], InvalidPart),
        ([Wanted(7, first.etag)], InvalidPart),
        ([Wanted(1, first.etag, "AAAA")], InvalidPart),
        ([], InvalidRequest),
    ):
        with pytest.raises(refusal):
            await objects.uploads.complete("box", "k", id, parts)
    with pytest.raises(InvalidRequest):
        await objects.uploads.complete("box", "k", id, wanted, size=1)
    with pytest.raises(BadDigest):
        await objects.uploads.complete("box", "k", id, wanted, checksum=Checksum("CRC64NVME", "AAAAAAAAAAA="))
    await objects.put("box", "k", b"there")
    with pytest.raises(PreconditionFailed):
        await objects.uploads.complete("box", "k", id, wanted, condition=WriteIf(none_match="*"))
    assert await bytes_of(objects, "k") == b"there"
    await objects.uploads.complete("box", "k", id, [first, third])
    assert await bytes_of(objects, "k") == PARTS[0] + PARTS[2]


async def test_a_small_inner_part_is_refused(make_store: MakeStore) -> None:
    objects = (await make_store(1, part_bytes_min=100)).objects
    await objects.create_bucket("box")
    id, wanted = await upload(objects)
    tiny = await objects.uploads.put_part("box", "k", id, 2, b"tiny")
    with pytest.raises(EntityTooSmall):
        await objects.uploads.complete("box", "k", id, [wanted[0], Wanted(2, tiny.etag), wanted[2]])
    await objects.uploads.complete("box", "k", id, [wanted[0], Wanted(2, tiny.etag)])
    assert await bytes_of(objects, "k") == PARTS[0] + b"tiny"


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("CRC32", "FULL_OBJECT"), ("CRC32C", "COMPOSITE"), ("SHA256", "COMPOSITE")]
)
async def test_the_checksum_of_the_whole_is_combined_from_those_of_the_parts(
    objects: Objects, algorithm: str, kind: str
) -> None:
    id, wanted = await upload(objects, wish=Wish(checksum=Checksum(algorithm, kind=kind)))
    made = await objects.uploads.complete("box", "k", id, wanted)
    assert made.checksum is not None and (made.checksum.algorithm, made.checksum.kind) == (algorithm, kind)
    whole = await objects.put("box", "same", b"".join(PARTS), checksum=Checksum(algorithm))
    assert whole.checksum is not None
    if kind == "FULL_OBJECT":
        assert made.checksum.value == whole.checksum.value
    else:
        assert made.checksum.value.endswith("-3")


async def test_uploads_and_parts_are_listed_in_pages(objects: Objects) -> None:
    ids = [await objects.uploads.begin("box", key) for key in ("a", "a", "b/1", "b/2", "c")]
    page = await objects.uploads.list("box", count=2)
    assert [one.id for one in page.uploads] == ids[:2] and page.next == ("a", ids[1])
    rest = await objects.uploads.list("box", key_marker="a", id_marker=ids[1])
    assert [one.id for one in rest.uploads] == ids[2:]
    rolled = await objects.uploads.list("box", delimiter="/")
    assert [one.key for one in rolled.uploads] == ["a", "a", "c"] and rolled.prefixes == ["b/"]
    assert [one.key for one in (await objects.uploads.list("box", prefix="b/")).uploads] == ["b/1", "b/2"]
    id, _ = await upload(objects)
    parts = await objects.uploads.parts("box", "k", id, count=2)
    assert [row.number for row in parts.parts] == [1, 2] and parts.next == 2
    assert [row.number for row in (await objects.uploads.parts("box", "k", id, after=2)).parts] == [3]


async def test_an_aborted_upload_gives_everything_back(make_store: MakeStore) -> None:
    objects = (await make_store(1)).objects
    await objects.create_bucket("box")
    id, _ = await upload(objects)
    await objects.uploads.put_part("box", "k", id, 2, b"again")
    await objects.uploads.abort("box", "k", id)
    with pytest.raises(NoSuchUpload):
        await objects.uploads.abort("box", "k", id)
    assert (await objects.upkeep.usage()).stripes == 0
    await objects.delete_bucket("box")


async def test_a_part_is_copied_from_an_object(objects: Objects) -> None:
    await objects.put("box", "source", PARTS[1])
    id = await objects.uploads.begin("box", "k")
    reader = await objects.get("box", "source", (10, STRIPE_BYTES + 9))
    row = await objects.uploads.copy_part("box", "k", id, 1, reader)
    await objects.uploads.complete("box", "k", id, [Wanted(1, row.etag)])
    assert await bytes_of(objects, "k") == PARTS[1][10 : STRIPE_BYTES + 10]


async def test_a_commit_of_many_keys_takes_uploads_as_staged_puts(objects: Objects) -> None:
    first, wanted = await upload(objects, "a")
    second, wanted_too = await upload(objects, "b")
    await objects.commit("box", [Complete("a", first, tuple(wanted)), Complete("b", second, tuple(wanted_too))])
    assert await keys_of(objects) == ["a", "b"]


async def test_limits_of_uploads_are_kept(make_store: MakeStore) -> None:
    objects = (await make_store(1, uploads_max=1)).objects
    await objects.create_bucket("box")
    id = await objects.uploads.begin("box", "k")
    with pytest.raises(SlowDown):
        await objects.uploads.begin("box", "k")
    for number in (0, 10_001):
        with pytest.raises(InvalidArgument):
            await objects.uploads.put_part("box", "k", id, number, b"")


async def test_an_upload_without_a_checksum_takes_parts_with_any_and_keeps_its_own(objects: Objects) -> None:
    bodies = [random.Random(number).randbytes(70_000) for number in range(3)]
    id = await objects.uploads.begin("box", "k")
    rows = [
        await objects.uploads.put_part("box", "k", id, number, body, checksum=Checksum(algorithm))
        for number, (body, algorithm) in enumerate(zip(bodies, ("CRC32", "SHA256", "CRC64NVME"), strict=True), 1)
    ]
    told = [row.told for row in rows]
    assert [one.algorithm for one in told if one] == ["CRC32", "SHA256", "CRC64NVME"]
    wanted = [
        Wanted(row.number, row.etag, one.value, one.algorithm) for row, one in zip(rows, told, strict=True) if one
    ]
    spoiled = [*wanted[:2], Wanted(3, rows[2].etag, told[0].value if told[0] else "", "CRC64NVME")]
    with pytest.raises(InvalidPart):
        await objects.uploads.complete("box", "k", id, spoiled)
    made = await objects.uploads.complete("box", "k", id, wanted)
    whole = await objects.put("box", "whole", b"".join(bodies))
    assert made.checksum == whole.checksum and made.checksum is not None and made.checksum.kind == "FULL_OBJECT"


async def test_an_upload_with_a_checksum_takes_parts_with_no_other(objects: Objects) -> None:
    id = await objects.uploads.begin("box", "k", Wish(checksum=Checksum("SHA256")))
    with pytest.raises(InvalidRequest, match="mismatch"):
        await objects.uploads.put_part("box", "k", id, 1, b"x", checksum=Checksum("CRC32"))
    assert (await objects.uploads.put_part("box", "k", id, 1, b"x")).told is None
