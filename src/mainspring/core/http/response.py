"""Answers: a whole body (`Response`), or one that is made while it is sent (`Stream`)."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

from mainspring.core.http.request import WHOLE_ANSWER, Scope, Send
from mainspring.core.problems import Problem

Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
PROBLEM = b"application/problem+json"
BODILESS = frozenset({204, 205, 304})

encode_json = msgspec.json.Encoder().encode


class Response:
    """A status, a whole body and headers. `headers` are lower-case names and values as bytes."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        content_type: str | bytes | None = None,
        headers: Iterable[Header] = (),
    ) -> None:
        self.status = status
        self.body = body
        self.headers: list[Header] = [*headers]
        if content_type is not None:
            value = content_type if isinstance(content_type, bytes) else content_type.encode("latin-1")
            self.headers.append((b"content-type", value))

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Iterable[Header] = ()) -> "Response":
        """`value` (anything that msgspec encodes) as JSON."""
        answer = cls.__new__(cls)
        answer.status = status
        answer.body = encode_json(value)
        answer.headers = [JSON, *headers]
        return answer

    @classmethod
    def redirect(cls, location: str, status: int = 302, headers: Iterable[Header] = ()) -> "Response":
        """Sends the client to `location`, a URL in ASCII."""
        return cls(status, headers=[(b"location", location.encode("ascii")), *headers])

    async def send(self, scope: Scope, send: Send) -> None:
        body = self.body
        if self.status in BODILESS:
            headers, body = [*self.headers], b""
        else:
            headers = [*self.headers, (b"content-length", b"%d" % len(body))]
            if scope["method"] == "HEAD":
                body = b""
        if WHOLE_ANSWER in scope:
            await send({"type": "http.response.start", "status": self.status, "headers": headers, "body": body})
            return
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Stream:
    """A body that `pieces` yields while it is sent, flushed piece by piece.

    `core.serve` cancels a handler whose client goes away while it streams; the pieces are then closed at the place where
    they wait. The answer begins at once, however long the first piece takes.
    """

    __slots__ = ("headers", "pieces", "status")

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        content_type: str | bytes = "application/octet-stream",
        status: int = 200,
        headers: Iterable[Header] = (),
    ) -> None:
        self.pieces = pieces
        self.status = status
        value = content_type if isinstance(content_type, bytes) else content_type.encode("latin-1")
        self.headers: list[Header] = [(b"content-type", value), *headers]

    async def send(self, scope: Scope, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers]})
            if scope["method"] != "HEAD":
                # The empty piece sends the head off, and from it on the server watches the client.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
                async for piece in self.pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            close = getattr(self.pieces, "aclose", None)
            if close is not None:
                await close()


Answer = Response | Stream


def problem_response(problem: Problem) -> Response:
    """`problem` as RFC 9457 says; a 401 names the way to authenticate."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in problem.headers]
    if problem.status == 401 and not any(name == b"www-authenticate" for name, _ in headers):
        headers.append((b"www-authenticate", b'Bearer realm="mainspring"'))
    return Response(problem.status, encode_json(problem.body()), PROBLEM, headers)
