"""The dialects of the listener, none of which an OpenAPI description fuzzes: whatever is asked is answered, never by a 5xx."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tests.social.links.conftest import Listener

URL = "https://example.com/"
ODD = [
    "", "-1", "99999999999999999999", "a\0b", "\ud800", "ä" * 300, "x" * 9_000, "%", "٣", "nan",
    "9999-12-31T23:59:59Z", "\r\nSet-Cookie: a=b", "http://[::1", "x/y/z/w",
]  # fmt: skip
RULE = {"longUrl": URL, "conditions": [{"type": "ip-address", "matchKey": None, "matchValue": ""}]}


def paths(odd: str) -> Iterator[str]:
    for path in ("", "rest/v3/short-urls/", "rest/v3/domains/", "pastes/"):
        for ending in ("+", "/visits"):
            yield f"/{path}{odd}{ending}"
    for name in ("page", "itemsPerPage", "searchTerm", "tags[]", "orderBy", "startDate", "domain"):
        yield f"/rest/v3/short-urls?{name}={odd}"
    yield f"/rest/v3/visits/orphan?type={odd}"
    for name in ("url", "keyword", "title", "shorturl", "limit", "action", "timestamp", "username", "callback"):
        action = {"shorturl": "expand", "limit": "stats"}.get(name, "shorturl")
        yield f"/yourls-api.php?signature=KEY&action={action}&format=jsonp&url={URL}&{name}={odd}"
    for query in (odd, f"pasteid={odd}&deletetoken={odd}", f"jsonld={odd}"):
        yield f"/?{query}"


def bodies(odd: str) -> Iterator[tuple[str, str, Any]]:
    yield "POST", "/rest/v3/short-urls", {"longUrl": odd}
    yield "POST", "/rest/v3/short-urls", {"longUrl": URL, "customSlug": odd, "title": odd, "tags": [odd]}
    yield "PATCH", "/rest/v3/short-urls/x", {"title": odd, "validUntil": odd}
    yield "PATCH", "/rest/v3/short-urls/x", {"title": odd}
    rule = {**RULE, "conditions": [{"type": "query-param", "matchKey": odd, "matchValue": odd}]}
    yield "POST", "/rest/v3/short-urls/x/redirect-rules", {"redirectRules": [RULE, rule]}
    yield "PATCH", "/rest/v3/domains/redirects", {"domain": odd, "baseUrlRedirect": odd}
    yield "PUT", "/rest/v3/tags", {"oldName": odd, "newName": odd}
    yield "POST", "/", {"v": 2, "adata": odd, "ct": odd, "meta": {"expire": odd}}
    yield "POST", "/", {"pasteid": odd, "parentid": odd, "deletetoken": odd}


async def test_odd_words_get_an_answer_in_every_dialect_and_no_header_of_their_own(listener: Listener) -> None:
    await listener.links.create(URL, alias="x")
    headers = {"x-api-key": listener.key, "x-requested-with": "JSONHttpRequest"}
    for odd in ODD:
        text = quote(odd.encode("utf-8", "surrogatepass"), safe="")
        asked = [("GET", path.replace("KEY", listener.key), b"") for path in paths(text)]
        asked += [(method, path, json.dumps(body).encode()) for method, path, body in bodies(odd)]
        for method, path, body in asked:
            answer = await listener.visit(path, method, headers=headers, body=body)
            assert answer.status < 500, f"{method} {path[:200]} {body[:200]!r}: {answer.text[:500]}"
            assert "set-cookie" not in answer.headers
    assert (await listener.visit("/x")).status == 302
