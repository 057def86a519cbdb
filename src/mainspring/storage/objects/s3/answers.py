"""Answers of the S3 door: a head and a body that is whole, or pieces that are sent as they are read."""

from collections.abc import AsyncIterator, Sequence

from mainspring.core.http.request import Send

Header = tuple[bytes, bytes]
Body = bytes | AsyncIterator[memoryview | bytes]

XML = b"application/xml"
_BODILESS = frozenset({204, 304})


class Answer:
    """`body` is bytes, or an iterator whose length `size_bytes` tells. A HEAD has the length of what it does not send."""

    __slots__ = ("body", "content_type", "headers", "size_bytes", "status")

    def __init__(
        self,
        status: int = 200,
        headers: Sequence[Header] = (),
        body: Body = b"",
        content_type: bytes = b"",
        size_bytes: int | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.content_type = content_type
        self.size_bytes = len(body) if size_bytes is None and isinstance(body, bytes) else size_bytes

    async def send(self, send: Send, common: Sequence[Header], *, head: bool) -> int:
        """Sends it with the headers that every answer has; gives the number of bytes of body that went out."""
        headers = [*self.headers, *common]
        if self.status not in _BODILESS:
            if self.content_type:
                headers.append((b"content-type", self.content_type))
            if self.size_bytes is not None:
                headers.append((b"content-length", b"%d" % self.size_bytes))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        body = self.body
        if isinstance(body, bytes):
            body = b"" if head or self.status in _BODILESS else body
            await send({"type": "http.response.body", "body": body})
            return len(body)
        sent = 0
        try:
            if not head:
                async for piece in body:
                    sent += len(piece)
                    # A view goes out as it is: our own server (`core.serve.direct`) takes any buffer.
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()
        return sent


def xml(text: str, status: int = 200, headers: Sequence[Header] = ()) -> Answer:
    """A document."""
    return Answer(status, headers, text.encode("utf-8", "surrogateescape"), XML)
