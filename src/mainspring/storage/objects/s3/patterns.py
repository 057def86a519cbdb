"""Wildcards as policies, CORS rules and filters write them, matched in time that is linear in the text (re2)."""

import re
from collections.abc import Callable
from functools import lru_cache

Compare = Callable[[str], bool]


@lru_cache(maxsize=10_000)
def pattern(text: str) -> Compare:
    """Whether a text matches: `*` is anything, `?` one letter, all else is itself."""
    if "*" not in text and "?" not in text:
        return text.__eq__
    import re2  # type: ignore[import-untyped]

    parts = [".*" if one == "*" else "." if one == "?" else re2.escape(one) for one in re.sub(r"\*+", "*", text)]
    options = re2.Options()
    options.dot_nl = True
    compiled = re2.compile("".join(parts), options)
    return lambda value: compiled.fullmatch(value) is not None
