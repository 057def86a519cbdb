"""What an operator may set in section `[objects]`."""

from typing import Annotated

import msgspec
from msgspec import Meta

MIB = 1 << 20


class ObjectsSettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The defaults suit one directory in the data folder as well as fourteen disks."""

    directories: Annotated[
        list[str], Meta(description="One directory for each disk; the erasure profile follows from their number")
    ] = []
    zones: Annotated[
        list[str], Meta(description="The zone of each directory, in the same order; none: all are in one zone")
    ] = []
    adopt_lost: Annotated[
        bool, Meta(description="Whether a directory that has vanished is made again, empty, as a new disk")
    ] = True
    stripe_bytes: Annotated[
        int,
        Meta(
            ge=65536,
            le=64 * MIB,
            multiple_of=65536,
            description="How much of a body is cut into shards at once; a multiple of 64 KiB",
        ),
    ] = 8 * MIB
    small_bytes: Annotated[int, Meta(ge=0, le=MIB, description="Objects up to this size share pages")] = 128 << 10
    page_bytes: Annotated[int, Meta(ge=4096, le=64 * MIB, description="Greatest size of a shared page")] = 4 * MIB
    segment_bytes: Annotated[
        int, Meta(ge=65536, le=3 << 30, description="Size at which a volume segment is sealed")
    ] = 1 << 30
    free_share_min: Annotated[
        float, Meta(ge=0, le=0.5, description="Share of a disk that must be free for writes to go on")
    ] = 0.05
    free_bytes_enough: Annotated[
        int, Meta(ge=0, description="Free space that is always enough, however large the disk")
    ] = 2 << 30
    streams_max: Annotated[
        int, Meta(ge=1, description="Bodies larger than a page entry that are taken in at once; others wait")
    ] = 32
    stream_wait_s: Annotated[float, Meta(gt=0, description="How long a body waits for its turn, then SlowDown")] = 60.0
    object_bytes_max: Annotated[int, Meta(ge=1, description="Largest body of one PUT or part")] = 5 << 30
    part_bytes_min: Annotated[int, Meta(ge=1, description="Smallest part but the last of a multipart upload")] = 5 * MIB
    uploads_max: Annotated[int, Meta(ge=1, description="Open multipart uploads per bucket")] = 100_000
    snapshot_s: Annotated[int, Meta(ge=1, description="How long the pages of one listing show one moment")] = 900
    scrub_days: Annotated[float, Meta(gt=0, description="Every shard is read again within so many days")] = 30
    scrub_share_max: Annotated[float, Meta(gt=0, le=1, description="Share of the time that scrubbing may read")] = 0.05
    heal_share_max: Annotated[float, Meta(gt=0, le=1, description="Share of the time that healing may take")] = 0.5
    storage_classes: Annotated[
        dict[str, str],
        Meta(description="Erasure profile (k+m) of storage classes that lifecycle rules move objects to"),
    ] = {}
    lifecycle_day_seconds: Annotated[
        float, Meta(gt=0, description="Length of a day in lifecycle rules; shorter in tests")
    ] = 86_400
    region: Annotated[str, Meta(pattern="^[a-z0-9-]{1,40}$", description="The region that S3 clients are told")] = (
        "us-east-1"
    )
    signature_v2: Annotated[
        bool,
        Meta(
            description="Whether the old Signature Version 2 is accepted: boto3 and the AWS command line presign with it "
            "unless they are told `s3v4`"
        ),
    ] = True
    domains: Annotated[
        list[str], Meta(description="Host names below which a label names a bucket (virtual-host style)")
    ] = msgspec.field(default_factory=lambda: ["s3.localhost"])
    accounts: Annotated[
        str, Meta(description="JSON or TOML file with further S3 accounts: id, display_name, email, keys")
    ] = ""
    anonymous_uploads_max: Annotated[
        int, Meta(ge=0, description="Open uploads in parts that one anonymous address may have in a bucket")
    ] = 1_000
    public_url: Annotated[
        str, Meta(description="Where S3 clients reach the door from outside; empty: where its listener answers")
    ] = ""
    webhooks_allowed: Annotated[
        list[str], Meta(description="Private addresses, networks or hosts that notifications may be sent to")
    ] = []
