"""Which language a piece of code looks like: marks that each language has and others seldom have, counted.

Only the first 4 KiB are looked at, by patterns that are tried at few places and repeat little, so that a guess takes well
under 50 ms whatever the text. The names are Pygments' own.
"""

import re

LOOKED_LETTERS = 4_096
SURE = 2
"""Marks that must be found, counted by their weight, before anything is guessed."""

_SHEBANG = re.compile(r"#![^\n]{0,200}\b(?:env +)?(bash|sh|zsh|python|node|perl|ruby|php|lua)\d?\b")
_SHEBANGS = {"sh": "bash", "zsh": "bash", "node": "javascript"}

_MARKS: dict[str, tuple[tuple[int, str], ...]] = {
    "python": (
        (2, r"^[ \t]*def \w+\(.*\)(?: -> [^:\n]+)?:"), (2, r"^from [\w.]+ import \w"), (1, r"^import \w+(?:, *\w+)*[ \t]*$"),
        (1, r"^[ \t]*(?:elif .*|else|try|except.*|with .*|class \w+.*):[ \t]*$"), (1, r"\bself\.\w"), (2, r"__name__ *=="),
    ),
    "javascript": (
        (1, r"\b(?:const|let) \w+ ="), (1, r"=> *[{(]|=> \w"), (2, r"\bconsole\.\w+\("), (1, r"\bfunction\b *\w*\("),
        (2, r"\brequire\(['\"]"), (1, r"^import .* from ['\"]"), (1, r"^export (?:default|const|function)"), (1, r"==="),
    ),
    "typescript": (
        (2, r"^(?:export )?interface \w+"), (2, r"\b\w+\??: (?:string|number|boolean|unknown|any)\b"),
        (2, r"^(?:export )?type \w+(?:<\w+>)? ="), (1, r"\bconst \w+: \w"), (1, r"^import type "),
    ),
    "go": ((3, r"^package \w+[ \t]*$"), (2, r"^func (?:\(\w+ \*?\w+\) )?\w+\("), (2, r":="), (1, r"\bfmt\.\w+\(")),
    "rust": (
        (2, r"\bfn \w+(?:<[^>\n]*>)?\("), (2, r"\blet mut \w"), (2, r"\b\w+!\("), (1, r"^use \w+::"), (1, r"-> \w"),
        (1, r"^[ \t]*(?:pub )?(?:struct|enum|impl|trait|mod) \w"), (1, r"&(?:mut |str|self)"),
    ),
    "c": ((3, r"^#include <\w+\.h>"), (1, r"\bint main\("), (1, r"\bprintf\("), (1, r"^#define \w+"), (1, r"\b\w+ \*\w+")),
    "cpp": ((3, r"^#include <\w+>"), (3, r"\bstd::\w"), (2, r"\btemplate *<"), (1, r"\bnamespace \w"), (1, r"\bcout *<<")),
    "java": (
        (3, r"\bpublic (?:static |final |abstract )*(?:class|interface|enum|record) \w"), (2, r"^import java[\w.]*;"),
        (2, r"\bSystem\.out\.print"), (1, r"@Override"), (1, r"\bprivate (?:final )?\w+(?:<.*>)? \w+;"),
    ),
    "csharp": ((2, r"^using [\w.]+;"), (2, r"^namespace [\w.]+"), (2, r"\bConsole\.Write"), (1, r"\{ *get; *(?:set;)? *\}")),
    "kotlin": ((2, r"\bfun \w+\("), (1, r"\bval \w+(?:: \w+)? ="), (1, r"\bvar \w+(?:: \w+)? ="), (2, r"\bdata class \w")),
    "php": ((4, r"<\?php\b"), (1, r"\$\w+ *="), (1, r"\becho\b")),
    "ruby": (
        (2, r"^[ \t]*def \w+[?!]?(?:\(.*\))?[ \t]*$"), (1, r"^[ \t]*end[ \t]*$"), (2, r"\bdo \|\w"),
        (1, r"^require ['\"]"), (1, r"\bputs "),
    ),
    "perl": ((3, r"^use strict;"), (2, r"\bmy [$@%]\w"), (1, r"=~ *[ms]?/")),
    "bash": (
        (2, r"^[ \t]*(?:if|while) \[\[? .* \]\]?; *(?:then|do)"), (1, r"^[ \t]*(?:fi|done|esac)[ \t]*$"), (1, r"\$\{\w+[:}]"),
        (1, r"^[ \t]*(?:echo|export|cd|sudo|apt-get|set -[eux]+) "), (1, r"\$\(\w"),
    ),
    "sql": (
        (2, r"(?i)^[ \t]*select\b"), (1, r"(?i)^[ \t]*from \w"), (1, r"(?i)\bwhere \w+ *(?:=|<|>|in|like)"),
        (3, r"(?i)^[ \t]*(?:create table|insert into|alter table|update \w+ set|delete from)\b"), (1, r"(?i)\bjoin \w+ on\b"),
        (1, r"(?i)\bfrom \w+(?: where| join| order|;|$)"),
    ),
    "html": (
        (4, r"(?i)<!doctype html"), (1, r"</\w+>"),
        (2, r"(?i)<(?:html|head|body|div|span|p|a|ul|table|script)\b[^>\n]{0,200}>"),
    ),
    "xml": ((4, r"^<\?xml "), (1, r"<\w+:\w+"), (1, r"</\w+>"), (1, r"xmlns")),
    "css": (
        (2, r"^[ \t]*[.#]?[\w-]+(?:[ ,>:.#][\w-]+)* *\{"),
        (1, r"^[ \t]*[\w-]+: *[^;{\n]+; *$"), (1, r"^@(?:media|import)\b"),
    ),
    "json": ((3, r"\A\s*[{\[]\s{0,40}(?:\"(?:[^\"\\\n]|\\.)*\"\s*[:,\]]|[\[{\]}\d])"), (1, r"^[ \t]*\"\w+\": ")),
    "yaml": ((1, r"^[\w-]+:[ \t]*$"), (1, r"^[ \t]*- [\w\"'{]"), (1, r"^[ \t]*[\w-]+: \S"), (3, r"\A---[ \t]*$")),
    "toml": ((2, r"^\[\[?[\w.-]+\]\]?[ \t]*$"), (1, r"^[\w.-]+ = (?:[\"\[{\d]|true|false)")),
    "docker": ((2, r"^FROM \S+"), (2, r"^(?:RUN|COPY|ENTRYPOINT|WORKDIR|ENV) \S")),
    "make": ((2, r"^[\w.%-]+:(?:[^=\n].*)?$(?=\n\t)"), (1, r"^\t\S"), (1, r"\$\(\w+\)"), (1, r"^\.PHONY")),
    "diff": ((4, r"^@@ -\d+(?:,\d+)? \+\d+"), (2, r"^(?:---|\+\+\+) \S")),
    "tex": ((4, r"\\documentclass\b"), (2, r"\\begin\{\w+\}"), (1, r"\\\w+\{")),
}  # fmt: skip
_PATTERNS = {
    language: [(weight, re.compile(pattern, re.MULTILINE)) for weight, pattern in marks]
    for language, marks in _MARKS.items()
}


def guess(text: str) -> str:
    """The language that `text` looks like, or the empty string where it looks like none."""
    head = text[:LOOKED_LETTERS]
    if len(text) > LOOKED_LETTERS:
        head = head.rpartition("\n")[0] or head  # half a line may look like anything
    shebang = _SHEBANG.match(head)
    if shebang is not None:
        return _SHEBANGS.get(shebang[1], shebang[1])
    points = {
        language: sum(weight for weight, pattern in marks if pattern.search(head))
        for language, marks in _PATTERNS.items()
    }
    best = max(points, key=lambda language: points[language])
    return best if points[best] >= SURE else ""
