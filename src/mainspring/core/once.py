"""An idempotency key on its way from a request to the transaction that it guards.

A route that is `idempotent` gets a `once: Once | None` and hands it to its service; the service writes through `write`
below, and so the key, the effect and the answer become durable together. A second request with the key gets the first
one's result without running anything again.
"""

from collections.abc import Awaitable, Callable
from typing import Concatenate, ParamSpec, TypeVar

import msgspec

from mainspring.core.ports import Connection, Database

P = ParamSpec("P")
T = TypeVar("T")


class Once:
    """A key, unique to one caller and one operation, and the digest of the request that came with it.

    `replayed` tells, after the write, whether its result is that of an earlier request.
    """

    __slots__ = ("digest", "key", "replayed")

    def __init__(self, key: str, digest: bytes) -> None:
        self.key = key
        self.digest = digest
        self.replayed = False


def write(
    database: Database,
    once: Once | None,
    kind: type[T],
    function: Callable[Concatenate[Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Awaitable[T]:
    """`database.write(function, *args)`, at most once for `once`; without one it is just that.

    `kind` is the type of the result, which msgspec can write as JSON. Raises `KeyReused` where the key came with
    another request before, and what `function` raised, having stored nothing, so that the key may be tried again.
    """
    if once is None:
        return database.write(function, *args, **kwargs)
    return _write_once(database, once, kind, function, *args, **kwargs)


async def _write_once(
    database: Database,
    once: Once,
    kind: type[T],
    function: Callable[Concatenate[Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    def encoded(connection: Connection, /, *args: P.args, **kwargs: P.kwargs) -> bytes:
        return msgspec.json.encode(function(connection, *args, **kwargs))

    stored, once.replayed = await database.write_once(once.key, once.digest, encoded, *args, **kwargs)
    return msgspec.json.decode(stored, type=kind)
