"""The request that is being served, carried by a context variable: its id and its place in a W3C trace.

The HTTP middleware sets `serving` to a request's ASGI scope, which costs it 50 ns; what it says is read only when a log
line, or an exporter of spans, asks. `traceparent` follows W3C Trace Context (2021), section 3.2.
"""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import msgspec

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

serving: ContextVar[Mapping[str, Any] | None] = ContextVar("mainspring_serving", default=None)
"""The ASGI scope of the request being served in this context, or None outside one."""


class Trace(msgspec.Struct, frozen=True):
    """A request's id and, where the caller sent one, its trace: hexadecimal ids as the standard writes them."""

    request_id: str
    trace_id: str = ""
    parent_id: str = ""
    sampled: bool = False


def current() -> Trace | None:
    """The request being served and its trace, or None outside one."""
    scope = serving.get()
    if scope is None:
        return None
    request_id: bytes = scope.get("mainspring.request_id", b"")
    header = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
    return from_traceparent(request_id.decode("latin-1"), header.decode("latin-1"))


def from_traceparent(request_id: str, header: str) -> Trace:
    """The trace that a `traceparent` header names; one that the standard calls invalid is as if it were not there."""
    match = _TRACEPARENT.fullmatch(header)
    if match is None:
        return Trace(request_id)
    version, trace_id, parent_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not trace_id.strip("0") or not parent_id.strip("0"):
        return Trace(request_id)
    return Trace(request_id, trace_id, parent_id, bool(int(flags, 16) & 1))
