"""What an operator may say about groups, under Kafka's own broker property names with their unit at the end.

Those with `_min` and `_max` bound what a single group may be given of its own, see `configs`.
"""

import msgspec


class GroupSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`initial_rebalance_delay_ms` is 0 where one process holds everything, and 3,000 in a cluster."""

    groups_max: int = 50_000
    members_max: int = 100_000
    """Of all groups together, those that have been told an id and have not joined yet included."""
    member_bytes_max: int = 1 << 20
    """What a member may say of its subscription, and be assigned by its leader."""
    members_bytes: int = 64 << 20
    """Shared by all members: each may say an equal part of it, 2 KiB where there are very many."""
    positions_bytes_max: int = 256 << 20
    """Of all positions together, open transactions' included; one counts its metadata and 400 bytes."""
    session_timeout_ms_min: int = 6_000
    session_timeout_ms_max: int = 1_800_000
    initial_rebalance_delay_ms: int = 0
    group_members_max: int = 10_000
    new_member_join_timeout_ms: int = 300_000
    offset_metadata_bytes_max: int = 4_096
    offsets_retention_ms: int = 604_800_000
    offsets_check_interval_ms: int = 600_000
    consumer_session_timeout_ms: int = 45_000
    consumer_session_timeout_ms_min: int = 45_000
    consumer_session_timeout_ms_max: int = 60_000
    consumer_heartbeat_interval_ms: int = 5_000
    consumer_heartbeat_interval_ms_min: int = 5_000
    consumer_heartbeat_interval_ms_max: int = 15_000
    consumer_members_max: int = 10_000
    consumer_regex_refresh_ms: int = 10_000
    share_session_timeout_ms: int = 45_000
    share_session_timeout_ms_min: int = 45_000
    share_session_timeout_ms_max: int = 60_000
    share_heartbeat_interval_ms: int = 5_000
    share_heartbeat_interval_ms_min: int = 5_000
    share_heartbeat_interval_ms_max: int = 15_000
    share_members_max: int = 200
    share_record_lock_ms: int = 30_000
    share_record_lock_ms_min: int = 15_000
    share_record_lock_ms_max: int = 60_000
    share_deliveries_max: int = 5
    share_in_flight_max: int = 2_000
    share_delay_ms_max: int = 604_800_000
    """How long a record may be held back by its header `mainspring-deliver-at`, from its own time on."""
    share_sessions_max: int = 2_000
    share_session_partitions_max: int = 10_000
    share_partitions_max: int = 100_000
    """Partitions that share groups read, each counted once for each group."""
    share_in_flight_all_max: int = 500_000
    """Records in flight of all share groups together; beyond it none is given out before others are done with."""
    share_updates_per_snapshot: int = 500
    share_dead_letters: bool = True
    """Whether a record that was given out in vain too often is copied to the topic `<topic>.dead`."""
    share_auto_offset_reset: str = "latest"
    """Where a group begins in a partition that it has not read: `latest`, `earliest`, or so long ago (`by_duration:PT1H`)."""
    share_isolation_level: str = "read_uncommitted"
    internal_partitions: int = 50
