"""Steps: the functions of a module of SQL, which is imported when the first of them is run.

Such a module declares its statements as it is imported, and the first one brings SQLAlchemy along, which takes as long as all
the rest of a start. So whoever must be there from the start has `Steps` in its place:

```python
if TYPE_CHECKING:
    from mainspring.core.accounts import store
else:
    store = Steps("mainspring.core.accounts.store")

await database.read(store.token_by_hash, hash)
```
The database then imports the module in a thread, before it runs the function: nobody else waits for that. Only functions are
to be had in this way.
"""

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mainspring.core.imports import imported


class Steps:
    """What is `module.name` in `module`, for every `name`: a `Step` at first, the function itself once it is imported."""

    def __init__(self, module: str) -> None:
        self._name = module
        self._module: ModuleType | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._module is None:
            return Step(self, name)
        found = getattr(self._module, name)
        setattr(self, name, found)  # from now on without a detour
        return found

    def _import(self) -> "Steps":
        self._module = imported(self._name)
        return self


class Step:
    """A function that is not imported yet. To call it imports it."""

    __slots__ = ("_name", "_steps")

    def __init__(self, steps: Steps, name: str) -> None:
        self._steps = steps
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._imported()(*args, **kwargs)

    async def function(self) -> Callable[..., Any]:
        """What it stands for, imported in a thread."""
        return await asyncio.to_thread(self._imported)

    def _imported(self) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(self._steps._import(), self._name)
        return function
