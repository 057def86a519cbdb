"""From bytes to requests, and from answers to bytes.

Requests are read, and answers written, by functions that are made once per version from kio's schema of it (`reading`,
`writing`), so that a handler says the same for every version. The requests and answers that are sent most (Produce, Fetch)
or first (ApiVersions) are read and packed by their handlers. kio is loaded when the first other request comes.
"""

import struct
import sys
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from mainspring.core.imports import imported
from mainspring.storage.log.kafka.varints import skip_tags

if TYPE_CHECKING:
    from mainspring.storage.log.kafka.reading import Read
    from mainspring.storage.log.kafka.writing import Write

_HEADER = struct.Struct(">hhi")
_SHORT = struct.Struct(">h")
_LONG = struct.Struct(">i")
_MILLISECOND = timedelta(milliseconds=1)
_API_VERSIONS = 18
_FLEXIBLE_FROM = {0: 9, _API_VERSIONS: 3}
"""Of Produce and ApiVersions, which are read without kio."""


class Malformed(Exception):
    """The bytes are not a request of the version that they say they are."""


def ms(duration: timedelta) -> int:
    """A duration of a request in milliseconds."""
    return duration // _MILLISECOND


def header(frame: memoryview) -> tuple[int, int, int]:
    """Key, version and correlation id, which every request begins with. Raises `Malformed`."""
    if len(frame) < 8:
        raise Malformed("shorter than a header")
    key, version, correlation_id = _HEADER.unpack_from(frame)
    return key, version, correlation_id


def client(frame: memoryview, *, flexible: bool) -> tuple[str | None, int]:
    """The client's id, and where the request's body begins. Raises `Malformed`."""
    try:
        (size,) = _SHORT.unpack_from(frame, 8)
        at = 10
        client_id = None
        if size >= 0:
            at += size
            if at > len(frame):
                raise Malformed("a client id longer than the frame")
            client_id = str(frame[10:at], "utf-8")
        if flexible:
            at = skip_tags(frame, at)
    except (struct.error, UnicodeDecodeError, IndexError, ValueError) as error:
        raise Malformed(str(error)) from None
    return client_id, at


@cache
def _schemas() -> Any:
    """kio's index. Where Hypothesis is installed kio would load it, 20 MB for tests of its own types, so it finds none."""
    hides = "hypothesis" not in sys.modules
    if hides:
        sys.modules["hypothesis"] = None  # type: ignore[assignment]
    try:
        return imported("kio.index")
    finally:
        if hides:
            del sys.modules["hypothesis"]


def load() -> None:
    """Loads what describes requests and answers, in a tenth of a second: for a thread."""
    _schemas()
    for name in ("reading", "writing"):
        imported(f"mainspring.storage.log.kafka.{name}")


@cache
def request_type(key: int, version: int) -> Any:
    return _schemas().load_request_schema(key, version)


@cache
def _answer_type(key: int, version: int) -> Any:
    return _schemas().load_response_schema(key, version)


@cache
def is_flexible(key: int, version: int) -> bool:
    """Whether this version has tagged fields, and therefore the newer headers."""
    if key in _FLEXIBLE_FROM:
        return version >= _FLEXIBLE_FROM[key]
    return bool(request_type(key, version).__flexible__)


@cache
def request_reader(key: int, version: int) -> "Read":
    """What reads the body of a request, as `reading.entity_reader` says."""
    described = request_type(key, version)
    from mainspring.storage.log.kafka.reading import entity_reader

    return entity_reader(described)[0]


def read(key: int, version: int, frame: memoryview, at: int) -> Any:
    """The request whose body begins at `at`. Raises `Malformed`."""
    try:
        return request_reader(key, version)(frame, at)[0]
    except (ValueError, IndexError, struct.error, OverflowError) as error:
        raise Malformed(f"{type(error).__name__}: {error}") from None


def answer(key: int, version: int, correlation_id: int, values: Mapping[str, Any]) -> bytearray:
    """A whole frame, its length first."""
    out = answer_head(key, version, correlation_id)
    _answer_writer(key, version)(out, values)
    _LONG.pack_into(out, 0, len(out) - 4)
    return out


def answer_head(key: int, version: int, correlation_id: int) -> bytearray:
    """The beginning of a frame: room for the length, and the header. That of ApiVersions never has tags, for a client
    that does not know the version must be able to read the answer."""
    out = bytearray(4)
    out += _LONG.pack(correlation_id)
    if key != _API_VERSIONS and is_flexible(key, version):
        out.append(0)
    return out


@cache
def _answer_writer(key: int, version: int) -> "Write":
    described = _answer_type(key, version)
    from mainspring.storage.log.kafka.writing import entity_writer

    return entity_writer(described)


@cache
def answer_names(key: int, version: int) -> frozenset[str]:
    """The fields at the top of an answer."""
    return frozenset(field.name for field in fields(_answer_type(key, version)))
