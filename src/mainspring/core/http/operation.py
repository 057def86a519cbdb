"""What a typed function says about itself as one operation of an HTTP interface, read once from its signature."""

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypedDict

import msgspec

from mainspring.core.http.matching import names_of
from mainspring.core.http.request import BODY_BYTES_MAX
from mainspring.core.problems import Problem

BOUND_BY_NAME = frozenset({"body", "query", "request", "caller", "once"})
SAFE = frozenset({"GET", "HEAD"})


class Options(TypedDict, total=False):
    """What a decorator of `Routes` takes beside the path.

    `status` is that of a success; `scope` is needed in place of the default one, or none where `public`; `idempotent`
    honours `Idempotency-Key`; `etag` gives JSON an ETag, and 304 to who has it; `produces` is the content type of a
    `Response`, and `problems` are what the function may raise, both for the description only.
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
    """One method of one path, as its function declares it. `template` has no prefix; types are None where absent."""

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
    scope = None if options.get("public") else f"{system}:{'read' if method in SAFE else 'write'}"
    answer = hints.get("return")
    body = hints.get("body")
    return Operation(
        method=method,
        template=template,
        function=function,
        status=options.get("status", 204 if answer in (None, type(None)) else 200),
        scope=options.get("scope", scope),
        path={name: hints[name] for name in names},
        query=hints.get("query"),
        body=bare(body),
        body_optional=body is not bare(body),
        body_bytes_max=options.get("body_bytes_max", BODY_BYTES_MAX),
        answer=answer,
        produces=options.get("produces", "application/json"),
        services={name: hints[name] for name in parameters if name not in names and name not in BOUND_BY_NAME},
        wants=frozenset(parameters) & {"request", "caller"},
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
