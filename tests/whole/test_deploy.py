"""What `deploy/` says is what this version takes: the schemas hold, every setting is known, every name means something."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mainspring.core.config import load
from mainspring.core.manifest import manifests
from tests.needs import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def check(program: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def configured(environment: dict[str, str], folder: Path) -> Any:
    """The configuration that a node reads from these variables, with its secret files in place."""
    given = dict(environment)
    for name in given:
        if name.endswith("_FILE"):
            secret = folder / name
            secret.write_text("postgresql://from.the.secret/")
            given[name] = str(secret)
    return load(environment={"MAINSPRING_DATA": str(folder), **given})


def test_the_compose_file_fits_its_schema(tmp_path: Path) -> None:
    fits = check("check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)
    assert fits.returncode == 0, fits.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text("services: {one: {imagee: x}}")
    assert check("check_jsonschema", "--builtin-schema", "vendor.compose-spec", wrong).returncode != 0


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_kubernetes_manifests_fit_their_schemas(path: Path, tmp_path: Path) -> None:
    fits = check("kubernetes_validate", "--strict", path)
    assert fits.returncode == 0, fits.stdout + fits.stderr
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(path.read_text().replace("replicas:", "replica:"))
    assert check("kubernetes_validate", "--strict", wrong).returncode != 0


@pytest.mark.parametrize("node", ["one", "two", "migrate"])
def test_every_setting_of_the_compose_file_is_known(node: str, tmp_path: Path) -> None:
    config = configured(compose()["services"][node]["environment"], tmp_path)
    assert config.database == "postgresql://from.the.secret/" and config.hosts == ["console.example.org"]


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_every_setting_of_the_manifests_is_known(path: Path, tmp_path: Path) -> None:
    for document in documents(path):
        if document["kind"] == "ConfigMap":
            assert configured(document["data"], tmp_path).database == "postgresql://from.the.secret/"


def test_the_nodes_of_the_compose_file_are_where_the_proxy_looks_for_them() -> None:
    asked = set(re.findall(r"server (\d+\.\d+\.\d+\.\d+):", (DEPLOY / "nginx.conf").read_text()))
    nodes = [compose()["services"][name] for name in ("one", "two")]
    assert {node["networks"]["inside"]["ipv4_address"] for node in nodes} == asked


def test_ports_are_those_of_the_systems() -> None:
    known = {"8080": "http"} | {str(one.port): one.name for each in manifests().values() for one in each.listeners}
    exposed = re.search(r"^EXPOSE (.+)$", (DEPLOY / "Containerfile").read_text(), re.M)
    assert exposed is not None and set(exposed[1].split()) <= set(known)
    for path in KUBERNETES:
        for document in documents(path):
            if document["kind"] == "Deployment":
                for port in document["spec"]["template"]["spec"]["containers"][0]["ports"]:
                    assert known[str(port["containerPort"])] == port["name"]


def test_the_container_file_copies_what_there_is_and_starts_what_there_is() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M):
        *sources, _ = line.split()
        for source in sources:
            assert (REPOSITORY / source).exists(), source
    started = json.loads(re.findall(r"^CMD (\[.+\])$", text, re.M)[-1])
    assert started[0] == "up"
    offered = subprocess.run(
        [sys.executable, "-m", "mainspring", "up", "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert all(option in offered for option in started if option.startswith("--"))
    assert shlex.split(re.findall(r"^ENTRYPOINT (.+)$", text, re.M)[0].strip("[]")) == ["mainspring"]
