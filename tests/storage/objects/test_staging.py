"""Bodies on their way in, before they are an object: any buffer is one, and what is known of a bucket is only a hint."""

from typing import Any

import pytest

from mainspring.storage.objects import Objects
from mainspring.storage.objects.errors import IncompleteBody, NoSuchBucket
from tests.storage.objects.conftest import SMALL_BYTES, STRIPE_BYTES, bytes_of, keys_of
from tests.storage.objects.test_service import body_of


async def test_a_bucket_that_was_known_a_moment_ago_does_not_bring_a_deleted_one_back(objects: Objects) -> None:
    known = await objects.bucket("box")
    await objects.delete_bucket("box")
    for size in (SMALL_BYTES, STRIPE_BYTES):
        with pytest.raises(NoSuchBucket):
            await objects.put("box", "k", body_of(size), known=known)
    await objects.create_bucket("box")
    assert await keys_of(objects) == []


@pytest.mark.parametrize("body", [bytearray(b"abc"), memoryview(b"abcdef")[::2], memoryview(b"\1\0\2\0").cast("H")])
async def test_any_buffer_is_a_body(objects: Objects, body: Any) -> None:
    await objects.put("box", "k", body)
    assert await bytes_of(objects, "k") == bytes(body)
    with pytest.raises(IncompleteBody):
        await objects.put("box", "k", body, size=len(bytes(body)) + 1)
