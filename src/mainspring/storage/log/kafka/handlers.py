"""The files of handlers, imported when the first connection needs the table."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

_FAMILIES = (
    "version_keys",
    "metadata_keys",
    "produce_keys",
    "fetch_keys",
    "offset_keys",
    "topic_keys",
    "config_keys",
    "cluster_keys",
    "directory_keys",
    "sasl_keys",
    "acl_keys",
    "scram_keys",
    "quota_keys",
    "telemetry_keys",
    "group_keys",
    "group_offset_keys",
    "group_admin_keys",
    "share_keys",
    "share_admin_keys",
    "transaction_keys",
    "transaction_admin_keys",
)


@cache
def load() -> None:
    """Imports every family of keys, each of which registers its handlers."""
    for family in _FAMILIES:
        name = f"mainspring.storage.log.kafka.{family}"
        if find_spec(name) is not None:
            import_module(name)
