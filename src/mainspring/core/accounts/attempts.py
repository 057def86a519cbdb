"""How often somebody may try a password: five times a minute for a name from an address, fifty for either alone.

The times of the last attempts are kept for each key, so the bound holds for every minute, wherever it begins. The `allow`
function from above, where there is one, is asked as well, for all nodes together; this here holds without one, and on each
node by itself.
"""

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from mainspring.core.accounts.model import TooManyAttempts
from mainspring.core.clock import Clock

PAIR_PER_MINUTE = 5
EITHER_PER_MINUTE = 50
KEYS_MAX = 10_000
_MINUTE_NS = 60_000_000_000

Allow = Callable[[str], Awaitable[bool]]


class Attempts:
    """Counts attempts for at most 10,000 keys; the one that was used longest ago goes first."""

    def __init__(self, clock: Clock, allow: Allow | None = None) -> None:
        self.allow = allow
        self._clock = clock
        self._times: OrderedDict[tuple[str, ...], deque[int]] = OrderedDict()

    async def take(self, name: str, address: str) -> None:
        """Counts one attempt. Raises `TooManyAttempts`, with the time to wait, where it is one too many."""
        now_ns = self._clock.mono_ns()
        for key, per_minute in _limits(name, address):
            times = self._times.get(key)
            if times is not None and len(times) == per_minute and now_ns - times[0] < _MINUTE_NS:
                raise _refusal(times[0] + _MINUTE_NS - now_ns)
        for key, per_minute in _limits(name, address):
            self._times.setdefault(key, deque(maxlen=per_minute)).append(now_ns)
            self._times.move_to_end(key)
        while len(self._times) > KEYS_MAX:
            self._times.popitem(last=False)
        if self.allow is not None and not await self.allow(f"{name}|{network(address)}"):
            raise _refusal(_MINUTE_NS // PAIR_PER_MINUTE)

    def forgive(self, name: str, address: str) -> None:
        """After an attempt that was right: it does not count, and neither do those before it from the same address."""
        pair, *others = (key for key, _ in _limits(name, address))
        self._times.pop(pair, None)
        for key in others:
            if times := self._times.get(key):
                times.pop()


def _limits(name: str, address: str) -> tuple[tuple[tuple[str, ...], int], ...]:
    place = network(address)
    return (
        (("pair", name, place), PAIR_PER_MINUTE),
        (("name", name), EITHER_PER_MINUTE),
        (("address", place), EITHER_PER_MINUTE),
    )


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


def _refusal(wait_ns: int) -> TooManyAttempts:
    wait_s = -(-wait_ns // 1_000_000_000)
    return TooManyAttempts(f"Try again in {wait_s} s", headers=(("retry-after", str(wait_s)),))
