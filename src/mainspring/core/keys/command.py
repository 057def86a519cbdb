"""What the command line asks for: one thing done to one key, by whoever sits at the machine."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from mainspring.core.accounts.caller import Caller
from mainspring.core.accounts.model import OPERATOR
from mainspring.core.keys.model import Key
from mainspring.core.keys.service import KeyStore
from mainspring.core.problems import Invalid

Change = Callable[[Caller, str], Awaitable[Key]]


async def run(store: KeyStore, act: str, name: str) -> list[dict[str, Any]]:
    """`list` gives all keys; `create`, `rotate`, `disable` and `enable` the one that was changed. Raises what those raise."""
    if act == "list":
        found: list[Key] = []
        while page := await store.keys(found[-1].name if found else ""):
            found += page
        return [msgspec.structs.asdict(key) for key in found]
    changes: dict[str, Change] = {
        "create": store.create,
        "rotate": store.rotate,
        "disable": store.disable,
        "enable": store.enable,
    }
    if act not in changes:
        raise Invalid(f"nothing that is done to a key is called {act[:40]!r}")
    return [msgspec.structs.asdict(await changes[act](OPERATOR, name))]
