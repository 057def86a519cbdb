"""The ids of 128 bits and their kin: UUIDv7, ULID, KSUID, XID, TypeID, NanoID.

They need no worker and no table: what tells two processes apart is chance, 62 to 128 bits of it. In one process UUIDv7,
ULID, XID and TypeID strictly increase, threads and a clock set back included; KSUID orders by seconds; NanoID has no time.

Sources: RFC 9562 (UUID, section 6.2 method 1: a counter of 12 bits in rand_a), github.com/ulid/spec, segmentio/ksuid,
rs/xid, jetify-com/typeid, ai/nanoid.
"""

import os
from collections.abc import Callable
from threading import Lock
from typing import Any
from uuid import UUID, SafeUUID

from mainspring.core.clock import Clock

from .chance import Chance, forget_at_fork
from .errors import BadPrefix, NotAnId
from .layouts import Layout
from .minter import Minter, threads_switch_at_calls
from .texts import BASE32HEX, BASE62, CROCKFORD

KSUID_EPOCH_S = 1_400_000_000
TYPEID_PREFIX_MAX = 63
TYPEID_LETTERS = CROCKFORD.letters.lower()

# The upper half of a UUIDv7 is an id like any other: 48 bits of milliseconds, a worker that is always the version 7, and
# the counter.
_UPPER_HALF = Layout(epoch_ms=0, time=48, worker=4, sequence=12, width=64)
_FOREVER_MS = 1 << 60

_LOWER_PAIRS = tuple(pair.lower() for pair in CROCKFORD.pairs)
_NANO_LETTERS = "useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict"
_NANO = bytes(_NANO_LETTERS[byte & 63].encode()[0] for byte in range(256))
NANO_LETTERS = frozenset(_NANO_LETTERS)

_VARIANT = bytes(0x80 | byte & 0x3F for byte in range(256))


def _with_variant(pool: bytes) -> bytes:
    """Sets the two variant bits of every eight random bytes: the lower half of a UUID."""
    marked = bytearray(pool)
    marked[::8] = marked[::8].translate(_VARIANT)
    return bytes(marked)


class Kinds:
    """Mints every kind that needs no table. `source(count)` gives random bytes.

    - `uuid7() -> uuid.UUID`, `ulid() -> str` (26 letters; raises `OverflowError` after 2^80 in a millisecond)
    - `ksuid()`, `xid()`, `nano() -> str`; `typeid(prefix) -> str` raises `BadPrefix`
    """

    uuid7: Callable[[], UUID]
    ulid: Callable[[], str]

    def __init__(self, clock: Clock, source: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._chance = Chance(source)
        # A UUID never waits for the clock: it counts on at the last millisecond for as long as that takes.
        upper = Minter(_UPPER_HALF, 7, clock, 0, None, chance=self._chance, drift_ms_max=_FOREVER_MS)
        self.uuid7, self._forget_uuid7 = _uuid7(clock, upper, Chance(source, _with_variant))
        self.ulid, self._forget_ulid = _ulid(clock, self._chance)
        self._xid_lock = Lock()
        self._xid_last = 0
        self._process = self._chance.bits(40)
        forget_at_fork(self)

    def forget(self) -> None:
        """A forked child draws its own randomness; going on with the parent's would repeat its ids."""
        self._forget_uuid7()
        self._forget_ulid()
        self._xid_lock = Lock()
        self._process = self._chance.bits(40)

    def ksuid(self) -> str:
        """27 base62 letters: 32 bits of seconds, 128 of chance."""
        seconds = self._clock.wall_ns() // 1_000_000_000 - KSUID_EPOCH_S
        return BASE62.encode(seconds << 128 | self._chance.bits(128), 27)

    def xid(self) -> str:
        """20 base32hex letters: 32 bits of seconds, 40 that name the process, 24 that count."""
        seconds = self._clock.wall_ns() // 1_000_000_000
        with self._xid_lock:
            # Counting runs on into the next second, so that a full counter and a clock set back still increase.
            self._xid_last = max(self._xid_last + 1, seconds << 24)
            count = self._xid_last
        value = (count >> 24) << 64 | self._process << 24 | count & 0xFFFFFF
        return BASE32HEX.encode(value << 4, 20).lower()

    def nano(self) -> str:
        """21 letters of chance, 126 bits."""
        return self._chance.bits(168).to_bytes(21).translate(_NANO).decode()

    def typeid(self, prefix: str) -> str:
        """`prefix_` and the 26 Crockford letters of a UUIDv7; without a prefix only the letters. Raises `BadPrefix`."""
        return typeid(prefix, self.uuid7().int)


def _uuid7(clock: Clock, upper: Minter, chance: Chance) -> tuple[Callable[[], UUID], Callable[[], None]]:
    new = object.__new__
    # The constructor of UUID checks six ways to be called and costs four times the rest: fill the slots instead.
    slots: dict[str, Any] = vars(UUID)  # type: ignore[assignment]
    set_int, set_safe = slots["int"].__set__, slots["is_safe"].__set__
    unknown = SafeUUID.unknown
    wall_ns, pop, refill = clock.wall_ns, chance.words.pop, chance.word
    lock, one_up, unlocked = Lock(), 1 << 64, threads_switch_at_calls()
    high = top = end_ns = 0  # whole numbers of 128 bits whose lower half is zero

    def uuid7() -> UUID:
        nonlocal high
        try:
            low = pop()
        except IndexError:
            low = refill()
        # As in the minter: no other thread comes in between comparing and adding.
        if unlocked and wall_ns() < end_ns and high < top:
            high = mine = high + one_up
        else:
            mine = next_locked()
        one = new(UUID)
        set_int(one, mine | low)
        set_safe(one, unknown)
        return one

    def next_locked() -> int:
        nonlocal high, top, end_ns
        with lock:
            now_ns = wall_ns()
            if now_ns < end_ns and high < top:  # another thread was here in between
                high = mine = high + one_up
                return mine
            end_ns = 0  # closes the short path
            first, last, until_ns = upper.rest()
            high, top, mine = first << 64, last << 64, first << 64
            end_ns = until_ns
            return mine

    def forget() -> None:
        nonlocal lock
        lock = Lock()

    return uuid7, forget


def _ulid(clock: Clock, chance: Chance) -> tuple[Callable[[], str], Callable[[], None]]:
    wall_ns, bits, pairs = clock.wall_ns, chance.bits, CROCKFORD.pairs
    lock = Lock()
    last_ms, end_ns = -1, 0
    upper, low = "", 0  # the first 22 letters, and the number in the last four

    def ulid() -> str:
        nonlocal low
        # As in the minter: nothing between the comparison and the text lets another thread in. A clock that was set back
        # is still before the end: it counts on at the last millisecond.
        if wall_ns() < end_ns and low < 0xFFFFF:
            low += 1
            return f"{upper}{pairs[low >> 10]}{pairs[low & 1023]}"
        return ulid_locked()

    def ulid_locked() -> str:
        nonlocal last_ms, end_ns, upper, low
        now_ms = wall_ns() // 1_000_000
        fresh = bits(80)
        with lock:
            end_ns = 0  # closes the short path
            if now_ms > last_ms:
                last_ms, random = now_ms, fresh
                upper = CROCKFORD.encode(last_ms << 60 | random >> 20, 22)
                low = random & 0xFFFFF
            elif low < 0xFFFFF:
                low += 1
            else:
                carried = CROCKFORD.decode(upper, 110) + 1
                if carried >> 60 != last_ms:
                    raise OverflowError("2^80 ULIDs in one millisecond")
                upper, low = CROCKFORD.encode(carried, 22), 0
            text = f"{upper}{pairs[low >> 10]}{pairs[low & 1023]}"
            end_ns = (last_ms + 1) * 1_000_000
            return text

    def forget() -> None:
        nonlocal lock, last_ms, end_ns
        lock = Lock()
        last_ms, end_ns = -1, 0

    return (ulid if threads_switch_at_calls() else ulid_locked), forget


def check_prefix(prefix: str) -> str:
    """Gives `prefix` back. Raises `BadPrefix` outside `[a-z_]{0,63}` or with an underscore at either end."""
    if len(prefix) > TYPEID_PREFIX_MAX or prefix.strip("abcdefghijklmnopqrstuvwxyz_") or prefix.strip("_") != prefix:
        raise BadPrefix(f"{prefix[:64]!r} is not a TypeID prefix", pointer="/prefix")
    return prefix


def typeid(prefix: str, value: int) -> str:
    """The TypeID of a UUID's 128 bits. Raises `BadPrefix`."""
    check_prefix(prefix)
    pairs = _LOWER_PAIRS
    letters = "".join([pairs[value >> shift & 1023] for shift in range(120, -1, -10)])
    return f"{prefix}_{letters}" if prefix else letters


def from_typeid(text: str) -> tuple[str, int]:
    """(prefix, the UUID's 128 bits), read as strictly as the standard asks: lower case only. Raises `NotAnId`."""
    prefix, underscore, letters = text.rpartition("_")
    if len(letters) != 26 or letters.strip(TYPEID_LETTERS):
        raise NotAnId("a TypeID ends in 26 letters of Crockford's alphabet in lower case")
    if underscore and not prefix:
        raise NotAnId("a TypeID without a prefix has no underscore")
    try:
        check_prefix(prefix)
    except BadPrefix as error:
        raise NotAnId(error.detail) from None
    return prefix, CROCKFORD.decode(letters, 128)
