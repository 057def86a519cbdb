"""Replaying access logs: which lines are read, and what the command prints."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mainspring.cli.limiter import limiter
from mainspring.primitives.limiter import BadKey, BadPolicy
from mainspring.primitives.limiter.replay import Hit, parse_line, replay_log

AT_S = 971_211_336  # 2000-10-10 13:55:36 -0700


def line(second: int, address: str = "203.0.113.9", path: str = "/a?q=1", user: str = "-") -> str:
    return f'{address} - {user} [10/Oct/2000:13:55:{second:02} -0700] "GET {path} HTTP/1.1" 200 2326 "-" "curl/8"'


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        (
            '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326',
            Hit(AT_S, "127.0.0.1", "frank", "/apache_pb.gif"),
        ),
        (line(36), Hit(AT_S, "203.0.113.9", "-", "/a")),
        (line(36, "2001:db8::1") + " 0.004", Hit(AT_S, "2001:db8::1", "-", "/a")),
        (
            '1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 400 0 "" "a \\" quote"',
            Hit(AT_S, "1.2.3.4", "-", "/a"),
        ),
        ('1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "-" 408 0', None),
        ('1.2.3.4 - - [10/Foo/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 1', None),
        ("[Sun Dec 04 04:47:44 2005] [notice] workerEnv.init() ok", None),
        ("\x00" * 100, None),
    ],
)
def test_lines_of_the_common_and_combined_formats_are_read(text: str, hit: Hit | None) -> None:
    assert parse_line(text) == hit


def test_lines_are_put_in_order_and_counted_by_key_and_minute() -> None:
    lines = [line(59 - n, path=f"/{n % 2}/x") for n in range(60)] + ["", "junk"]
    told = replay_log(lines, "log 5/30s", ("route",))
    assert (told.lines, told.unread, told.admitted, told.refused) == (61, 1, 20, 40)
    assert {(one.key, one.admitted, one.refused) for one in told.keys} == {("/0", 10, 20), ("/1", 10, 20)}
    assert [(one.at, one.refused) for one in told.minutes] == [("2000-10-10T20:55:00Z", 40)]


def test_a_hierarchy_needs_a_key_for_each_level() -> None:
    lines = [line(n, address=f"203.0.113.{n % 4}") for n in range(40)]
    told = replay_log(lines, "log 5/hour > log 12/hour", ("address", "everyone"))
    assert told.admitted == 12 and told.keys_refused == 4
    with pytest.raises(BadKey):
        replay_log(lines, "log 5/hour > log 12/hour")
    with pytest.raises(BadPolicy):
        replay_log(lines, "often")


def test_an_ipv6_customer_is_one_key() -> None:
    told = replay_log([line(n, address=f"2001:db8:1:2::{n}") for n in range(9)], "log 3/hour")
    assert told.refused == 6 and told.keys[0].key == "2001:db8:1:2::/64"


def test_the_command_prints_who_and_when_or_json(tmp_path: Path) -> None:
    log, limits = tmp_path / "access.log", tmp_path / "limits.txt"
    log.write_text("\n".join(line(n) for n in range(50)))
    limits.write_text("log 10/minute\n")
    run = CliRunner().invoke(limiter, ["replay", str(log), "--policy", str(limits)])
    assert run.exit_code == 0 and "50 requests, 40 refused (80.00%), of 1 keys" in run.output
    assert "203.0.113.9" in run.output and "2000-10-10T20:55:00Z" in run.output
    run = CliRunner().invoke(limiter, ["replay", str(log), "--policy", "log 10/minute", "--json"])
    assert json.loads(run.output)["refused"] == 40
    run = CliRunner().invoke(limiter, ["replay", str(log), "--policy", "often"])
    assert run.exit_code == 2 and "is not a limit" in run.output
