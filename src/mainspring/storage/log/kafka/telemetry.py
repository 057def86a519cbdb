"""Metrics that clients push about themselves (KIP-714), as numbers of ours.

A push is an OTLP `MetricsData` message. Of protobuf's wire format only what leads to a metric's name and its newest number is
read (resource_metrics 2.. scope_metrics 2.. metrics 2.. gauge 5 or sum 7, data_points 1); everything else is passed over.
"""

import struct
from collections import OrderedDict
from collections.abc import Iterator
from uuid import UUID

import msgspec

from mainspring.core.telemetry import Metrics

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DOUBLE = struct.Struct("<d")
_SIGNED = struct.Struct("<q")
METRICS_MAX = 2_000
INSTANCES_MAX = 10_000


class Instance(msgspec.Struct):
    """A client that takes part: what it was told, and when it last came (monotonic)."""

    subscription_id: int
    interval_ms: int
    pushed_ns: int | None = None


class Telemetry:
    """The instances that one broker knows, the most recent last, and what they pushed."""

    def __init__(self, metrics: Metrics) -> None:
        self.instances: OrderedDict[UUID, Instance] = OrderedDict()
        self.values = metrics.gauge("log_kafka_client_metric", "What clients say about themselves", ("client", "name"))


class NotOtlp(Exception):
    """The bytes are not a message of the expected form."""


def numbers(data: bytes) -> Iterator[tuple[str, float]]:
    """(name, value) of every gauge and sum. Raises `NotOtlp`."""
    count = 0
    for resource in _messages(memoryview(data), 1):
        for scope in _messages(resource, 2):
            for metric in _messages(scope, 2):
                name, points = "", []
                for field, value in _fields(metric):
                    if field == 1 and isinstance(value, memoryview):
                        name = str(value, "utf-8", "replace")
                    elif field in (5, 7) and isinstance(value, memoryview):
                        points = [number for point in _messages(value, 1) for number in _number(point)]
                if name and points:
                    count += 1
                    if count > METRICS_MAX:
                        raise NotOtlp("too many metrics")
                    yield name, points[-1]


def _number(point: memoryview) -> Iterator[float]:
    for field, value in _fields(point):
        if field == 4 and isinstance(value, bytes):
            yield _DOUBLE.unpack(value)[0]
        elif field == 6 and isinstance(value, bytes):
            yield float(_SIGNED.unpack(value)[0])


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    return (value for field, value in _fields(data) if field == wanted and isinstance(value, memoryview))


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | bytes | int]]:
    """Field number with its value: a view for lengths, eight bytes for fixed ones, an integer for varints."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield field, value
        elif kind == _BYTES:
            size, at = _varint(data, at)
            if at + size > end:
                raise NotOtlp("a field longer than its message")
            yield field, data[at : at + size]
            at += size
        elif kind == _FIXED64:
            if at + 8 > end:
                raise NotOtlp("a number longer than its message")
            yield field, bytes(data[at : at + 8])
            at += 8
        elif kind == _FIXED32:
            at += 4
        else:
            raise NotOtlp(f"wire type {kind}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise NotOtlp("a varint without an end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
