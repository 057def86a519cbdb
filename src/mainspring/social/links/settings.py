"""What an operator can set for links: section `[links]` of the configuration."""

from typing import Annotated

import msgspec
from msgspec import Meta


class LinksSettings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    public_url: Annotated[
        str, Meta(description="Address under which short links of the default domain are reached")
    ] = "http://127.0.0.1:8410"
    strategy: Annotated[
        str, Meta(pattern="^(counter|snowflake|random|hash)$", description="How codes of the default domain are made")
    ] = "counter"
    alphabet: Annotated[
        str, Meta(pattern="^(base62|base58|lower)$", description="Letters of generated codes; lower ignores case")
    ] = "base62"
    unicode_aliases: Annotated[bool, Meta(description="Allow aliases in any one script")] = False
    alias_segments_max: Annotated[int, Meta(ge=1, le=8, description="Segments that an alias may have (a/b/c)")] = 3
    blocked_words: Annotated[tuple[str, ...], Meta(description="Words that no generated code contains")] = (
        "fuck", "shit", "cunt", "nazi", "porn", "rape", "sex",
    )  # fmt: skip
    schemes: Annotated[tuple[str, ...], Meta(description="Schemes that targets may have")] = ("http", "https")
    private_targets: Annotated[bool, Meta(description="Allow targets inside private networks")] = False
    blocked_domains_file: Annotated[str, Meta(description="File of domains that no link may point to, one a line")] = ""
    anonymous: Annotated[bool, Meta(description="Anybody may create links without a token")] = False
    anonymous_per_minute: Annotated[int, Meta(ge=1, description="Links a minute per IPv4 address or IPv6 /64")] = 10
    token_per_minute: Annotated[int, Meta(ge=1, description="Links a minute per token")] = 100
    unknown_per_minute: Annotated[int, Meta(ge=1, description="Unknown codes a minute per address, then 429")] = 100
    passwords_per_minute: Annotated[int, Meta(ge=1, description="Passwords tried a minute per link and address")] = 5
    reports: Annotated[bool, Meta(description="Anybody may report a link as harmful, without a token")] = True
    reports_max: Annotated[int, Meta(ge=1, description="Reports after which visitors are asked first")] = 3
    cache_s: Annotated[int, Meta(ge=0, description="Seconds that a browser may keep a redirect")] = 90
    cached_links_max: Annotated[int, Meta(ge=1, description="Links kept in memory, at most 300 bytes each")] = 1_000_000
    stale_s: Annotated[
        float, Meta(ge=0, description="Seconds after which a cached link is read again; 0: only when it changed")
    ] = 0
    geo_file: Annotated[str, Meta(description="MaxMind DB file (.mmdb) for countries and cities")] = ""
    visits_days: Annotated[int, Meta(ge=0, description="Days that single visits are kept; charts stay")] = 90
    privatebin: Annotated[bool, Meta(description="Anybody may send sealed pastes by the PrivateBin dialect")] = True
    paste_bytes_max: Annotated[int, Meta(ge=1, le=64 << 20, description="Bytes of a paste made with a token")] = (
        10 << 20
    )
    anonymous_paste_bytes_max: Annotated[
        int, Meta(ge=1, le=64 << 20, description="Bytes of a paste made without a token")
    ] = 1 << 20
