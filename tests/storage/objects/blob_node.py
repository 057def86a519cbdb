"""A node that shares database and blobs: `python -m tests.storage.objects.blob_node DATA DATABASE BLOBS SEED`.

It reads, writes and compares and sets two blobs, again and again, until its input ends. Before each call it prints what it
is about to ask, and after it what was answered, each with the machine's monotonic time, which all processes share.
"""

import asyncio
import hashlib
import json
import os
import random
import sys
import time
from itertools import count
from typing import Any, cast

from mainspring.core.application import Mainspring
from mainspring.core.config import load
from mainspring.core.ports import Blobs
from mainspring.core.problems import PreconditionFailed

KEYS = ("a", "b")


def say(**fields: Any) -> None:
    os.write(1, json.dumps({**fields, "at": time.monotonic_ns()}).encode() + b"\n")


async def current(blobs: Blobs, key: str) -> str | None:
    try:
        return (await blobs.head(key)).etag
    except KeyError:
        return None


async def use(blobs: Blobs, seed: int, ended: asyncio.Event) -> None:
    chance = random.Random(seed)
    for number in count():
        if ended.is_set():
            return
        key, kind = chance.choice(KEYS), chance.choice(("read", "write", "cas", "cas"))
        body = b"%d/%d" % (seed, number)
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        if kind == "read":
            say(number=number, key=key, name="read", argument=None)
            say(number=number, result=await current(blobs, key))
        elif kind == "write":
            say(number=number, key=key, name="write", argument=etag)
            await blobs.put(key, body)
            say(number=number, result=None)
        else:
            seen = await current(blobs, key)
            say(number=number, key=key, name="cas", argument=[seen, etag])
            try:
                await blobs.put(key, body, if_absent=seen is None, if_match=seen)
            except PreconditionFailed:
                say(number=number, result=False)
            else:
                say(number=number, result=True)


async def main(data: str, database: str, blobs: str, seed: str) -> None:
    settings = (f"database={database}", f"blobs={blobs}", "free_bytes_min=0", "ports.s3=0")
    config = load(settings=settings, data=data, port=0, environment={})
    ended = asyncio.Event()
    async with Mainspring(["objects"], config) as node:
        asyncio.get_running_loop().add_reader(0, ended.set)
        await use(await node.service(cast(Any, Blobs)), int(seed), ended)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
