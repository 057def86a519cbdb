"""Services are built by type, once, what they need first, and stopped in reverse."""

import asyncio

import pytest

from mainspring.core.wiring import Missing, Wiring


class Engine:
    built = 0

    def __init__(self) -> None:
        Engine.built += 1

    async def start(self) -> None:
        await asyncio.sleep(0)


class Car:
    def __init__(self, engine: Engine, colour: str = "black", trailer: "Trailer | None" = None) -> None:
        self.engine, self.colour, self.trailer = engine, colour, trailer
        self.stopped: list[str] = []


class Trailer:
    def __init__(self, car: Car) -> None:
        self.car = car


async def test_a_hundred_first_users_get_the_same_started_service() -> None:
    wiring = Wiring()
    wiring.offer(Engine)
    wiring.offer(Car)
    Engine.built = 0
    cars = await asyncio.gather(*(wiring.get(Car) for _ in range(100)))
    assert Engine.built == 1
    assert all(car is cars[0] for car in cars)
    assert cars[0].colour == "black"


async def test_a_given_value_wins_over_a_recipe() -> None:
    wiring = Wiring()
    mine = Engine()
    wiring.give(Engine, mine)
    wiring.offer(Engine)
    wiring.offer(Car)
    assert (await wiring.get(Car)).engine is mine


async def test_what_nothing_provides_is_named_with_who_needs_it() -> None:
    wiring = Wiring()
    wiring.offer(Car)
    with pytest.raises(Missing, match="Car needs Engine"):
        await wiring.get(Car)


async def test_a_circle_is_an_error_and_not_a_hang() -> None:
    wiring = Wiring()
    wiring.offer(Engine)
    wiring.offer(Car)
    wiring.offer(Trailer)
    with pytest.raises(Missing, match="circle: Car -> Trailer -> Car"):
        await asyncio.wait_for(wiring.get(Car), 5)


async def test_a_service_whose_start_failed_is_built_again() -> None:
    class Moody:
        tries = 0

        async def start(self) -> None:
            Moody.tries += 1
            if Moody.tries == 1:
                raise OSError("not yet")

    wiring = Wiring()
    wiring.offer(Moody)
    with pytest.raises(OSError, match="not yet"):
        await wiring.get(Moody)
    assert isinstance(await wiring.get(Moody), Moody)


async def test_everything_is_stopped_in_reverse_even_where_one_stop_fails() -> None:
    stopped: list[str] = []

    class First:
        async def stop(self) -> None:
            stopped.append("first")

    class Second:
        def __init__(self, first: First) -> None: ...

        async def stop(self) -> None:
            stopped.append("second")
            raise OSError("stuck")

    wiring = Wiring()
    wiring.offer(First)
    wiring.offer(Second, Second)
    # The types are local, so their hints are given as a recipe that closes over them.
    Second.__init__.__annotations__["first"] = First
    await wiring.get(Second)
    with pytest.raises(OSError, match="stuck"):
        await wiring.stop()
    assert stopped == ["second", "first"]


def make_engine() -> Engine:
    return Engine()


async def test_a_function_offered_alone_makes_the_type_that_it_says_it_returns() -> None:
    wiring = Wiring()
    assert wiring.offer(make_engine) is Engine
    wiring.offer(Car)
    assert (await wiring.get(Car)).engine is await wiring.get(Engine)


async def test_what_is_found_elsewhere_is_started_and_stopped_there() -> None:
    happened: list[str] = []

    class Engine:
        async def start(self) -> None:
            happened.append("start")

        async def stop(self) -> None:
            happened.append("stop")

    class Port: ...

    wiring = Wiring()
    wiring.offer(Engine)
    wiring.find(Port, lambda: wiring.get(Engine))
    assert await wiring.get(Port) is await wiring.get(Engine)
    await wiring.stop()
    assert happened == ["start", "stop"]
