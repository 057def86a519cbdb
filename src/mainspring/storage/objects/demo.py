"""Lifelike traffic for a running object store, over S3: pictures that are put, looked at, replaced and thrown away.

Every request is one that a browser could make: a URL presigned for it. The bucket `demo-pictures` is versioned, so that what
was replaced or deleted can still be seen and brought back. All of it is kept.
"""

import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from random import Random
from urllib.parse import quote, urlsplit

BUCKET = "demo-pictures"
REGION = "us-east-1"
ALBUMS = ("2026/spring", "2026/summer", "2026/autumn", "portraits", "maps")
KEYS_MAX = 500
"""So many pictures there are at most; then they are replaced."""
VERSIONING = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


def run(
    _address: str,
    listeners: dict[str, str],
    credentials: dict[str, str],
    rate: float,
    seconds: float,
    tell: Callable[[int], None],
) -> str:
    """Makes about `rate` requests a second for `seconds`; `tell` gets the number of requests so far.

    Raises `RuntimeError` where the S3 listener is off or gives an answer that is not expected.
    """
    if "s3" not in listeners:
        raise RuntimeError("the S3 listener is off; `mainspring systems` says why")
    visitor = _Visitor(urlsplit(listeners["s3"]).netloc, credentials["access_key"], credentials["secret_key"])
    visitor.ask("PUT", f"/{BUCKET}", expected=(200, 409))
    visitor.ask("PUT", f"/{BUCKET}", VERSIONING, query=[("versioning", "")])
    random, keys = Random(), list[str]()
    began_s, asked = time.monotonic(), 0
    while time.monotonic() < began_s + seconds:
        dice = random.random()
        if not keys or dice < 0.35:
            key = random.choice(keys) if keys and (dice < 0.1 or len(keys) >= KEYS_MAX) else _new_key(random)
            visitor.ask("PUT", f"/{BUCKET}/{quote(key)}", _picture(random), kind="image/svg+xml")
            keys += [key] if key not in keys else []
        elif dice < 0.38:
            visitor.ask("DELETE", f"/{BUCKET}/{quote(keys.pop(random.randrange(len(keys))))}", expected=(204,))
        elif dice < 0.43:
            visitor.ask("GET", f"/{BUCKET}", query=[("list-type", "2"), ("prefix", random.choice(ALBUMS))])
        else:
            visitor.ask("GET", f"/{BUCKET}/{quote(random.choice(keys))}")
        asked += 1
        tell(asked)
        time.sleep(max(0.0, began_s + asked / rate - time.monotonic()))
    return f"{asked} requests; {len(keys)} pictures of this run are in the bucket {BUCKET}"


class _Visitor:
    """Makes one request after the other on one connection."""

    def __init__(self, host: str, access_key: str, secret_key: str) -> None:
        self._host, self._access_key, self._secret_key = host, access_key, secret_key
        self._connection = HTTPConnection(host, timeout=60)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        query: list[tuple[str, str]] | None = None,
        kind: str = "",
        expected: tuple[int, ...] = (200,),
    ) -> None:
        from mainspring.wire.aws import sigv4

        now_s = time.time()
        scope = sigv4.Scope(self._access_key, sigv4.date_of(now_s)[:8], REGION, "s3")
        url = sigv4.presign(method, self._host, path, scope, self._secret_key, now_s, 60, query or ())
        try:
            self._connection.request(method, url, body, {"content-type": kind} if kind else {})
            answer = self._connection.getresponse()
            told = answer.read()
        except (HTTPException, OSError) as error:
            raise RuntimeError(f"{method} {path} was not answered: {error}") from None
        if answer.status not in expected:
            raise RuntimeError(f"{method} {path} was answered {answer.status}: {told.decode('utf-8', 'replace')[:300]}")


def _new_key(random: Random) -> str:
    return f"{random.choice(ALBUMS)}/picture-{random.randrange(10_000):04}.svg"


def _picture(random: Random) -> bytes:
    """A small landscape: a sky, a sun and three hills."""
    hue = random.randrange(360)
    hills = "".join(
        f'<ellipse cx="{random.randrange(320)}" cy="240" rx="{random.randrange(90, 220)}" ry="{random.randrange(40, 130)}" '
        f'fill="hsl({(hue + 90) % 360},35%,{30 + 10 * n}%)"/>'
        for n in range(3)
    )
    sun = f'<circle cx="{random.randrange(40, 280)}" cy="{random.randrange(30, 100)}" r="24" fill="hsl(45,90%,70%)"/>'
    sky = f'<rect width="320" height="240" fill="hsl({hue},60%,80%)"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 240">{sky}{sun}{hills}</svg>'.encode()
