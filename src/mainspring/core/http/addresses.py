"""Which addresses an outgoing request may reach: global unicast ones and those that the operator allows by name.

The lists follow IANA's special-purpose registries (RFC 6890). IPv6 is turned round: only 2000::/3 less its special parts is
public. Addresses that carry an IPv4 one (mapped, NAT64) are judged by that one. Cloud metadata services are private
addresses everywhere but at one provider, whose address is listed.
"""

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SPECIAL_V4 = [
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and a metadata service
        "127.0.0.0/8",
        "168.63.129.16/32",  # the platform's own services on one cloud
        "169.254.0.0/16",  # link-local, and most metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6 = [ipaddress.IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public Internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    carried = address.ipv4_mapped
    if carried is None and address in _NAT64:
        carried = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if carried is not None:
        return is_public(carried)
    return address in _PUBLIC_V6 and not any(address in network for network in _SPECIAL_V6)


class AllowList:
    """What may be reached although it is not public: networks (`10.1.0.0/16`), addresses and host names."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._networks: list[Network] = []
        self._hosts: set[str] = set()
        for entry in entries:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._hosts.add(entry.lower().rstrip("."))

    def admits(self, host: str, address: str) -> bool:
        """Whether a request for `host` may go to `address`, one of those that `host` resolved to."""
        if host.lower().rstrip(".") in self._hosts:
            return True
        try:
            parsed = ipaddress.ip_address(address)  # A scoped one (`fe80::1%eth0`) is link-local and in no network.
        except ValueError:
            return False
        return is_public(parsed) or any(parsed in network for network in self._networks)
