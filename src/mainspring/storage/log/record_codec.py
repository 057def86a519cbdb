"""aiokafka's codec of records, which is C, without the client around it.

Loading a module loads the packages it is in, and that of aiokafka loads a whole client: 6 MB, which nobody here uses. So the
packages are put in their place empty, and are executed when somebody does ask them for something.
"""

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_PACKAGES = ("aiokafka", "aiokafka.record")


class _Postponed(ModuleType):
    """A package that is executed when a name is asked for that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        assert self.__spec__ is not None and self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _postpone(name: str) -> None:
    spec = find_spec(name)
    if name in sys.modules or spec is None:
        return
    package = sys.modules[name] = module_from_spec(spec)
    package.__class__ = _Postponed
    above, _, last = name.rpartition(".")
    if above:
        setattr(sys.modules[above], last, package)


for _name in _PACKAGES:
    _postpone(_name)
_codec = import_module("aiokafka.record._crecords.default_records")

DefaultRecordBatch: Any = _codec.DefaultRecordBatch
DefaultRecordBatchBuilder: Any = _codec.DefaultRecordBatchBuilder
