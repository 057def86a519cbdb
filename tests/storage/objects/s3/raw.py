"""Requests byte by byte, signed by hand: for what no client would send."""

import asyncio
import hmac
import time
from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec

from mainspring.storage.objects.s3.xml import Malformed, parse
from mainspring.wire.aws import sigv4
from tests.storage.objects.s3.running import Running


class Reply(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error's XML."""
        try:
            return parse(self.body, "Error").get("Code")
        except Malformed:
            return ""


async def send(
    running: Running, method: str, target: str, headers: dict[str, str], body: bytes = b"", *, hang_up: bool = False
) -> Reply:
    """One request on a connection of its own."""
    host, _, port = running.host.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [
        f"{method} {target} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
        "connection: close",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    try:
        if hang_up:
            await writer.drain()
            return Reply(0, {}, b"")
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).decode("latin-1")
        first, *rest = head.split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)}
        status = int(first.split()[1])
        rest_bytes = await asyncio.wait_for(reader.read(-1), 60)
        return Reply(status, found, rest_bytes)
    finally:
        writer.close()


class Signer:
    """Signs for a key pair; what shall be wrong with a request is said by its arguments."""

    def __init__(self, running: Running, access_key: str = "", secret: str = "") -> None:
        self.running = running
        self.host = running.host
        self.access_key = access_key or running.access_key
        self.secret = secret or running.secret_key

    def scope(self, at_s: float, access_key: str = "") -> sigv4.Scope:
        return sigv4.Scope(access_key or self.access_key, sigv4.date_of(at_s)[:8], "us-east-1", "s3")

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: dict[str, str] | None = None,
        body: bytes | Callable[[sigv4.Seed], bytes] = b"",
        declared: str = "",
        chunks: tuple[str, int] | None = None,
        raw: bytes | None = None,
        secret: str = "",
        access_key: str = "",
        off_s: float = 0,
    ) -> Reply:
        """`chunks` is (form, length of the content); `raw` goes out in place of `body`."""
        at_s = time.time() + off_s
        given = {"host": self.host, **(headers or {})}
        if chunks is not None:
            declared = chunks[0]
            given["x-amz-decoded-content-length"] = str(chunks[1])
        elif not declared:
            declared = sha256(body).hexdigest() if isinstance(body, bytes) else sigv4.UNSIGNED
        framing = {name: given.pop(name) for name in ("content-length", "transfer-encoding") if name in given}
        scope, key = self.scope(at_s, access_key), secret or self.secret
        signed = sigv4.authorize(method, path, query, given, scope, key, at_s, declared)
        if not isinstance(body, bytes):
            derived = sigv4.derived_key(key, scope.day, scope.region, scope.service)
            signature = signed["authorization"].rpartition("Signature=")[2]
            body = body(sigv4.Seed(derived, signed["x-amz-date"], scope.text, signature))
        content = body if raw is None else raw
        target = path + (f"?{sigv4.canonical_query(query)}" if query else "")
        return await send(
            self.running, method, target, {**signed, **(framing or {"content-length": str(len(content))})}, content
        )

    async def presigned(
        self, method: str, path: str, *, off_s: float = 0, expires_s: int = 3_600, **headers: str
    ) -> Reply:
        at_s = time.time() + off_s
        target = sigv4.presign(method, self.host, path, self.scope(at_s), self.secret, at_s, expires_s)
        return await send(self.running, method, target, {"host": self.host, **headers})

    async def leave(self, method: str, path: str, body: bytes, *, size: int) -> None:
        """Sends the beginning of a body and closes the connection."""
        at_s = time.time()
        signed = sigv4.authorize(
            method, path, [], {"host": self.host}, self.scope(at_s), self.secret, at_s, sigv4.UNSIGNED
        )
        await send(self.running, method, path, {**signed, "content-length": str(size)}, body, hang_up=True)

    def chunked(self, pieces: list[bytes], seed: sigv4.Seed, *, spoil: bool = False) -> bytes:
        """A body in signed chunks; `spoil` changes a byte of the last one."""
        body, previous, empty = b"", seed.signature, sha256(b"").hexdigest()
        for place, piece in enumerate([*pieces, b""], 1):
            text = (
                f"AWS4-HMAC-SHA256-PAYLOAD\n{seed.date}\n{seed.scope}\n{previous}\n{empty}\n{sha256(piece).hexdigest()}"
            )
            previous = hmac.digest(seed.key, text.encode(), "sha256").hex()
            if spoil and place == len(pieces):
                piece = piece[:-1] + bytes([piece[-1] ^ 1])
            body += b"%x;chunk-signature=%s\r\n%s\r\n" % (len(piece), previous.encode(), piece)
        return body
