"""Modules that are imported while others work, one thread at a time.

CPython locks each module by itself. Two threads that come from two sides to modules that import each other (a package and what
is in it, mostly) can each hold what the other waits for: one of the two imports then fails. So whoever imports in a thread does
it here, and so does who may have to while another one does.
"""

import sys
import threading
import time
from importlib import import_module
from types import ModuleType

TRIES_MAX = 100
PAUSE_S = 0.005

_alone = threading.RLock()


def imported(name: str) -> ModuleType:
    """The module called `name`. Waits for whoever else imports here; raises what the module raises."""
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        return module
    with _alone:
        for _ in range(TRIES_MAX):
            try:
                return import_module(name)
            except RuntimeError as error:
                if type(error).__name__ != "_DeadlockError":
                    raise
                # An import statement elsewhere came from the other side, and goes on now.
                time.sleep(PAUSE_S)
        return import_module(name)
