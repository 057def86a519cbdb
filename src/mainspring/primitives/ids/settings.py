"""What an operator may set in section `[ids]`."""

from typing import Annotated

import msgspec
from msgspec import Meta


class IdsSettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The defaults suit one deployment of up to 1,024 processes."""

    layout: Annotated[
        str,
        Meta(
            pattern="^(mainspring|twitter|discord|instagram|mastodon|sonyflake|js53)$",
            description="Layout of 64-bit ids: mainspring, twitter, discord, instagram, mastodon, sonyflake or js53. "
            "Never change it in a deployment that has minted ids",
        ),
    ] = "mainspring"
    worker: (
        Annotated[int, Meta(ge=0, le=65_535, description="Fixed worker id of this process; else a free one is taken")]
        | None
    ) = None
    reserve_ms: Annotated[
        int,
        Meta(
            ge=500,
            le=60_000,
            description="For how long minting goes on without the database",
        ),
    ] = 3_000
    renew_ms: Annotated[int, Meta(ge=50, le=20_000, description="How often the reservation is renewed")] = 1_000
    free_after_ms: Annotated[
        int, Meta(ge=1_000, description="After how long without a renewal a worker id may be taken by another process")
    ] = 30_000
    block: Annotated[int, Meta(ge=1, le=1_000_000, description="Numbers that a cached sequence takes at a time")] = (
        1_000
    )
