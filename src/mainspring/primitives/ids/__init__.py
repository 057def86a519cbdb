"""Unique, time-sortable ids minted without asking anyone: no id is ever given twice by one deployment.

ids = Ids(database, clock)              # leases a worker id when the application starts it
ids.next()            -> int            # 64-bit, positive, increasing
ids.take(1000)        -> list[int]      # increasing, one call
ids.uuid7()           -> uuid.UUID      # ids.ulid(), ids.typeid("user"), ids.nano() -> str
ids.first_at(instant) -> int            # range scans: id >= first_at(yesterday)
await ids.sequence("invoice").next() -> int
parse(text_or_int)    -> Id(kind, time, worker, sequence)
base62(n), from_base62(text); Opaque(key).hide(n), .show(text)
"""

from typing import TYPE_CHECKING

from mainspring.core.faces import lazily

from .errors import (
    BadCount,
    BadName,
    BadPrefix,
    ClockBehind,
    NotAnId,
    NotReserved,
    NoWorkerLeft,
    SequenceKind,
    TooFast,
    UnknownKind,
)
from .kinds import Kinds
from .layouts import LAYOUTS, MAINSPRING, Layout
from .minter import Minter
from .opaque import Opaque
from .parsing import Id, parse
from .texts import (
    base32hex,
    base58,
    base62,
    base62_short,
    check_letter,
    crockford,
    from_base32hex,
    from_base58,
    from_base62,
    from_crockford,
    with_check,
    without_check,
)

if TYPE_CHECKING:
    from .service import Ids
    from .settings import IdsSettings

__all__ = [
    "LAYOUTS",
    "MAINSPRING",
    "BadCount",
    "BadName",
    "BadPrefix",
    "ClockBehind",
    "Id",
    "Ids",
    "IdsSettings",
    "Kinds",
    "Layout",
    "Minter",
    "NoWorkerLeft",
    "NotAnId",
    "NotReserved",
    "Opaque",
    "SequenceKind",
    "TooFast",
    "UnknownKind",
    "base32hex",
    "base58",
    "base62",
    "base62_short",
    "check_letter",
    "crockford",
    "from_base32hex",
    "from_base58",
    "from_base62",
    "from_crockford",
    "parse",
    "with_check",
    "without_check",
]


# The service brings the SQL language with it; who only needs a number as text does not wait for that.
__getattr__ = lazily(__name__, {"Ids": "service", "IdsSettings": "settings"})
