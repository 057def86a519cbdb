"""How often somebody may try a password: five times a minute for a name from an address, fifty for either alone.

The generic cell rate algorithm (ITU-T I.371, 1993), which keeps one number for each key: the time at which its bucket
would be empty again. The `allow` function from above, where there is one, is asked as well; this here is what holds
without one, and on each node by itself.
"""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address

from mainspring.core.accounts.model import TooManyAttempts
from mainspring.core.clock import Clock

PAIR_PER_MINUTE = 5
EITHER_PER_MINUTE = 50
KEYS_MAX = 50_000
_MINUTE_NS = 60_000_000_000

Allow = Callable[[str], bool]


class Attempts:
    """Counts attempts; the memory holds 50,000 keys, and the one that was used longest ago goes first."""

    def __init__(self, clock: Clock, allow: Allow | None = None) -> None:
        self._clock = clock
        self._allow = allow
        self._empty_at_ns: OrderedDict[str, int] = OrderedDict()

    def take(self, name: str, address: str) -> None:
        """Counts one attempt. Raises `TooManyAttempts`, with the time to wait, where it is one too many."""
        place = network(address)
        pair = f"{name}|{place}"
        for key, per_minute in (
            (pair, PAIR_PER_MINUTE),
            (f"n|{name}", EITHER_PER_MINUTE),
            (f"a|{place}", EITHER_PER_MINUTE),
        ):
            wait_ns = self._take(key, per_minute)
            if wait_ns > 0:
                raise _refusal(-(-wait_ns // 1_000_000_000))
        if self._allow is not None and not self._allow(f"sign-in:{pair}"):
            raise _refusal(_MINUTE_NS // PAIR_PER_MINUTE // 1_000_000_000)

    def forgive(self, name: str, address: str) -> None:
        """Forgets the attempts for this name from this address, after one that was right."""
        self._empty_at_ns.pop(f"{name}|{network(address)}", None)

    def _take(self, key: str, per_minute: int) -> int:
        now_ns = self._clock.mono_ns()
        each_ns = _MINUTE_NS // per_minute
        empty_at_ns = max(self._empty_at_ns.get(key, 0), now_ns) + each_ns
        wait_ns = empty_at_ns - now_ns - _MINUTE_NS
        if wait_ns <= 0:
            self._empty_at_ns[key] = empty_at_ns
            self._empty_at_ns.move_to_end(key)
            if len(self._empty_at_ns) > KEYS_MAX:
                self._empty_at_ns.popitem(last=False)
        return wait_ns


def network(address: str) -> str:
    """What one person has of addresses: an IPv4 address, or the /64 around an IPv6 address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return parsed.exploded[:19]


def _refusal(wait_s: int) -> TooManyAttempts:
    return TooManyAttempts(f"Try again in {wait_s} s", headers=(("retry-after", str(wait_s)),))
