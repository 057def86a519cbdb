"""What a website configuration says: the index of a folder, the page for errors, where requests are sent instead."""

from urllib.parse import quote

import msgspec

from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.xml import Node, parse

RULES_MAX = 50


class Redirect(msgspec.Struct, frozen=True):
    """Where to; what is empty stays as it was asked for. `code` is the status."""

    host: str = ""
    protocol: str = ""
    key: str | None = None
    key_prefix: str | None = None
    code: int = 301

    def location(self, scheme: str, host: str, key: str, prefix: str = "") -> str:
        """The address to send a client to that asked for `key`; `prefix` is what the rule matched."""
        if self.key is not None:
            key = self.key
        elif self.key_prefix is not None:
            key = self.key_prefix + key[len(prefix) :]
        escaped = quote(key, safe="/~!$&'()*+,;=:@", errors="surrogateescape")
        return f"{self.protocol or scheme}://{self.host or host}/{escaped}"


class RoutingRule(msgspec.Struct, frozen=True):
    """Applies to keys that begin with `prefix`, and with `error` only where the answer would have that status."""

    redirect: Redirect
    prefix: str = ""
    error: int | None = None


class Website(msgspec.Struct, frozen=True):
    index: str = ""
    error: str = ""
    everything: Redirect | None = None
    rules: tuple[RoutingRule, ...] = ()


def check(root: Node) -> None:
    read(root)


def of_document(inner: bytes) -> Website:
    """The meaning of a document as it is kept."""
    return read(parse(b"<WebsiteConfiguration>" + inner + b"</WebsiteConfiguration>", "WebsiteConfiguration"))


def read(root: Node) -> Website:
    """Raises `InvalidArgument`, `InvalidRequest` or `MalformedXML`."""
    everything = root.one("RedirectAllRequestsTo")
    if everything is not None:
        if len(root.children) > 1 or not everything.get("HostName"):
            raise S3Error("InvalidArgument", "RedirectAllRequestsTo stands alone and names a host")
        return Website(everything=Redirect(_host(everything.get("HostName")), _protocol(everything.get("Protocol"))))
    index = root.one("IndexDocument")
    suffix = index.get("Suffix") if index is not None else ""
    if not suffix or "/" in suffix:
        raise S3Error(
            "InvalidArgument", "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty"
        )
    error = root.one("ErrorDocument")
    page = error.get("Key") if error is not None else ""
    if error is not None and not page:
        raise S3Error("MalformedXML")
    listed = root.one("RoutingRules")
    nodes = listed.all("RoutingRule") if listed is not None else []
    if len(nodes) > RULES_MAX:
        raise S3Error(
            "InvalidRequest",
            f"{len(nodes)} routing rules provided, the number of routing rules is limited to {RULES_MAX}.",
        )
    return Website(suffix, page, None, tuple(_rule(node) for node in nodes))


def _rule(node: Node) -> RoutingRule:
    redirect = node.one("Redirect")
    if redirect is None or not redirect.children:
        raise S3Error("MalformedXML")
    condition = node.one("Condition") or Node("Condition")
    error = condition.get("HttpErrorCodeReturnedEquals")
    code = redirect.get("HttpRedirectCode") or "301"
    if code not in ("301", "302", "303", "307", "308") or (error and error not in _ERRORS):
        raise S3Error("InvalidRequest", "The provided HTTP redirect or error code is not valid.")
    whole, prefix = redirect.one("ReplaceKeyWith"), redirect.one("ReplaceKeyPrefixWith")
    if whole is not None and prefix is not None:
        raise S3Error("InvalidRequest", "You can only define ReplaceKeyPrefix or ReplaceKey but not both.")
    made = Redirect(
        _host(redirect.get("HostName")),
        _protocol(redirect.get("Protocol")),
        None if whole is None else whole.text,
        None if prefix is None else prefix.text,
        int(code),
    )
    return RoutingRule(made, condition.get("KeyPrefixEquals"), int(error) if error else None)


_ERRORS = frozenset(str(code) for code in (*range(400, 418), *range(500, 506)))


def _host(text: str) -> str:
    if text and not all(letter.isalnum() or letter in ".-:" for letter in text):
        raise S3Error("InvalidArgument", "The host of a redirect is not valid")
    return text


def _protocol(text: str) -> str:
    if text and text not in ("http", "https"):
        raise S3Error(
            "InvalidRequest",
            "Invalid protocol, protocol can be http or https. If not defined the protocol will be selected automatically.",
        )
    return text
