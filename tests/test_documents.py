"""Documents do not drift: links lead somewhere, the README's table is what the manifests say, no line tells of a machine."""

import re
import subprocess
from pathlib import Path

import pytest

from mainspring.cli.systems import readme_table
from mainspring.core.manifest import manifests
from tests.needs import REPOSITORY, missing, need_program

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "src/**/*.md")
    for path in REPOSITORY.glob(pattern)
    if "node_modules" not in path.parts
)


def anchors(path: Path) -> set[str]:
    """The fragments of a document's headings."""
    headings = re.findall(r"(?m)^#+\s+(.*)$", path.read_text())
    return {re.sub(r"[^\w\- ]", "", one.strip().lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(document: Path) -> None:
    text = re.sub(r"(?s)```.*?```", "", document.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        assert found.exists(), f"{target} does not exist"
        assert not fragment or fragment in anchors(found), f"{target} has no such heading"


def test_the_readme_has_the_table_that_the_manifests_make() -> None:
    assert readme_table() in (REPOSITORY / "README.md").read_text(), "run ./mainspring systems --readme and paste it"


@pytest.mark.parametrize("name", manifests())
def test_a_folders_readme_says_what_it_promises_and_its_level(name: str) -> None:
    text = (manifests()[name].folder / "README.md").read_text().lower()
    for word in ("promise", "limit", "thousand"):
        assert word in text, f"{name}'s README says nothing of {word}"


def test_nothing_in_the_repository_names_a_machine_or_a_registry() -> None:
    if not (REPOSITORY / ".git").exists():
        missing("needs a checkout that git knows")
    tracked = subprocess.run(
        [need_program("git"), "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    pattern = re.compile(r"/(?:work|root|home)/|files\.pythonhosted|registry\.npmjs|pypi\.org/simple|index-url")
    found = []
    for name in tracked:
        path = REPOSITORY / name
        if path == Path(__file__) or not path.is_file():
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []
