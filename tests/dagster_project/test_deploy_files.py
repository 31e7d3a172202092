"""Each file of deploy/ parses, says what the others say, and is what its page says.

Whether they run is in test_production.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dagster_project.retention import DEFAULT_DAYS, KEEP_RUNS_DAYS
from dagster_project.run import INSTANCE
from ingest.store.database import PROJECT
from tests.dagster_project.test_production import (
    BIN,
    COMPOSE,
    DEPLOY,
    SERVICES,
    compose_command,
    unit,
    unit_command,
)

README = (DEPLOY / "README.md").read_text(encoding="utf-8")
ENVIRONMENT = dict(
    line.split("=", 1)
    for line in (DEPLOY / "status-engine.env").read_text().splitlines()
    if not line.startswith("#")
)
SETTINGS = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
READS = re.compile(
    r"""(?x)
    (?:environ(?:\.get\(|\.setdefault\(|\.pop\(|\[)|getenv\(|env_var\()
    \s*["']([A-Z][A-Z_]+)["']
    """
)
# A name that a constant holds.
NAMED = re.compile(
    r"""^[A-Z_]+ = "((?:STATUS_ENGINE|DAGSTER|DATABASE)_[A-Z_]+)"$""", re.M
)
NOTHING_OF_OURS = {"DAGSTER_DBT_CLI", "PATH"}
PREFIX = "STATUS_ENGINE_DBT_"


def _listed() -> set[str]:
    table = README.partition("\n## Environment variables\n")[2].partition("\n## ")[0]
    firsts = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    return {name for first in firsts for name in re.findall(r"`(\w+)`", first)}


def _read_by_code() -> Iterator[str]:
    for room in ("ingest", "dagster_project", "simulator", "notebooks", "dbt"):
        for path in (PROJECT / room).rglob("*"):
            if path.suffix in (".py", ".sql", ".yml") and "target" not in path.parts:
                text = path.read_text(encoding="utf-8")
                yield from READS.findall(text)
                yield from NAMED.findall(text)


def _read_by_deploy() -> Iterator[str]:
    for path in DEPLOY.rglob("*"):
        if path.suffix in (".yaml", ".yml"):
            text = path.read_text(encoding="utf-8")
            yield from re.findall(r"\{env: (\w+)\}|\$\$?\{?([A-Z]\w+)", text)
    yield from ENVIRONMENT
    yield from COMPOSE["x-program"]["environment"]


def test_every_variable_that_is_read_is_in_the_table_and_no_other() -> None:
    found: set[str] = set(_read_by_code()) - NOTHING_OF_OURS - {PREFIX}
    for name in _read_by_deploy():
        found.update([name] if isinstance(name, str) else filter(None, name))
    assert KEEP_RUNS_DAYS in found
    assert found == _listed()


def test_every_file_is_on_its_page() -> None:
    files = {p.name for p in DEPLOY.iterdir() if p.is_file()}
    files -= {"README.md", "Dockerfile.dockerignore", ".env"}
    assert [name for name in files if f"`{name}`" not in README] == []


@pytest.mark.parametrize("service", SERVICES)
def test_units_and_containers_start_the_same(service: str) -> None:
    program, *arguments = unit_command(service)
    assert program.startswith("/opt/status-engine/.venv/bin/")
    # A container's own address is of the network of compose alone.
    listens = [word.replace("127.0.0.1", "0.0.0.0") for word in arguments]  # noqa: S104
    assert [Path(program).name, *listens] == compose_command(service)
    assert (BIN / Path(program).name).exists()


def test_only_the_web_server_is_reachable_and_it_only_shows() -> None:
    assert "--read-only" in unit_command("web")
    for service in SERVICES:
        command = unit_command(service)
        if "--host" in command:
            assert command[command.index("--host") + 1] == "127.0.0.1"
    ports = {n: s["ports"] for n, s in COMPOSE["services"].items() if "ports" in s}
    assert ports == {"web": ["127.0.0.1:3000:3000"]}


def test_units_have_the_same_restrictions_and_let_runs_end() -> None:
    services = {service: dict(unit(service)["Service"]) for service in SERVICES}
    own = {"ExecStart", "ExecStartPre", "TimeoutStopSec"}
    first, *others = (
        {k: v for k, v in said.items() if k not in own} for said in services.values()
    )
    assert all(other == first for other in others)
    # SIGTERM to the server alone: it waits for its runs.
    assert (first["KillMode"], first["KillSignal"]) == ("mixed", "SIGTERM")
    assert services["code"]["TimeoutStopSec"] == "900"
    assert COMPOSE["services"]["code"]["stop_grace_period"] == "15m"
    assert COMPOSE["services"]["code"]["init"] is True


def test_production_keeps_what_the_embedded_instance_does() -> None:
    embedded = yaml.safe_load(INSTANCE)
    assert {name: SETTINGS[name] for name in embedded} == embedded
    assert ENVIRONMENT[KEEP_RUNS_DAYS] == str(DEFAULT_DAYS)


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    paths = [tmp_path / f"status-engine-{service}.service" for service in SERVICES]
    for path in paths:
        text = (DEPLOY / "systemd" / path.name).read_text()
        # It asks whether the programs are there.
        text = text.replace("/opt/status-engine/.venv/bin", str(BIN))
        path.write_text(text.replace("/opt/status-engine", str(PROJECT)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_nginx_takes_the_proxy(tmp_path: Path) -> None:
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("nginx is not installed")
    made = tmp_path / "made"
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"]
    subprocess.run(
        ["openssl", *request, "-keyout", f"{made}.key", "-out", f"{made}.pem"],
        check=True,
        capture_output=True,
    )
    text = (DEPLOY / "nginx.conf").read_text()
    text = re.sub(r"/etc/ssl/(?:certs|private)/status-engine", str(made), text)
    (tmp_path / "proxy.conf").write_text(text.replace("listen 443", "listen 8443"))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}} "
        f"http {{ access_log off; {folders} include {tmp_path}/proxy.conf; }}"
    )
    done = subprocess.run(
        [nginx, "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
