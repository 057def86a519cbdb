"""The S3 door of a whole application on a free port, and clients that know it only by its address."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mainspring.core.application import Mainspring
from mainspring.core.config import load
from tests.storage.objects.s3.running import Running


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """An application with the object store alone; `main` is the owner's key pair."""
    async with started(tmp_path) as one:
        yield one


def started(folder: Path, give: dict[Any, Any] | None = None, **settings: Any) -> Any:
    """A context in which an application runs; `give` replaces its ports. How full the machine's disk is does not matter."""
    return _Started(folder, give or {}, settings)


class _Started:
    def __init__(self, folder: Path, give: dict[Any, Any], settings: dict[str, Any]) -> None:
        accounts = folder / "accounts.json"
        accounts.write_bytes(msgspec.json.encode(ACCOUNTS))
        room = {"free_bytes_min": 0, "objects.free_share_min": 0, "objects.free_bytes_enough": 0}
        given = {"objects.accounts": str(accounts), **room, **settings}
        texts = tuple(f"{name}={value}" for name, value in given.items())
        config = load(settings=("ports.s3=0", *texts), data=str(folder / "data"), port=0, environment={})
        self._mainspring = Mainspring(["objects"], config, give=give)

    async def __aenter__(self) -> Running:
        await self._mainspring.__aenter__()
        await self._mainspring.listen()
        keys = await self._mainspring.actions["token.create"]({"system": "objects"})
        systems = {one["name"]: one for one in self._mainspring.systems()}
        address = systems["objects"]["listeners"][0]["address"].rstrip("/")
        return Running(self._mainspring, address, keys["access_key"], keys["secret_key"])

    async def __aexit__(self, *_error: object) -> None:
        await self._mainspring.__aexit__(None, None, None)


ACCOUNTS = {
    "accounts": [
        {
            "id": "alice",
            "display_name": "Alice",
            "email": "alice@example.org",
            "keys": [{"access_key": "ALICEALICEALICEALICE", "secret_key": "alice's secret key"}],
        },
        {
            "id": "bob",
            "display_name": "Bob",
            "email": "bob@example.org",
            "keys": [{"access_key": "BOBBOBBOBBOBBOBBOBBO", "secret_key": "bob's secret key"}],
        },
    ]
}
