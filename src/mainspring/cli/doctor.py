"""`doctor`: what is configured, whether it can work, and what to do where it cannot."""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
import msgspec

from mainspring.core.config import Config, describe
from mainspring.core.manifest import manifests, resolve

from .options import read, with_config

REACH_S = 5
"""How long a server that is configured may take to answer."""


class Finding(msgspec.Struct):
    """`what` was looked at; `wrong` is empty where it is well; `do` says how to mend it."""

    what: str
    wrong: str = ""
    do: str = ""


@click.command()
@with_config
@click.option("--keys", is_flag=True, help="Print every key of the configuration with its default and meaning.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(data: str | None, config_file: Path | None, settings: tuple[str, ...], keys: bool, as_json: bool) -> None:
    """Check what is configured and say what to do. Exit code 1 where something is wrong.

    \b
    mainspring doctor
    mainspring doctor --keys          the configuration's documentation
    """
    if keys:
        _print_keys(as_json)
        return
    findings = list(_examine(read(config_file, settings, data=data)))
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(one) for one in findings], indent=2))
    else:
        for one in findings:
            click.echo(f"{'!!' if one.wrong else 'ok'} {one.what}{': ' + one.wrong if one.wrong else ''}")
            if one.do:
                click.echo(f"   {one.do}")
    if any(one.wrong for one in findings):
        raise click.exceptions.Exit(1)


def _examine(config: Config) -> Iterator[Finding]:
    yield Finding(f"Python {sys.version.split()[0]}")
    yield from _folder(Path(config.data), config.free_bytes_min)
    yield _try(
        f"database {_shown(config.database) or 'embedded SQLite'}",
        lambda: _reach_postgres(config.database),
        "start PostgreSQL, or correct the address in `database`",
    )
    yield _try(
        f"cache {_shown(config.cache) or 'in this process'}",
        lambda: _reach_redis(config.cache),
        "start Redis or Valkey, or correct the address in `cache`",
    )
    yield _try(
        f"log {_shown(config.log) or 'of this node'}",
        lambda: _reach_kafka(config.log),
        "start Kafka, or correct the address in `log`",
    )
    yield _try(
        f"blobs {_shown(config.blobs) or 'of this node'}",
        lambda: _reach_s3(config.blobs),
        "make the bucket, or correct address and credentials in `blobs`",
    )
    yield from _doors(config)
    for manifest in manifests().values():
        missing = manifest.missing_extra()
        yield Finding(
            f"{manifest.family}/{manifest.name}", "its libraries are missing" if missing else "", missing or ""
        )
        if manifest.settings and not missing:
            yield from _files(manifest.name, config.settings(manifest))
    from mainspring.console import STATIC

    built = (STATIC / "index.html").is_file()
    yield Finding("console", "" if built else "not built", "" if built else "install without MAINSPRING_CONSOLE=skip")


def _folder(folder: Path, free_bytes_min: int) -> Iterator[Finding]:
    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")

    yield _try(f"data folder {folder}", write, "choose a folder that you may write to with --data")
    if folder.is_dir():
        free = shutil.disk_usage(folder).free
        low = free < free_bytes_min
        yield Finding(
            f"{free >> 20:,} MiB free",
            f"below free_bytes_min ({free_bytes_min >> 20:,} MiB): writes that grow are refused" if low else "",
            "make room, or lower free_bytes_min" if low else "",
        )


def _files(system: str, settings: msgspec.Struct) -> Iterator[Finding]:
    """Whether the files that a system's settings name can be read."""
    for name in settings.__struct_fields__:
        path = getattr(settings, name)
        if name.endswith("_file") and path:
            yield _try(
                f"{system}.{name} {path}",
                partial(_read_some, Path(path)),
                f"correct `{system}.{name}`, or leave it out",
            )


def _read_some(path: Path) -> None:
    with path.open("rb") as file:
        file.read(1)


def _doors(config: Config) -> Iterator[Finding]:
    from mainspring.core.listeners import is_loopback
    from mainspring.core.tls import Tls

    if config.tls_certificate or config.tls_key:
        clients = Path(config.tls_clients) if config.tls_clients else None
        yield _try(
            f"certificate {config.tls_certificate or 'missing'}",
            lambda: Tls(Path(config.tls_certificate), Path(config.tls_key), clients).context(),
            "correct `tls_certificate` and `tls_key`, which belong together",
        )
    plain = not (is_loopback(config.host) or config.tls_certificate or config.behind_tls)
    yield Finding(
        f"host {config.host}",
        "it is not loopback, and without TLS anybody on the way could read along" if plain else "",
        "give `tls_certificate` and `tls_key`, or set `behind_tls` where a proxy in front terminates TLS"
        if plain
        else "",
    )


def _try(what: str, attempt: Callable[[], object], do: str) -> Finding:
    try:
        attempt()
    except Exception as error:
        return Finding(what, str(error) or type(error).__name__, do)
    return Finding(what)


def _reach_postgres(address: str) -> None:
    if address:
        import psycopg

        psycopg.connect(address, connect_timeout=REACH_S).close()


def _reach_redis(address: str) -> None:
    if address:
        import redis

        with redis.Redis.from_url(address, socket_timeout=REACH_S, socket_connect_timeout=REACH_S) as server:
            server.ping()


def _reach_kafka(address: str) -> None:
    if address:
        from mainspring.storage.log import reach_kafka

        reach_kafka(address, REACH_S)


def _reach_s3(address: str) -> None:
    async def look() -> None:
        from mainspring.storage.objects import CloudBlobs

        async with asyncio.timeout(REACH_S):
            await CloudBlobs(address).list(count=1)

    if address:
        asyncio.run(look())


def _shown(address: str) -> str:
    """An address without its password."""
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else address


def _print_keys(as_json: bool) -> None:
    rows = describe(Config)
    for manifest in manifests().values():
        if missing := manifest.missing_extra():
            click.echo(f"not shown: {missing}", err=True)
        elif manifest.settings:
            rows += describe(resolve(manifest.settings), manifest.name)
    if as_json:
        names = ("key", "type", "default", "meaning")
        click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
        return
    for key, kind, default, meaning in rows:
        click.echo(f"{key} = {default}  ({kind})\n    {meaning}")
