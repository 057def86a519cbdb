"""Services built by the types of their constructors: each once, on demand, what it needs first.

A parameter annotated with an offered type gets that service; one with a default and no offer keeps its default. A
service with `start()` is started before anyone gets it, one with `stop()` is stopped in reverse order.
"""

import asyncio
import inspect
import typing
from collections.abc import Callable
from typing import Any


class Missing(LookupError):
    """Something needs a type that nothing provides, or services need each other in a circle."""


class Wiring:
    def __init__(self) -> None:
        self._made: dict[Any, Any] = {}
        self._recipes: dict[Any, Callable[..., Any]] = {}
        self._found: set[Any] = set()
        self._started: list[Any] = []
        self._locks: dict[Any, asyncio.Lock] = {}

    def give(self, kind: Any, value: Any) -> None:
        """Provides a finished value: a port's adapter, a test's double."""
        self._made[kind] = value

    def offer(self, kind: Any, recipe: Callable[..., Any] | None = None) -> Any:
        """Provides `kind` by calling `recipe` (by default `kind` itself) the first time that it is needed.

        A function offered alone is the recipe for the type that it is annotated to return. Gives the type provided.
        """
        if recipe is None and inspect.isfunction(kind):
            kind, recipe = typing.get_type_hints(kind)["return"], kind
        if kind not in self._made:
            self._recipes[kind] = recipe or kind
        return kind

    def find(self, kind: Any, recipe: Callable[..., Any]) -> None:
        """Provides `kind` by what `recipe` gives, which is another type's service: that one is started and stopped."""
        self.offer(kind, recipe)
        self._found.add(kind)

    def provides(self, kind: Any) -> bool:
        return kind in self._made or kind in self._recipes

    async def get(self, kind: Any, path: tuple[Any, ...] = ()) -> Any:
        """The service of this type, built and started. Raises `Missing`, or what its start raised (nothing is kept)."""
        if kind in self._made:
            return self._made[kind]
        if kind in path:
            raise Missing("services need each other in a circle: " + " -> ".join(_name(one) for one in (*path, kind)))
        if kind not in self._recipes:
            raise Missing(
                f"{_name(path[-1]) if path else 'the application'} needs {_name(kind)}, which nothing provides"
            )
        async with self._locks.setdefault(kind, asyncio.Lock()):
            if kind not in self._made:
                value = await self.call(self._recipes[kind], (*path, kind))
                if kind not in self._found:
                    if hasattr(value, "start"):
                        await value.start()
                    self._started.append(value)
                self._made[kind] = value
        return self._made[kind]

    async def call(self, recipe: Callable[..., Any], path: tuple[Any, ...] = ()) -> Any:
        """Calls `recipe` with the services that its parameters name, and awaits it where it is asynchronous."""
        hints = typing.get_type_hints(recipe.__init__ if inspect.isclass(recipe) else recipe)
        needs = {}
        for name, parameter in inspect.signature(recipe).parameters.items():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            wanted = _bare(hints.get(name, Any))
            if self.provides(wanted) or parameter.default is parameter.empty:
                needs[name] = await self.get(wanted, path or (recipe,))
        value = recipe(**needs)
        return await value if inspect.isawaitable(value) else value

    async def stop(self) -> None:
        """Stops what was started, last first; each is stopped even where one raises, then the first error is raised."""
        errors = []
        while self._started:
            value = self._started.pop()
            if hasattr(value, "stop"):
                try:
                    await value.stop()
                except Exception as error:
                    errors.append(error)
        if errors:
            raise errors[0]


def _bare(hint: Any) -> Any:
    """`X` of `X | None`."""
    options = [one for one in typing.get_args(hint) if one is not type(None)]
    union = typing.get_origin(hint) is typing.Union or type(hint).__name__ == "UnionType"
    return options[0] if union and len(options) == 1 else hint


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))
