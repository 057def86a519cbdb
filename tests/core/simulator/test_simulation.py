"""The simulated world: time, clocks, messages and crashes do what a program must reckon with, the same for every replay."""

import os
import subprocess
import sys
from typing import Any

import pytest

from mainspring.core.simulator import START_NS, Faults, Node, Simulation, Violation, campaign

from .programs import Journal, Quiet, Recorder, chatter, journal, journal_without_sync


def pair(faults: Faults | None = None, seed: int = 1) -> tuple[Simulation, Node, Node]:
    simulation = Simulation(seed)
    simulation.network.faults = faults or Faults()
    return simulation, simulation.node("a", Recorder), simulation.node("b", Recorder)


def heard(node: Node) -> list[Any]:
    assert isinstance(node.program, Recorder)
    return [message for _, _, message in node.program.heard]


def test_events_happen_in_the_order_of_their_times_and_equal_ones_as_they_were_set() -> None:
    simulation = Simulation(1)
    seen: list[object] = []
    simulation.after(2, seen.append, "late")
    simulation.after(1, seen.append, "first")
    simulation.after(1, seen.append, "second")
    simulation.at(-5, seen.append, "past")
    cancelled = simulation.after(1, seen.append, "cancelled")
    cancelled.cancel()
    simulation.run(1.5)
    assert seen == ["past", "first", "second"]
    assert simulation.now_ns == 1_500_000_000
    simulation.run(1)
    assert seen[-1] == "late"


def test_a_nodes_clock_is_off_and_runs_at_its_own_rate() -> None:
    simulation = Simulation(1)
    node = simulation.node("fast", Quiet, offset_s=-10, rate=1.5)
    fired: list[int] = []
    node.after(3, lambda: fired.append(simulation.now_ns))
    simulation.run(4)
    assert node.clock.wall_ns() == START_NS - 10_000_000_000 + 6_000_000_000
    assert node.clock.mono_ns() == 6_000_000_000
    assert fired == [2_000_000_000]
    node.clock.step(-3_600)
    assert node.clock.wall_ns() == START_NS - 3_604_000_000_000
    assert node.clock.mono_ns() == 6_000_000_000


def test_messages_arrive_after_a_delay_and_overtake_each_other() -> None:
    simulation, a, b = pair(Faults(delay_s_min=0.01, delay_s_max=0.05))
    for number in range(200):
        a.send("b", number)
    simulation.run(1)
    assert sorted(heard(b)) == list(range(200)) != heard(b)
    assert isinstance(b.program, Recorder)
    assert all(0.01 <= at / 1e9 <= 0.05 for at, _, _ in b.program.heard)


def test_messages_are_lost_doubled_and_late_as_often_as_the_faults_say() -> None:
    simulation, a, b = pair(Faults(drop=0.2, duplicate=0.3, late=0.1, late_s=20))
    for number in range(2_000):
        a.send("b", number)
    simulation.run(1)
    on_time = len(heard(b))
    simulation.run(30)
    everything = heard(b)
    assert 1_500 < len(set(everything)) < 1_700
    assert 1.2 < len(everything) / len(set(everything)) < 1.4
    assert 0.8 < on_time / len(everything) < 0.97


def test_a_cut_is_one_way_and_loses_what_is_on_its_way() -> None:
    simulation, a, b = pair()
    a.send("b", "on its way")
    simulation.network.cut("a", "b")
    a.send("b", "cut")
    b.send("a", "heard")
    simulation.run(1)
    assert (heard(a), heard(b)) == (["heard"], [])
    simulation.network.heal("a", "b")
    a.send("b", "again")
    simulation.run(1)
    assert heard(b) == ["again"]
    simulation.network.isolate("b")
    a.send("b", "no")
    b.send("a", "no")
    simulation.run(1)
    simulation.network.heal_all()
    assert (heard(a), heard(b)) == (["heard"], ["again"])
    assert simulation.network.lost == 4


def test_a_message_that_could_be_changed_on_its_way_is_refused() -> None:
    _, a, _ = pair()
    with pytest.raises(TypeError):
        a.send("b", ["a list"])


def test_a_paused_node_hears_and_does_everything_later_while_its_clock_goes_on() -> None:
    simulation, a, b = pair()
    fired: list[int] = []
    b.after(1, lambda: fired.append(b.clock.mono_ns()))
    simulation.after(0.5, b.pause, 60)
    simulation.after(2, a.send, "b", "hello")
    simulation.run(60)
    assert (heard(b), fired) == ([], [])
    simulation.run(1)
    assert (heard(b), fired) == (["hello"], [60_500_000_000])


def test_a_crash_forgets_memory_and_timers_and_a_start_boots_anew() -> None:
    simulation, a, b = pair()
    fired: list[str] = []
    b.after(2, fired.append, "of the first life")
    a.send("b", "before")
    simulation.run(1)
    before = b.program
    b.pause(100)
    b.crash()
    b.crash()
    a.send("b", "while down")
    simulation.run(1)
    b.start()
    b.start()
    assert (b.starts, b.up, b.paused) == (2, True, False)
    a.send("b", "after")
    simulation.run(200)
    assert b.program is not before and heard(b) == ["after"] and fired == []


def test_a_message_to_nobody_is_lost() -> None:
    simulation, a, _ = pair()
    a.send("nobody", 1)
    simulation.run(1)
    assert simulation.network.lost == 1


def test_a_violation_says_seed_instant_and_last_events_and_so_does_a_raising_program() -> None:
    simulation = Simulation(42)
    simulation.note("something happened")
    simulation.after(1.5, lambda: simulation.check(False, "two leaders"))
    with pytest.raises(Violation) as caught:
        simulation.run(2)
    assert "seed 42, 1.500000 s: two leaders" in str(caught.value)
    assert "something happened" in str(caught.value)
    simulation = Simulation(43)
    simulation.after(1, lambda: 1 // 0)
    with pytest.raises(Violation, match=r"seed 43.*ZeroDivisionError"):
        simulation.run(2)


def test_a_seed_replays_event_for_event_in_any_process() -> None:
    digests = {chatter(7), chatter(7)}
    for hash_seed in ("0", "1", "2"):
        answer = subprocess.run(
            [sys.executable, "-c", "from tests.core.simulator.programs import chatter; print(chatter(7))"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(int(answer.stdout))
    assert len(digests) == 1
    assert chatter(8) not in digests


@pytest.mark.parametrize("seed", range(10))
def test_a_journal_that_syncs_keeps_its_promise_through_every_crash(seed: int) -> None:
    simulation = journal(seed)
    program = simulation.nodes["writer"].program
    assert simulation.nodes["writer"].starts > 5
    assert program is None or (isinstance(program, Journal) and len(program.promised) > 100)


def test_a_journal_that_does_not_sync_is_caught_and_its_seed_replays() -> None:
    failure = campaign(journal_without_sync, range(100), 1).failures[0]
    with pytest.raises(Violation) as again:
        journal_without_sync(failure.seed)
    assert str(again.value) == failure.message


def test_what_makes_no_sense_is_refused() -> None:
    simulation = Simulation(1)
    simulation.node("a", Quiet)
    for make in (
        lambda: simulation.node("a", Quiet),
        lambda: simulation.node("b", Quiet, rate=0.0),
        lambda: Faults(drop=1.5),
        lambda: Faults(delay_s_min=2),
    ):
        with pytest.raises(ValueError):
            make()


async def test_a_simulated_program_cannot_wait() -> None:
    with pytest.raises(RuntimeError):
        await Simulation(1).node("a", Quiet).clock.sleep(1)
