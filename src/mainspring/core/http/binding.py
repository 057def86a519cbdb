"""From an `Operation` to the function that answers its requests.

Everything that can be known from the signature is decided once, at binding; a request then runs down one flat function.
Decoders refuse what the types refuse, and each refusal names its place by a JSON pointer that begins with `/path`,
`/query`, `/body` or `/headers`.
"""

import hashlib
import re
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import msgspec

from mainspring.core.accounts.caller import Caller
from mainspring.core.clock import Clock
from mainspring.core.http import conditional
from mainspring.core.http.forms import Form
from mainspring.core.http.nesting import check_nesting, is_open
from mainspring.core.http.operation import Operation, bare
from mainspring.core.http.request import (
    Application,
    Channel,
    Disconnected,
    Message,
    Receive,
    Request,
    Scope,
    Send,
    UnsupportedMediaType,
    form_pairs,
)
from mainspring.core.http.response import Answer, Response, Stream, problem_response
from mainspring.core.http.router import WEBSOCKET, Table, as_problem, refuse_upgrade
from mainspring.core.once import Once
from mainspring.core.problems import Forbidden, Invalid, Malformed, NotFound, Problem, Unauthenticated

Handle = Callable[[Request, list[str]], Awaitable[Answer]]
Argument = Callable[[Request], Awaitable[Any]]
Authenticate = Callable[[Request], Awaitable[Caller]]
Observe = Callable[[int, float], None]

TRUSTED = Caller(None, "local", "local", frozenset({"*"}))
IDEMPOTENCY_KEY = "[A-Za-z0-9._~:+/=-]{1,255}"

_JSON_TYPES = frozenset({b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"})
_JSON_TYPE = re.compile(rb"application/(?:[a-z0-9.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_KEY = re.compile(f'"?({IDEMPOTENCY_KEY})"?')
_PLACE = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_ABSENT_OR_UNKNOWN = re.compile(r"Object (?:missing required|contains unknown) field `(.+)`")


def application(
    system: str,
    operations: Sequence[Operation],
    services: Mapping[Any, Any],
    authenticate: Authenticate | None,
    metrics: Any,
    clock: Clock,
) -> Application:
    """The ASGI application of a system's operations; see `Routes.application`."""
    table: Table[_Bound] = Table(f"/api/{system}")
    measures = _Measures(system, metrics)
    for operation in operations:
        handle = bind(operation, system, services, authenticate)
        bound = _Bound(handle, operation.body_bytes_max, measures.route(operation.method, operation.template))
        table.add(operation.method, operation.template, bound)
    unmatched = measures.route("", "")
    now_ns = clock.mono_ns

    async def answer_requests(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _open_socket(table, scope, receive, send)
            return
        started_ns = now_ns()
        observe = unmatched
        answer: Answer
        try:
            found = table.find(scope)
            if found is None:
                raise NotFound
            methods, values = found
            bound = methods.by_method.get(scope["method"])
            if bound is None:
                answer = methods.otherwise(scope["method"])
            else:
                observe = bound.observe
                answer = await bound.handle(Request(scope, receive, bound.body_bytes_max), values)
        except Disconnected:
            return
        except Exception as error:
            answer = problem_response(as_problem(error, scope))
        await answer.send(scope, send)
        if observe is not None:
            observe(answer.status, (now_ns() - started_ns) * 1e-9)

    return answer_requests


class _SocketRequest(Request):
    """The handshake of a WebSocket, with the channel it may open."""

    __slots__ = ("channel",)

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel.scope, channel.receive)
        self.channel = channel


async def _open_socket(table: "Table[_Bound]", scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        return
    answered = False

    def sending(message: Message) -> Awaitable[None]:
        nonlocal answered
        answered = True
        return send(message)

    try:
        found = table.find(scope)
        bound = None if found is None else found[0].by_method.get(WEBSOCKET)
        if found is None or bound is None:
            raise NotFound
        await bound.handle(_SocketRequest(Channel(scope, receive, sending)), found[1])
    except Problem as problem:
        if answered:
            raise
        await refuse_upgrade(problem, receive, send)


class _Bound:
    __slots__ = ("body_bytes_max", "handle", "observe")

    def __init__(self, handle: Handle, body_bytes_max: int, observe: Observe | None) -> None:
        self.handle = handle
        self.body_bytes_max = body_bytes_max
        self.observe = observe


def bind(operation: Operation, system: str, services: Mapping[Any, Any], authenticate: Authenticate | None) -> Handle:
    """The function that answers `operation`. Raises `LookupError` where a service is missing."""
    constant: dict[str, Any] = {}
    for name, kind in operation.services.items():
        found = services.get(bare(kind))
        if found is None and bare(kind) is kind:
            raise LookupError(f"{system}.{operation.name} needs {getattr(kind, '__name__', kind)}, which nobody gives")
        constant[name] = found
    wants_request = "request" in operation.wants
    wants_channel = "channel" in operation.wants
    wants_caller = "caller" in operation.wants
    wants_once = operation.idempotent
    needs_caller = operation.scope is not None or wants_caller or wants_once
    scope = operation.scope
    read_path = _path_reader(operation.path)
    read_query = _query_reader(operation.query) if operation.query is not None else None
    read_body = _body_reader(operation) if operation.body is not None else None
    once_prefix = f"{system}.{operation.name}"
    status, function, etag = operation.status, operation.function, operation.etag

    async def handle(request: Request, values: list[str]) -> Answer:
        arguments = constant.copy()
        if needs_caller:
            caller = TRUSTED if authenticate is None else await authenticate(request)
            if scope is not None and not caller.may(scope):
                raise _refusal(caller, scope)
            if wants_caller:
                arguments["caller"] = caller
        if read_path is not None:
            read_path(values, arguments)
        if read_query is not None:
            arguments["query"] = read_query(request.scope["query_string"])
        if read_body is not None:
            arguments["body"] = await read_body(request)
        if wants_request:
            arguments["request"] = request
        if wants_channel:
            arguments["channel"] = cast(_SocketRequest, request).channel
        if wants_once:
            arguments["once"] = once = await _once(request, once_prefix, caller)
        value = await function(**arguments)
        kind = type(value)
        if kind is Response or kind is Stream:
            answer: Answer = value
        elif value is None and status == 204:
            answer = Response(204)
        else:
            answer = Response.json(value, status)
            if etag:
                answer = conditional.answer(request, answer)
        if wants_once and once is not None and once.replayed:
            answer.headers.append((b"idempotency-replayed", b"true"))
        return answer

    return handle


def _refusal(caller: Caller, scope: str) -> Problem:
    if caller.anonymous:
        return Unauthenticated(f"This needs a token with the scope {scope}")
    challenge = f'Bearer realm="mainspring", error="insufficient_scope", scope="{scope}"'
    return Forbidden(f"This needs the scope {scope}", headers=(("www-authenticate", challenge),), scope=scope)


def _path_reader(kinds: dict[str, Any]) -> Callable[[list[str], dict[str, Any]], None] | None:
    if not kinds:
        return None
    if all(kind is str for kind in kinds.values()):
        names = tuple(kinds)

        def take(values: list[str], arguments: dict[str, Any]) -> None:
            arguments.update(zip(names, values, strict=True))

        return take
    convert, typed = msgspec.convert, tuple(kinds.items())

    def read(values: list[str], arguments: dict[str, Any]) -> None:
        for (name, kind), value in zip(typed, values, strict=True):
            try:
                arguments[name] = value if kind is str else convert(value, kind, strict=False)
            except msgspec.ValidationError as error:
                raise invalid(error, f"/path/{name}") from None

    return read


def _query_reader(kind: Any) -> Callable[[bytes], Any]:
    fields = msgspec.structs.fields(kind)
    many = frozenset(field.encode_name for field in fields if _is_list(field.type))
    convert = msgspec.convert

    def read(query: bytes) -> Any:
        values: dict[str, Any] = {}
        for name, value in form_pairs(query, "/query"):
            if name in many:
                values.setdefault(name, []).append(value)
            else:
                values[name] = value
        try:
            return convert(values, kind, strict=False)
        except msgspec.ValidationError as error:
            raise invalid(error, "/query") from None

    return read


def _is_list(kind: Any) -> bool:
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    origin = typing.get_origin(kind) or kind
    if origin in (list, tuple, set, frozenset):
        return True
    return any(_is_list(option) for option in typing.get_args(kind)) if origin not in (dict,) else False


def _body_reader(operation: Operation) -> Argument:
    kind, optional = operation.body, operation.body_optional
    if kind is bytes:
        return Request.body
    if kind is Form:
        return Request.form
    decode = msgspec.json.Decoder(kind).decode
    open_ended = is_open(kind)

    async def read(request: Request) -> Any:
        body = await request.body()
        if not body and optional:
            return None
        content_type = request.headers.get(b"content-type", b"")
        if content_type not in _JSON_TYPES and not _JSON_TYPE.fullmatch(content_type):
            raise UnsupportedMediaType("Send application/json", headers=(("accept", "application/json"),))
        try:
            if open_ended:
                check_nesting(body)
            return decode(body)
        except msgspec.ValidationError as error:
            raise invalid(error, "/body") from None
        except RecursionError:
            raise Malformed("Nested too deeply", pointer="/body") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Malformed(str(error), pointer="/body") from None

    return read


def invalid(error: msgspec.ValidationError, root: str) -> Invalid:
    """The problem that says the same as msgspec's error, with its path as a JSON pointer below `root`.

    A key of an object that is read as a dict is written `*`, since msgspec does not tell which one it was.
    """
    text, _, place = str(error).partition(" - at `")
    pointer = root
    for name, index in _PLACE.findall(place.partition("`")[0].removeprefix("$")):
        pointer += "/" + (name or ("*" if index == "..." else index)).replace("~", "~0").replace("/", "~1")
    if absent := _ABSENT_OR_UNKNOWN.match(text):
        pointer += "/" + absent[1].replace("~", "~0").replace("/", "~1")
    return Invalid(text, pointer=pointer)


async def _once(request: Request, prefix: str, caller: Caller) -> Once | None:
    header = request.headers.get(b"idempotency-key")
    if header is None:
        return None
    # A Structured Field string by the draft, a bare word by custom: both name the same key.
    key = _KEY.fullmatch(header.decode("latin-1"))
    if key is None:
        raise Malformed(f"An Idempotency-Key is {IDEMPOTENCY_KEY}", pointer="/headers/idempotency-key")
    who = request.client[0] if caller.anonymous else f"{caller.kind}:{caller.account_id}"
    scope = request.scope
    digest = hashlib.sha256(b"\0".join((scope["path"].encode(), scope["query_string"], await request.body()))).digest()
    return Once(f"{prefix}/{who}/{key[1]}", digest)


class _Measures:
    """Latency and status of each route, by `metrics.histogram` and `metrics.counter`; nothing without metrics."""

    def __init__(self, system: str, metrics: Any) -> None:
        self._system = system
        self._seconds = self._total = None
        if metrics is not None:
            labels = ("system", "method", "route")
            self._seconds = metrics.histogram("http_request_seconds", "Time from request to answer", labels)
            self._total = metrics.counter("http_requests_total", "Requests answered", (*labels, "status"))

    def route(self, method: str, template: str) -> Observe | None:
        if self._seconds is None or self._total is None:
            return None
        observe = self._seconds.labels(self._system, method, template).observe
        total, labels = self._total, (self._system, method, template)
        by_status: dict[int, Callable[[], None]] = {}

        def record(status: int, seconds: float) -> None:
            observe(seconds)
            count = by_status.get(status)
            if count is None:
                count = by_status[status] = total.labels(*labels, str(status)).inc
            count()

        return record
