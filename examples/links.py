"""Short links in your own program: no network, the same rows as the server's.

python examples/links.py [FOLDER]
"""

import asyncio
import sys
from tempfile import mkdtemp

from mainspring.core.application import Mainspring
from mainspring.core.config import Config
from mainspring.social.links import Links


async def main(folder: str) -> None:
    async with Mainspring(["links"], Config(data=folder)) as mainspring:
        links = await mainspring.service(Links)
        link = await links.create("https://www.python.org/", title="Python", find_if_exists=True)
        print(f"{links.domains.short_url(link)} leads to {link.target}")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else mkdtemp()))
