"""A package's face: its names, each imported when it is first asked for, so that naming the package costs nothing."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of `package`. `homes` has the module within for each name, and after a colon what it is called there
    where that differs."""

    def find(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, called = home.partition(":")
        return getattr(import_module(f"{package}.{module}"), called or name)

    return find
