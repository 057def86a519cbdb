"""The request that is being served, carried by a context variable: its id and its place in a W3C trace.

The HTTP middleware sets it once for each request and everything below finds it: log lines carry it without being told,
and an exporter of spans needs no more than what is here. `traceparent` follows W3C Trace Context (2021), section 3.2.
"""

import re
from contextvars import ContextVar

import msgspec

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Trace(msgspec.Struct, frozen=True):
    """A request's id and, where the caller sent one, its trace: hexadecimal ids as the standard writes them."""

    request_id: str
    trace_id: str = ""
    parent_id: str = ""
    sampled: bool = False


current: ContextVar[Trace | None] = ContextVar("mainspring_trace", default=None)
"""The request being served in this context, or None outside one."""


def from_traceparent(request_id: str, header: str | None) -> Trace:
    """The trace that a `traceparent` header names; one that the standard calls invalid is as if it were not there."""
    match = _TRACEPARENT.fullmatch(header) if header else None
    if match is None:
        return Trace(request_id)
    version, trace_id, parent_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not trace_id.strip("0") or not parent_id.strip("0"):
        return Trace(request_id)
    return Trace(request_id, trace_id, parent_id, bool(int(flags, 16) & 1))
