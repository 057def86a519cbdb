"""Where a link may point: web addresses that cannot inject, loop back to us or reach into private networks.

`checked` is pure. `BlockedDomains` is a file of one name a line, read again when it changes; a name blocks all below it, but
a public suffix (`co.uk`) blocks nothing, because it belongs to nobody. Names are kept as sorted 64-bit hashes: 8 bytes each.
"""

import asyncio
import ipaddress
import logging
import re
import socket
from array import array
from bisect import bisect_left
from collections.abc import Collection
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from mainspring.core.problems import Problem, Unavailable

_log = logging.getLogger(__name__)

TARGET_BYTES_MAX = 8_192
HOST_LETTERS_MAX = 253
# Everything that RFC 3986 lets stand in a URL; the rest is percent-encoded.
_URL_LETTERS = "!#$%&'()*+,/:;=?@[]~"
_PLAIN = re.compile(r"[A-Za-z0-9_.~!#$%&'()*+,/:;=?@\[\]-]*")
# A host with a name of letters, nothing before it or behind it but an address that needs no encoding: most targets.
_COMMON = re.compile(
    r"(https?)://((?:[a-z0-9][a-z0-9-]{0,62}\.)+[a-z]{2,63})(?:[/?#][A-Za-z0-9_.~!#$%&'()*+,/:;=?@\[\]-]*)?"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*\.?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_PRIVATE_NAMES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


class InvalidTarget(Problem):
    status, type, title = 422, "links/invalid-target", "This address cannot be the target of a link"


class SchemeNotAllowed(Problem):
    status, type, title = 422, "links/scheme-not-allowed", "Targets of this scheme are not allowed here"


class WouldLoop(Problem):
    status, type, title = 422, "links/would-loop", "The target is a short link of this very server"


class PrivateTarget(Problem):
    status, type, title = 422, "links/private-target", "The target is inside a private network"


class BlockedTarget(Problem):
    status, type, title = 422, "links/blocked-target", "The target's domain is blocked here"


def checked(url: str, *, schemes: Collection[str], own: Collection[str] = (), private: bool = False) -> str:
    """`url` as it goes into a `Location` header: ASCII, host in lower case, everything else as it was written.

    `own` are our hosts (`example.org` or `127.0.0.1:8410`). Raises one of the problems above.
    """
    url = url.strip(" ")
    common = _COMMON.fullmatch(url)
    if common is not None and len(url) <= TARGET_BYTES_MAX:
        scheme, host = common.groups()
        named = len(host) <= HOST_LETTERS_MAX and host not in own
        if named and scheme in schemes and (private or not host.endswith(_PRIVATE_NAMES)):
            return url
    return examined(url, schemes, own, private)


def examined(url: str, schemes: Collection[str], own: Collection[str], private: bool) -> str:
    """What `checked` does with everything that is not a common address; for those it says the same."""
    if _CONTROL.search(url) or "\\" in url:
        raise InvalidTarget("It contains a control character or a backslash", pointer="/url")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidTarget(f"It is not a URL: {error}", pointer="/url") from None
    scheme = parts.scheme.lower()
    if scheme not in schemes:
        wanted = ", ".join(sorted(schemes))
        raise SchemeNotAllowed(f"It begins with {scheme or 'no scheme'}; allowed: {wanted}", pointer="/url")
    rest = url[len(parts.scheme) + 1 :]
    if scheme not in ("http", "https"):
        target = f"{scheme}:{encoded(rest)}"
    else:
        host = _ascii_host(host)
        name, behind = f"[{host}]" if ":" in host else host, "" if port is None else f":{port}"
        authority = name + behind
        bare = name.rstrip(".")  # with a final dot it is the same name
        if bare in own or bare + behind in own:
            raise WouldLoop(f"{authority} is one of this server's own hosts", pointer="/url")
        if not private and is_private(host):
            raise PrivateTarget(f"{host} is not on the public internet", pointer="/url")
        credentials = parts.netloc.rpartition("@")[0]
        tail = rest[2 + len(parts.netloc) :]
        user = quote(credentials, safe="%:!$&'()*+,;=~") + "@" if credentials else ""
        target = f"{scheme}://{user}{authority}{encoded(tail)}"
    if len(target) > TARGET_BYTES_MAX:
        raise InvalidTarget(f"It is longer than {TARGET_BYTES_MAX} bytes", pointer="/url")
    return target


def host_of(url: str) -> str:
    """The host of a checked target, or of a referrer; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_private(host: str) -> bool:
    """Whether a host is an address or a name of no public network; every spelling of IPv4 that browsers read counts."""
    name = host.rstrip(".")
    if ":" not in name and not _NUMBER.fullmatch(name.rpartition(".")[2]):
        return "." not in name or name.endswith(_PRIVATE_NAMES)
    try:
        address = host if ":" in host else socket.inet_ntoa(socket.inet_aton(name))
        return not ipaddress.ip_address(address).is_global
    except (ValueError, OSError):
        return True


def with_query(target: str, query: str) -> str:
    """`target` with an encoded query added before its fragment."""
    base, mark, fragment = target.partition("#")
    return f"{base}{'&' if '?' in base else '?'}{query}{mark}{fragment}" if query else target


def with_utm(target: str, utm: dict[str, str]) -> str:
    """`target` with campaign parameters: `{"source": "news"}` becomes `utm_source=news`."""
    if not utm:
        return target
    return with_query(target, urlencode({f"utm_{name}": value for name, value in utm.items() if value}))


def encoded(text: str) -> str:
    """`text` with everything percent-encoded that cannot stand in a URL."""
    return text if _PLAIN.fullmatch(text) else quote(text, safe=_URL_LETTERS)


def _ascii_host(host: str) -> str:
    if host.isascii():
        valid = ":" in host or _HOST.fullmatch(host) is not None
    else:
        import idna

        try:
            host = idna.encode(host, uts46=True).decode()
            valid = True
        except idna.IDNAError:
            valid = False
    if not valid or len(host) > HOST_LETTERS_MAX:
        raise InvalidTarget("Its host is not a valid name", pointer="/url")
    return host


class BlockedDomains:
    """The names in `path`, `#` starting a comment; what is no name is passed over. A change is seen within `recheck_s`.

    Where the file cannot be read what was read before holds; before the first time nothing may be linked to.
    """

    def __init__(self, path: Path, recheck_s: float = 5) -> None:
        self._path = path
        self._recheck_s = recheck_s
        self._hashes = array("Q")
        self._version: tuple[int, int] | None = None
        self._looked_s = float("-inf")
        self._first = asyncio.Lock()  # whoever comes first reads it, and all others wait for that
        self._registrable: Any = None

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def size_bytes(self) -> int:
        return len(self._hashes) * self._hashes.itemsize

    async def refuse(self, url: str) -> None:
        """Raises `BlockedTarget` where the host of `url`, or a domain above it, is in the file, and `Unavailable`."""
        if self._version is None:
            async with self._first:
                await self._look()
        else:
            await self._look()
        if self._version is None:
            raise Unavailable("The list of blocked domains cannot be read")
        host = host_of(url).rstrip(".")
        for name in self._lineage(host):
            if self._holds(name):
                raise BlockedTarget(f"{name} is on the list", pointer="/url")

    async def _look(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_s < self._recheck_s:
            return
        self._looked_s = now_s
        try:
            await asyncio.to_thread(self._load, self._path)
        except OSError as error:
            _log.error("links.blocked_domains_file cannot be read: %s", error)

    def _load(self, path: Path) -> None:
        state = path.stat()
        if self._version == (state.st_mtime_ns, state.st_size):
            return
        if self._registrable is None:
            import tldextract

            # Its bundled list of public suffixes only: it must never ask the network for a newer one.
            self._registrable = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
        hashes = array("Q")
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name = line.partition("#")[0].strip().strip(".").lower()
                try:
                    name = name if name.isascii() else _ascii_host(name)
                except InvalidTarget:
                    continue
                if name:
                    hashes.append(_hash(name))
        self._hashes = array("Q", sorted(hashes))
        self._version = (state.st_mtime_ns, state.st_size)

    def _lineage(self, host: str) -> list[str]:
        """The host and the domains above it down to the one that somebody registered."""
        labels = host.split(".")
        suffix = self._registrable(host).suffix if self._registrable else ""
        own = len(labels) - (len(suffix.split(".")) if suffix else 0)
        return [".".join(labels[start:]) for start in range(max(1, own))]

    def _holds(self, name: str) -> bool:
        wanted = _hash(name)
        place = bisect_left(self._hashes, wanted)
        return place < len(self._hashes) and self._hashes[place] == wanted


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
