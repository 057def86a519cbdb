"""The client behind proxies is who the last trusted one saw, whatever the client itself claims."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.http import Request, Response, asgi
from mainspring.core.http.manners import Manners, MannersSettings
from mainspring.core.http.proxies import TrustedProxies
from tests.asgi import call

PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("address", "forwarded", "client"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.7, 10.9.9.9", "198.51.100.7"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("fd00::1", "2001:db8::5,fd00::2", "2001:db8::5"),
        ("10.0.0.1", "198.51.100.7, nonsense", "10.0.0.1"),
        ("10.0.0.1", ", ".join(["198.51.100.7"] + ["10.0.0.2"] * 200), "10.0.0.2"),
        ("", "198.51.100.7", ""),
    ],
)
def test_the_first_untrusted_hop_from_the_right_is_the_client(address: str, forwarded: str, client: str) -> None:
    assert PROXIES.client_of(address, forwarded) == client


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_header_makes_a_stranger_s_connection_somebody_else_s(forwarded: str) -> None:
    assert PROXIES.client_of("192.0.2.1", forwarded) == "192.0.2.1"


async def who(request: Request) -> Response:
    return Response.json([request.client[0], request.scheme])


async def test_requests_are_seen_through_configured_proxies_only() -> None:
    claims = {"x-forwarded-for": "198.51.100.7", "x-forwarded-proto": "https"}
    behind: Any = Manners(asgi(who), MannersSettings(trusted_proxies=("127.0.0.0/8",)))
    assert (await call(behind, "GET", "/", headers=claims)).json() == ["198.51.100.7", "https"]
    assert (await call(behind, "GET", "/", headers=claims, client=("192.0.2.1", 1))).json() == ["192.0.2.1", "http"]
    alone: Any = Manners(asgi(who))
    assert (await call(alone, "GET", "/", headers=claims)).json() == ["127.0.0.1", "http"]


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError):
        TrustedProxies(["10.0.0.0/99"])
