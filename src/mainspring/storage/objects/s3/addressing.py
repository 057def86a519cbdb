"""Where a request points: bucket and key, from the path as it was sent or from the name in the Host header.

Nothing is normalised: `//`, `..`, `%2F` and every letter of a key mean themselves.
"""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from mainspring.storage.objects.s3.errors import S3Error

FIELDS_MAX = 100
HOSTS_MAX = 1_000


class Address(NamedTuple):
    """`bucket` is empty for the service itself, `key` for a bucket. `website`: asked for as a static site."""

    bucket: str
    key: str
    virtual: bool = False
    website: bool = False


class Hosts:
    """The names below which a label is a bucket (`s3.localhost`), and those of static sites (`s3-website.localhost`)."""

    def __init__(self, domains: Sequence[str], website_domains: Sequence[str]) -> None:
        self._suffixes = tuple(f".{domain.lower()}" for domain in domains)
        self._website_suffixes = tuple(f".{domain.lower()}" for domain in website_domains)
        self._known: dict[bytes, tuple[str, bool]] = {}

    def address(self, host: bytes, raw_path: bytes) -> Address:
        """Raises `InvalidURI` for a path that is no UTF-8."""
        label, website = self._known.get(host) or self._look_at(host)
        if label:
            return Address(label, text(raw_path[1:]), True, website)
        bucket, _, key = raw_path[1:].partition(b"/")
        return Address(text(bucket), text(key))

    def _look_at(self, host: bytes) -> tuple[str, bool]:
        """(the bucket that a host names, or the empty text; whether as a site)"""
        name = host.decode("latin-1").lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        found = "", False
        for suffixes, website in ((self._suffixes, False), (self._website_suffixes, True)):
            for suffix in suffixes:
                if name.endswith(suffix):
                    found = name.removesuffix(suffix), website
        if len(self._known) < HOSTS_MAX:
            self._known[host] = found
        return found


def text(escaped: bytes) -> str:
    """Percent-encoded bytes as text. Raises `InvalidURI`."""
    try:
        return (unquote_to_bytes(escaped) if b"%" in escaped else escaped).decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidURI") from None


def fields(query_string: bytes) -> list[tuple[str, str]]:
    """The query's fields in order; one without `=` is empty. Raises `InvalidURI`, `InvalidArgument` for over 100."""
    if not query_string:
        return []
    pieces = query_string.split(b"&")
    if len(pieces) > FIELDS_MAX:
        raise S3Error("InvalidArgument", f"A query has at most {FIELDS_MAX} fields")
    pairs = []
    for piece in pieces:
        if piece:
            name, _, value = piece.partition(b"=")
            pairs.append((text(name.replace(b"+", b" ")), text(value.replace(b"+", b" "))))
    return pairs
