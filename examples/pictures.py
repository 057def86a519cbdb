"""An object store in your own program: conditional writes, versions, a look at yesterday.

python examples/pictures.py [FOLDER]
"""

import asyncio
import sys
from tempfile import mkdtemp

from mainspring.core.application import Mainspring
from mainspring.core.config import Config
from mainspring.storage.objects import BucketAlreadyOwnedByYou, Objects, PreconditionFailed, Versioning, WriteIf


async def main(folder: str) -> None:
    async with Mainspring(["objects"], Config(data=folder)) as mainspring:
        objects = await mainspring.service(Objects)
        try:
            await objects.create_bucket("pictures")
        except BucketAlreadyOwnedByYou:
            print("the bucket is there")
        await objects.set_versioning("pictures", Versioning.ENABLED)

        first = await objects.put(
            "pictures", "2026/sky.svg", b"<svg>blue</svg>", headers={"content-type": "image/svg+xml"}
        )
        before_us = objects.now_us()
        await objects.put("pictures", "2026/sky.svg", b"<svg>grey</svg>", condition=WriteIf(match=first.etag))
        try:
            await objects.put("pictures", "2026/sky.svg", b"<svg>late</svg>", condition=WriteIf(match=first.etag))
        except PreconditionFailed:
            print("somebody was quicker: nothing was changed")

        now = await objects.get("pictures", "2026/sky.svg")
        then = await objects.get("pictures", "2026/sky.svg", as_of_us=before_us)
        print(b"".join([bytes(piece) async for piece in now]), b"".join([bytes(piece) async for piece in then]))


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else mkdtemp()))
