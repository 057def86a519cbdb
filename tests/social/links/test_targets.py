"""Targets: nothing is injected, nothing loops, nothing private is reached, and what was written is kept."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.problems import Problem, Unavailable
from mainspring.social.links import targets
from mainspring.social.links.targets import BlockedDomains, checked, with_query, with_utm

WEB = ("http", "https")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/a/b?c=d&e=%20f#g",
        "http://user:secret@example.com:8080/",
        "https://[2606:4700::1111]:443/x",
        "https://example.com/%2e%2e/;p=1,2?q[]=1",
    ],
)
def test_a_normal_address_stays_as_it_was_written(url: str) -> None:
    assert checked(url, schemes=WEB) == url


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("HTTPS://EXAMPLE.com/A", "https://example.com/A"),
        ("https://bücher.example/ä?ö=ü#ß", "https://xn--bcher-kva.example/%C3%A4?%C3%B6=%C3%BC#%C3%9F"),
        ("https://example.com/a b|c", "https://example.com/a%20b%7Cc"),
        ("  https://example.com/ ", "https://example.com/"),
    ],
)
def test_other_addresses_become_ascii(url: str, target: str) -> None:
    assert checked(url, schemes=WEB) == target


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "JaVaScRiPt:x", "example.com", "//x.org", ""],
)
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(targets.SchemeNotAllowed) as caught:
        checked(url, schemes=WEB)
    assert caught.value.body()["type"] == "/problems/links/scheme-not-allowed"


def test_more_schemes_can_be_allowed() -> None:
    assert (
        checked("mailto:someone@example.com?subject=ä", schemes=("mailto",))
        == "mailto:someone@example.com?subject=%C3%A4"
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/\r\nSet-Cookie: a=b", "https://example.com/\x00", "https://exam\tple.com", "https://x.org\u2028y",
        "https:\\\\example.com", "https://", "https:///path", "https://exa mple.com", "https://-a.example", "https://a..b.example",
        "https://example.com:99999/", "https://[::1", "https://" + "a" * 64 + ".example", "https://example.com/" + "x" * 8192,
        "https://example.com/\ud800",
    ],
)  # fmt: skip
def test_malformed_addresses_are_refused(url: str) -> None:
    with pytest.raises((targets.InvalidTarget, targets.PrivateTarget)):
        checked(url, schemes=WEB)


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_is_accepted_can_stand_in_a_header(host: str, rest: str) -> None:
    for url in (f"https://{host}/{rest}", f"https://example.com{rest}", rest, f"http:{rest}"):
        try:
            target = checked(url, schemes=WEB)
        except (targets.InvalidTarget, targets.SchemeNotAllowed, targets.PrivateTarget):
            continue
        assert target.isascii() and target.isprintable() and " " not in target
        assert urlsplit(target).scheme in WEB and urlsplit(target).hostname
        assert checked(target, schemes=WEB) == target


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "[::1]", "[fd00::1]", "[::ffff:10.0.0.1]", "0.0.0.0",
     "localhost", "x.localhost", "printer.local", "intranet", "db.internal", "LOCALHOST",
     "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "10.0.0.1."],
)  # fmt: skip
def test_private_places_are_refused_however_they_are_spelt(host: str) -> None:
    with pytest.raises(targets.PrivateTarget):
        checked(f"http://{host}/", schemes=WEB)
    assert checked(f"http://{host}/", schemes=WEB, private=True)


def test_our_own_domains_are_refused() -> None:
    own = {"short.example", "127.0.0.1:8410", "[::1]:8410"}
    for url in (
        "https://short.example/x",
        "http://SHORT.example:80/x",
        "http://127.0.0.1:8410/x",
        "https://short.example./x",
        "https://user@short.example.:443/x",
        "http://[::1]:8410/x",
    ):
        with pytest.raises(targets.WouldLoop):
            checked(url, schemes=WEB, own=own, private=True)
    assert checked("http://127.0.0.1:9000/x", schemes=WEB, own=own, private=True)


def test_queries_are_added_before_the_fragment() -> None:
    assert with_query("https://x/#f", "a=1") == "https://x/?a=1#f"
    assert with_query("https://x/?b=2", "a=1") == "https://x/?b=2&a=1"
    assert with_query("https://x/", "") == "https://x/"
    assert with_utm("https://x/", {"source": "news letter", "term": ""}) == "https://x/?utm_source=news+letter"


async def test_blocked_domains_cover_what_is_below_them_and_never_a_public_suffix(tmp_path: Path) -> None:
    file = tmp_path / "blocked.txt"
    file.write_text("evil.example  # a comment\nco.uk\nbad.co.uk\n\nBÜCHER.example\n")
    blocked = BlockedDomains(file)
    for url in (
        "https://evil.example/",
        "https://a.b.evil.example/x",
        "https://www.bad.co.uk/",
        "https://xn--bcher-kva.example/",
    ):
        with pytest.raises(targets.BlockedTarget):
            await blocked.refuse(url)
    for url in ("https://notevil.example/", "https://good.co.uk/", "https://example/"):
        await blocked.refuse(url)


async def test_who_comes_while_the_file_is_read_for_the_first_time_waits_for_it(tmp_path: Path) -> None:
    file = tmp_path / "blocked.txt"
    file.write_text("evil.example\n")
    blocked = BlockedDomains(file)
    answers = await asyncio.gather(*(blocked.refuse("https://evil.example/") for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in answers] == [targets.BlockedTarget] * 5


async def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "blocked.txt"
    file.write_text("evil.example\n")
    blocked = BlockedDomains(file, recheck_s=0)
    await blocked.refuse("https://worse.example/")
    file.write_text("evil.example\nworse.example\n")
    with pytest.raises(targets.BlockedTarget):
        await blocked.refuse("https://worse.example/")


async def test_a_file_that_goes_away_leaves_the_list_and_one_that_never_was_lets_nothing_through(
    tmp_path: Path,
) -> None:
    file = tmp_path / "blocked.txt"
    blocked = BlockedDomains(file, recheck_s=0)
    with pytest.raises(Unavailable):
        await blocked.refuse("https://good.example/")
    file.write_text("evil.example\n\u2603\u2603 what is this?\n")
    await blocked.refuse("https://good.example/")
    file.unlink()
    await blocked.refuse("https://good.example/")
    with pytest.raises(targets.BlockedTarget):
        await blocked.refuse("https://evil.example/")


async def test_a_million_names_take_eight_bytes_each(tmp_path: Path) -> None:
    file = tmp_path / "blocked.txt"
    file.write_text("".join(f"d{number}.example\n" for number in range(50_000)))
    blocked = BlockedDomains(file)
    with pytest.raises(targets.BlockedTarget):
        await blocked.refuse("https://d49999.example/")
    assert len(blocked) == 50_000 and blocked.size_bytes <= 9 * 50_000


@given(
    st.sampled_from(["http", "https", "ftp"]),
    st.sampled_from(
        ["example.com", "a.b-c.example.org", "go.example", "router.lan", "-x.org", "x.1", "0x7f.1", "a" * 64]
    ),
    st.text(alphabet="/?#[]@:%20aZ\\ ä.-_~\n", max_size=12),
    st.booleans(),
)
def test_common_addresses_are_judged_like_all_others(scheme: str, host: str, tail: str, private: bool) -> None:
    url, own = f"{scheme}://{host}{tail}", ("go.example",)

    def told(check: Callable[[], str]) -> str:
        try:
            return check()
        except Problem as problem:
            return problem.type

    wanted = told(lambda: targets.examined(url.strip(" "), WEB, own, private))
    assert told(lambda: checked(url, schemes=WEB, own=own, private=private)) == wanted
