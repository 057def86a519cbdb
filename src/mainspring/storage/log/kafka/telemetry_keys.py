"""Client telemetry (KIP-714): what clients are asked to push, and what they push."""

import re
from binascii import crc32
from typing import Any, Final
from uuid import UUID

from mainspring.storage.log.codecs import Codec, decompress
from mainspring.storage.log.errors import LogError
from mainspring.storage.log.kafka.codec import Malformed
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, handles
from mainspring.storage.log.kafka.telemetry import INSTANCES_MAX, Instance, NotOtlp, numbers

INVALID_REQUEST, UNSUPPORTED_COMPRESSION_TYPE, INVALID_RECORD = 42, 76, 87
THROTTLING_QUOTA_EXCEEDED, UNKNOWN_SUBSCRIPTION_ID, TELEMETRY_TOO_LARGE = 89, 117, 118
PUSH_INTERVAL_MS, BYTES_MAX, EXPANDED_BYTES_MAX = 300_000, 1_048_576, 4 << 20
CODECS: Final = (4, 3, 1, 2)


@handles(ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, range(1))
def get_telemetry_subscriptions(request: Any, context: Context) -> Answer:
    broker, id = context.broker, request.client_instance_id
    if id is None:
        id = UUID(int=broker.random.getrandbits(128), version=4)
    prefixes, interval_ms = _subscription(context)
    subscription_id = crc32(repr((sorted(prefixes), interval_ms)).encode()) & 0x7FFFFFFF
    instances = broker.telemetry.instances
    known = instances.get(id)
    instances[id] = Instance(subscription_id, interval_ms, known.pushed_ns if known else None)
    instances.move_to_end(id)
    while len(instances) > INSTANCES_MAX:
        instances.popitem(last=False)
    return {
        "client_instance_id": id,
        "subscription_id": subscription_id,
        "accepted_compression_types": CODECS,
        "push_interval_ms": interval_ms,
        "telemetry_max_bytes": BYTES_MAX,
        "delta_temporality": True,
        "requested_metrics": prefixes,
    }


def _subscription(context: Context) -> tuple[list[str], int]:
    """What this client should push, over all subscriptions that match it: nothing where there is none."""
    prefixes: set[str] = set()
    interval_ms = PUSH_INTERVAL_MS
    for own in context.broker.state.current.client_metrics.values():
        if _matches(own.get("match", ""), context):
            listed = [name for name in own.get("metrics", "").split(",") if name]
            prefixes.update(listed or [""])
            interval_ms = min(interval_ms, int(own.get("interval.ms", PUSH_INTERVAL_MS)))
    return (["*"] if "" in prefixes or "*" in prefixes else sorted(prefixes)), max(interval_ms, 100)


def _matches(patterns: str, context: Context) -> bool:
    known = {
        "client_id": context.client_id or "",
        "client_software_name": context.session.software,
        "client_software_version": context.session.software_version,
        "client_source_address": context.address,
    }
    for pattern in filter(None, patterns.split(",")):
        name, _, expression = pattern.partition("=")
        if not re.fullmatch(re.escape(expression).replace("\\.\\*", ".*"), known.get(name.strip(), "")):
            return False
    return True


@handles(ApiKey.PUSH_TELEMETRY, range(1))
def push_telemetry(request: Any, context: Context) -> Answer:
    telemetry, now_ns = context.broker.telemetry, context.broker.clock.mono_ns()
    instance = telemetry.instances.get(request.client_instance_id)
    if request.client_instance_id is None:
        return {"error_code": INVALID_REQUEST}
    if instance is None or instance.subscription_id != request.subscription_id:
        return {"error_code": UNKNOWN_SUBSCRIPTION_ID}
    if len(request.metrics) > BYTES_MAX:
        return {"error_code": TELEMETRY_TOO_LARGE}
    if request.compression_type not in (0, *CODECS):
        return {"error_code": UNSUPPORTED_COMPRESSION_TYPE}
    early_ns = instance.interval_ms * 1_000_000 // 2
    if instance.pushed_ns is not None and now_ns - instance.pushed_ns < early_ns and not request.terminating:
        return {"error_code": THROTTLING_QUOTA_EXCEEDED}
    instance.pushed_ns = now_ns
    try:
        data = bytes(request.metrics)
        if request.compression_type:
            data = decompress(Codec(request.compression_type), data, EXPANDED_BYTES_MAX)
        for name, value in numbers(data):
            telemetry.values.labels(context.client_id or "", name).set(value)
    except (NotOtlp, LogError, Malformed):
        return {"error_code": INVALID_RECORD}
    return {"error_code": 0}
