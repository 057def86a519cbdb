"""Who a client is, and what it may do: credentials, certificates and access control over the cluster's state."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from mainspring.storage.log.kafka.acls import Acl, Authorizer
from mainspring.storage.log.kafka.cluster_state import ClusterFile, ClusterState
from mainspring.storage.log.kafka.scram import Credential
from mainspring.storage.log.kafka.session import Session
from mainspring.storage.log.kafka.settings import KafkaSettings


class Token(NamedTuple):
    """Whose token it is, when it ends (microseconds UTC; None for never), and the operations that it does not allow,
    whatever the access lists say."""

    name: str
    expires_us: int | None = None
    denied: frozenset[int] = frozenset()


FindToken = Callable[[str], Awaitable[Token | None]]
_SHORT = {
    "commonName": "CN",
    "organizationalUnitName": "OU",
    "organizationName": "O",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "countryName": "C",
}


class Security:
    """`find_token` looks up a bearer token of the house's accounts; without it OAUTHBEARER is not offered."""

    def __init__(self, file: ClusterFile, settings: KafkaSettings, find_token: FindToken | None = None) -> None:
        self._settings = settings
        self.find_token = find_token
        self._authorizer = Authorizer((), (), open_by_default=True)
        self._is_open = False
        self._users: dict[str, dict[str, Credential]] = {}
        file.watch(self._renew)

    @property
    def mechanisms(self) -> list[str]:
        offered = self._settings.sasl_mechanisms
        return [one for one in offered if one != "OAUTHBEARER" or self.find_token is not None]

    @property
    def acls(self) -> list[Acl]:
        return self._authorizer.acls

    def _renew(self, state: ClusterState) -> None:
        self._users = state.users
        self._is_open = not state.acls and self._settings.allow_everyone_if_no_acl_found
        self._authorizer = Authorizer(
            state.acls, self._settings.super_users, open_by_default=self._settings.allow_everyone_if_no_acl_found
        )

    def greet(self, session: Session, transport: Any) -> None:
        """Takes a client's certificate, where TLS asked for one, for who it is."""
        certificate = transport.get_extra_info("peercert")
        if certificate:
            session.principal = f"User:{distinguished_name(certificate)}"
            session.authenticated = True

    def credential(self, mechanism: str, user: str) -> Credential | None:
        return self._users.get(user, {}).get(mechanism)

    def is_open(self, session: Session) -> bool:
        """Whether nothing at all restricts this client."""
        return self._is_open and not session.denied

    def allows(self, session: Session, operation: int, resource: int, name: str) -> bool:
        if operation in session.denied:
            return False
        return self._authorizer.allows(session.principal, session.address, operation, resource, name)

    def allows_somewhere(self, session: Session, operation: int, resource: int) -> bool:
        if operation in session.denied:
            return False
        return self._authorizer.allows_somewhere(session.principal, session.address, operation, resource)


def distinguished_name(certificate: dict[str, Any]) -> str:
    """The subject as RFC 2253 writes it, most specific first: `CN=alice,O=Example`."""
    parts = [
        f"{_SHORT.get(key, key)}={_escaped(value)}" for group in certificate.get("subject", ()) for key, value in group
    ]
    return ",".join(reversed(parts))


def _escaped(value: str) -> str:
    return "".join(f"\\{letter}" if letter in ',+"\\<>;' else letter for letter in value)
