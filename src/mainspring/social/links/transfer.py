"""Links in and out as CSV: our own exports, and those of Shlink, YOURLS and Bitly, with their codes, dates and counts.

Columns are known by their names, in whatever order and spelling the other service writes them.
"""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Iterator

import msgspec

from mainspring.core.accounts import Caller
from mainspring.core.problems import Invalid, Problem
from mainspring.social.links import rules as redirect_rules
from mainspring.social.links.listing import Filter
from mainspring.social.links.model import Link, NewLink
from mainspring.social.links.service import LOCAL, Links
from mainspring.social.links.stats import VisitFilter

ROWS_MAX = 100_000
PAGE = 500
COLUMNS = ("short_url", "code", "domain", "url", "title", "tags", "created_at", "clicks", "valid_until", "max_visits")
VISIT_COLUMNS = ("at", "kind", "bot", "target", "referrer", "user_agent", "country", "city")

# What each of our columns is called elsewhere: Shlink, YOURLS, Bitly.
_NAMES = {
    "code": ("code", "shortcode", "keyword", "alias", "customslug", "slug", "backhalf", "custombitlink"),
    "short_url": ("shorturl", "link", "bitlink", "shortlink"),
    "url": ("url", "longurl", "target", "destination", "destinationurl", "longlink"),
    "domain": ("domain",),
    "title": ("title",),
    "tags": ("tags", "tag"),
    "created_at": ("createdat", "datecreated", "created", "timestamp", "date", "createddate"),
    "clicks": ("clicks", "visits", "visitscount", "totalclicks", "engagements", "totalengagements"),
    "valid_until": ("validuntil",),
    "max_visits": ("maxvisits",),
}
_OURS = {name: ours for ours, names in _NAMES.items() for name in names}
_NUMERIC_DATE = re.compile(r"\d{10}")


class Row(msgspec.Struct, frozen=True):
    """A line of an import: a link to be made, when it was made there, and how often it was followed there."""

    new: NewLink
    created_us: int | None = None
    clicks: int = 0


class Refused(msgspec.Struct, frozen=True):
    """`line` counts from the header, which is line 1."""

    line: int
    code: str
    reason: str


class Imported(msgspec.Struct):
    made: int
    refused: list[Refused]


def rows_of(text: str) -> Iterator[Row]:
    """The rows of a CSV file with a header. Raises `Invalid` where there is no column for the target."""
    lines = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    try:
        header = next(lines, [])
        columns = [_OURS.get(re.sub(r"[^a-z]", "", name.lower()), "") for name in header]
        if "url" not in columns:
            raise Invalid("The first line must name a column for the target: url, longUrl, long_url", pointer="/body")
        for number, line in enumerate(lines, 1):
            if number > ROWS_MAX:
                raise Invalid(f"At most {ROWS_MAX:,} rows at once", pointer="/body")
            yield _row({name: value.strip() for name, value in zip(columns, line, strict=False) if name})
    except csv.Error as error:
        raise Invalid(f"Not CSV: {error}", pointer="/body") from None


async def import_csv(links: Links, text: str, by: Caller = LOCAL) -> Imported:
    """Makes the links of a CSV file; a row that cannot be one is told of and skipped."""
    done = Imported(0, [])
    rows = await asyncio.to_thread(lambda: list(rows_of(text)))  # a second's work for a hundred thousand
    for first in range(0, len(rows), PAGE):
        some = rows[first : first + PAGE]
        made = await links.add_many(
            [row.new for row in some], by, before=[(row.created_us, row.clicks) for row in some]
        )
        for line, (row, one) in enumerate(zip(some, made, strict=True), first + 2):
            if isinstance(one, Problem):
                done.refused.append(Refused(line, row.new.alias or "", one.detail))
            else:
                done.made += 1
    return done


async def export_csv(links: Links, wanted: Filter, by: Caller = LOCAL) -> AsyncIterator[bytes]:
    """All links that match, newest first, in pieces."""
    before_id = None
    yield _written([COLUMNS])
    while found := await links.find(wanted, before_id, PAGE, by):
        sums = await links.counting.of(found)
        yield _written(_line(links, link, n) for link, (n, _) in zip(found, sums, strict=True))
        before_id = found[-1].id


async def export_visits(links: Links, link: Link) -> AsyncIterator[bytes]:
    """The single visits of a link that are still kept, newest first, in pieces."""
    yield _written([VISIT_COLUMNS])
    offset = 0
    while found := (await links.counting.visits(VisitFilter(link_id=link.id), offset, PAGE))[0]:
        yield _written(
            [
                redirect_rules.instant_text(one.at_us),
                one.kind,
                str(one.bot).lower(),
                _harmless(one.target or ""),
                _harmless(one.referrer),
                _harmless(one.user_agent),
                one.country,
                _harmless(one.city),
            ]
            for one in found
        )
        offset += len(found)


def _harmless(text: str) -> str:
    """A cell that begins like a formula would be one in a spreadsheet."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t") else text


def _row(values: dict[str, str]) -> Row:
    code = values.get("code") or values.get("short_url", "").partition("://")[2].partition("/")[2] or None
    tags = tuple(tag[:60] for tag in re.split(r"[|,]", values.get("tags", "")) if tag.strip())[:20]
    visits = values.get("max_visits", "")
    new = NewLink(
        url=values.get("url", ""),
        alias=code,
        domain=values.get("domain") or None,
        title=values.get("title", "")[:300],
        tags=tags,
        valid_until=values.get("valid_until") or None,
        max_visits=int(visits) if visits.isdecimal() and 0 < len(visits) < 15 else None,
    )
    clicks = values.get("clicks", "").replace(",", "")
    return Row(
        new, _instant(values.get("created_at", "")), int(clicks) if clicks.isdecimal() and len(clicks) < 15 else 0
    )


def _instant(text: str) -> int | None:
    if _NUMERIC_DATE.fullmatch(text):
        return int(text) * 1_000_000
    try:
        return redirect_rules.instant_us(text)
    except (ValueError, OverflowError):
        return None


def _line(links: Links, link: Link, clicks: int) -> list[str]:
    created, until = redirect_rules.instant_text(link.created_us), link.valid_until_us
    return [
        links.domains.short_url(link),
        link.code,
        links.domains.of(link).host,
        link.target,
        _harmless(link.title),
        "|".join(link.tags),
        created,
        str(clicks),
        "" if until is None else redirect_rules.instant_text(until),
        "" if link.max_visits is None else str(link.max_visits),
    ]


def _written(lines: Iterable[Iterable[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(lines)
    return out.getvalue().encode()
