"""Codes: numbers and chance turned into short words. Pure; whatever is random or secret is passed in.

`counter` codes cannot collide: a number nobody else was given goes through a keyed permutation of all seven-letter words,
so that the words look random and hide how many there are. `snowflake` codes are unique as their ids are. `random` and
`hash` codes can collide; the table's key refuses the second one and another is drawn.
"""

import re
import unicodedata
from collections.abc import Iterable
from hashlib import blake2b, blake2s, sha256

LENGTH = 7
ROUNDS = 4
LEASE = 1_000
"""How many numbers a node takes at once; those left when it stops are skipped."""

DIGITS = "0123456789"
LOWER = "abcdefghijklmnopqrstuvwxyz"
ALPHABETS = {
    "base62": DIGITS + LOWER.upper() + LOWER,
    "base58": "".join(letter for letter in DIGITS + LOWER.upper() + LOWER if letter not in "0OIl"),
    "lower": DIGITS + LOWER,
}
"""`base58` has no look-alikes; `lower` is for domains where case does not matter."""

STRATEGIES = ("counter", "snowflake", "random", "hash")
RESERVED = frozenset(
    ("api", "documents", "favicon", "health", "links", "pastes", "qr-code", "raw", "rest", "robots", "yourls-api")
)
"""First words of paths that a dialect on the same port owns."""

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Scripts that are written together; everything else is one script to a word (after Unicode TS 39, "highly restrictive").
_TOGETHER = ({"CJK", "HIRAGANA", "KATAKANA"}, {"CJK", "BOPOMOFO"}, {"CJK", "HANGUL"})


def spell(number: int, alphabet: str, length: int = 0) -> str:
    """`number` in the positional system of `alphabet`, filled up to `length` with its first letter."""
    base, word = len(alphabet), ""
    while number:
        word = alphabet[number % base] + word
        number //= base
    return word.rjust(length, alphabet[0])


class Permutation:
    """A keyed bijection of `range(size)`: a balanced Feistel network of four rounds over the next even number of bits,
    walked again while it lands outside (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
    """

    def __init__(self, key: bytes, size: int) -> None:
        self.size = size
        self._half = max(1, -(-(size - 1).bit_length() // 2))
        self._mask = (1 << self._half) - 1
        self._keys = [
            blake2b(key=key[:64], digest_size=32, person=b"links/%d" % number).digest() for number in range(ROUNDS)
        ]

    def __call__(self, number: int) -> int:
        if not 0 <= number < self.size:
            raise ValueError("all words of this length are taken")
        while True:
            left, right = number >> self._half, number & self._mask
            for key in self._keys:
                left, right = right, left ^ self._mix(key, right)
            number = left << self._half | right
            if number < self.size:
                return number

    def inverse(self, number: int) -> int:
        """The number that this permutation turns into `number`."""
        while True:
            left, right = number >> self._half, number & self._mask
            for key in reversed(self._keys):
                left, right = right ^ self._mix(key, left), left
            number = left << self._half | right
            if number < self.size:
                return number

    def _mix(self, key: bytes, half: int) -> int:
        # BLAKE2 with the key before the message is a keyed hash; as one call it costs a third of keyed ones.
        return int.from_bytes(blake2s(key + half.to_bytes(8, "big")).digest(), "big") & self._mask


def hashed(target: str, salt: bytes, at_us: int, attempt: int, alphabet: str, length: int = LENGTH) -> str:
    """A code out of SHA-256 of target, salt and time; `attempt` counts the collisions met so far."""
    digest = sha256(b"%b\0%b\0%d\0%d" % (target.encode(), salt, at_us, attempt)).digest()
    return spell(int.from_bytes(digest, "big") % len(alphabet) ** length, alphabet, length)


def drawn(random: bytes, alphabet: str, length: int = LENGTH) -> str:
    """A code out of at least 16 random bytes (the bias of the remainder is below 2^-80)."""
    return spell(int.from_bytes(random, "big") % len(alphabet) ** length, alphabet, length)


def blocker(words: Iterable[str]) -> re.Pattern[str]:
    """What finds any of `words` in a code, however it is capitalised."""
    return re.compile("|".join(map(re.escape, words)) or "(?!)", re.IGNORECASE)


def clean(codes: Iterable[str], blocked: re.Pattern[str]) -> list[str]:
    """`codes` without those that are reserved, however they are capitalised, or contain something blocked."""
    return [code for code in codes if code.lower() not in RESERVED and not blocked.search(code)]


def alias_fault(alias: str, *, unicode: bool, segments_max: int) -> str | None:
    """Why `alias` cannot be one, or None. Segments are separated by slashes."""
    segments = alias.split("/")
    if not 0 < len(alias) <= 64 or len(segments) > segments_max:
        return f"an alias has 1 to 64 characters in at most {segments_max} segments"
    if segments[0].lower() in RESERVED or (len(segments) > 1 and segments[-1].lower() == "qr-code"):
        return "this word is reserved"
    for segment in segments:
        if _PLAIN.fullmatch(segment):
            continue
        reason = _unicode_fault(segment) if unicode else "only A-Z a-z 0-9 _ and -"
        if reason is not None:
            return reason
    return None


def _unicode_fault(word: str) -> str | None:
    import idna

    if not word or word != unicodedata.normalize("NFC", word):
        return "write it in Unicode's composed form (NFC)"
    try:
        idna.check_label(word.replace("_", "-").strip("-").lower())
    except idna.IDNAError as error:
        return f"not safe in a web address: {error}"
    scripts = {unicodedata.name(letter, "?").split(" ")[0].split("-")[0] for letter in word if letter.isalpha()}
    if len(scripts) > 1 and not any(scripts <= together for together in _TOGETHER):
        return f"mixes the scripts {', '.join(sorted(scripts))}"
    return None
