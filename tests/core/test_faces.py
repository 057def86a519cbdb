"""What a package promises by `__all__` is there, whether it is imported with the package or when it is first named."""

import pkgutil
from importlib import import_module

import pytest

import mainspring

PACKAGES = [
    module.name
    for module in pkgutil.walk_packages(mainspring.__path__, "mainspring.")
    if module.ispkg and hasattr(import_module(module.name), "__getattr__")
]


def test_the_packages_with_late_names_are_found() -> None:
    assert {"mainspring.core.database", "mainspring.storage.objects", "mainspring.social.links"} <= set(PACKAGES)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_has_the_names_that_it_promises_and_no_others(name: str) -> None:
    package = import_module(name)
    for promised in package.__all__:
        assert getattr(package, promised) is not None
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        _ = package.nothing
