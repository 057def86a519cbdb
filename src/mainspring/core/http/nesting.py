"""How deep a JSON text may be nested.

Types limit depth by themselves; where one is open (`Any`, a type that contains itself) a text could be as deep as the
decoder's own limit and then break whoever walks it. Such bodies may be nested 64 deep.
"""

import re
from typing import Any

import msgspec

from mainspring.core.problems import Malformed

DEPTH_MAX = 64

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def check_nesting(text: bytes) -> None:
    """Raises `Malformed` where `text` is nested deeper than 64. Text that is no JSON is left to the decoder."""
    if text.count(b"[") + text.count(b"{") <= DEPTH_MAX:
        return
    brackets = _STRING.sub(b"", text).translate(None, _NOT_BRACKETS)
    # Each round takes away the innermost pairs, so that the depth falls by one at least.
    for _ in range(DEPTH_MAX):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    if brackets:
        raise Malformed(f"Nested deeper than {DEPTH_MAX}", pointer="/body")


def is_open(kind: Any) -> bool:
    """Whether values of `kind` may be nested without end."""
    seen: set[Any] = set()

    def opens(info: Any) -> bool:
        if isinstance(info, msgspec.inspect.AnyType | msgspec.inspect.RawType):
            return True
        if not isinstance(info, msgspec.inspect.Type):
            return False
        name = getattr(info, "cls", None)
        if name is not None:
            if name in seen:
                return True
            seen.add(name)
        parts: list[Any] = []
        for field in info.__struct_fields__:
            value = getattr(info, field)
            if isinstance(value, tuple):
                parts += [part.type if isinstance(part, msgspec.inspect.Field) else part for part in value]
            else:
                parts.append(value)
        found = any(opens(part) for part in parts)
        if name is not None:
            seen.discard(name)
        return found

    return opens(msgspec.inspect.type_info(kind))
