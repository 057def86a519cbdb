"""Rules of pastes as properties: diffs, guesses, envelopes, tokens, proofs and HTML."""

import os
import re
import subprocess
from base64 import b64encode
from hashlib import shake_256
from io import BytesIO
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.problems import Invalid, TooLarge
from mainspring.social.links.paste_diff import script, unified
from mainspring.social.links.paste_language import LOOKED_LETTERS, guess
from mainspring.social.links.paste_model import (
    EXPIRES_S,
    FAR_US,
    NONCE_US,
    InvalidSeal,
    cipher_text,
    delete_token,
    ends_us,
    is_delete_token,
    is_mac,
    is_nonce,
    mac_of,
    new_nonce,
    text_bytes,
    title_text,
)
from mainspring.social.links.paste_render import Job, lines_of, render, serve
from tests.needs import need_program

LINES = st.lists(st.sampled_from(["a", "b", "c", "", " a"]), max_size=14)
KEYS = st.binary(min_size=32, max_size=32)
IDS = st.from_regex(r"\A[0-9a-f]{16}\Z")


def common_lines(old: list[str], new: list[str]) -> int:
    """The length of the longest common subsequence, by the table that every textbook has."""
    table = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i, one in enumerate(old):
        for j, other in enumerate(new):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(LINES, LINES)
def test_a_script_leads_from_one_text_to_the_other_and_none_is_shorter(old: list[str], new: list[str]) -> None:
    steps = script(old, new)
    assert [line for mark, line in steps if mark != "+"] == old
    assert [line for mark, line in steps if mark != "-"] == new
    assert sum(mark == " " for mark, _ in steps) == common_lines(old, new)


@given(LINES, LINES, st.integers(0, 4))
def test_with_too_many_changes_the_script_is_longer_but_right(old: list[str], new: list[str], changes_max: int) -> None:
    steps = script(old, new, changes_max)
    assert [line for mark, line in steps if mark != "+"] == old
    assert [line for mark, line in steps if mark != "-"] == new


def test_texts_without_anything_in_common_are_compared_in_bounded_time() -> None:
    old, new = [f"old {n}" for n in range(50_000)], [f"new {n}" for n in range(50_000)]
    steps = script(old, new)
    assert [mark for mark, _ in steps] == ["-"] * 50_000 + ["+"] * 50_000


def test_git_makes_the_new_text_of_the_old_one_by_the_diff(tmp_path: Path) -> None:
    git = need_program("git")
    old = "\n".join(f"line {n}" for n in range(60)) + "\n"
    changed = re.sub(r"line (3|4|30|59)\n", "", old).replace("line 10\n", "line ten\nand more\n")
    alone = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    for place, (before, after) in enumerate([(old, changed), (changed, old), (old, old + "end\n"), (old, "only\n")]):
        path = tmp_path / f"{place}.txt"
        path.write_text(before)
        diff = unified(before, after, f"a/{path.name}", f"b/{path.name}")
        done = subprocess.run(
            [git, "apply", "-"], input=diff, text=True, capture_output=True, cwd=tmp_path, env=alone, check=False
        )
        assert done.returncode == 0, done.stderr
        assert path.read_text() == after


def test_equal_texts_have_no_diff() -> None:
    assert unified("a\nb", "a\nb\n", "old", "new") == ""
    assert unified("", "", "old", "new") == ""
    assert unified("a\nb\n", "a\nc\n", "old", "new") == "--- old\n+++ new\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    assert unified("", "a\n", "old", "new") == "--- old\n+++ new\n@@ -0,0 +1,1 @@\n+a\n"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("python", "import os\n\ndef main():\n    print('x')\n\nif __name__ == '__main__':\n    main()\n"),
        ("python", "#!/usr/bin/env python3\nx = 1\n"),
        ("bash", "#!/bin/sh\necho hi\n"),
        ("bash", "set -eu\nif [ -f x ]; then\n  echo x\nfi\n"),
        ("javascript", "const a = () => 1;\nconsole.log(a());\n"),
        ("typescript", "interface A { x: number }\nexport const f = (a: A): string => `${a.x}`;\n"),
        ("go", 'package main\n\nimport "fmt"\n\nfunc main() {\n\tfmt.Println("hi")\n}\n'),
        ("rust", 'fn main() {\n    let x: Vec<u8> = vec![];\n    println!("{}", x.len());\n}\n'),
        ("c", '#include <stdio.h>\nint main(void) { printf("x"); return 0; }\n'),
        ("cpp", "#include <iostream>\nint main() { std::cout << 1; }\n"),
        ("java", "public class A { public static void main(String[] a) {} }\n"),
        ("sql", "SELECT a, b\nFROM t\nWHERE x = 1;\n"),
        ("html", "<!doctype html><html><body>x</body></html>\n"),
        ("xml", "<?xml version='1.0'?>\n<a/>\n"),
        ("json", '{"a": [1, 2]}\n'),
        ("yaml", "a:\n  b: 1\nc:\n  - d\n"),
        ("toml", "[a]\nb = 1\n"),
        ("css", "a { color: red; }\n.b {\n  margin: 0;\n}\n"),
        ("diff", "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n"),
        ("php", "<?php echo 1; ?>\n"),
        ("docker", "FROM debian\nRUN apt-get update\n"),
        ("", "Hello there, this is only prose. It has sentences.\n\nAnd a list of things:\n"),
        ("", ""),
    ],
)
def test_code_looks_like_what_it_is(language: str, text: str) -> None:
    assert guess(text) == language


@given(st.text())
def test_any_text_can_be_guessed_at(text: str) -> None:
    assert isinstance(guess(text), str)


@given(st.text(alphabet="ab \t\n(){}[]<>:;,.=#$&|!?*+-/\\\"'@_", min_size=1, max_size=8))
@settings(max_examples=40)
def test_only_the_beginning_of_a_text_is_looked_at(piece: str) -> None:
    """And however it repeats itself, it is looked at in a moment: a test that hangs here has found a bad pattern."""
    head = (piece * LOOKED_LETTERS)[:LOOKED_LETTERS]
    assert guess(head) == guess(head + "\nimport os\ndef f(self):\n    return self.x\n" * 1_000)


@given(KEYS, IDS, IDS, st.text(max_size=80))
def test_a_delete_token_is_its_pastes_own(key: bytes, id: str, other: str, guessed: str) -> None:
    token = delete_token(key, id)
    assert is_delete_token(key, id, token)
    assert is_delete_token(key, other, token) == (other == id)
    assert not is_delete_token(key, id, guessed)
    assert not is_delete_token(bytes(32), id, token) or key == bytes(32)


@given(KEYS, IDS, IDS, st.binary(min_size=8, max_size=8), st.integers(0, 1 << 60))
def test_a_nonce_is_good_for_its_paste_and_its_time(
    key: bytes, id: str, other: str, random: bytes, now_us: int
) -> None:
    nonce = new_nonce(key, id, random, now_us)
    assert is_nonce(key, id, nonce, now_us) and is_nonce(key, id, nonce, now_us + NONCE_US - 1)
    assert not is_nonce(key, id, nonce, now_us + NONCE_US)
    assert is_nonce(key, other, nonce, now_us) == (other == id)
    later = f"{now_us + 2 * NONCE_US:x}.{nonce.partition('.')[2]}"
    assert not is_nonce(key, id, later, now_us)


@given(KEYS, IDS, st.text(max_size=100), st.integers(0, 1 << 60))
def test_a_forged_nonce_is_none_and_breaks_nothing(key: bytes, id: str, nonce: str, now_us: int) -> None:
    assert not is_nonce(key, id, nonce, now_us)


@given(KEYS, KEYS, IDS, st.text(max_size=40))
def test_only_the_verifier_answers_a_nonce(verifier: bytes, other: bytes, id: str, nonce: str) -> None:
    assert is_mac(verifier, id, nonce, mac_of(verifier, id, nonce))
    assert is_mac(verifier, id, nonce, mac_of(other, id, nonce)) == (verifier == other)
    assert not is_mac(verifier, id, nonce + ".", mac_of(verifier, id, nonce))


@given(st.integers(0, 1 << 60))
def test_a_paste_ends_when_its_sender_said(now_us: int) -> None:
    for expire, seconds in EXPIRES_S.items():
        assert ends_us(expire, now_us) == (now_us + seconds * 1_000_000 if seconds else FAR_US)


def test_random_bytes_pass_for_cipher_text_up_to_the_limit() -> None:
    for size in range(1, 400):
        body = shake_256(b"%d" % size).digest(size)
        encoded = b64encode(body).decode()
        assert cipher_text(encoded, size) == body
        with pytest.raises(TooLarge):
            cipher_text(encoded, size - 1)


@given(st.text(max_size=60).filter(lambda text: len(text) % 4 or not text.isascii() or not text.isalnum()))
def test_what_is_no_base64_is_no_cipher_text(text: str) -> None:
    try:
        assert b64encode(cipher_text(text, 1_000))
    except InvalidSeal:
        return


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200))
def test_a_text_is_kept_to_the_letter(text: str) -> None:
    assert text_bytes(text, 10_000).decode() == text


def test_half_letters_and_nul_are_no_text() -> None:
    for wrong in ("a\0b", "a\ud800b"):
        with pytest.raises(Invalid):
            text_bytes(wrong, 100)
        with pytest.raises(Invalid):
            title_text(wrong)
    assert title_text("  Cafe\u0301 ") == "Caf\u00e9"
    with pytest.raises(Invalid):
        title_text("a\nb")


NASTY = st.lists(
    st.sampled_from(
        ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "javascript:alert(1)", "[x](javascript:alert(1))",
         "![i](http://evil.example/x.png)", "<svg/onload=alert(1)>", "`<b>`", "# ", "> ", "\n", "\n\n", "```html\n", "</pre>",
         "[a](data:text/html,x)", '[a](http://x" onclick="alert(1))', "<a href='x'>", "|a|b|\n|-|-|\n|<i>|2|", "\u202e", "&lt;"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@given(
    NASTY, st.sampled_from(["plain", "code", "markdown"]), st.sampled_from(["", "html", "python", "no-such-language"])
)
def test_html_made_of_any_text_holds_nothing_that_runs(text: str, format: str, language: str) -> None:
    html = render(Job(format, language, text))
    tags = re.findall(r"<\s*/?\s*([a-zA-Z0-9]+)([^>]*)", html)
    assert not {name.lower() for name, _ in tags} & {
        "script",
        "img",
        "svg",
        "iframe",
        "object",
        "style",
        "base",
        "form",
    }
    for _, attributes in tags:
        assert not re.search(r"\bon\w+\s*=|javascript:|data:", re.sub(r'title="[^"]*"', "", attributes), re.IGNORECASE)
    if format != "markdown":
        assert len(re.findall(r'id="L\d+"', html)) == len(lines_of(text))


def test_a_child_answers_frame_by_frame() -> None:
    frames = [msgspec.msgpack.encode(Job("markdown", "", text)) for text in ("*a*", "**b**")]
    source = BytesIO(b"".join(len(one).to_bytes(4, "big") + one for one in frames))
    sink = BytesIO()
    serve(source, sink)
    answers, place = [], 0
    written = sink.getvalue()
    while place < len(written):
        length = int.from_bytes(written[place : place + 4], "big")
        answers.append(msgspec.msgpack.decode(written[place + 4 : place + 4 + length]))
        place += 4 + length
    assert answers == [
        '<div class="paste"><p><em>a</em></p>\n</div>',
        '<div class="paste"><p><strong>b</strong></p>\n</div>',
    ]
