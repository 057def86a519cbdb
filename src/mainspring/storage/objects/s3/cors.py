"""Cross-origin requests: a bucket's rules say which pages may ask for what, and read which headers of the answer.

Beside them a presigned URL may name the one origin whose pages may use it (`x-mainspring-origin`, which is signed with the
rest): so the console sends files straight here, whatever the bucket's rules are.
"""

from collections.abc import Mapping, Sequence

import msgspec

from mainspring.storage.objects.s3.answers import Answer, Header
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.patterns import pattern
from mainspring.storage.objects.s3.xml import Node, document, elements

RULES_MAX = 100
METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")
SIGNED_ORIGIN = "x-mainspring-origin"
VARY: Header = (b"vary", b"Origin, Access-Control-Request-Headers, Access-Control-Request-Method")


class Rule(msgspec.Struct, frozen=True, array_like=True):
    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age_s: int | None = None
    id: str = ""

    def answer(self, origin: str, method: str, wanted: Sequence[str] = ()) -> list[Header] | None:
        """The headers for a request of `method` from `origin` that wants to send the headers `wanted`, or None."""
        if method not in self.methods:
            return None
        matched = next((one for one in self.origins if pattern(one)(origin)), None)
        if matched is None:
            return None
        if not all(any(pattern(one.lower())(name.lower()) for one in self.headers) for name in wanted):
            return None
        anybody = matched == "*"
        headers: list[Header] = [
            (b"access-control-allow-origin", b"*" if anybody else origin.encode("latin-1", "replace")),
            (b"access-control-allow-methods", ", ".join(self.methods).encode()),
        ]
        if wanted:
            headers.append((b"access-control-allow-headers", ", ".join(wanted).encode("latin-1", "replace")))
        if not anybody:
            headers.append((b"access-control-allow-credentials", b"true"))
        if self.exposed:
            headers.append((b"access-control-expose-headers", ", ".join(self.exposed).encode("latin-1", "replace")))
        if self.max_age_s is not None:
            headers.append((b"access-control-max-age", b"%d" % self.max_age_s))
        headers.append(VARY)
        return headers


Rules = tuple[Rule, ...]
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Rules).decode


def read(root: Node) -> Rules:
    """The rules of a `CORSConfiguration`. Raises `MalformedXML`, and `InvalidRequest` for a method that is none."""
    rules = []
    for node in root.all("CORSRule"):
        methods = tuple(one.text for one in node.all("AllowedMethod"))
        origins = tuple(one.text for one in node.all("AllowedOrigin"))
        if not methods or not origins:
            raise S3Error("MalformedXML")
        for method in methods:
            if method not in METHODS:
                raise S3Error(
                    "InvalidRequest",
                    f"Found unsupported HTTP method in CORS config. Unsupported method is {method[:20]}",
                )
        headers = tuple(one.text for one in node.all("AllowedHeader"))
        for text in (*origins, *headers):
            if text.count("*") > 1:
                raise S3Error("InvalidRequest", f'"{text[:60]}" can not have more than one wildcard.')
        age = node.get("MaxAgeSeconds")
        if age and (not age.isascii() or not age.isdigit() or len(age) > 9):
            raise S3Error("MalformedXML")
        exposed = tuple(one.text for one in node.all("ExposeHeader"))
        rules.append(Rule(origins, methods, headers, exposed, int(age) if age else None, node.get("ID")[:255]))
    if not rules or len(rules) > RULES_MAX:
        raise S3Error("MalformedXML")
    return tuple(rules)


def written(rules: Rules) -> str:
    inner = ""
    for rule in rules:
        inner += "<CORSRule>" + elements(
            [
                *([("ID", rule.id)] if rule.id else []),
                *(("AllowedOrigin", one) for one in rule.origins),
                *(("AllowedMethod", one) for one in rule.methods),
                *(("AllowedHeader", one) for one in rule.headers),
                *(("ExposeHeader", one) for one in rule.exposed),
                ("MaxAgeSeconds", rule.max_age_s),
            ]
        )
        inner += "</CORSRule>"
    return document("CORSConfiguration", inner)


def headers_for(rules: Rules, origin: str, method: str) -> list[Header]:
    """What an actual request's answer gets; nothing where no rule allows it."""
    return next((made for rule in rules if (made := rule.answer(origin, method)) is not None), [])


def headers_for_signed(query: Mapping[str, str], headers: Mapping[bytes, bytes]) -> list[Header]:
    """What a page of the origin that a presigned URL names gets; nothing for any other. Whether the signature holds shows in
    the request itself: before it, nothing is given away but that one may be sent."""
    origin = headers.get(b"origin", b"")
    if not origin or query.get(SIGNED_ORIGIN) != origin.decode("latin-1") or "X-Amz-Signature" not in query:
        return []
    wanted = headers.get(b"access-control-request-headers")
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", b"GET, PUT"),
        *([(b"access-control-allow-headers", wanted)] if wanted else []),
        (b"access-control-expose-headers", b"etag"),
        VARY,
    ]


def preflight(rules: Rules | None, headers: Mapping[bytes, bytes]) -> Answer:
    """The answer to a browser that asks whether it may. Raises `AccessForbidden`'s S3 form, 403."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    method = headers.get(b"access-control-request-method", b"").decode("latin-1")
    if not origin:
        raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    if method not in METHODS:
        raise S3Error("BadRequest", f"Invalid Access-Control-Request-Method: {method[:20]}")
    text = headers.get(b"access-control-request-headers", b"").decode("latin-1")
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    if rules is None:
        raise S3Error("AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.")
    for rule in rules:
        if (made := rule.answer(origin, method, wanted)) is not None:
            return Answer(200, made)
    raise S3Error("AccessForbidden", "CORSResponse: This CORS request is not allowed.")
