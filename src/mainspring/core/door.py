"""The front door: one ASGI application that finds the system a request is for, and builds it at its first request.

    /api/<system>/…                the system's own application, built once, again if that failed
    /-/live, /-/ready[/<system>]   for load balancers: the process runs; it (and the system) should get requests
    /metrics                       for Prometheus, as text or OpenMetrics
    anything else                  the console

A system that nobody asks for costs a name in a set. A built one costs a dictionary lookup: the door then hands out the
application's own coroutine and is itself no layer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping

from mainspring.core.http.request import Application, Receive, Scope, Send, headers_of
from mainspring.core.http.response import Response, problem_response
from mainspring.core.http.router import MethodNotAllowed, refuse_upgrade
from mainspring.core.lazy import Lazy
from mainspring.core.problems import NotFound, Problem, Unavailable

log = logging.getLogger(__name__)

Check = Callable[[], Awaitable[str | None]]
"""Gives None, or why requests should go elsewhere, in words that anybody may read."""

Scrape = Callable[[str | None], tuple[str, bytes]]

CHECK_TIMEOUT_S = 2.0
NO_STORE = ((b"cache-control", b"no-store"),)


class UnknownSystem(NotFound):
    type, title = "core/unknown-system", "There is no such system here"


def _no_checks(_system: str) -> Mapping[str, Check]:
    return {}


class Door:
    """`systems` are the names below `/api/`; `applications` builds theirs.

    `checks` by name decide readiness of the whole (the database, free disk space), `system_checks(name)` what one system
    adds. `metrics` gives the content type and body of `/metrics` for an `Accept` header (`Metrics.scrape`). At most
    `websockets_max` WebSockets are open at once.
    """

    def __init__(
        self,
        systems: Collection[str],
        applications: Lazy[Application],
        *,
        fallback: Application,
        metrics: Scrape,
        checks: Mapping[str, Check] | None = None,
        system_checks: Callable[[str], Mapping[str, Check]] = _no_checks,
        websockets_max: int = 1000,
    ) -> None:
        self.draining = False
        self.websockets = 0
        self._systems = systems
        self._applications = applications
        self._built = applications.built
        self._fallback = fallback
        self._metrics = metrics
        self._checks = checks or {}
        self._system_checks = system_checks
        self._websockets_max = websockets_max

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "websocket":
            return self._websocket(scope, receive, send)
        return self._find(scope["path"])(scope, receive, send)

    def drain(self) -> None:
        """From now on `/-/ready` is 503, so that load balancers look elsewhere; requests are served as before."""
        self.draining = True

    def _find(self, path: str) -> Application:
        if path.startswith("/api/"):
            name = path.split("/", 3)[2]
            return self._built.get(name) or self._building(name)
        if path.startswith("/-/") or path == "/metrics":
            return self._own
        return self._fallback

    def _building(self, name: str) -> Application:
        async def build_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
            if name not in self._systems:
                await refuse(UnknownSystem(f"No system is called {name[:80]!r}"), scope, receive, send)
            else:
                await lazy_application(self._applications, name)(scope, receive, send)

        return build_and_answer

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.websockets >= self._websockets_max:
            full = Unavailable(f"All {self._websockets_max} WebSockets of this door are taken", retry_after_s=10)
            await refuse(full, scope, receive, send)
            return
        self.websockets += 1
        try:
            await self._find(scope["path"])(scope, receive, send)
        finally:
            self.websockets -= 1

    async def _own(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await refuse(NotFound(), scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await refuse(MethodNotAllowed(headers=(("allow", "GET, HEAD"),)), scope, receive, send)
        else:
            try:
                answer = await self._answer(scope)
            except Problem as problem:
                answer = problem_response(problem)
            await answer.send(scope, send)

    async def _answer(self, scope: Scope) -> Response:
        path: str = scope["path"]
        if path == "/metrics":
            accept = headers_of(scope).get(b"accept", b"")
            content_type, body = self._metrics(accept.decode("latin-1"))
            return Response(200, body, content_type, NO_STORE)
        if path == "/-/live":
            return Response.json({"live": True}, headers=NO_STORE)
        if path == "/-/ready":
            return await self._ready(self._checks)
        system = path.removeprefix("/-/ready/")
        if system in self._systems:
            return await self._ready({**self._checks, **self._system_checks(system)})
        raise NotFound

    async def _ready(self, checks: Mapping[str, Check]) -> Response:
        results = dict(zip(checks, await asyncio.gather(*map(_run_check, checks, checks.values())), strict=True))
        if self.draining:
            results["draining"] = "This node is stopping"
        ready = not any(results.values())
        body = {"ready": ready, "checks": {name: reason or "ok" for name, reason in results.items()}}
        return Response.json(body, status=200 if ready else 503, headers=NO_STORE)


def lazy_application(applications: Lazy[Application], name: str) -> Application:
    """An application that is built by its first request. A build that fails is a 503 for those who waited for it (or the
    problem that it raised), and the next request builds again."""

    async def build_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            application = await applications.get(name)
        except Problem as problem:
            await refuse(problem, scope, receive, send)
        except Exception:  # The build has logged it.
            await refuse(Unavailable(f"{name} could not be started; ask again"), scope, receive, send)
        else:
            await application(scope, receive, send)

    def answer(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return (applications.built.get(name) or build_and_answer)(scope, receive, send)

    return answer


async def refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a request, or a WebSocket's handshake, with a problem."""
    if scope["type"] == "websocket":
        await refuse_upgrade(problem, receive, send)
    else:
        await problem_response(problem).send(scope, send)


async def _run_check(name: str, check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except TimeoutError:
        return f"No answer within {CHECK_TIMEOUT_S:g} s"
    except Exception as error:
        log.error("the readiness check of %s failed", name, exc_info=error)
        return "Its check failed"
