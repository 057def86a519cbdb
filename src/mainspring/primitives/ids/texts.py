"""Numbers as text that people and addresses can carry, and back.

Every alphabet here is in ASCII order and every standard form has a fixed length, so that the order of texts is the order
of numbers. Reading is strict: a letter outside the alphabet, a text too long or a number above 2^64 - 1 raises `NotAnId`;
nothing wraps. base62 is the hot one: two letters at a time through tables of 3,844 pairs.

Crockford (2019, crockford.com/base32) leaves out I, L, O and U and reads `O` as 0, `I` and `L` as 1. base32hex is RFC 4648
section 7. base58 is Bitcoin's. The check letter is ISO 7064 MOD 37,36.
"""

from .errors import NotAnId

LAST_64 = (1 << 64) - 1


class Alphabet:
    """A positional notation; `also` gives further letters that are read as one of `letters`."""

    def __init__(self, letters: str, also: dict[str, str] | None = None) -> None:
        self.letters = letters
        self._base = len(letters)
        self.pairs = tuple(a + b for a in letters for b in letters)
        self._digits = {letter: value for value, letter in enumerate(letters)}
        for letter, meant in (also or {}).items():
            self._digits[letter] = self._digits[meant]

    def width(self, bits: int) -> int:
        """How many letters every number of `bits` bits fits into."""
        width = 1
        while self._base**width < 1 << bits:
            width += 1
        return width

    def encode(self, number: int, width: int = 1) -> str:
        """At least `width` letters, filled up with zeros on the left. Raises `ValueError` for a negative number."""
        if number < 0:
            raise ValueError("a negative number has no text here")
        pairs, square, out = self.pairs, len(self.pairs), []
        while number:
            number, two = divmod(number, square)
            out.append(pairs[two])
        return "".join(reversed(out)).lstrip(self.letters[0]).rjust(width, self.letters[0])

    def decode(self, text: str, bits: int = 64) -> int:
        """The number of a text that is not empty nor longer than `bits` need; raises `NotAnId`."""
        if not 1 <= len(text) <= self.width(bits):
            raise NotAnId(f"expected 1 to {self.width(bits)} letters")
        number, digits, base = 0, self._digits, self._base
        try:
            for letter in text:
                number = number * base + digits[letter]
        except KeyError:
            raise NotAnId("a letter is not of this alphabet") from None
        if number >> bits:
            raise NotAnId(f"the number does not fit into {bits} bits")
        return number


_DIGITS = "0123456789"
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOWER = _UPPER.lower()

BASE62 = Alphabet(_DIGITS + _UPPER + _LOWER)
BASE58 = Alphabet("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")
CROCKFORD = Alphabet(
    "0123456789ABCDEFGHJKMNPQRSTVWXYZ",
    also={letter: letter.upper() for letter in "abcdefghjkmnpqrstvwxyz"}
    | {"O": "0", "o": "0", "I": "1", "i": "1", "L": "1", "l": "1"},
)
BASE32HEX = Alphabet(_DIGITS + _UPPER[:22], also={letter: letter.upper() for letter in _LOWER[:22]})
HEX = Alphabet("0123456789abcdef", also={letter: letter.lower() for letter in "ABCDEF"})
DECIMAL = Alphabet(_DIGITS)

_WEIGHED = tuple({letter: digit * 62**place for digit, letter in enumerate(BASE62.letters)} for place in range(11))
_W0, _W1, _W2, _W3, _W4, _W5, _W6, _W7, _W8, _W9, _W10 = _WEIGHED


# The tables are arguments because a function's own names are the fastest.
def base62(
    number: int, _pairs: tuple[str, ...] = BASE62.pairs, _letters: tuple[str, ...] = tuple(BASE62.letters)
) -> str:
    """Eleven letters for any 64-bit number, in the order of the numbers. Raises `ValueError` outside 0 to 2^64 - 1."""
    if number >> 64:
        raise ValueError("base62 here is for numbers from 0 to 2^64 - 1")
    # 62^4 cuts it into 3 + 4 + 4 letters, whose arithmetic is on small integers.
    upper, low = number // 14_776_336, number % 14_776_336
    high, middle = upper // 14_776_336, upper % 14_776_336
    return (
        f"{_letters[high // 3844]}{_pairs[high % 3844]}{_pairs[middle // 3844]}{_pairs[middle % 3844]}"
        f"{_pairs[low // 3844]}{_pairs[low % 3844]}"
    )


def base62_short(number: int) -> str:
    """Without the leading zeros: the short form for links, whose order is not the order of the numbers."""
    return base62(number).lstrip("0") or "0"


def from_base62(text: str) -> int:
    """The number of 1 to 11 letters. Raises `NotAnId`, also above 2^64 - 1."""
    try:
        if len(text) != 11:
            return BASE62.decode(text)
        a, b, c, d, e, f, g, h, i, j, k = text  # type: ignore[str-unpack]
        number: int = (
            _W10[a] + _W9[b] + _W8[c] + _W7[d] + _W6[e] + _W5[f] + _W4[g] + _W3[h] + _W2[i] + _W1[j] + _W0[k]
        )  # fmt: skip
    except KeyError:
        raise NotAnId("a letter is not of the base62 alphabet") from None
    if number > LAST_64:
        raise NotAnId("the number does not fit into 64 bits")
    return number


def base58(number: int) -> str:
    """Eleven letters for any 64-bit number."""
    return BASE58.encode(number, 11)


def from_base58(text: str) -> int:
    return BASE58.decode(text)


def crockford(number: int) -> str:
    """Thirteen letters for any 64-bit number."""
    return CROCKFORD.encode(number, 13)


def from_crockford(text: str) -> int:
    """Reads either case, `O` as 0, `I` and `L` as 1, and ignores hyphens, as the standard has it."""
    return CROCKFORD.decode(text.replace("-", ""))


def base32hex(number: int) -> str:
    """Thirteen letters for any 64-bit number."""
    return BASE32HEX.encode(number, 13)


def from_base32hex(text: str) -> int:
    return BASE32HEX.decode(text)


def hexadecimal(number: int) -> str:
    """Sixteen letters for any 64-bit number."""
    return HEX.encode(number, 16)


def from_hexadecimal(text: str) -> int:
    return HEX.decode(text.removeprefix("0x"))


def from_decimal(text: str) -> int:
    return DECIMAL.decode(text)


def check_letter(code: str) -> str:
    """The ISO 7064 MOD 37,36 check letter of letters and digits.

    It finds every single mistyped letter and all but 1 in 630 swaps of two neighbours.

    Raises `NotAnId` where the code is empty or holds anything but letters and digits.
    """
    if not code or not code.isascii() or not code.isalnum():
        raise NotAnId("a code with a check letter is made of letters and digits")
    product = 36
    for letter in code:
        product = ((product + int(letter, 36)) % 36 or 36) * 2 % 37
    return (_DIGITS + _UPPER)[(37 - product) % 36]


def with_check(code: str) -> str:
    return code + check_letter(code)


def without_check(text: str) -> str:
    """The code before its check letter. Raises `NotAnId` where the letter does not fit."""
    if len(text) < 2 or check_letter(text[:-1]) != text[-1].upper():
        raise NotAnId("the check letter does not fit: a letter was mistyped or two were swapped")
    return text[:-1]
