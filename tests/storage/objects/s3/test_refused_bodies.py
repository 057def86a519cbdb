"""A refusal is heard whatever the client does with the body that it is about: sends it whole, slowly, not at all, or leaves.

Each client speaks by bytes on a connection of its own. After its refusal it asks once more on the same connection, where that
was left open, and must get the answer to that and to nothing else.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tests.storage.objects.s3.running import Running

PATIENCE_S = 60
SIZES = (1, 70_000, 900_000, 3_000_000)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Way = Callable[[Streams, random.Random, int], Awaitable[None]]


def head(host: str, size: int, *more: str) -> bytes:
    lines = ["PUT /no-such-bucket/key HTTP/1.1", f"host: {host}", f"content-length: {size}", *more, "", ""]
    return "\r\n".join(lines).encode()


async def answer(streams: Streams) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next final answer."""
    reader, _ = streams
    while True:
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(first.split()[1])
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)}
        body = await reader.readexactly(int(found.get("content-length", "0")))
        if status >= 200:
            return status, found, body


async def refused(streams: Streams) -> bool:
    """Hears a refusal; gives whether the connection stays open."""
    status, headers, body = await answer(streams)
    assert status == 404 and b"<Code>NoSuchBucket</Code>" in body, (status, body)
    return headers.get("connection") != "close"


async def send_all_at_once(streams: Streams, chance: random.Random, size: int) -> None:
    streams[1].write(bytes(size))


async def send_slowly(streams: Streams, chance: random.Random, size: int) -> None:
    sent = 0
    while sent < size:
        piece = min(size - sent, chance.randint(1, 1 + size // 4))
        streams[1].write(bytes(piece))
        sent += piece
        for _ in range(chance.randint(1, 20)):
            await asyncio.sleep(0)


async def wait_to_be_told(streams: Streams, chance: random.Random, size: int) -> None:
    """Sends nothing of its body: it is told no before it is told to go on."""


WAYS: dict[str, tuple[Way, tuple[str, ...]]] = {
    "at once": (send_all_at_once, ()),
    "slowly": (send_slowly, ()),
    "not before it is told to": (wait_to_be_told, ("expect: 100-continue",)),
    "at once though it asked": (send_all_at_once, ("expect: 100-continue",)),
}


async def visit(running: Running, way: str, size: int, seed: int) -> None:
    """One client: a body that is refused, and then another request, if the connection is still good for one."""
    chance = random.Random(seed)
    send_body, more = WAYS[way]
    host, _, port = running.host.rpartition(":")
    streams = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(PATIENCE_S):
            streams[1].write(head(running.host, size, *more))
            sending = asyncio.create_task(send_body(streams, chance, size))
            try:
                stays = await refused(streams)
                await sending
            except (ConnectionError, asyncio.IncompleteReadError):
                assert more  # who asks whether to go on, and does not wait, may find the connection ended
                return
            if stays and not more:
                streams[1].write(f"GET /no-such-bucket/key HTTP/1.1\r\nhost: {running.host}\r\n\r\n".encode())
                await refused(streams)
    finally:
        sending.cancel()
        streams[1].close()


async def leave(running: Running, size: int, seed: int) -> None:
    """Sends a part of a body and goes away."""
    host, _, port = running.host.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head(running.host, size) + bytes(random.Random(seed).randrange(size)))
    await asyncio.sleep(0)
    writer.close()


async def many(running: Running, rounds: int) -> None:
    """All ways and sizes, several clients at once, and others who leave in between; then the door is as good as before."""
    for number in range(rounds):
        kinds = [(way, size) for way in WAYS for size in SIZES]
        work = [visit(running, way, size, number) for way, size in kinds]
        await asyncio.gather(*work, *(leave(running, size, number) for size in SIZES))
    await asyncio.to_thread(running.client().create_bucket, Bucket="still-there")


async def test_a_refusal_is_heard_whatever_becomes_of_the_body(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    await many(running, 2)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.slow
async def test_four_hundred_refusals_are_heard_whatever_becomes_of_their_bodies(running: Running) -> None:
    await many(running, 25)
