"""ApiVersions: which keys and versions this door answers, and the cluster's feature levels.

Read and packed by hand: it is every client's first request, and is answered without loading what describes all others.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from struct import Struct

from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, Raw, handles, table
from mainspring.storage.log.kafka.varints import compact_string, put_varint, skip_tags

SUPPORTED = {
    "group.version": (0, 1),
    "metadata.version": (7, 29),
    "share.version": (0, 1),
    "transaction.version": (0, 2),
}
"""Feature and the levels that it may have."""
DEFAULTS = {"group.version": 1, "metadata.version": 29, "share.version": 1, "transaction.version": 2}
UNSUPPORTED_VERSION, INVALID_REQUEST = 35, 42
_HEAD = Struct(">iih")
_INT = Struct(">i")
_KEY = Struct(">hhh")
_EPOCH = Struct(">q")
_LEVELS = Struct(">hhb")
_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def levels(given_levels: Mapping[str, int]) -> dict[str, int]:
    """The level of every feature that has one; a feature that was set to 0 is off."""
    return {name: level for name, level in (DEFAULTS | dict(given_levels)).items() if level > 0}


_TELEMETRY = (ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, ApiKey.PUSH_TELEMETRY)


@cache
def _keys(telemetry: bool) -> tuple[tuple[int, int, int], ...]:
    """(key, lowest, highest version). As in Kafka clients are told of telemetry only where somebody wants it, or each would
    ask and say so in its log."""
    entries = sorted(table().values(), key=lambda entry: entry.key)
    entries = [entry for entry in entries if telemetry or entry.key not in _TELEMETRY]
    return tuple((entry.key, entry.listed[0], entry.listed[-1]) for entry in entries)


def _refuse(frame: memoryview, asked: int, context: Context) -> Answer:
    """The client does not know our versions, so that it can only read the oldest answer."""
    context.api_version = 0
    return _answer(context, UNSUPPORTED_VERSION)


@handles(ApiKey.API_VERSIONS, range(5), raw=True, refuse=_refuse)
def api_versions(request: Raw, context: Context) -> Answer:
    if context.api_version < 3:
        return _answer(context, 0)
    try:
        name, at = compact_string(request.frame, request.at)
        version, at = compact_string(request.frame, at)
        skip_tags(request.frame, at)
    except (IndexError, ValueError):
        context.then_close = True
        return _answer(context, INVALID_REQUEST, keys=())
    if not (name and version and _SOFTWARE.fullmatch(name) and _SOFTWARE.fullmatch(version)):
        return _answer(context, INVALID_REQUEST, keys=())
    context.session.software, context.session.software_version = name, version
    return _answer(context, 0, levels(context.broker.state.current.features))


def _answer(
    context: Context,
    code: int,
    finalized: Mapping[str, int] | None = None,
    keys: Sequence[tuple[int, int, int]] | None = None,
) -> bytearray:
    """A whole frame. Its header never has tags, for a client that does not know the version must be able to read it."""
    version = context.api_version
    if keys is None:
        keys = _keys(bool(context.broker.state.current.client_metrics))
    out = bytearray(_HEAD.pack(0, context.correlation_id, code))
    if version < 3:
        out += _INT.pack(len(keys)) + b"".join(_KEY.pack(*key) for key in keys)
        if version:
            out += _INT.pack(context.throttle_ms)
    else:
        put_varint(out, len(keys) + 1)
        for key in keys:
            out += _KEY.pack(*key) + b"\0"
        out += _INT.pack(context.throttle_ms)
        _put_features(out, version, finalized)
    _INT.pack_into(out, 0, len(out) - 4)
    return out


def _put_features(out: bytearray, version: int, finalized: Mapping[str, int] | None) -> None:
    """The tagged fields: features that are supported, the epoch of those that are in force, and these."""
    if finalized is None:
        out.append(0)
        return
    lowest = 0 if version >= 4 else 1
    supported = {name: levels for name, levels in SUPPORTED.items() if levels[0] >= lowest}
    tags: tuple[bytes | bytearray, ...] = (
        _levels([(name, low, high) for name, (low, high) in supported.items()]),
        _EPOCH.pack(1),
        _levels([(name, level, level) for name, level in finalized.items()]),
    )
    out.append(len(tags))
    for tag, data in enumerate(tags):
        out.append(tag)
        put_varint(out, len(data))
        out += data


def _levels(features: Sequence[tuple[str, int, int]]) -> bytearray:
    out = bytearray()
    put_varint(out, len(features) + 1)
    for name, first, second in features:
        put_varint(out, len(name) + 1)
        out += name.encode() + _LEVELS.pack(first, second, 0)
    return out
