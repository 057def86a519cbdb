"""Limits in front of an ASGI application, and of a function.

app = RateLimited(app, limiter, policy="api", key=ClientAddress(trusted=["10.0.0.0/8"]))

@limited(limiter, "export", key=lambda tenant: tenant)
async def export(tenant: str) -> None: ...
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

from mainspring.core.http.manners import FIELDS, REQUEST_ID
from mainspring.core.http.request import Application, Message, Receive, Scope, Send
from mainspring.core.http.response import problem_response
from mainspring.core.problems import Forbidden, Problem
from mainspring.primitives.limiter.book import Keys
from mainspring.primitives.limiter.decision import Decision, Face
from mainspring.primitives.limiter.headers import encoded, headers, legacy_headers
from mainspring.primitives.limiter.keys import ClientAddress, KeyOf, Networks
from mainspring.primitives.limiter.limiter import Limiter

P = ParamSpec("P")
T = TypeVar("T")
Fields = list[tuple[bytes, bytes]]
_HEADS = frozenset({"http.response.start", "websocket.accept"})
_POLICY_VIOLATION = 1008


class RateLimited:
    """Charges `cost` of `policy` for each request and WebSocket before `app` sees it.

    One that is refused gets 429 with a problem of the type `quota-exceeded`; one that passes gets the header fields of its
    limits, and with `legacy` those from before the draft. Addresses in `allow` are not limited, those in `deny` get 403;
    these lists and the default key go by `address`, which knows the proxies in front.
    """

    def __init__(
        self,
        app: Application,
        limiter: Limiter,
        policy: str,
        key: KeyOf | None = None,
        *,
        cost: int = 1,
        address: ClientAddress | None = None,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        legacy: bool = False,
    ) -> None:
        limiter.plan(policy)  # an unknown name is found when the application starts, not at its first request
        self._app = app
        self._limiter = limiter
        self._policy = policy
        self._address = address or ClientAddress()
        self._key = key or self._address
        self._cost = cost
        self._allow = Networks(allow)
        self._deny = Networks(deny)
        self._listed = bool(self._allow or self._deny)
        self._legacy = legacy
        self._face: Face | None = None
        self._policy_field = (b"", b"")
        self._state = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            return await self._app(scope, receive, send)
        if self._listed:
            address = self._address.address(scope)
            if address in self._deny:
                return await _refuse(scope, receive, send, Forbidden("This address is not served"))
            if address in self._allow:
                return await self._app(scope, receive, send)
        key = self._key(scope)
        if type(key) is not str:
            if isinstance(key, Awaitable):
                key = await key
            if key is None:
                return await self._app(scope, receive, send)
        decision = self._limiter.hit_now(self._policy, key, self._cost)
        if decision is None:
            decision = await self._limiter.hit(self._policy, key, self._cost)
        if not decision.allowed:
            return await _refuse(scope, receive, send, decision.exceeded(), self._legacy_fields(decision))
        face = decision.face
        if face is self._face and face.brief is not None:
            # The fields of a quick path differ in two numbers only, which is worth some microseconds.
            remaining, reset_ns = face.brief(decision)
            fields = [self._policy_field, (b"ratelimit", self._state % (remaining, -(-reset_ns // 1_000_000_000)))]
        else:
            fields = self._fields(decision)
            if decision.delay:
                await self._limiter.clock.sleep(decision.delay)

        if REQUEST_ID in scope:
            scope[FIELDS] = [*scope.get(FIELDS, ()), *fields]
            return await self._app(scope, receive, send)

        def send_with_fields(message: Message) -> Awaitable[None]:
            if message["type"] in _HEADS:
                message["headers"] = [*message.get("headers", ()), *fields]
            return send(message)

        return await self._app(scope, receive, send_with_fields)

    def _fields(self, decision: Decision) -> Fields:
        """The header fields of any decision."""
        fields = encoded(headers(decision))
        if decision.face.brief is not None and not self._legacy:
            self._face = decision.face
            self._policy_field = fields[0]
            self._state = fields[1][1].rpartition(b";r=")[0].replace(b"%", b"%%") + b";r=%d;t=%d"
        return fields + self._legacy_fields(decision)

    def _legacy_fields(self, decision: Decision) -> Fields:
        return encoded(legacy_headers(decision)) if self._legacy else []


async def _refuse(scope: Scope, receive: Receive, send: Send, problem: Problem, fields: Fields | None = None) -> None:
    """Answers with the problem; a WebSocket too where the server can, else it is closed before it was opened."""
    response = problem_response(problem)
    response.headers += fields or []
    if scope["type"] == "http":
        await response.send(scope, send)
        return
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        start = {"type": "websocket.http.response.start", "status": response.status, "headers": response.headers}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": response.body})
    else:
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": problem.title})


def limited(
    limiter: Limiter, policy: str, key: Callable[P, Keys], cost: int = 1
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Charges each call of a function to the key that its arguments give. A refused call raises `QuotaExceeded` (429)."""

    def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @wraps(function)
        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            decision = await limiter.hit(policy, key(*args, **kwargs), cost)
            if not decision:
                raise decision.exceeded()
            if decision.delay:
                await limiter.clock.sleep(decision.delay)
            return await function(*args, **kwargs)

        return call

    return decorate
