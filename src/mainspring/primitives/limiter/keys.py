"""Whom a limit counts as one: keys from a request, and lists of addresses that are let through or turned away.

A key function takes an ASGI scope and gives a key, one for each level of a hierarchy, or None where the request is not
limited; it may be asynchronous. Nothing that a client sends names its address: `X-Forwarded-For` is read from the right,
as far as it was written by proxies that are trusted.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from mainspring.core.accounts.caller import Caller
from mainspring.core.http.proxies import TrustedProxies
from mainspring.core.http.request import Request, Scope, headers_of

Key = str | Sequence[str] | None
KeyOf = Callable[[Scope], Key | Awaitable[Key]]
UNKNOWN = "unknown"
"""All whose address is none, as on a Unix socket, count as one."""

_KNOWN_MAX = 65_536


def network_of(address: str, ipv6_prefix: int = 64) -> str:
    """An IPv4 address as it is, an IPv6 one as its network: a customer has a whole /64, so an address there is free."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return UNKNOWN
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((int(parsed), ipv6_prefix), strict=False))


class ClientAddress:
    """The key is the client's address, or its network. `trusted` are the networks of proxies in front of this node."""

    def __init__(self, trusted: Iterable[str] = (), ipv6_prefix: int = 64) -> None:
        networks = tuple(trusted)
        self._proxies = TrustedProxies(networks)
        self._direct = not networks
        self._ipv6_prefix = ipv6_prefix
        # Reading an address costs microseconds, so what lately seen ones have come to is kept.
        self._known: dict[str, str] = {}
        self._trusted: dict[str, bool] = {}

    def __call__(self, scope: Scope) -> str:
        client = scope.get("client")
        address = client[0] if self._direct and client else self.address(scope)
        return self._known.get(address) or self._read(address)

    def address(self, scope: Scope) -> str:
        """The address itself, which no client can choose."""
        client = scope.get("client")
        address: str = client[0] if client else ""
        if self._direct or not self._is_trusted(address):
            return address
        return self._proxies.client_of(address, headers_of(scope).get(b"x-forwarded-for", b"").decode("latin-1"))

    def _read(self, address: str) -> str:
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        found = self._known[address] = network_of(address, self._ipv6_prefix)
        return found

    def _is_trusted(self, address: str) -> bool:
        found = self._trusted.get(address)
        if found is None:
            if len(self._trusted) >= _KNOWN_MAX:
                self._trusted.clear()
            found = self._trusted[address] = self._proxies.trusts(address)
        return found


def header(name: str, otherwise: KeyOf | None = None) -> KeyOf:
    """The value of a header; without it the key of `otherwise`, or no limit."""
    wanted = name.lower().encode("latin-1")

    def key(scope: Scope) -> Key | Awaitable[Key]:
        value = headers_of(scope).get(wanted)
        if value is not None:
            return f"{name.lower()}:{value.decode('latin-1')}"
        return otherwise(scope) if otherwise else None

    return key


def account(authenticate: Callable[[Request], Awaitable[Caller]], otherwise: KeyOf) -> KeyOf:
    """The account that the credentials are of; for nobody the key of `otherwise`."""

    async def key(scope: Scope) -> Key:
        caller = await authenticate(Request(scope, _nothing))
        if caller.account_id is not None:
            return f"account:{caller.account_id}"
        found = otherwise(scope)
        return await found if isinstance(found, Awaitable) else found

    return key


def token(authenticate: Callable[[Request], Awaitable[Caller]], otherwise: KeyOf) -> KeyOf:
    """The token or session itself, so that the tokens of one account do not share; for nobody the key of `otherwise`."""

    async def key(scope: Scope) -> Key:
        caller = await authenticate(Request(scope, _nothing))
        if caller.token_id is not None:
            return f"token:{caller.token_id}"
        found = otherwise(scope)
        return await found if isinstance(found, Awaitable) else found

    return key


def route(templates: Iterable[str], inner: KeyOf) -> KeyOf:
    """The key of `inner` at each of these templates (`/users/{id}`) by itself; all other paths count as one."""
    split = [(template, template.strip("/").split("/")) for template in templates]

    def key(scope: Scope) -> Key | Awaitable[Key]:
        where = _matching(split, scope["path"])
        found = inner(scope)
        if isinstance(found, Awaitable):
            return _placed(where, found)
        return _at(where, found)

    return key


async def _placed(where: str, found: Awaitable[Key]) -> Key:
    return _at(where, await found)


def _at(where: str, key: Key) -> Key:
    if key is None or isinstance(key, str):
        return None if key is None else f"{where} {key}"
    return [f"{where} {key[0]}", *key[1:]]


def _matching(split: Sequence[tuple[str, list[str]]], path: str) -> str:
    segments = path.strip("/").split("/")
    for template, parts in split:
        if len(parts) == len(segments) and all(
            part == segment or part.startswith("{") for part, segment in zip(parts, segments, strict=True)
        ):
            return template
    return "*"


class Networks:
    """A set of networks (CIDR), asked by address. Raises `ValueError` for one that is none."""

    def __init__(self, cidrs: Iterable[str]) -> None:
        self._by_prefix: dict[tuple[int, int], set[int]] = {}
        for cidr in cidrs:
            network = ip_network(cidr, strict=False)
            shift = network.max_prefixlen - network.prefixlen
            self._by_prefix.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)

    def __contains__(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        number = int(parsed)
        return any(
            version == parsed.version and number >> shift in networks
            for (version, shift), networks in self._by_prefix.items()
        )

    def __bool__(self) -> bool:
        return bool(self._by_prefix)


async def _nothing() -> dict[str, object]:
    """A body that is not there: who only looks at headers never reads it."""
    return {"type": "http.request", "body": b"", "more_body": False}
