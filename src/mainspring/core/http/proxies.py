"""Whose request it is where proxies stand in front: the last address in `X-Forwarded-For` that no proxy of ours has.

Every proxy appends the address that it was asked from. Read from the right, each one that belongs to a trusted proxy was
written by another trusted one; the first that does not is the client, and what stands left of it is only what it claims.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from mainspring.core.http.request import Scope

HOPS_MAX = 16


class TrustedProxies:
    """Networks (CIDR) in which the proxies in front of this node are. Raises `ValueError` for one that is none."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ip_network(network, strict=False) for network in networks]

    def trusts(self, address: str) -> bool:
        """Whether `address` is a proxy's, so that its forwarding headers are believed."""
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def client_of(self, address: str, forwarded: str) -> str:
        """The client's address, of a connection from `address` with these `X-Forwarded-For` hops."""
        hops = forwarded.rsplit(",", HOPS_MAX)
        while hops and self.trusts(address):
            hop = _parsed(hops.pop().strip())
            if hop is None:
                break
            address = str(hop)
        return address


def see_through(proxies: TrustedProxies, scope: Scope, headers: dict[bytes, bytes]) -> None:
    """Puts the client and scheme that trusted proxies tell of into `scope`, for every layer below."""
    address, port = scope.get("client") or ("", 0)
    if proxies.trusts(address):
        forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1")
        scope["client"] = (proxies.client_of(address, forwarded), port)
        if headers.get(b"x-forwarded-proto") == b"https":
            scope["scheme"] = "wss" if scope["type"] == "websocket" else "https"


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
