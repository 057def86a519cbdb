"""One typed configuration: a file, then `MAINSPRING_*`, then the command line, each over the one before.

The types below are its documentation too: `mainspring doctor --keys` prints them. A key nobody knows is refused with
the nearest valid one. A secret may come from a file: `database_file = "/run/secrets/dsn"` is read for `database`. A
system's keys stand in a section of its name, typed by the system's own settings, which are imported only where used.
"""

import os
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .manifest import Manifest, manifests, nearest, resolve


class ConfigError(ValueError):
    """A key or value that cannot be used; the text says where it stands and what is valid."""


def _default_data() -> str:
    return os.path.join(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "mainspring")


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Every key of the whole; a system's own keys are in `sections`."""

    data: Annotated[str, Meta(description="Folder that holds everything this node keeps")] = msgspec.field(
        default_factory=_default_data
    )
    host: Annotated[str, Meta(description="Address that every listener binds to; loopback unless you mean it")] = (
        "127.0.0.1"
    )
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port of the console and the JSON API; 0 takes a free one")
    ] = 8080
    ports: Annotated[
        dict[str, int], Meta(description="Ports of systems' listeners by name; such a port must bind")
    ] = {}
    database: Annotated[
        str, Meta(description="PostgreSQL address (postgresql://…); empty: embedded SQLite in `data`")
    ] = ""
    log: Annotated[
        str,
        Meta(
            pattern="^(|kafka://.+)$",
            description="Kafka address (kafka://host:port,…) for events; empty: this node's own log beside an embedded "
            "database, a table of PostgreSQL beside that; beside a section `[log]` it is written there, as `address`",
        ),
    ] = ""
    blobs: Annotated[
        str,
        Meta(
            pattern="^(|s3://.+)$",
            description="S3 address (s3://bucket/prefix?endpoint=…&region=…) for blobs; empty: this node's own objects",
        ),
    ] = ""
    cache: Annotated[str, Meta(description="Redis or Valkey address (redis://…); empty: in this process")] = ""
    cache_bytes_max: Annotated[
        int, Meta(ge=1 << 20, description="Memory that the in-process cache may take, in bytes")
    ] = 64 << 20
    master_key: Annotated[
        str,
        Meta(
            description="Key that wraps all stored keys: 32 bytes as base64, best given as `master_key_file`; a new one stands "
            "before the old one; empty: the database keeps one"
        ),
    ] = ""
    tls_certificate: Annotated[str, Meta(description="PEM file with the certificate chain for every listener")] = ""
    tls_key: Annotated[str, Meta(description="PEM file with its private key")] = ""
    tls_clients: Annotated[
        str, Meta(description="PEM file with the authorities that vouch for clients' certificates, on TCP listeners")
    ] = ""
    behind_tls: Annotated[bool, Meta(description="A proxy in front of this node terminates TLS")] = False
    plain: Annotated[list[str], Meta(description="Listeners that may be off loopback without TLS, by name")] = []
    hosts: Annotated[list[str], Meta(description="Host names that this node answers to, besides loopback's own")] = []
    origins: Annotated[list[str], Meta(description="Web origins that may call the JSON API from a browser (CORS)")] = []
    trusted_proxies: Annotated[list[str], Meta(description="CIDRs of proxies whose X-Forwarded-For is believed")] = []
    body_bytes_max: Annotated[
        int, Meta(ge=1024, description="Largest body of any request; most addresses accept less")
    ] = 16 << 20
    free_bytes_min: Annotated[
        int, Meta(ge=0, description="Free disk space below which writes that grow are refused")
    ] = 256 << 20
    drain_s: Annotated[
        float,
        Meta(
            ge=0,
            le=600,
            description="Seconds that a stopping node still serves everything while `/-/ready` says 503: "
            "as long as your load balancer takes to notice",
        ),
    ] = 0
    log_format: Annotated[str, Meta(pattern="^(auto|json|text)$", description="Log lines: auto, json or text")] = "auto"
    log_level: Annotated[
        str,
        Meta(
            pattern="^(debug|info|warning|error)$",
            description="Lowest level of the log lines that are written; debug has one for each request",
        ),
    ] = "info"
    sections: Annotated[dict[str, dict[str, Any]], Meta(description="Systems' own keys, by system")] = {}

    def settings(self, manifest: Manifest) -> Any:
        """The typed settings of one system; raises `ConfigError` naming the key that does not fit."""
        kind = resolve(manifest.settings)
        return _convert(self.sections.get(manifest.name, {}), kind, manifest.name)

    def folders(self, manifest: Manifest) -> list[Path]:
        """Where a system keeps its files: what its setting for that names, or a folder in `data`."""
        named = self.sections.get(manifest.name, {}).get(manifest.folders) if manifest.folders else None
        return [Path(one) for one in _parsed(named or [], list[str])] or [Path(self.data) / manifest.name]

    def elsewhere(self) -> dict[str, list[Path]]:
        """The folders of the systems that are told to keep their files in others than the one of their name in `data`."""
        found = {name: self.folders(manifest) for name, manifest in manifests().items() if manifest.folders}
        return {name: folders for name, folders in found.items() if folders != [Path(self.data) / name]}


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
    **arguments: Any,
) -> Config:
    """Reads all sources. `settings` are `key=value` texts of the command line; `arguments` win over everything.

    Without `file`, `mainspring.toml` in the data folder is read where there is one. Raises `ConfigError`.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for name, text in sorted(environment.items()):
        if name.startswith("MAINSPRING_") and name not in _NOT_KEYS:
            _place(overrides, name.removeprefix("MAINSPRING_").lower().split("__"), text, name)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting!r}: write key=value, for example --set links.domain=example.org")
        _place(overrides, key.strip().replace("-", "_").split("."), text, f"--set {key}")
    _merge(overrides, _addresses_apart({key: value for key, value in arguments.items() if value is not None}))

    data = Path(overrides.get("data") or _default_data())
    file = file or (data / "mainspring.toml" if (data / "mainspring.toml").is_file() else None)
    text = ""
    if file is not None:
        try:
            text = file.read_text()
            values = _addresses_apart(msgspec.toml.decode(text))
        except (OSError, UnicodeError, msgspec.DecodeError) as error:
            raise ConfigError(f"{file}: {error}{_twice(text)}") from None
    _merge(values, overrides)

    known = set(Config.__struct_fields__) - {"sections"}
    tables = [key for key, value in values.items() if isinstance(value, dict) and key not in known - manifests().keys()]
    sections = {key: values.pop(key) for key in tables}
    for key in _addressed() & sections.keys():
        if _ADDRESS in sections[key]:
            values[key] = sections[key].pop(_ADDRESS)
        if not sections[key]:
            del sections[key]
    _read_secret_files(values, Config)
    for key in values:
        if key not in known:
            raise ConfigError(f"there is no key {key!r}{nearest(key, [*known, *manifests()])}")
    for key, section in sections.items():
        if key not in manifests():
            raise ConfigError(f"there is no section or system {key!r}{nearest(key, [*known, *manifests()])}")
        if missing := manifests()[key].missing_extra():
            raise ConfigError(missing)
        _read_secret_files(section, resolve(manifests()[key].settings))
    config: Config = _convert({**values, "sections": sections}, Config, "")
    listeners = [listener.name for manifest in manifests().values() for listener in manifest.listeners]
    for name in config.ports:
        if name not in listeners:
            near = nearest(name, listeners, "ports.") or f"; they are {', '.join(sorted(listeners))}"
            raise ConfigError(f"there is no listener {name!r} for ports{near}")
    for name in sections:
        config.settings(manifests()[name])
    return config


def describe(kind: type[msgspec.Struct], section: str = "") -> list[tuple[str, str, str, str]]:
    """(key, type, default, what it means) of every key of a settings type, in order."""
    rows = []
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        if field.name == "sections":
            continue
        hint = hints[field.name]
        meaning = _meaning(hint)
        if typing.get_origin(hint) is Annotated:
            hint = hint.__origin__
        if field.default is not msgspec.NODEFAULT:
            default = repr(field.default)
        elif field.default_factory in (list, dict):
            default = repr(field.default_factory())
        else:
            default = "computed" if field.default_factory is not msgspec.NODEFAULT else "required"
        name = getattr(hint, "__name__", str(hint)) if not typing.get_args(hint) else str(hint).replace("typing.", "")
        rows.append((f"{section}.{field.name}" if section else field.name, name, default, meaning))
    return rows


def _meaning(hint: Any) -> str:
    """The description of `Annotated[X, Meta(description=…)]`, also as one side of `… | None`."""
    for one in (hint, *typing.get_args(hint)):
        for meta in getattr(one, "__metadata__", ()):
            if getattr(meta, "description", None):
                return str(meta.description)
    return ""


# Read by the script, the build and the tests, not by the configuration.
_NOT_KEYS = {"MAINSPRING_ROOT", "MAINSPRING_PYTHON", "MAINSPRING_CONSOLE", "MAINSPRING_REQUIRE_ALL"}


_ADDRESS = "address"


def _addressed() -> set[str]:
    """What is an address and a system's section: `log`. As text the one, as a table the other, which then has the address."""
    return set(Config.__struct_fields__) & manifests().keys()


def _addresses_apart(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: {_ADDRESS: value} if isinstance(value, str) and key in _addressed() else value
        for key, value in values.items()
    }


def _twice(text: str) -> str:
    """What to do where a file has both, which TOML does not allow."""
    for key in _addressed():
        if re.search(rf"^{key}\s*=", text, re.MULTILINE) and re.search(rf"^\[{key}[.\]]", text, re.MULTILINE):
            return f": beside a section [{key}] write `{key} = …` as `address = …` in it"
    return ""


def _place(values: dict[str, Any], path: list[str], text: str, source: str) -> None:
    if len(path) == 1 and path[0] in _addressed():
        path = [*path, _ADDRESS]
    for part in path[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: {part!r} already has a value of its own")
    values[path[-1]] = text


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = value


def _read_secret_files(values: dict[str, Any], kind: Any) -> None:
    """`key_file` names a file that holds `key`, unless `key_file` is itself a key of `kind`."""
    for key in [key for key in values if key.endswith("_file") and key not in kind.__struct_fields__]:
        name, path = key.removesuffix("_file"), Path(str(values.pop(key)))
        if name in values:
            raise ConfigError(f"{name} and {key} are both given; keep one")
        try:
            values[name] = path.read_text().rstrip("\r\n")
        except OSError as error:
            raise ConfigError(f"{key}: {error}") from None


def _convert(values: dict[str, Any], kind: Any, section: str) -> Any:
    names = [field.name for field in msgspec.structs.fields(kind)]
    for key in values:
        if key not in names:
            before = f"{section}." if section else ""
            hint = _port_hint(section) if key == "port" else nearest(key, names, before)
            raise ConfigError(f"there is no key {before + key!r}{hint}")
    hints = typing.get_type_hints(kind)
    typed = {key: _parsed(value, hints[key]) for key, value in values.items()}
    try:
        return msgspec.convert(typed, kind, strict=False)
    except msgspec.ValidationError as error:
        text, _, at = str(error).partition(" - at `$.")
        key = at.rstrip("`") or "the configuration"
        raise ConfigError(f"{section + '.' if section else ''}{key}: {text}") from None


def _port_hint(system: str) -> str:
    """Ports are set for all systems in one place, by listener."""
    names = " and ".join(f'"ports.{listener.name}"' for listener in manifests()[system].listeners)
    return f"; did you mean {names}?" if names else ""


def _parsed(value: Any, hint: Any) -> Any:
    """Text from the environment or the command line for a list (`a,b`) or anything nested (JSON)."""
    if not isinstance(value, str) or hint is str:
        return value
    if typing.get_origin(hint) in (list, tuple) and not value.lstrip().startswith("["):
        return [part.strip() for part in value.split(",") if part.strip()]
    if typing.get_origin(hint) in (list, tuple, dict):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{value!r} is not JSON: {error}") from None
    return value
