"""XML of the protocol: read by lxml with everything dangerous off, written by hand.

A request's document becomes a tree of `Node`s without namespaces. Entities and document types are refused, nothing is fetched,
at most 20 levels and 1 MiB are read. Answers are text with every value escaped; what XML has no letter for (control
characters in keys) is written as a character reference, as S3 does.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
SCHEMA_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
DOCUMENT_BYTES_MAX = 1 << 20
DEPTH_MAX = 20

_SPECIAL = re.compile('[&<>"\x00-\x08\x0b\x0c\x0d\x0e-\x1f\x7f\ufffe\uffff]')
_PLAIN_IN_URLS = re.compile(r"[A-Za-z0-9/_.~*-]*")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


class Malformed(ValueError):
    """Not a document that may be read; the text says why."""


class Node(msgspec.Struct):
    """One element: its local name, its text without surrounding space, its children in order; `kind` is its `xsi:type`."""

    name: str
    text: str = ""
    children: list["Node"] = []
    kind: str = ""

    def one(self, name: str) -> "Node | None":
        """The first child of this name."""
        return next((child for child in self.children if child.name == name), None)

    def all(self, name: str) -> list["Node"]:
        return [child for child in self.children if child.name == name]

    def get(self, name: str, default: str = "") -> str:
        """The text of the first child of this name."""
        child = self.one(name)
        return default if child is None else child.text

    def written(self) -> str:
        """The element as text again."""
        if self.kind:
            start = f'<{self.name} xmlns:xsi="{SCHEMA_INSTANCE}" xsi:type="{escaped(self.kind)}">'
        else:
            start = f"<{self.name}>"
        inner = "".join(child.written() for child in self.children) if self.children else escaped(self.text)
        return f"{start}{inner}</{self.name}>"


def parse(body: bytes, root: str) -> Node:
    """Reads a document whose root is called `root`. Raises `Malformed`."""
    from lxml import etree  # type: ignore[import-untyped]

    if len(body) > DOCUMENT_BYTES_MAX:
        raise Malformed(f"A document has at most {DOCUMENT_BYTES_MAX:,} bytes")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
    )
    try:
        element = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Malformed(f"The document cannot be read: {str(error)[:200]}") from None
    if element.getroottree().docinfo.doctype:
        raise Malformed("A document type is not accepted")
    node = _node(element, 1)
    if node.name != root:
        raise Malformed(f"The document is not a {root}")
    return node


def _node(element: Any, depth: int) -> Node:
    if depth > DEPTH_MAX:
        raise Malformed(f"Elements may be nested {DEPTH_MAX} deep")
    children = []
    for child in element:
        if not isinstance(child.tag, str):
            raise Malformed("Entities and processing instructions are not accepted")
        children.append(_node(child, depth + 1))
    name = element.tag.rpartition("}")[2]
    kind = element.get(f"{{{SCHEMA_INSTANCE}}}type") or ""
    text = (element.text or "") if children or not element.text else element.text
    return Node(name, text.strip() if children else text, children, kind)


def escaped(text: str) -> str:
    """Text as it may stand between two tags."""
    return _SPECIAL.sub(_reference, text) if _SPECIAL.search(text) else text


def is_plain(text: str) -> bool:
    """Whether `text` is the same when it is escaped."""
    return _SPECIAL.search(text) is None


def is_plain_in_urls(text: str) -> bool:
    """Whether `text` is the same when it is percent-encoded."""
    return _PLAIN_IN_URLS.fullmatch(text) is not None


def _reference(found: "re.Match[str]") -> str:
    letter = found[0]
    return _ENTITIES.get(letter) or f"&#x{ord(letter):X};"


def document(root: str, inner: str) -> str:
    """A whole document in S3's namespace."""
    return f'{HEAD}<{root} xmlns="{NAMESPACE}">{inner}</{root}>'


def element(name: str, text: Any) -> str:
    return f"<{name}>{escaped(str(text))}</{name}>"


def elements(pairs: Iterable[tuple[str, Any]]) -> str:
    """One element for each pair whose value is not None; booleans as XML has them."""
    return "".join(
        f"<{name}>{escaped(str(value).lower() if isinstance(value, bool) else str(value))}</{name}>"
        for name, value in pairs
        if value is not None
    )


@lru_cache(maxsize=4_096)
def seconds(at_s: int) -> str:
    """Seconds UTC as `timestamp` begins."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def timestamp(at_us: int) -> str:
    """Microseconds UTC as S3 writes them in documents, with milliseconds."""
    return f"{seconds(at_us // 1_000_000)}.{at_us // 1_000 % 1_000:03d}Z"


def url_encoded(text: str) -> str:
    """A key as `encoding-type=url` asks for it."""
    return quote(text, safe="/-_.~*", errors="surrogateescape")
