"""Every way in from the network: the main port with its front door, and the systems' own listeners."""

import logging
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

from .accounts import Accounts
from .accounts.session import session_application
from .clock import Clock
from .config import Config
from .descriptions import Descriptions
from .door import Check, Door, lazy_application
from .http import access
from .http.manners import CONTENT_SECURITY_POLICY, Manners, MannersSettings
from .http.request import Application, Receive, Request, Scope, Send
from .http.response import Response
from .http.router import Router, asgi
from .lazy import Lazy
from .listeners import Listener, Listeners, is_loopback
from .manifest import ListenerSpec, Manifest, resolve
from .ports import Database
from .problems import NotFound
from .systems import Systems
from .telemetry import Metrics
from .tls import Tls
from .wiring import Wiring

log = logging.getLogger(__name__)
MAIN = "main"
OWN_ROUTES = {"accounts": "mainspring.core.accounts.http:routes", "keys": "mainspring.core.keys.http:routes"}
GRACE_S = 10.0
NOT_BUILT = "It could not be built; the server's log and `mainspring systems` say why"
"""What anybody may read of an error that was raised by code of ours or of a library, and may name anything."""


class Doors:
    """Opened by `open`, once; `address` is the main port's."""

    def __init__(
        self,
        config: Config,
        systems: Systems,
        wiring: Wiring,
        accounts: Accounts,
        database: Database,
        metrics: Metrics,
        clock: Clock,
        console: Application | None,
    ) -> None:
        self._config = config
        self._systems = systems
        self._wiring = wiring
        self._accounts = accounts
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._console = console or asgi(_nothing_here)
        clients = _path(config.tls_clients) if config.tls_clients else None
        tls = Tls(_path(config.tls_certificate), _path(config.tls_key), clients) if config.tls_certificate else None
        self._listeners = Listeners(tls=tls, behind_tls=config.behind_tls, plain=config.plain)
        wiring.give(Listeners, self._listeners)
        self._applications = Lazy(self._application)
        self._own = Lazy(self._listener_application)
        self._specs = {spec.name: (one, spec) for one in systems.manifests.values() for spec in one.listeners}
        self._door: Door | None = None

    @property
    def address(self) -> str:
        return self._listeners.url(MAIN)

    def listeners(self) -> dict[str, list[dict[str, str]]]:
        """The rows of the table by system."""
        rows: dict[str, list[dict[str, str]]] = {name: [] for name in self._systems.manifests}
        for row in self._listeners.table():
            if row.system:
                spec = self._specs[row.name][1]
                shown = {"name": row.name, "protocol": spec.speaks, "state": row.state, "reason": row.reason}
                rows[row.system].append({**shown, "address": spec.url(row.address)})
        return rows

    async def open(self, tell: Any) -> None:
        """Binds and serves everything; `tell` gives what `/-/systems` answers. Raises `CannotListen` and `TlsError`."""
        config, table = self._config, self._listeners
        if unknown := sorted(set(config.ports) - set(self._specs)):
            log.warning("there is no listener %s among these systems", ", ".join(unknown))
        main = Listener(
            name=MAIN, protocol="http", host=config.host, port=config.port, authenticated=True, required=True
        )
        table.add(main)
        for name, (manifest, spec) in self._specs.items():
            table.add(
                Listener(
                    name=name,
                    protocol=spec.protocol,
                    host=config.host,
                    port=config.ports.get(name, spec.port),
                    system=manifest.name,
                    public=spec.public,
                    authenticated=self._asks_for_credentials(manifest, spec),
                    required=name in config.ports,
                )
            )
        table.bind()
        self._door = Door(
            {*self._systems.manifests, *OWN_ROUTES},
            self._applications,
            fallback=self._console,
            metrics=self._metrics.scrape,
            checks={"database": self._database_check},
            system_checks=self._system_checks,
        )
        settings = MannersSettings(
            hosts=tuple(config.hosts),
            origins=tuple(config.origins),
            body_bytes_max=config.body_bytes_max,
            trusted_proxies=tuple(config.trusted_proxies),
            content_security_policy=f"{CONTENT_SECURITY_POLICY}; connect-src 'self' {' '.join(self._origins())}",
        )
        loopback = is_loopback(main.address.rpartition(":")[0].strip("[]"))
        front = _front(self._door, self._pages(tell))
        await table.open_http(MAIN, self._manners(front, settings, loopback=loopback))
        for row in table.table():
            if row.state == "open" and row.system:
                await self._open_own(row)

    def _origins(self) -> list[str]:
        """Where systems answer HTTP beside the main port: the console's pages may send there what is large."""
        open_here = [(row.name, row.address) for row in self._listeners.table() if row.system and row.address]
        urls = [self._specs[name][1].url(address) for name, address in open_here]
        urls += [str(section.get("public_url", "")) for section in self._config.sections.values()]
        parts = [urlsplit(url) for url in urls]
        return sorted(
            {f"{one.scheme}://{one.netloc}" for one in parts if one.scheme in ("http", "https") and one.netloc}
        )

    def _asks_for_credentials(self, manifest: Manifest, spec: ListenerSpec) -> bool:
        # On loopback nobody wants to know, and reading settings imports them.
        if not spec.authenticated_by or is_loopback(self._config.host):
            return spec.authenticated
        return bool(attrgetter(spec.authenticated_by)(self._config.settings(manifest)))

    async def close(self) -> None:
        if self._door is not None:
            self._door.drain()
            if self._config.drain_s:
                await self._clock.sleep(self._config.drain_s)
        await self._listeners.close(GRACE_S)
        await self._applications.stop()
        await self._own.stop()

    async def _open_own(self, row: Listener) -> None:
        if row.protocol == "tcp":
            await self._listeners.open_tcp(row.name, self._own)
        elif row.protocol == "udp":
            await self._listeners.open_udp(row.name, self._own)
        else:
            # Whose names a system answers to is its own to say: strangers' domains point at its listener.
            settings = MannersSettings(
                body_bytes_max=self._config.body_bytes_max, trusted_proxies=tuple(self._config.trusted_proxies)
            )
            own = lazy_application(self._own, row.name)
            if self._specs[row.name][1].manners:
                own = self._manners(own, settings, loopback=False)
            await self._listeners.open_http(row.name, own)

    def _manners(self, app: Application, settings: MannersSettings, *, loopback: bool) -> Manners:
        return Manners(
            app,
            settings,
            loopback=loopback,
            access=access.note,
            access_status_min=access.status_min(),
            clock=self._clock,
        )

    async def _application(self, name: str) -> Application:
        """A system's JSON API."""
        options: dict[str, Any] = {"metrics": self._metrics, "clock": self._clock}
        reference = OWN_ROUTES.get(name) or (await self._systems.get(name)).routes
        if not reference:
            raise NotFound(f"{name} has no JSON API")
        routes = resolve(reference)
        services = await self._systems.services(routes.needs())
        application: Application = routes.application(services, self._accounts.authenticate, **options)
        return application

    async def _listener_application(self, name: str) -> Any:
        """What answers on a system's own listener."""
        manifest, spec = self._specs[name]
        await self._systems.get(manifest.name)
        return await self._wiring.call(resolve(spec.application))

    def _pages(self, tell: Any) -> dict[str, Application]:
        async def systems(_request: Request) -> Response:
            told = [{**one, "reason": NOT_BUILT} if one["state"] == "failed" else one for one in tell()]
            return Response.json({"systems": told}, headers=[(b"cache-control", b"no-store")])

        router = Router()
        router.add("GET", "/-/systems", systems)
        secure = self._config.behind_tls
        described = Descriptions(self._systems.manifests.values(), OWN_ROUTES)
        return {
            "/-/systems": router.application(),
            "/-/session": session_application(self._accounts, secure=secure),
            **described.pages(),
        }

    async def _database_check(self) -> str | None:
        return self._database.unready()

    def _system_checks(self, name: str) -> dict[str, Check]:
        async def check() -> str | None:
            if name not in self._systems.manifests:
                return None
            state, reason = self._systems.state(name)
            if state in ("failed", "missing"):
                return NOT_BUILT if state == "failed" else reason
            return await self._systems.unready(name) if state == "running" else None

        return {name: check}


def _front(door: Door, pages: dict[str, Application]) -> Application:
    """The few addresses that are the console's own, then the door."""

    def front(scope: Scope, receive: Receive, send: Send) -> Any:
        return (pages.get(scope["path"]) or door)(scope, receive, send)

    return front


async def _nothing_here(_request: Request) -> Response:
    raise NotFound


def _path(text: str) -> Any:
    from pathlib import Path

    return Path(text)
