"""Writes `baseline.sql` from tables: `python -m mainspring.core.database.baseline mainspring.social.links.tables:tables`.

The file goes to `migrations/` beside the module that declares the tables. Where that folder holds no script yet, a first
one is written too, which does nothing: it is what later scripts go on from.
"""

import sys
from importlib import import_module
from pathlib import Path

from mainspring.core.database.revisions import BASELINE, baseline_text, first_revision
from mainspring.core.database.schema import Metadata

FIRST_SCRIPT = '''"""The tables as first released, which are created from baseline.sql."""

revision = "{revision}"
down_revision = None
branch_labels = ("{name}",)


def upgrade() -> None:
    """Nothing: a database that has this system at all has at least this revision."""
'''


def load(tables: str) -> tuple[Metadata, Path]:
    """The metadata that `module:attribute` names, and the folder of its migrations."""
    module_name, _, attribute = tables.partition(":")
    module = import_module(module_name)
    metadata = getattr(module, attribute or "tables")
    if not isinstance(metadata, Metadata) or module.__file__ is None:
        raise TypeError(f"{tables} is not a Metadata in a module that is a file")
    return metadata, Path(module.__file__).parent / "migrations"


def write(metadata: Metadata, folder: Path) -> Path:
    """Writes the baseline, and the first script where there is none; gives the baseline's path."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.glob("*.py")):
        first = FIRST_SCRIPT.format(revision=first_revision(metadata.name), name=metadata.name)
        (folder / "0001_baseline.py").write_text(first, encoding="utf-8")
    path = folder / BASELINE
    path.write_text(baseline_text(metadata.name, metadata, folder), encoding="utf-8")
    return path


def difference(metadata: Metadata, folder: Path) -> str | None:
    """What to do where `baseline.sql` does not hold these tables, or None where it does. For tests."""
    path = folder / BASELINE
    if path.exists() and path.read_text(encoding="utf-8") == baseline_text(metadata.name, metadata, folder):
        return None
    return f"{path} differs from tables.py: run python -m mainspring.core.database.baseline MODULE:tables"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(write(*load(argument)))
