"""What an operator may say about the Kafka door, under Kafka's own broker property names where there is one."""

import msgspec

FRAME_BYTES_MAX = 104_857_600
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`advertised_host` and `advertised_port` are what Metadata tells clients; empty and 0: the address that the client itself
    came to, which is right unless something between translates addresses.

    `authentication`: nobody may ask for anything but ApiVersions before SASL (or a client certificate) said who they are.
    `super_users` (`User:alice`) may do everything. `allow_everyone_if_no_acl_found`: a resource that no ACL names is open.
    `auto_create_topics` None: on for clients on loopback only.
    """

    advertised_host: str = ""
    advertised_port: int = 0
    authentication: bool = False
    sasl_mechanisms: tuple[str, ...] = MECHANISMS
    super_users: tuple[str, ...] = ()
    allow_everyone_if_no_acl_found: bool = True
    auto_create_topics: bool | None = None
    num_partitions: int = 1
    socket_request_bytes_max: int = FRAME_BYTES_MAX
    connections_max: int = 2_147_483_647
    connections_max_per_ip: int = 2_147_483_647
    connections_max_idle_ms: int = 600_000
    produces_ahead_max: int = 5
    fetch_sessions_max: int = 1_000
    fetch_bytes_max: int = 57_671_680
    failed_authentication_delay_s: float = 1.0
    users_file: str = ""
    rack: str = ""
