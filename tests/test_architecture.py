"""The rules of the house that no linter knows: public faces, tables of one system, and texts that must not drift."""

import ast
import re
from pathlib import Path

import pytest

from mainspring.core.manifest import PACKAGE, Manifest, closure, manifests, resolve

SOURCES = sorted(PACKAGE.rglob("*.py"))


def system_of(path: Path) -> Manifest | None:
    parts = path.relative_to(PACKAGE).parts
    found = manifests().get(parts[1]) if len(parts) > 2 else None
    return found if found and found.family == parts[0] else None


def imports_of(path: Path) -> list[str]:
    package = ["mainspring", *path.relative_to(PACKAGE).parent.parts]
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return names


def test_a_system_uses_another_one_only_through_its_public_face() -> None:
    """Only `mainspring.<family>.<system>` itself may be imported from outside its folder, and only by those that say so."""
    wrong = []
    faces = {f"mainspring.{one.family}.{one.name}": one for one in manifests().values()}
    for path in SOURCES:
        here = system_of(path)
        for name in imports_of(path):
            for face, other in faces.items():
                if other is here or not (name == face or name.startswith(face + ".")):
                    continue
                rest = name[len(face) :].lstrip(".")
                if rest and (other.folder / f"{rest.split('.')[0]}.py").is_file():
                    wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
                if here is not None and other.name not in here.uses:
                    wrong.append(f"{path.relative_to(PACKAGE)} uses {other.name}, which its manifest does not say")
    assert wrong == []


def test_no_two_systems_share_a_table_and_no_sql_names_anothers() -> None:
    owners: dict[str, str] = {}
    for manifest in manifests().values():
        if manifest.tables:
            for table in resolve(manifest.tables).tables:
                assert table not in owners, f"{table} belongs to {owners.get(table)} and {manifest.name}"
                owners[table] = manifest.name
    wrong = []
    for path in SOURCES:
        here = system_of(path)
        if here is None:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for table in re.findall(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(\w+)", node.value):
                    if owners.get(table, here.name) != here.name:
                        wrong.append(f"{path.relative_to(PACKAGE)} reads {table} of {owners[table]}")
    assert wrong == []


@pytest.mark.parametrize("manifest", manifests().values(), ids=lambda one: one.name)
def test_a_manifest_names_only_what_exists(manifest: Manifest) -> None:
    references = [manifest.settings, manifest.tables, manifest.routes, *manifest.services]
    references += [one.application for one in manifest.listeners]
    references += [one.call for one in (*manifest.jobs, *manifest.consumers, *manifest.simulations)]
    for reference in filter(None, references):
        assert resolve(reference) is not None
    assert closure([manifest.name])[-1] is manifest
    assert (manifest.folder / "README.md").is_file()
    assert 0 <= manifest.level <= 4
    assert manifest.level == 4 or manifest.missing, "a system below level 4 says what is missing"


def test_no_two_listeners_want_one_port() -> None:
    ports = [one.port for manifest in manifests().values() for one in manifest.listeners]
    assert len(ports) == len(set(ports))


def test_only_the_clock_and_the_simulator_read_time_in_systems() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in SOURCES
        if system_of(path) and path.name != "demo.py"  # which is a client beside the system
        for name in imports_of(path)
        if name in ("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns")
    ]
    assert wrong == []
