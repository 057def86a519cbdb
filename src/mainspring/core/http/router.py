"""Handlers `async def (request) -> Response` as ASGI applications: what a dialect on its own port is made of.

`asgi(handler)` is one handler for everything; `Router` picks a handler by path and method. Both end every request with an
answer: a `Problem` in the form that the dialect chose, anything else as a 500 that says nothing and is logged with its
traceback.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from urllib.parse import unquote

from mainspring.core.http.matching import Matcher, names_of
from mainspring.core.http.request import (
    BODY_BYTES_MAX,
    Application,
    Disconnected,
    Receive,
    Request,
    Scope,
    Send,
)
from mainspring.core.http.response import Answer, Response, problem_response
from mainspring.core.problems import Conflict, Invalid, Malformed, NotFound, Problem

Handler = Callable[[Request], Awaitable[Answer]]
ProblemForm = Callable[[Problem], Response]
T = TypeVar("T")

WEBSOCKET = "WEBSOCKET"
"""Stands in a table where a method would, for what is no request but a WebSocket."""

log = logging.getLogger(__name__)


class MethodNotAllowed(Problem):
    status, type, title = 405, "core/method-not-allowed", "This address does not know that method"


class UpgradeRequired(Problem):
    status, type, title = 426, "core/upgrade-required", "This address is a WebSocket"

    def __init__(self) -> None:
        super().__init__(headers=(("upgrade", "websocket"), ("connection", "upgrade")))


def asgi(
    handler: Handler, *, problem: ProblemForm = problem_response, body_bytes_max: int = BODY_BYTES_MAX
) -> Application:
    """An ASGI application that answers every request by `handler`, and its problems as `problem` writes them."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await refuse_socket(scope, receive, send)
            return
        request = Request(scope, receive, body_bytes_max)
        try:
            answer = await handler(request)
        except Disconnected:
            return
        except Exception as error:
            answer = problem(as_problem(error, scope))
        await answer.send(scope, send)

    return application


class Methods(Generic[T]):
    """What one template does: a value for each method, `HEAD` answered as `GET` and `OPTIONS` by naming them all."""

    __slots__ = ("allow", "by_method", "template")

    def __init__(self, template: str) -> None:
        self.template = template
        self.by_method: dict[str, T] = {}
        self.allow = b""

    def add(self, method: str, value: T) -> None:
        """Raises `ValueError` where `method` is there already."""
        if method in self.by_method:
            raise ValueError(f"two routes answer {method} {self.template}")
        self.by_method[method] = value
        if method == "GET":
            self.by_method.setdefault("HEAD", value)
        self.allow = ", ".join(sorted({*self.by_method, "OPTIONS"} - {WEBSOCKET})).encode()

    def otherwise(self, method: str) -> Response:
        """The answer where `method` has no value. Raises `MethodNotAllowed` unless it is `OPTIONS`."""
        if method == "OPTIONS":
            return Response(204, headers=[(b"allow", self.allow)])
        if method == "GET" and WEBSOCKET in self.by_method:
            raise UpgradeRequired
        allow = self.allow.decode()
        raise MethodNotAllowed(f"It knows {allow}", headers=(("allow", allow),))


class Table(Generic[T]):
    """Values by template and method, found by a request's path below `prefix`; the empty template is `prefix` itself."""

    def __init__(self, prefix: str = "") -> None:
        self._matcher: Matcher[Methods[T]] = Matcher()
        self._fixed: dict[str, Methods[T]] = {}
        """By the whole path, where it names no values: nothing else can match it."""
        self._whole: Methods[T] | None = None
        self._prefix = f"{prefix}/"
        self._raw_prefix = self._prefix.encode()
        self._start = len(self._prefix)

    def add(self, method: str, template: str, value: T) -> None:
        methods = self._matcher.get(template) if template else self._whole
        if methods is None:
            methods = Methods(template)
            if template:
                self._matcher.add(template, methods)
                if not names_of(template):
                    self._fixed[self._prefix[:-1] + template] = methods
            else:
                self._whole = methods
        methods.add(method, value)

    def find(self, scope: Scope) -> tuple[Methods[T], list[str]] | None:
        """What the request's path means, with its named values decoded. Raises `Malformed` for one that is no UTF-8."""
        raw: bytes | None = scope.get("raw_path")
        if raw is not None and b"%" in raw:
            return self._find_encoded(raw)
        path: str = scope["path"]
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed, []
        if not path.startswith(self._prefix):
            return (self._whole, []) if self._whole is not None and path == self._prefix[:-1] else None
        return self._matcher.match_segments(path[self._start :].split("/"))

    def _find_encoded(self, raw: bytes) -> tuple[Methods[T], list[str]] | None:
        """An encoded slash is part of a value, so that the path is split before it is decoded."""
        if not raw.startswith(self._raw_prefix):
            return None
        try:
            text = raw[self._start :].partition(b"?")[0].decode()
            segments = [unquote(segment, errors="strict") for segment in text.split("/")]
        except UnicodeDecodeError:
            raise Malformed("Not UTF-8", pointer="/path") from None
        return self._matcher.match_segments(segments)


class Router:
    """A table of handlers; `request.path_values` holds a route's values by name."""

    def __init__(self, *, otherwise: Handler | None = None) -> None:
        """`otherwise` answers the paths that no route matches, in place of a 404."""
        self._table: Table[tuple[Handler, tuple[str, ...]]] = Table()
        self._otherwise = otherwise

    def add(self, methods: str, template: str, handler: Handler) -> None:
        """Lets `handler` answer `template` for `methods`, one or several with spaces between (`"GET POST"`)."""
        for method in methods.split():
            self._table.add(method, template, (handler, names_of(template)))

    async def handle(self, request: Request) -> Answer:
        """Answers one request. Raises `NotFound`, `MethodNotAllowed` and what the handler raised."""
        found = self._table.find(request.scope)
        if found is None:
            if self._otherwise is None:
                raise NotFound
            return await self._otherwise(request)
        methods, values = found
        route = methods.by_method.get(request.method)
        if route is None:
            return methods.otherwise(request.method)
        handler, names = route
        if names:
            request.path_values = dict(zip(names, values, strict=True))
        return await handler(request)

    def application(
        self, *, problem: ProblemForm = problem_response, body_bytes_max: int = BODY_BYTES_MAX
    ) -> Application:
        """This router as an ASGI application; see `asgi`."""
        return asgi(self.handle, problem=problem, body_bytes_max=body_bytes_max)


def as_problem(error: Exception, scope: Scope) -> Problem:
    """`error` itself where it is a problem; else it is a fault of ours, logged, of which the caller learns nothing.

    What the database refused, and no type or rule before it, is still no 500: the caller sent it.
    """
    if isinstance(error, Problem):
        return error
    from mainspring.core.database.errors import Duplicate, Violation

    log.error("%s %s failed", scope.get("method"), scope["path"], exc_info=error)
    if isinstance(error, Duplicate):
        return Conflict()
    return Invalid("A value is not one that can be stored") if isinstance(error, Violation) else Problem()


async def refuse_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuses a WebSocket (404); says nothing to any other kind of scope."""
    if scope["type"] == "websocket":
        await refuse_upgrade(NotFound(), receive, send)


async def refuse_upgrade(problem: Problem, receive: Receive, send: Send) -> None:
    """Answers a WebSocket's handshake with a problem."""
    await receive()
    refusal = problem_response(problem)
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": refusal.headers})
    await send({"type": "websocket.http.response.body", "body": refusal.body})
