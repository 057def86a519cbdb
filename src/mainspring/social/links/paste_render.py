"""Turns pastes into HTML; run as a child process by `paste_renderer`, never in the server's own.

Pygments' lexers are regular expressions over whatever a stranger wrote, and Python holds its lock while one runs: in a
child a text that takes for ever takes nobody's time but its own. Frames on stdin and stdout are four bytes of length and
MessagePack.
"""

import resource
import sys
from collections.abc import Sequence
from html import escape
from typing import Any, BinaryIO

import msgspec

MEMORY_BYTES_MAX = 1 << 30
_TAGS = {
    "a", "abbr", "b", "blockquote", "br", "code", "dd", "del", "details", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4",
    "h5", "h6", "hr", "i", "ins", "kbd", "li", "ol", "p", "pre", "q", "s", "samp", "small", "span", "strong", "sub",
    "summary", "sup", "table", "tbody", "td", "th", "thead", "tr", "u", "ul", "var",
}  # fmt: skip


class Job(msgspec.Struct):
    """`format` is plain, code or markdown; `language` is Pygments' name, and empty for none."""

    format: str
    language: str
    text: str


def render(job: Job) -> str:
    """HTML that is safe to show: made by us, and what a markdown text brought along passed through nh3."""
    if job.format == "markdown":
        return markdown(job.text)
    if job.format == "code" and job.language:
        return numbered(highlighted(job.text, job.language))
    return plain(job.text)


def plain(text: str) -> str:
    return numbered(escape(line, quote=False) for line in lines_of(text))


def numbered(lines: Any) -> str:
    """Lines of HTML, each with an anchor (`L7`); what writes from right to left stays inside its line (CSS)."""
    rows = "".join(f'<span class="line" id="L{n}">{line}</span>\n' for n, line in enumerate(lines, 1))
    return f'<pre class="paste"><code>{rows}</code></pre>'


def lines_of(text: str) -> list[str]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if len(lines) > 1 and not lines[-1] else lines


def highlighted(text: str, language: str) -> Sequence[str]:
    """The lines of `text` as HTML with Pygments' classes; a language that it does not know is shown plain."""
    from pygments import highlight  # type: ignore[import-untyped]
    from pygments.formatters.html import HtmlFormatter  # type: ignore[import-untyped]
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
    from pygments.util import ClassNotFound  # type: ignore[import-untyped]

    lines = lines_of(text)
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return [escape(line, quote=False) for line in lines]
    html: str = highlight("\n".join(lines), lexer, HtmlFormatter(nowrap=True))
    shown = html.split("\n")[: len(lines)]
    return shown + [""] * (len(lines) - len(shown))


def markdown(text: str) -> str:
    """CommonMark with tables and strikethrough. Raw HTML is shown as text; images become links."""
    import nh3
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
    html: str = parser.render(text)
    clean = nh3.clean(
        html,
        tags=_TAGS,
        attributes={"a": {"href", "title"}, "code": {"class"}, "ol": {"start"}, "td": {"align"}, "th": {"align"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener ugc",
    )
    return f'<div class="paste">{clean}</div>'


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Renders what comes until `source` ends."""
    decode, encode = msgspec.msgpack.Decoder(Job).decode, msgspec.msgpack.Encoder().encode
    while len(head := source.read(4)) == 4:
        answer = encode(render(decode(source.read(int.from_bytes(head, "big")))))
        sink.write(len(answer).to_bytes(4, "big") + answer)
        sink.flush()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    serve(sys.stdin.buffer, sys.stdout.buffer)
