"""`/api/keys`: named keys, for consoles and scripts; their material is nowhere to be had."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from mainspring.core.accounts.caller import Caller
from mainspring.core.http.pages import Cursors, Page, PageQuery
from mainspring.core.http.request import Request
from mainspring.core.http.routes import Routes
from mainspring.core.keys.model import NAME, Key, KeyTaken, TooManyKeys, UnknownKey
from mainspring.core.keys.service import KeyStore

routes = Routes("keys")
ADMIN = "keys:admin"

Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=NAME)]
Named = Annotated[str, Meta(min_length=1, max_length=128)]
_cursors: Cursors[str] = Cursors("keys", str)


class KeyView(msgspec.Struct, frozen=True):
    """`versions` counts how often the key was made or rotated; `rotated_at` is the last time."""

    name: str
    state: str
    versions: int
    created_at: datetime
    rotated_at: datetime


class KeyWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name


@routes.get("")
async def keys(query: PageQuery, store: KeyStore) -> Page[KeyView]:
    """Keys by name."""
    found = await store.keys(_cursors.open(query.cursor) or "", query.limit + 1)
    page = _cursors.page(found, query.limit, lambda key: key.name)
    return Page([_view(key) for key in page.items], page.next)


@routes.post("", status=201, scope=ADMIN, problems=(KeyTaken, TooManyKeys))
async def create(body: KeyWanted, caller: Caller, request: Request, store: KeyStore) -> KeyView:
    """Makes a key."""
    return _view(await store.create(caller, body.name, request.client[0]))


@routes.get("/{name}", problems=(UnknownKey,))
async def key(name: Named, store: KeyStore) -> KeyView:
    """One key."""
    return _view(await store.key(name))


@routes.post("/{name}/rotate", scope=ADMIN, problems=(UnknownKey, TooManyKeys))
async def rotate(name: Named, caller: Caller, request: Request, store: KeyStore) -> KeyView:
    """Gives it new material, which seals from now on; what it sealed before opens as ever."""
    return _view(await store.rotate(caller, name, request.client[0]))


@routes.post("/{name}/disable", scope=ADMIN, problems=(UnknownKey,))
async def disable(name: Named, caller: Caller, request: Request, store: KeyStore) -> KeyView:
    """From now on, and within a second on every node, nothing that it sealed can be opened."""
    return _view(await store.disable(caller, name, request.client[0]))


@routes.post("/{name}/enable", scope=ADMIN, problems=(UnknownKey,))
async def enable(name: Named, caller: Caller, request: Request, store: KeyStore) -> KeyView:
    """Lets it seal and open again."""
    return _view(await store.enable(caller, name, request.client[0]))


def _view(key: Key) -> KeyView:
    return KeyView(key.name, key.state, key.versions, _moment(key.created_us), _moment(key.rotated_us))


def _moment(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1e6, UTC)
