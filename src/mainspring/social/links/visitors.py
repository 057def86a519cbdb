"""Who visits: device, browser, country and a pseudonym, from what a request says of itself.

Whatever is kept of an address is its /24 (IPv4) or /48 (IPv6); visitors are told apart by a keyed hash of that and their
User-Agent. Libraries and files are loaded by `prepare`, in a thread, and never while somebody waits for a redirect.
"""

import asyncio
import ipaddress
import logging
import re
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.imports import imported

AGENTS_MAX = 100_000
"""User-Agent texts whose meaning is remembered."""

_log = logging.getLogger(__name__)

_OS = {
    "ios": "ios", "android": "android", "windows": "windows", "mac os x": "macos", "chrome os": "chromeos",
    "windows phone": "windows phone", "linux": "linux", "ubuntu": "linux", "fedora": "linux", "debian": "linux",
}  # fmt: skip
_BROWSERS = {"android": "android_browser", "google": "chrome", "edge mobile": "edge", "opera mini": "opera"}
_LANGUAGE = re.compile(r"([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)(?:\s*;\s*q=(\d(?:\.\d*)?))?")


class Agent(msgspec.Struct, frozen=True):
    """What a User-Agent names: `device` is mobile, tablet, desktop or empty; names are lower case."""

    device: str = ""
    os: str = ""
    browser: str = ""
    bot: bool = False


class Place(msgspec.Struct, frozen=True):
    country: str = ""
    city: str = ""


class Visitors:
    """Looks up agents and places. `geo_file` is a MaxMind DB; without one, or where it is damaged, nobody is anywhere."""

    def __init__(self, geo_file: Path | None = None) -> None:
        self._geo_file = geo_file
        self._agents: dict[str, Agent] = {}
        self._parse: Any = None
        self._crawlers: Any = None
        self._places: Any = None

    async def prepare(self) -> None:
        """Loads what looking up needs; the first call takes a quarter of a second, in a thread."""
        if self._parse is None:
            await asyncio.to_thread(self._load)

    def _load(self) -> None:
        self._crawlers = imported("crawlerdetect").CrawlerDetect()
        self._crawlers.isCrawler("warm")
        if self._geo_file is not None:
            self._places = _opened(self._geo_file)
        parse = imported("ua_parser").parse
        parse("warm")
        self._parse = parse

    def agent(self, user_agent: str) -> Agent:
        """What `user_agent` names. `prepare` must have been awaited."""
        known = self._agents.get(user_agent)
        if known is None:
            if len(self._agents) >= AGENTS_MAX:
                self._agents.clear()
            known = self._agents[user_agent] = self._named(user_agent)
        return known

    def place(self, address: str) -> Place:
        """Where `address`, or the network it was cut to, is."""
        if self._places is None or not address:
            return Place()
        try:
            found = self._places.get(address) or {}
        except (ValueError, RuntimeError):
            # An IPv6 address in a file of IPv4 ones; `InvalidDatabaseError`, where the file is damaged there.
            return Place()
        country = (found.get("country") or found.get("registered_country") or {}).get("iso_code") or ""
        return Place(country, ((found.get("city") or {}).get("names") or {}).get("en") or "")

    def _named(self, user_agent: str) -> Agent:
        bot = not user_agent or bool(self._crawlers.isCrawler(user_agent))
        parsed = self._parse(user_agent)
        os = parsed.os.family.lower() if parsed.os else ""
        os = _OS.get(os, os)
        family = parsed.user_agent.family.lower() if parsed.user_agent else ""
        browser = _BROWSERS.get(family, family.replace("mobile safari", "safari").replace("chrome mobile", "chrome"))
        return Agent(_device(user_agent, os), os, browser.removesuffix(" ios").removesuffix(" mobile"), bot)


def _opened(geo_file: Path) -> Any:
    """The file's reader, or None: what it would have told is not worth a visitor's redirect."""
    maxminddb = imported("maxminddb")
    try:
        return maxminddb.open_database(geo_file)
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        _log.error("countries and cities stay unknown, because links.geo_file cannot be read: %s", error)
        return None


def _device(user_agent: str, os: str) -> str:
    if "iPad" in user_agent or "Tablet" in user_agent or (os == "android" and "Mobile" not in user_agent):
        return "tablet"
    if os in ("ios", "android", "windows phone") or "Mobile" in user_agent:
        return "mobile"
    return "desktop" if os in ("windows", "macos", "linux", "chromeos") else ""


def languages(accept_language: str) -> tuple[str, ...]:
    """The tags of an `Accept-Language` in lower case, best first, at most ten; what is refused (`q=0`) is left out."""
    found: list[tuple[float, int, str]] = []
    for part in accept_language[:500].split(",")[:20]:
        match = _LANGUAGE.fullmatch(part.strip())
        if match is not None and (quality := float(match[2] or 1)) > 0:
            found.append((-quality, len(found), match[1].lower()))
    return tuple(tag for _, _, tag in sorted(found)[:10])


def network_of(address: str) -> str:
    """The address cut to /24 or /48, as it may be stored; empty for what is no address."""
    head, dot, tail = address.rpartition(".")
    if dot and tail.isdecimal() and ":" not in address:
        return head + ".0"
    try:
        return str(ipaddress.ip_network(f"{address}/48", strict=False).network_address)
    except ValueError:
        return ""


class Proxies:
    """The networks of proxies whose `X-Forwarded-For` is believed."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._networks = [ipaddress.ip_network(one, strict=False) for one in trusted]

    def client(self, address: str, forwarded: str) -> str:
        """The visitor's address: the connection's, or, where that is a proxy's, the last forwarded one that is none."""
        if not self._networks or not forwarded:
            return address
        for hop in (address, *(hop.strip() for hop in reversed(forwarded.split(",")))):
            try:
                parsed = ipaddress.ip_address(hop)
            except ValueError:
                break
            address = hop
            if not any(parsed in network for network in self._networks):
                break
        return address


def limit_key(address: str) -> str:
    """Whom a limit counts as one: an IPv4 address, or an IPv6 /64, which one customer has whole."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    mapped = getattr(parsed, "ipv4_mapped", None)
    if parsed.version == 4 or mapped is not None:
        return str(mapped or parsed)
    return str(ipaddress.ip_network(f"{address}/64", strict=False))


def pseudonym(key: bytes, address: str, user_agent: str) -> bytes:
    """Eight bytes that are the same for one visitor of this deployment and say nothing without its key."""
    return blake2b(f"{network_of(address)}\0{user_agent}".encode("utf-8", "replace"), key=key, digest_size=8).digest()
