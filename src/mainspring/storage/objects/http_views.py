"""What the JSON API takes and shows: plain words for buckets, objects, versions and disks."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mainspring.storage.objects import compaction, healing, listing, model, scrubbing, stripes, upkeep

KeyText = Annotated[str, Meta(min_length=1, max_length=1_024)]
PolicyText = Annotated[str, Meta(max_length=20 << 10)]


class Bucket(msgspec.Struct, frozen=True):
    """`versioning` is `never`, `enabled` or `suspended`; `lock` says whether objects can be locked."""

    name: str
    owner: str
    owner_id: str
    region: str
    created_at: str
    versioning: str
    lock: bool
    profile: str | None


class BucketWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=63)]
    versioning: bool = False
    lock: bool = False


class VersioningWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    enabled: bool


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`k+m`; null goes back to what the number of disks gives."""

    profile: Annotated[str, Meta(pattern=r"^[0-9]{1,2}\+[0-9]{1,2}$")] | None


class Line(msgspec.Struct, frozen=True):
    key: str
    size_bytes: int
    etag: str
    modified_at: str
    storage_class: str


class Listing(msgspec.Struct, frozen=True):
    objects: list[Line]
    folders: list[str]
    next: str | None


class ObjectView(msgspec.Struct, frozen=True):
    key: str
    version: str
    size_bytes: int
    etag: str
    modified_at: str


class VersionLine(msgspec.Struct, frozen=True):
    """`locked` says what protects it now: a mode, `hold`, or nothing; `locked_until` when that ends by itself."""

    version: str
    size_bytes: int
    etag: str
    modified_at: str
    marker: bool
    latest: bool
    locked: str
    locked_until: str | None


class Restore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: KeyText
    version: Annotated[str, Meta(min_length=1, max_length=64)]


class UploadWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: KeyText
    content_type: Annotated[str, Meta(max_length=200, pattern=r"^[\x20-\x7e]*$")] = "application/octet-stream"


class PartStored(msgspec.Struct, frozen=True):
    number: int
    etag: str
    size_bytes: int


class Upload(msgspec.Struct, frozen=True):
    upload: str
    parts: list[PartStored]


class LinksWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers of parts that are to be sent."""

    numbers: Annotated[list[Annotated[int, Meta(ge=1, le=10_000)]], Meta(min_length=1, max_length=100)]


class PartLink(msgspec.Struct, frozen=True):
    """Where a part is to be PUT."""

    number: int
    url: str


class PartWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: Annotated[int, Meta(ge=1, le=10_000)]
    etag: Annotated[str, Meta(max_length=64)]


class Completion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    parts: Annotated[list[PartWanted], Meta(min_length=1, max_length=10_000)]


class PresignWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: KeyText
    method: Literal["GET", "HEAD", "PUT", "DELETE"] = "GET"
    version: Annotated[str, Meta(max_length=64)] = ""
    expires_s: Annotated[int, Meta(ge=1, le=604_800)] = 3_600


class Presigned(msgspec.Struct, frozen=True):
    url: str
    expires_at: str


class Policy(msgspec.Struct, frozen=True):
    """The document as JSON text; empty where there is none."""

    policy: PolicyText


class Simulation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`principal` is empty for anonymous callers, `me`, an account's id of twelve digits or an ARN. Without `policy` the
    bucket's own is asked. `context` gives condition keys, such as `aws:SourceIp`."""

    bucket: Annotated[str, Meta(min_length=1, max_length=63)]
    action: Annotated[str, Meta(pattern="^s3:[A-Za-z]{1,60}$")]
    key: Annotated[str, Meta(max_length=1_024)] = ""
    principal: Annotated[str, Meta(max_length=200)] = ""
    policy: PolicyText | None = None
    context: Annotated[dict[str, str], Meta(max_length=50)] = {}


class Verdict(msgspec.Struct, frozen=True):
    """`by` is what decided: scope, session, policy, acl, owner or nobody; `statement` is that of the policy."""

    allowed: bool
    by: str
    statement: str


class Disk(msgspec.Struct, frozen=True):
    id: int
    directory: str
    zone: str
    state: str
    free_bytes: int
    total_bytes: int
    used_bytes: int
    segments: int


class Heal(msgspec.Struct, frozen=True):
    """Stripes that wait, were healed, and were lost since the start; reads that needed parity, and shards that were bad."""

    waiting: int
    healed: int
    lost: int
    degraded_reads: int
    bad_shards: int


class Scrubbed(msgspec.Struct, frozen=True):
    """The last whole round."""

    shards: int
    bad: int
    ended_at: str | None


class Usage(msgspec.Struct, frozen=True):
    stripes: int
    payload_bytes: int
    live_bytes: int
    used_bytes: int
    free_bytes: int


def moment(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def of_bucket(one: model.Bucket, names: Mapping[str, str]) -> Bucket:
    return Bucket(
        one.name,
        names.get(one.owner, ""),
        one.owner,
        one.region,
        moment(one.created_us),
        one.versioning.name.lower(),
        one.lock is not None,
        one.profile,
    )


def of_page(page: listing.Page) -> Listing:
    lines = [Line(one.key, one.size, one.etag, moment(one.modified_us), one.storage_class) for one in page.entries]
    return Listing(lines, page.prefixes, page.token)


def of_object(one: model.Object) -> ObjectView:
    return ObjectView(one.key, one.version, one.size, one.etag, moment(one.modified_us))


def of_version(one: listing.Listed, lock: model.Lock | None, now_us: int) -> VersionLine:
    locked = ""
    if lock is not None and lock.protects(now_us):
        locked = "hold" if lock.hold else (lock.mode or "").lower()
    until = moment(lock.until_us) if locked and lock is not None and lock.until_us is not None else None
    return VersionLine(one.version, one.size, one.etag, moment(one.modified_us), one.marker, one.latest, locked, until)


def of_disk(one: upkeep.DiskState) -> Disk:
    return Disk(
        one.id, one.directory, one.zone, one.state, one.free_bytes, one.total_bytes, one.used_bytes, one.segments
    )


def of_healing(one: healing.Healing, store: stripes.StripeStore) -> Heal:
    return Heal(one.waiting, one.healed, one.lost, store.degraded_reads, store.bad_shards)


def of_standing(one: scrubbing.Standing) -> Scrubbed:
    return Scrubbed(one.last_shards, one.last_bad, moment(one.last_ended_us) if one.last_ended_us else None)


def of_usage(one: compaction.Usage, disks: list[upkeep.DiskState]) -> Usage:
    return Usage(
        one.stripes,
        one.payload_bytes,
        one.live_bytes,
        sum(disk.used_bytes for disk in disks),
        sum(disk.free_bytes for disk in disks),
    )
