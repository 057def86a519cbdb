"""What the port `Blobs` promises: one suite that every adapter passes, whatever stands behind it.

A test module gives an adapter by a fixture named `blobs`, empty at the start of each test, and inherits the tests.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mainspring.core.problems import Invalid, PreconditionFailed, Problem

SIZES = (0, 1, 5_000, 200_000, 9_000_000)


def body_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 70_000):
        await asyncio.sleep(0)
        yield body[at : at + 70_000]


class BlobsContract:
    async def test_what_is_put_is_what_is_read_whole_in_part_and_in_chunks(self, blobs: Any) -> None:
        for size in SIZES:
            body = body_of(size)
            made = await blobs.put(f"a/{size}", body)
            assert (made.name, made.size) == (f"a/{size}", size) and made.etag and made.modified_us > 0
            assert await blobs.get(f"a/{size}") == body
            assert await blobs.get(f"a/{size}", 3, 900) == body[3:900]
            assert await blobs.get(f"a/{size}", size // 2) == body[size // 2 :]
            assert b"".join([chunk async for chunk in blobs.stream(f"a/{size}")]) == body

    async def test_a_body_may_come_in_chunks(self, blobs: Any) -> None:
        for size in SIZES:
            await blobs.put("k", in_chunks(body_of(size)))
            assert await blobs.get("k") == body_of(size)

    async def test_head_tells_what_was_given(self, blobs: Any) -> None:
        made = await blobs.put("k", b"abc", "text/plain", metadata={"colour": "red"})
        found = await blobs.head("k")
        assert (found.size, found.content_type, found.metadata) == (3, "text/plain", {"colour": "red"})
        assert found.etag == made.etag != (await blobs.put("k", b"abcd")).etag

    async def test_what_is_not_there_is_a_key_error_and_can_be_deleted(self, blobs: Any) -> None:
        await blobs.delete("k")
        await blobs.put("k", b"1")
        await blobs.delete("k")
        for call in (blobs.get("k"), blobs.get("k", 1, 2), blobs.head("k")):
            with pytest.raises(KeyError):
                await call
        with pytest.raises(KeyError):
            await anext(blobs.stream("k"))

    async def test_a_put_replaces_the_whole(self, blobs: Any) -> None:
        await blobs.put("k", b"long before", "text/plain", metadata={"a": "b"})
        await blobs.put("k", b"new")
        found = await blobs.head("k")
        assert await blobs.get("k") == b"new" and found.metadata == {} and found.content_type != "text/plain"

    async def test_of_many_who_create_exactly_one_succeeds(self, blobs: Any) -> None:
        async def create(number: int) -> bool:
            try:
                await blobs.put("k", b"%d" % number, if_absent=True)
            except PreconditionFailed:
                return False
            return True

        results = await asyncio.gather(*(create(number) for number in range(8)))
        assert sum(results) == 1 and await blobs.get("k") == b"%d" % results.index(True)

    async def test_of_many_who_replace_the_same_version_exactly_one_succeeds(self, blobs: Any) -> None:
        etag = (await blobs.put("k", b"first")).etag

        async def replace(number: int) -> bool:
            try:
                await blobs.put("k", b"%d" % number, if_match=etag)
            except PreconditionFailed:
                return False
            return True

        results = await asyncio.gather(*(replace(number) for number in range(8)))
        assert sum(results) == 1 and await blobs.get("k") == b"%d" % results.index(True)
        with pytest.raises(PreconditionFailed):
            await blobs.put("absent", b"", if_match=etag)

    async def test_listings_are_in_order_in_pages_and_rolled_up(self, blobs: Any) -> None:
        names = sorted(["a", "b/1", "b/2", "b/c/3", "bb", "c=1/x", "d-e", "d.e"])
        for name in names:
            await blobs.put(name, name.encode())
        whole = await blobs.list()
        assert [(one.name, one.size) for one in whole.blobs] == [(name, len(name)) for name in names]
        assert whole.next is None
        seen: list[str] = []
        after = ""
        while True:
            page = await blobs.list(after=after, count=3)
            seen += [one.name for one in page.blobs]
            if page.next is None:
                break
            after = page.next
        assert seen == names
        rolled = await blobs.list(delimiter="/")
        assert [one.name for one in rolled.blobs] == ["a", "bb", "d-e", "d.e"] and rolled.prefixes == ["b/", "c=1/"]
        assert [one.name for one in (await blobs.list("b/")).blobs] == ["b/1", "b/2", "b/c/3"]
        assert [one.name for one in (await blobs.list("b")).blobs] == ["b/1", "b/2", "b/c/3", "bb"]
        below = await blobs.list("b/", delimiter="/", after="b/1")
        assert [one.name for one in below.blobs] == ["b/2"] and below.prefixes == ["b/c/"]
        assert (await blobs.list("z")).blobs == []

    async def test_a_name_that_could_mean_two_things_is_refused(self, blobs: Any) -> None:
        for name in ("", "/a", "a/", "a//b", "../a", "a/./b", "a b", "a\x00", "ü", "a?b", "a" * 1025):
            with pytest.raises(Invalid):
                await blobs.put(name, b"")

    async def test_a_body_that_breaks_off_leaves_what_was_there(self, blobs: Any) -> None:
        await blobs.put("k", b"before")

        async def broken() -> AsyncIterator[bytes]:
            yield bytes(6_000_000)
            raise ConnectionResetError

        with pytest.raises((ConnectionResetError, Problem)):
            await blobs.put("k", broken())
        assert await blobs.get("k") == b"before"
