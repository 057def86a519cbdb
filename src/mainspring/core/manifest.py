"""What a system says of itself, read from its `system.toml` without importing any of its code.

`mainspring systems`, the console's home, the front door and the README's table all read this; a system is imported only
when somebody touches it.
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from mainspring.core.imports import imported

PACKAGE = Path(__file__).resolve().parent.parent


class TokenShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an API token must look for the clients of this system's field: `prefix`, then `length` of `alphabet`.

    `key_pair`: its clients sign their requests, so that a token is told together with its access key and secret key.
    """

    prefix: str = ""
    length: int = 43
    alphabet: str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    key_pair: bool = False


class ListenerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A door of the system's own. `application` names a function whose parameters are services by type.

    It gives an ASGI application (`http`) or an asyncio protocol factory (`tcp`, `udp`). A `public` listener may be
    opened off loopback without authentication, because strangers are whom it serves (redirects, published pages). Others
    may where their protocol lets nobody in without credentials: always (`authenticated`), or where a setting of the system
    says so (`authenticated_by`, as in `kafka.authentication`). `scheme` is what a client writes before the address of a
    `tcp` listener, where its protocol has URLs. Without `manners` an `http` listener's application keeps its own
    (`core.http.manners`): bodies of any size, its own deadlines, headers and errors, nothing compressed.
    """

    name: str
    protocol: Literal["http", "tcp", "udp"]
    port: int
    application: str
    public: bool = False
    authenticated: bool = False
    authenticated_by: str = ""
    scheme: str = ""
    manners: bool = True

    @property
    def speaks(self) -> str:
        """The protocol by the name that clients know it by."""
        return self.scheme or self.protocol

    def url(self, address: str) -> str:
        """How a client writes `address` (`host:port`)."""
        scheme = self.scheme or ("http" if self.protocol == "http" else "")
        return f"{scheme}://{address}/" if scheme and address else address


class JobSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An asynchronous method to call every `every_s` seconds, on one node at a time."""

    name: str
    every_s: float
    call: str


class ConsumerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An asynchronous method `(batch, consumer)` to call with each batch of `topic` as a member of `group`."""

    topic: str
    group: str
    call: str


class PortSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service of this system that stands behind a port of `core.ports`.

    `scheme` is that of the address which chooses it (`log = "kafka://…"`); without one it is what stands there where no
    address is given and its system is among those that run.
    """

    port: Literal["Log", "Blobs"]
    service: str
    scheme: str = ""


class SimulationSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function `(seed)` that plays one seeded history and raises `AssertionError` where a promise broke."""

    name: str
    call: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One system. References are `module:name` or `module:Class.method`; nothing is imported until asked for.

    `folders` is the setting that names where the system keeps its files, where that may be elsewhere than in the data folder.
    """

    name: str
    family: str
    title: str
    summary: str
    promise: str
    level: int
    missing: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    extra: str = ""
    modules: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    settings: str = ""
    folders: str = ""
    tables: str = ""
    services: tuple[str, ...] = ()
    routes: str = ""
    scopes: tuple[str, ...] = ()
    token: TokenShape | None = None
    listeners: tuple[ListenerSpec, ...] = ()
    jobs: tuple[JobSpec, ...] = ()
    consumers: tuple[ConsumerSpec, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    simulations: tuple[SimulationSpec, ...] = ()

    @property
    def folder(self) -> Path:
        return PACKAGE / self.family / self.name

    def missing_extra(self) -> str | None:
        """What to install where this system's libraries are missing, else None."""
        absent = [module for module in self.modules if importlib.util.find_spec(module) is None]
        if not absent:
            return None
        return f"{self.name} needs {', '.join(absent)}: pip install 'mainspring[{self.extra}]'"


class UnknownSystem(ValueError):
    """There is no system of this name; the text names the nearest one."""


@cache
def manifests() -> dict[str, Manifest]:
    """Every system of the package by name, families in alphabetical order."""
    found = {}
    for path in sorted(PACKAGE.glob("*/*/system.toml")):
        try:
            manifest = msgspec.toml.decode(path.read_bytes(), type=Manifest)
        except msgspec.MsgspecError as error:
            raise ValueError(f"{path.relative_to(PACKAGE)}: {error}") from None
        if path.parent != manifest.folder:
            raise ValueError(f"{path.relative_to(PACKAGE)} says it is {manifest.family}/{manifest.name}")
        found[manifest.name] = manifest
    return found


def closure(names: list[str] | tuple[str, ...]) -> list[Manifest]:
    """These systems and all that they use, used ones first. Raises `UnknownSystem`, and `ValueError` on a circle."""
    known, ordered, path = manifests(), dict[str, Manifest](), list[str]()

    def add(name: str) -> None:
        if name in ordered:
            return
        if name in path:
            raise ValueError(f"systems use each other in a circle: {' -> '.join([*path, name])}")
        if name not in known:
            raise UnknownSystem(f"there is no system {name!r}{nearest(name, known)}")
        path.append(name)
        for used in known[name].uses:
            add(used)
        path.pop()
        ordered[name] = known[name]

    for name in names:
        add(name)
    return list(ordered.values())


def nearest(word: str, valid: Any, before: str = "") -> str:
    """`; did you mean "…"?` where one of `valid` is near, written after `before`, else the empty string."""
    import difflib

    close = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return f'; did you mean "{before}{close[0]}"?' if close else ""


def resolve(reference: str) -> Any:
    """Imports `module:name` or `module:Class.method` and gives what it names."""
    module, _, names = reference.partition(":")
    found: Any = imported(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found
