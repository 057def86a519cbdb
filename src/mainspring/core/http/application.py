"""A system's operations as one ASGI application: find the route, run its binding, answer, measure."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from mainspring.core.clock import Clock
from mainspring.core.http.binding import Authenticate, Handle, SocketRequest, bind
from mainspring.core.http.operation import Operation
from mainspring.core.http.request import Application, Channel, Disconnected, Message, Receive, Request, Scope, Send
from mainspring.core.http.response import Answer, problem_response
from mainspring.core.http.router import WEBSOCKET, Table, as_problem, refuse_upgrade
from mainspring.core.problems import NotFound, Problem
from mainspring.core.telemetry import Counter, Metrics

Observe = Callable[[int, float], None]


class _Bound:
    __slots__ = ("body_bytes_max", "handle", "observe")

    def __init__(self, handle: Handle, body_bytes_max: int, observe: Observe | None) -> None:
        self.handle = handle
        self.body_bytes_max = body_bytes_max
        self.observe = observe


def application(
    system: str,
    operations: Sequence[Operation],
    services: Mapping[Any, Any],
    authenticate: Authenticate | None,
    metrics: Metrics | None,
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
        if observe is not None:
            observe(answer.status, (now_ns() - started_ns) * 1e-9)
        await answer.send(scope, send)

    return answer_requests


async def _open_socket(table: Table[_Bound], scope: Scope, receive: Receive, send: Send) -> None:
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
        await bound.handle(SocketRequest(Channel(scope, receive, sending)), found[1])
    except Problem as problem:
        if answered:
            raise
        await refuse_upgrade(problem, receive, send)


class _Measures:
    """Latency and status of each route of a system; nothing without metrics."""

    def __init__(self, system: str, metrics: Metrics | None) -> None:
        self._system = system
        self._metrics = metrics

    def route(self, method: str, template: str) -> Observe | None:
        """What to call with the status and seconds of each answer."""
        if self._metrics is None:
            return None
        names, labels = ("system", "method", "route"), (self._system, method, template)
        seconds = self._metrics.histogram("http_request_seconds", "From a request to its answer, not yet sent", names)
        total = self._metrics.counter("http_requests_total", "Requests answered", (*names, "status"))
        observe = seconds.labels(*labels).observe
        by_status: dict[int, Counter] = {}

        def record(status: int, seconds: float) -> None:
            observe(seconds)
            answered = by_status.get(status)
            if answered is None:
                answered = by_status[status] = total.labels(*labels, str(status))
            answered.value += 1

        return record
