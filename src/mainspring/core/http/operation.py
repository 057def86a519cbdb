"""What a typed function says about itself as one operation of an HTTP interface, read once from its signature."""

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any, TypedDict

import msgspec

from mainspring.core.http.matching import names_of
from mainspring.core.http.request import BODY_BYTES_MAX
from mainspring.core.http.response import Response, Stream
from mainspring.core.http.router import WEBSOCKET
from mainspring.core.problems import Problem

BOUND_BY_NAME = frozenset({"body", "query", "request", "caller", "once", "channel"})
SAFE = frozenset({"GET", "HEAD", WEBSOCKET})
INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Options(TypedDict, total=False):
    """What a decorator of `Routes` takes beside the path.

    `status` is that of a success; `scope` is needed in place of the default one, or none where `public`; `idempotent`
    honours `Idempotency-Key`; `etag` gives JSON an ETag, and 304 to who has it; `body_bytes_max` is the largest body.
    `produces` is the content type of a `Response`, and `problems` are what the function may raise, both for the
    description only.
    """

    status: int
    scope: str
    public: bool
    idempotent: bool
    etag: bool
    body_bytes_max: int
    produces: str
    problems: Sequence[type[Problem]]


class Operation(msgspec.Struct, frozen=True):
    """One method of one path, as its function declares it.

    `template` has no prefix; `path` are the types of its names. `query`, `body` and `answer` (the JSON part of what the
    function returns) are None where there is none, and `produces` is empty where nothing is answered.
    """

    method: str
    template: str
    function: Callable[..., Awaitable[Any]]
    status: int
    scope: str | None
    path: dict[str, Any]
    query: Any
    body: Any
    body_optional: bool
    body_bytes_max: int
    answer: Any
    produces: str
    services: dict[str, Any]
    wants: frozenset[str]
    idempotent: bool
    etag: bool
    problems: tuple[type[Problem], ...]

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def needs(self) -> list[Any]:
        """The types of the services it takes, without the `None` of those that may be missing."""
        return [bare(kind) for kind in self.services.values()]


def read(
    system: str, method: str, template: str, function: Callable[..., Awaitable[Any]], options: Options
) -> Operation:
    """Raises `TypeError` for a function that cannot be bound, `ValueError` for a malformed template."""
    names = names_of(template)
    parameters = inspect.signature(function).parameters
    hints = typing.get_type_hints(function, include_extras=True)
    where = f"{function.__module__}.{function.__qualname__}"
    if untyped := [name for name in parameters if name not in hints]:
        raise TypeError(f"{where}: {', '.join(untyped)} has no type")
    if missing := [name for name in names if name not in parameters]:
        raise TypeError(f"{where}: the path names {', '.join(missing)}, the function does not")
    if "body" in parameters and method in SAFE:
        raise TypeError(f"{where}: a {method} has no body")
    idempotent = options.get("idempotent", False)
    if idempotent != ("once" in parameters):
        raise TypeError(f"{where}: `idempotent=True` and a parameter `once` go together")
    if "return" not in hints:
        raise TypeError(f"{where}: it does not say what it returns")
    if "query" in hints and not issubclass(hints["query"], msgspec.Struct):
        raise TypeError(f"{where}: the query is a Struct")
    scope = None if options.get("public") else f"{system}:{'read' if method in SAFE else 'write'}"
    if (method == WEBSOCKET) != ("channel" in parameters):
        raise TypeError(f"{where}: a WebSocket and a parameter `channel` go together")
    answer = hints["return"]
    empty = answer in (None, type(None))
    body = hints.get("body")
    return Operation(
        method=method,
        template=template,
        function=function,
        status=options.get("status", 204 if empty else 200),
        scope=options.get("scope", scope),
        # A plain int would let through what no database can hold.
        path={name: INT64 if hints[name] is int else hints[name] for name in names},
        query=hints.get("query"),
        body=bare(body),
        body_optional=body is not bare(body),
        body_bytes_max=options.get("body_bytes_max", BODY_BYTES_MAX),
        answer=json_part(answer),
        produces="" if empty else options.get("produces", "application/json"),
        services={name: hints[name] for name in parameters if name not in names and name not in BOUND_BY_NAME},
        wants=frozenset(parameters) & {"request", "caller", "channel"},
        idempotent=idempotent,
        etag=options.get("etag", False),
        problems=tuple(options.get("problems", ())),
    )


def bare(hint: Any) -> Any:
    """`X` of `X | None`, and anything else as it is."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    return options[0] if len(options) == 1 else hint


def json_part(hint: Any) -> Any:
    """The type of the JSON that an operation returning `hint` answers with, None where it never does."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    encoded = [option for option in options if option not in (Response, Stream)]
    return None if encoded in ([], [None], [type(None)]) else reduce(or_, encoded)
