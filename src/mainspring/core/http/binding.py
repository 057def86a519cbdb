"""From an `Operation` to the function that answers its requests.

Everything that can be known from the signature is decided once, at binding; a request then runs down one flat function.
Decoders refuse what the types refuse, and each refusal names its place by a JSON pointer that begins with `/path`,
`/query`, `/body` or `/headers`.
"""

import hashlib
import re
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import msgspec

from mainspring.core.accounts.caller import Caller
from mainspring.core.http import conditional
from mainspring.core.http.forms import Form
from mainspring.core.http.nesting import check_nesting, is_open
from mainspring.core.http.operation import Operation, bare
from mainspring.core.http.request import (
    Channel,
    Request,
    UnsupportedMediaType,
    form_pairs,
)
from mainspring.core.http.response import Answer, Response, Stream
from mainspring.core.once import Once
from mainspring.core.problems import Forbidden, Invalid, Malformed, Problem, Unauthenticated

Handle = Callable[[Request, list[str]], Awaitable[Answer]]
ReadBody = Callable[[Request], Awaitable[Any]]
DecodeBody = Callable[[Request, bytes], Any]
Authenticate = Callable[[Request], Awaitable[Caller]]

TRUSTED = Caller(None, "local", "local", frozenset({"*"}))
IDEMPOTENCY_KEY = "[A-Za-z0-9._~:+/=-]{1,255}"

_JSON_TYPES = frozenset({b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"})
_JSON_TYPE = re.compile(rb"application/(?:[a-z0-9.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_KEY = re.compile(f'"?({IDEMPOTENCY_KEY})"?')
_PLACE = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_ABSENT_OR_UNKNOWN = re.compile(r"Object (?:missing required|contains unknown) field `(.+)`")


class SocketRequest(Request):
    """The handshake of a WebSocket, with the channel it may open."""

    __slots__ = ("channel",)

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel.scope, channel.receive)
        self.channel = channel


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
    read_body, decode_body = _body_reader(operation)
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
            body = await read_body(request)
            arguments["body"] = body if decode_body is None else decode_body(request, body)
        if wants_request:
            arguments["request"] = request
        if wants_channel:
            arguments["channel"] = cast(SocketRequest, request).channel
        if wants_once:
            key = request.headers.get(b"idempotency-key")
            arguments["once"] = once = None if key is None else await _once(key, request, once_prefix, caller)
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


def _body_reader(operation: Operation) -> tuple[ReadBody | None, DecodeBody | None]:
    """What waits for the body, and what then makes the argument of it."""
    kind, optional = operation.body, operation.body_optional
    if kind is None:
        return None, None
    if kind is bytes:
        return Request.body, None
    if kind is Form:
        return Request.form, None
    decode = msgspec.json.Decoder(kind).decode
    open_ended = is_open(kind)

    def read(request: Request, body: bytes) -> Any:
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

    return Request.body, read


def invalid(error: msgspec.ValidationError, root: str) -> Invalid:
    """The problem that says the same as msgspec's error, with its path as a JSON pointer below `root`.

    A key of an object that is read as a dict is written `*`, since msgspec does not tell which one it was.
    """
    text, _, place = str(error).partition(" - at `")
    pointer = root
    # A key that does not fit is told as "- at `key` in `$.object`".
    for name, index in _PLACE.findall(place.rstrip("`").rpartition("`")[2].removeprefix("$")):
        pointer += "/" + (name or ("*" if index == "..." else index)).replace("~", "~0").replace("/", "~1")
    if absent := _ABSENT_OR_UNKNOWN.match(text):
        pointer += "/" + absent[1].replace("~", "~0").replace("/", "~1")
    return Invalid(text, pointer=pointer)


async def _once(header: bytes, request: Request, prefix: str, caller: Caller) -> Once:
    # A Structured Field string by the draft, a bare word by custom: both name the same key.
    key = _KEY.fullmatch(header.decode("latin-1"))
    if key is None:
        raise Malformed(f"An Idempotency-Key is {IDEMPOTENCY_KEY}", pointer="/headers/idempotency-key")
    who = request.client[0] if caller.anonymous else f"{caller.kind}:{caller.account_id}"
    scope = request.scope
    said = (scope["path"].encode(errors="replace"), scope["query_string"], await request.body())
    return Once(f"{prefix}/{who}/{key[1]}", hashlib.sha256(b"\0".join(said)).digest())
