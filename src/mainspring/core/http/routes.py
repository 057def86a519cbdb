"""Routes of a system: typed functions, each read once into an `Operation` from which binding and OpenAPI are made.

    routes = Routes("links")

    @routes.post("/links", status=201, idempotent=True)
    async def create(body: NewLink, caller: Caller, links: Links, once: Once | None) -> Link:
        "Shortens an address."
        return await links.create(body, owner=caller.account_id, once=once)

What a parameter receives is told by its name, and what it must look like by its type:

- a name of the path: the segment, converted (`/links/{id}`);
- `body`: JSON as a msgspec type, or a `Form`, or `bytes` as they came; `X | None` where it may be absent;
- `query`: a Struct whose fields are the query's, lists for those that may be repeated;
- `channel`: the `Channel` of a WebSocket route;
- `request`: the `Request`; `caller`: the `Caller`; `once`: the `Once` of an `idempotent` route, None without a key;
- everything else: a service by type; `X | None` where it may be missing.

What it returns is encoded as JSON; None is an empty 204; a `Response` or `Stream` goes out as it is. Unless `public`, an
operation needs the scope `<system>:read` (GET) or `<system>:write` (all else), or the one it names.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, Unpack

from mainspring.core.clock import Clock, SystemClock
from mainspring.core.http.application import application
from mainspring.core.http.binding import Authenticate
from mainspring.core.http.operation import Operation, Options, read
from mainspring.core.http.request import Application
from mainspring.core.http.router import WEBSOCKET
from mainspring.core.telemetry import Metrics

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


class Routes:
    """The operations of one system, below `/api/<system>`. The decorators' options are described at `Options`."""

    def __init__(self, system: str) -> None:
        self.system = system
        self.prefix = f"/api/{system}"
        self.operations: list[Operation] = []

    def get(self, path: str, **options: Unpack[Options]) -> Callable[[F], F]:
        return self.operation("GET", path, **options)

    def post(self, path: str, **options: Unpack[Options]) -> Callable[[F], F]:
        return self.operation("POST", path, **options)

    def put(self, path: str, **options: Unpack[Options]) -> Callable[[F], F]:
        return self.operation("PUT", path, **options)

    def patch(self, path: str, **options: Unpack[Options]) -> Callable[[F], F]:
        return self.operation("PATCH", path, **options)

    def delete(self, path: str, **options: Unpack[Options]) -> Callable[[F], F]:
        return self.operation("DELETE", path, **options)

    def websocket(self, path: str, **options: Unpack[Options]) -> Callable[[F], F]:
        """Adds the function for WebSockets at `path`; it takes a `channel: Channel`, which it accepts. Needs `read`."""
        return self.operation(WEBSOCKET, path, **options)

    def operation(self, method: str, path: str, **options: Unpack[Options]) -> Callable[[F], F]:
        """Adds the decorated function as `method` of `path`. Raises `TypeError` for one that cannot be bound."""

        def add(function: F) -> F:
            self.operations.append(read(self.system, method, path, function, options))
            return function

        return add

    def needs(self) -> set[Any]:
        """The types that `application` looks for in `services`; those that may be missing are among them."""
        return {kind for operation in self.operations for kind in operation.needs}

    def application(
        self,
        services: Mapping[Any, Any],
        authenticate: Authenticate | None,
        *,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
    ) -> Application:
        """These operations as an ASGI application that answers full paths (`/api/links/...`).

        `services` maps types to what is passed for them. `authenticate` gives the caller of a request, anonymous or
        not, and raises `Unauthenticated` for credentials that are not valid; None trusts everybody with everything (an
        embedding program, a test). `metrics` gets a latency histogram and a counter per route. Raises `LookupError`
        where a service is missing.
        """
        return application(self.system, self.operations, services, authenticate, metrics, clock or SystemClock())

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI 3.1 description of these operations."""
        from mainspring.core.http.openapi import describe

        return describe([self])
