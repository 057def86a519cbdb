"""`mainspring simulate`: what it says of seeds that keep a promise, of one that breaks it, and of that one played again."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from mainspring.cli import simulate as command
from mainspring.core.manifest import manifests

from . import programs


class Told:
    """Stands in for the manifests: one protocol, which breaks at seed 7."""

    name = "unlucky"
    call = f"{programs.__name__}:fails_at_seven"


@pytest.fixture
def unlucky(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = type("Manifest", (), {"simulations": [Told], "missing_extra": staticmethod(lambda: None)})
    monkeypatch.setattr(command, "manifests", lambda: {"unlucky": manifest})


def simulate(*arguments: str) -> Any:
    return CliRunner().invoke(command.simulate, [*arguments])


def test_seeds_that_keep_the_promise_are_counted() -> None:
    done = simulate("ids", "--seeds", "2", "--workers", "1", "--json")
    assert (done.exit_code, json.loads(done.output)) == (0, {"protocol": "ids", "seeds": 2, "failures": []})


@pytest.mark.usefixtures("unlucky")
def test_a_seed_that_breaks_it_is_printed_with_how_to_play_it_again_and_then_does_the_same() -> None:
    done = simulate("unlucky", "--seeds", "100", "--workers", "1")
    assert done.exit_code == 1
    assert done.output.splitlines() == ["seed 7: seven is out of luck", "replay: mainspring simulate unlucky --seed 7"]
    again = simulate("unlucky", "--seed", "7")
    assert again.exit_code == 1 and "seven is out of luck" in str(again.exception)
    assert simulate("unlucky", "--seed", "8").output == "seed 8: no violation\n"
    assert json.loads(simulate("unlucky", "--first", "8", "--seeds", "9", "--workers", "1", "--json").output) == {
        "protocol": "unlucky",
        "seeds": 9,
        "failures": [],
    }


def test_every_protocol_that_a_manifest_names_can_be_played_and_another_is_refused_with_their_names() -> None:
    names = [one.name for manifest in manifests().values() for one in manifest.simulations]
    assert "ids" in names
    refused = simulate("idz")
    assert refused.exit_code == 2 and 'did you mean "ids"' in refused.output
    assert all(name in refused.output for name in names)
