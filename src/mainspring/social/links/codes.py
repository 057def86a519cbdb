"""Codes: numbers and chance turned into short words. Pure; whatever is random or secret is passed in.

`counter` codes cannot collide: a number nobody else was given goes through a keyed permutation of all seven-letter words,
so that the words look random and hide how many there are. `snowflake` codes are unique as their ids are. `random` and
`hash` codes can collide; the table's key refuses the second one and another is drawn.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from hashlib import blake2b, sha256
from struct import pack, unpack

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
    pairs, word = _pairs(alphabet), ""
    while number:
        number, two = divmod(number, len(pairs))
        word = pairs[two] + word
    return word.lstrip(alphabet[0]).rjust(length, alphabet[0])


def spell_all(numbers: Iterable[int], alphabet: str, length: int) -> list[str]:
    """`spell` of each, for numbers below `len(alphabet) ** length`: what is made by the hundred is made in one loop."""
    pairs = _pairs(alphabet)
    base, singles = len(pairs), alphabet if length % 2 else [""]
    words = []
    for number in numbers:
        word = ""
        for _ in range(length // 2):
            number, two = divmod(number, base)
            word = pairs[two] + word
        words.append(singles[number] + word)
    return words


@cache
def _pairs(alphabet: str) -> list[str]:
    """All words of two letters in order, which halve the steps of spelling."""
    return [first + second for first in alphabet for second in alphabet]


class Permutation:
    """A keyed bijection of `range(size)`: a balanced Feistel network of four rounds over the next even number of bits,
    walked again while it lands outside (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). At most 2^64.

    Its round function is AES of one block. A list of numbers goes through together, as the lanes of two large integers, so
    that each round is three calls for all of them.
    """

    def __init__(self, key: bytes, size: int) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        self.size = size
        self._half = max(1, -(-(size - 1).bit_length() // 2))
        self._mask = (1 << self._half) - 1
        keys = [blake2b(key=key[:64], digest_size=32, person=b"links/%d" % number).digest() for number in range(ROUNDS)]
        self._rounds = [Cipher(algorithms.AES(key), modes.ECB()).encryptor().update for key in keys]

    def __call__(self, number: int) -> int:
        return self.of((number,))[0]

    def of(self, numbers: Sequence[int]) -> list[int]:
        """What each of `numbers` becomes. Raises `ValueError` for one that is not below `size`."""
        if numbers and not 0 <= min(numbers) <= max(numbers) < self.size:
            raise ValueError("all words of this length are taken")
        images = self._walk(numbers, self._rounds)
        while outside := [place for place, image in enumerate(images) if image >= self.size]:
            again = self._walk([images[place] for place in outside], self._rounds)
            for place, image in zip(outside, again, strict=True):
                images[place] = image
        return images

    def inverse(self, number: int) -> int:
        """The number that this permutation turns into `number`."""
        while True:
            (image,) = self._walk([self._swapped(number)], self._rounds[::-1])
            number = self._swapped(image)
            if number < self.size:
                return number

    def _swapped(self, number: int) -> int:
        """With its halves exchanged: a Feistel network runs backwards with its rounds in reverse."""
        return (number & self._mask) << self._half | number >> self._half

    def _walk(self, numbers: Sequence[int], rounds: Sequence[Callable[[bytes], bytes]]) -> list[int]:
        half, lanes = self._half, "<" + "I12x" * len(numbers)
        size_bytes = 16 * len(numbers)
        mask = int.from_bytes(pack(lanes, *[self._mask] * len(numbers)), "little")
        lefts = int.from_bytes(pack(lanes, *[number >> half for number in numbers]), "little")
        rights = int.from_bytes(pack(lanes, *[number & self._mask for number in numbers]), "little")
        for encrypt in rounds:
            mixed = int.from_bytes(encrypt(rights.to_bytes(size_bytes, "little")), "little") & mask
            lefts, rights = rights, lefts ^ mixed
        both = (unpack(lanes, side.to_bytes(size_bytes, "little")) for side in (lefts, rights))
        return [left << half | right for left, right in zip(*both, strict=True)]


def hashed(target: str, salt: bytes, at_us: int, attempt: int, alphabet: str, length: int = LENGTH) -> str:
    """A code out of SHA-256 of target, salt and time; `attempt` counts the collisions met so far."""
    digest = sha256(b"%b\0%b\0%d\0%d" % (target.encode(), salt, at_us, attempt)).digest()
    return spell(int.from_bytes(digest, "big") % len(alphabet) ** length, alphabet, length)


def drawn(random: bytes, alphabet: str, length: int = LENGTH) -> str:
    """A code out of at least 16 random bytes (the bias of the remainder is below 2^-80)."""
    return spell(int.from_bytes(random, "big") % len(alphabet) ** length, alphabet, length)


def blocker(words: Iterable[str]) -> re.Pattern[str]:
    """What finds any of `words` in a text of small letters."""
    return re.compile("|".join(re.escape(word.lower()) for word in words) or "(?!)")


def clean(codes: Iterable[str], blocked: re.Pattern[str]) -> list[str]:
    """`codes` without those that are reserved or contain something blocked, however they are capitalised."""
    words = list(codes)
    # Hardly ever is there a bad one, and to look through all of them at once is much less work.
    text = "/".join(words).lower()
    if RESERVED.isdisjoint(text.split("/")) and not blocked.search(text):
        return words
    return [word for word in words if word.lower() not in RESERVED and not blocked.search(word.lower())]


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
