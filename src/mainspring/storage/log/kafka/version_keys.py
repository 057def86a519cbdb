"""ApiVersions: which keys and versions this door answers, and the cluster's feature levels."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, given, handles, table

SUPPORTED = {
    "group.version": (0, 1),
    "metadata.version": (7, 29),
    "share.version": (0, 1),
    "transaction.version": (0, 2),
}
"""Feature and the levels that it may have."""
DEFAULTS = {"group.version": 1, "metadata.version": 29, "share.version": 1, "transaction.version": 2}
UNSUPPORTED_VERSION, INVALID_REQUEST = 35, 42
_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def levels(given_levels: Mapping[str, int]) -> dict[str, int]:
    """The level of every feature that has one; a feature that was set to 0 is off."""
    return {name: level for name, level in (DEFAULTS | dict(given_levels)).items() if level > 0}


_TELEMETRY = (ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, ApiKey.PUSH_TELEMETRY)


@cache
def _keys(telemetry: bool) -> tuple[dict[str, int], ...]:
    """As in Kafka clients are told of telemetry only where somebody wants it, or each would ask and say so in its log."""
    entries = sorted(table().values(), key=lambda entry: entry.key)
    entries = [entry for entry in entries if telemetry or entry.key not in _TELEMETRY]
    return tuple(
        {"api_key": entry.key, "min_version": entry.listed[0], "max_version": entry.listed[-1]} for entry in entries
    )


def _refuse(frame: memoryview, asked: int, context: Context) -> Answer:
    """The client does not know our versions, so that it can only read the oldest answer."""
    context.api_version = 0
    return {"error_code": UNSUPPORTED_VERSION, "api_keys": _keys(bool(context.broker.state.current.client_metrics))}


@handles(ApiKey.API_VERSIONS, range(5), refuse=_refuse)
def api_versions(request: Any, context: Context) -> Answer:
    name, version = given(request, "client_software_name"), given(request, "client_software_version")
    if name is not None:
        if not (_SOFTWARE.fullmatch(name) and _SOFTWARE.fullmatch(version)):
            return {"error_code": INVALID_REQUEST}
        context.session.software, context.session.software_version = name, version
    answer: dict[str, Any] = {"error_code": 0, "api_keys": _keys(bool(context.broker.state.current.client_metrics))}
    if context.api_version >= 3:
        lowest = 0 if context.api_version >= 4 else 1
        answer["supported_features"] = [
            {"name": feature, "min_version": low, "max_version": high}
            for feature, (low, high) in SUPPORTED.items()
            if low >= lowest
        ]
        answer["finalized_features_epoch"] = 1
        answer["finalized_features"] = [
            {"name": feature, "max_version_level": level, "min_version_level": level}
            for feature, level in levels(context.broker.state.current.features).items()
        ]
    return answer
