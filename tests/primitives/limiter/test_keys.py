"""Keys: whom a limit counts as one, and that no client chooses its own address."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.accounts.caller import ANONYMOUS, Caller
from mainspring.core.http import Request
from mainspring.primitives.limiter.keys import ClientAddress, Networks, account, header, network_of, route, token
from tests.primitives.limiter import histories as draw

Scope = dict[str, object]


def scope(client: str | None = "203.0.113.9", path: str = "/", **headers: str) -> Scope:
    return {
        "type": "http",
        "path": path,
        "client": (client, 4711) if client else None,
        "headers": [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()],
    }


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("", "unknown"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", "unknown"),
    ],
)
def test_ipv6_counts_by_its_64_and_ipv4_by_itself(address: str, key: str) -> None:
    assert network_of(address) == key


def test_a_forwarded_address_is_believed_only_from_a_trusted_proxy() -> None:
    key = ClientAddress(trusted=["10.0.0.0/8"])
    assert key(scope("203.0.113.9", x_forwarded_for="198.51.100.1")) == "203.0.113.9"
    assert key(scope("10.1.1.1", x_forwarded_for="198.51.100.1")) == "198.51.100.1"
    assert ClientAddress()(scope("10.1.1.1", x_forwarded_for="198.51.100.1")) == "10.1.1.1"
    assert ClientAddress()(scope(None)) == "unknown"


def test_what_stands_left_of_the_clients_own_hop_is_only_what_it_claims() -> None:
    key = ClientAddress(trusted=["10.0.0.0/8"])
    claimed = "127.0.0.1, 10.9.9.9, 198.51.100.1, 10.2.2.2"
    assert key(scope("10.1.1.1", x_forwarded_for=claimed)) == "198.51.100.1"
    assert key(scope("10.1.1.1", x_forwarded_for="junk, 10.2.2.2")) == "10.2.2.2"


def test_a_header_with_200_hops_is_read_as_far_as_it_is_trusted_and_no_further() -> None:
    key = ClientAddress(trusted=["10.0.0.0/8"])
    hops = ", ".join(["192.0.2.1"] * 198 + ["198.51.100.7", "10.3.3.3"])
    assert key(scope("10.1.1.1", x_forwarded_for=hops)) == "198.51.100.7"
    all_ours = ", ".join(["192.0.2.1"] + ["10.3.3.3"] * 199)
    assert key(scope("10.1.1.1", x_forwarded_for=all_ours)) == "10.3.3.3"


@draw.steady
@given(
    st.lists(st.ip_addresses(v=4), max_size=6),
    st.ip_addresses(v=4).filter(lambda one: one not in ipaddress.ip_network("10.0.0.0/8")),
    st.integers(0, 5),
)
def test_no_claim_moves_a_client_to_another_key(
    claims: list[ipaddress.IPv4Address], client: ipaddress.IPv4Address, proxies: int
) -> None:
    hops = [*map(str, claims), str(client), *(f"10.0.0.{n}" for n in range(proxies))]
    key = ClientAddress(trusted=["10.0.0.0/8"])
    assert key(scope("10.1.1.1", x_forwarded_for=", ".join(hops))) == str(client)


def test_many_addresses_do_not_fill_the_memory() -> None:
    key = ClientAddress()
    for number in range(70_000):
        key(scope(str(ipaddress.ip_address(number))))
    assert len(key._known) <= 65_536


@draw.steady
@given(st.lists(st.ip_addresses().map(str), max_size=5), st.ip_addresses(), st.data())
def test_a_set_of_networks_holds_what_the_standard_library_says(
    addresses: list[str], asked: ipaddress.IPv4Address | ipaddress.IPv6Address, data: st.DataObject
) -> None:
    cidrs = [f"{one}/{data.draw(st.integers(0, 128 if ':' in one else 32))}" for one in addresses]
    networks = [ipaddress.ip_network(cidr, strict=False) for cidr in cidrs]
    plain = getattr(asked, "ipv4_mapped", None) or asked
    assert (str(asked) in Networks(cidrs)) == any(plain in network for network in networks)
    assert "no address" not in Networks(cidrs)


def test_a_list_with_something_else_in_it_is_refused() -> None:
    with pytest.raises(ValueError):
        Networks(["10.0.0.0/33"])
    with pytest.raises(ValueError):
        ClientAddress(trusted=["everyone"])


async def test_keys_by_account_token_header_and_route() -> None:
    ann = Caller(7, "ann", "token", frozenset(), token_id=12)

    async def as_ann(_: Request) -> Caller:
        return ann

    async def as_nobody(_: Request) -> Caller:
        return ANONYMOUS

    address = ClientAddress()
    assert await account(as_ann, address)(scope()) == "account:7"  # type: ignore[misc]
    assert await account(as_nobody, address)(scope()) == "203.0.113.9"  # type: ignore[misc]
    assert await token(as_ann, address)(scope()) == "token:12"  # type: ignore[misc]
    assert await token(as_nobody, account(as_nobody, address))(scope()) == "203.0.113.9"  # type: ignore[misc]
    assert header("X-Api-Key")(scope(x_api_key="secret")) == "x-api-key:secret"
    assert header("X-Api-Key")(scope()) is None
    assert header("X-Api-Key", address)(scope()) == "203.0.113.9"
    by_route = route(["/users/{id}", "/users/{id}/photos", "/"], address)
    assert by_route(scope(path="/users/7")) == "/users/{id} 203.0.113.9"
    assert by_route(scope(path="/users/7/photos/")) == "/users/{id}/photos 203.0.113.9"
    assert by_route(scope(path="/")) == "/ 203.0.113.9"
    assert by_route(scope(path="/random/1/2/3")) == by_route(scope(path="/other")) == "* 203.0.113.9"
    assert await route(["/"], account(as_ann, address))(scope()) == "/ account:7"  # type: ignore[misc]
    assert route(["/"], lambda _: ["user", "tenant"])(scope()) == ["/ user", "tenant"]
    assert route(["/"], lambda _: None)(scope()) is None
