"""The domains that links live on: each with its own pages for the base address, unknown codes and expired links.

There are few, so all are in memory; they are read again when one changes. The default domain always exists.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec
import sqlalchemy as sa

from mainspring.core.database import Duplicate, insert
from mainspring.core.ports import Connection, Database
from mainspring.core.problems import Conflict, Invalid
from mainspring.social.links.known import TOPIC, Change, encode_change
from mainspring.social.links.model import Link, UnknownDomain
from mainspring.social.links.settings import LinksSettings
from mainspring.social.links.tables import domain

_AUTHORITY = re.compile(r"(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
ALL = sa.select(domain).order_by(domain.c.id)
INSERT = sa.insert(domain)
PUT = insert(domain).values({column.name: sa.bindparam(column.name) for column in domain.c})
PUT = PUT.on_conflict_do_update(
    index_elements=["id"], set_={c.name: PUT.excluded[c.name] for c in domain.c if c.name != "id"}
)
NEXT_ID = sa.select(sa.func.coalesce(sa.func.max(domain.c.id), 0) + 1)


class DomainTaken(Conflict):
    type, title = "links/domain-taken", "This domain is there already"


class Domain(msgspec.Struct, frozen=True):
    """`host` is an authority as browsers send it (`example.org`, `127.0.0.1:8410`).

    Redirects: `base` of the bare domain, `invalid` of unknown codes, `not_found` of all other addresses, `expired`.
    """

    id: int
    host: str
    base_redirect: str | None = None
    not_found_redirect: str | None = None
    invalid_redirect: str | None = None
    expired_redirect: str | None = None
    strategy: str = "counter"
    alphabet: str = "base62"

    @property
    def folds_case(self) -> bool:
        return self.alphabet == "lower"


class Domains:
    """All domains of this deployment, by host and by id."""

    def __init__(self, database: Database, settings: LinksSettings) -> None:
        self._database = database
        parts = urlsplit(settings.public_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"links.public_url is not a web address: {settings.public_url!r}")
        self._scheme = parts.scheme
        self.default = Domain(0, parts.netloc.lower(), strategy=settings.strategy, alphabet=settings.alphabet)
        self._by_host: dict[str, Domain] = {self.default.host: self.default}
        self._by_id: dict[int, Domain] = {0: self.default}
        self.only_default = True

    @property
    def hosts(self) -> Mapping[str, Domain]:
        return self._by_host

    async def load(self) -> None:
        rows = await self._database.read(_all)
        domains = {row.id: row for row in rows}
        # What the configuration says of the default domain wins over its row.
        fixed = {name: getattr(self.default, name) for name in ("host", "strategy", "alphabet")}
        self.default = msgspec.structs.replace(domains.get(0, self.default), **fixed)
        self._by_id = {**domains, 0: self.default}
        self._by_host = {one.host: one for one in self._by_id.values()}
        self.only_default = len(self._by_id) == 1

    def serving(self, host: str) -> Domain:
        """The domain that a visitor with this `Host` sees; whoever comes by an unknown name sees the default one."""
        return self._by_host.get(host.lower(), self.default)

    def named(self, host: str | None) -> Domain:
        """The domain that a caller means; None is the default one. Raises `UnknownDomain`."""
        found = self.default if host is None else self._by_host.get(host.lower())
        if found is None:
            raise UnknownDomain(f"{host} is not set up here")
        return found

    def of(self, link: Link) -> Domain:
        return self._by_id.get(link.domain_id, self.default)

    def short_url(self, link: Link) -> str:
        return self.url(link.domain_id, link.code)

    def url(self, domain_id: int, path: str) -> str:
        """The address of a code, or of any other path, on a domain."""
        return f"{self._scheme}://{self._by_id.get(domain_id, self.default).host}/{path}"

    async def add(self, host: str, strategy: str = "counter", alphabet: str = "base62") -> Domain:
        """Sets up a new domain. Raises `DomainTaken`, and `Invalid` for what is no host."""
        host = host.lower()
        if not _AUTHORITY.fullmatch(host) or len(host) > 255:
            raise Invalid("This is not a host name", pointer="/host")
        if host in self._by_host:
            raise DomainTaken(f"{host} is set up already")
        try:
            await self._database.write(_add, host, strategy, alphabet)
        except Duplicate:
            raise DomainTaken(f"{host} is set up already") from None
        await self.load()
        return self._by_host[host]

    async def edit(self, host: str | None, changes: Mapping[str, str | None]) -> Domain:
        """Changes some of the redirects."""
        edited = msgspec.structs.replace(self.named(host), **changes)
        await self._database.write(_put, edited)
        await self.load()
        return edited


def _all(connection: Connection) -> list[Domain]:
    return [Domain(*row) for row in connection.execute(ALL)]


def _add(connection: Connection, host: str, strategy: str, alphabet: str) -> None:
    number = connection.execute(NEXT_ID).scalar()
    row = msgspec.structs.asdict(Domain(number, host, strategy=strategy, alphabet=alphabet))
    connection.execute(INSERT, row)
    connection.emit(TOPIC, encode_change(Change(number)))


def _put(connection: Connection, edited: Domain) -> None:
    connection.execute(PUT, msgspec.structs.asdict(edited))
    connection.emit(TOPIC, encode_change(Change(edited.id)))
