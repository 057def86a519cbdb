"""Public ids that hide how many there are and when they were made: a keyed permutation of the numbers below 2^62.

Eight rounds of a balanced Feistel network (Luby and Rackoff 1988; four rounds are enough against a chosen-ciphertext
attacker with ideal functions, the rest is margin) over keyed BLAKE2s, on halves of 31 bits. The top two bits of the
64-bit result are the number of the key, so that keys can be rotated while old values are still read.

It hides; it does not authenticate: any 62 bits are the image of some id, so look the id up and check permission.
"""

from collections.abc import Mapping
from hashlib import blake2s

from .errors import NotAnId

ROUNDS = 8
_HALF_BITS = 31
_HALF = (1 << _HALF_BITS) - 1
BELOW = 1 << 2 * _HALF_BITS
"""Numbers that can be hidden lie below this: the `mainspring` layout reaches it in November 2059."""


class Opaque:
    """`hide` a number behind `key` (1 to 32 bytes), `show` it again.

    `number` (0 to 3) names the key inside the value; `older` holds earlier keys by their numbers, which `show` still reads.
    Numbers 0 and 1 keep values below 2^63, positive in a signed column. Raises `ValueError` for a key or number outside
    these bounds.
    """

    def __init__(self, key: bytes, *, number: int = 0, older: Mapping[int, bytes] | None = None) -> None:
        keys = {**(older or {}), number: key}
        if older and number in older:
            raise ValueError("a key number names one key")
        if any(not 0 <= name <= 3 for name in keys):
            raise ValueError("a key number is 0 to 3")
        if any(not 1 <= len(one) <= 32 for one in keys.values()):
            raise ValueError("a key is 1 to 32 bytes")
        self._number = number
        # One prepared hash per key and round: copying it is cheaper than keying it anew.
        self._rounds = {
            name: [blake2s(key=one, digest_size=4, person=bytes([turn])) for turn in range(ROUNDS)]
            for name, one in keys.items()
        }

    def hide(self, number: int) -> int:
        """The 64-bit public value of a number below 2^62. Raises `ValueError` for any other number."""
        if not 0 <= number < BELOW:
            raise ValueError("only numbers from 0 to 2^62 - 1 can be hidden")
        left, right = number >> _HALF_BITS, number & _HALF
        for start in self._rounds[self._number]:
            mix = start.copy()
            mix.update(right.to_bytes(4))
            left, right = right, left ^ int.from_bytes(mix.digest()) & _HALF
        return self._number << 62 | left << _HALF_BITS | right

    def show(self, value: int) -> int:
        """The number behind a value. Raises `NotAnId` for no 64-bit value and for a key that is not here."""
        rounds = self._rounds.get(value >> 62)
        if rounds is None:
            raise NotAnId("this value was not hidden with any key known here")
        left, right = value >> _HALF_BITS & _HALF, value & _HALF
        for start in reversed(rounds):
            mix = start.copy()
            mix.update(left.to_bytes(4))
            left, right = right ^ int.from_bytes(mix.digest()) & _HALF, left
        return left << _HALF_BITS | right
