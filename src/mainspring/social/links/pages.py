"""The few pages that a visitor of a short link may see. Everything that somebody else wrote is shown as text."""

from html import escape
from secrets import token_urlsafe

from mainspring.core.http import Response
from mainspring.core.http.response import Header
from mainspring.social.links.model import Card, Link

HTML = "text/html; charset=utf-8"
NO_STORE: Header = (b"cache-control", b"no-store")
# No `form-action`: what follows a password is a redirect to another site, which browsers hold against it.
POLICY: Header = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
)
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem}"
    "a{overflow-wrap:anywhere}input,button{font:inherit;padding:.4rem .8rem}"
    "@media(prefers-color-scheme:dark){body{background:#1a1b1e;color:#c9c9c9}a{color:#74c0fc}}"
)


def page(status: int, title: str, body: str, head: str = "", headers: tuple[Header, ...] = (POLICY,)) -> Response:
    """`title` is text; `body` and `head` are HTML."""
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">{head}'
        f"<style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    return Response(status, text.encode("utf-8", "replace"), HTML, [NO_STORE, *headers])


def text(line: str) -> str:
    return f"<p>{escape(line)}</p>"


def unknown() -> Response:
    return page(404, "There is no such link", "<p>Check the address for a slip of the pen.</p>")


def gone(status: int) -> Response:
    law = "<p>It was taken away for legal reasons.</p>"
    return page(status, "This link is gone", law if status == 451 else "<p>It has expired, or was taken away.</p>")


def password(wrong: bool = False) -> Response:
    note = "<p role=alert>That was not it.</p>" if wrong else ""
    form = (
        '<form method="post"><label>Password <input type="password" name="password" autofocus required></label> '
        "<button>Open</button></form>"
    )
    return page(403 if wrong else 200, "This link has a password", note + form)


def consent(location: str) -> Response:
    shown = f"<p>It was reported as harmful. It leads to</p><p><strong>{escape(location)}</strong></p>"
    form = '<form method="post"><input type="hidden" name="consent" value="1"><button>Go there all the same</button></form>'
    return page(200, "Do you trust this link?", shown + form)


def preview(link: Link, short_url: str) -> Response:
    """Where a link leads, without going there. A protected target stays secret."""
    hidden = link.password is not None
    target = "(needs a password)" if hidden else _anchor(link.target)
    title = f"<p>{escape(link.title)}</p>" if link.title else ""
    return page(200, short_url, f"{title}<p>{target}</p><p>{_anchor(short_url, 'Go there')}</p>")


def card(card: Card, location: str) -> Response:
    """What a messenger or a network reads to show the link."""
    values = {"og:title": card.title, "og:description": card.description, "og:image": card.image, "og:url": location}
    meta = "".join(f'<meta property="{name}" content="{escape(value)}">' for name, value in values.items() if value)
    return page(200, card.title or location, _anchor(location), meta)


def app(address: str, location: str) -> Response:
    """Tries the app, and the web two seconds later."""
    nonce = token_urlsafe(12)
    refresh = f'<meta http-equiv="refresh" content="2;url={escape(location)}">'
    script = f'<script nonce="{nonce}">location.href=document.getElementById("app").href</script>'
    link = f'<p><a id="app" href="{escape(address)}">Open the app</a></p><p>{_anchor(location, "Go on in the browser")}</p>'
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; base-uri 'none'".encode()
    return page(200, "Opening the app", link + script, refresh, ((b"content-security-policy", policy),))


def _anchor(url: str, text: str | None = None) -> str:
    return f'<a href="{escape(url)}" rel="nofollow noopener ugc">{escape(text or url)}</a>'
