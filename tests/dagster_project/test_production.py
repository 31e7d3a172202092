"""What deploy/ starts, started: on Postgres, by the very commands of its files."""

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import psutil
import pytest
import yaml
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
)
from first_run import HISTORY

from dagster_project.processes import PROCESS_TAG
from dagster_project.run import ORIGIN
from dagster_project.schedules import every_five_minutes
from ingest.store import database
from tests.dagster_project import commands

DEPLOY = database.PROJECT / "deploy"
BIN = Path(sys.executable).parent
COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text())
SERVICES = ("code", "daemon", "web")
# Seconds, on a machine that does much else.
LONG = 500
LAUNCH = """
mutation { launchRun(executionParams: {selector: {
  repositoryName: "__repository__", pipelineName: "status_engine",
  repositoryLocationName: "dagster_project.definitions"
}}) { __typename ... on UnauthorizedError { message } } }
"""
LOADED = """
{ workspaceOrError { ... on Workspace {
  locationEntries { name locationOrLoadError { __typename } }
} } }
"""


def with_driver(url: str) -> str:
    """A database as Dagster's storage is given it."""
    return url.replace("postgresql://", "postgresql+psycopg2://", 1)


def unit(service: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(DEPLOY / "systemd" / f"status-engine-{service}.service")
    return parser


def unit_command(service: str) -> list[str]:
    return shlex.split(unit(service)["Service"]["ExecStart"])


def compose_command(service: str) -> list[str]:
    """Without the shell around that of the code location."""
    command = COMPOSE["services"][service]["command"]
    if command[0] == "sh":
        (line,) = re.findall(r"^exec (.*)$", command[-1], re.MULTILINE)
        return shlex.split(line)
    return [str(word) for word in command]


class Production(NamedTuple):
    """The folder that the commands are run in, their environment, and what runs."""

    folder: Path
    environment: dict[str, str]
    ports: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]]

    def start(self, service: str, command: Sequence[str]) -> None:
        """As it stands, on free ports instead of its own."""
        words = [self.ports.get(word, word) for word in command]
        words = [re.sub(r"\b4000\b", self.ports["4000"], word) for word in words]
        with (self.folder / f"{service}.log").open("wb") as log:
            self.processes[service] = subprocess.Popen(
                words, cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )

    def said(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{log.name}:\n{log.read_text()[-4000:]}" for log in logs)

    def wait(self, what: str, is_so: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + LONG
        while time.monotonic() < deadline:
            ended = [n for n, p in self.processes.items() if p.poll() is not None]
            assert not ended, f"{ended} ended.\n{self.said()}"
            with suppress(OSError):
                if found := is_so():
                    return found
            time.sleep(0.2)
        raise AssertionError(f"{what} did not happen.\n{self.said()}")

    def ask(self, query: str) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports['3000']}/graphql",
            json.dumps({"query": query}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)["data"]


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


@contextmanager
def deployed(home: Path, dagster_url: str) -> Iterator[Production]:
    """A folder with deploy/ on ports of its own; what was started in it is ended."""
    folder, ports = (
        home.parent / "installed",
        {p: _free_port() for p in ("3000", "4000")},
    )
    shutil.copytree(DEPLOY, folder / "deploy")
    workspace, settings = (
        folder / "deploy/workspace.yaml",
        folder / "deploy/dagster.yaml",
    )
    workspace.write_text(workspace.read_text().replace("4000", ports["4000"]))
    slow = "poll_interval_seconds: 60"
    assert slow in settings.read_text()
    settings.write_text(settings.read_text().replace(slow, "poll_interval_seconds: 1"))
    environment = {
        **os.environ,
        "DAGSTER_DATABASE_URL": dagster_url,
        "STATUS_ENGINE_CODE_HOST": "127.0.0.1",
        "DAGSTER_HOME": str(home / "dagster"),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(database.PROJECT),
    }
    production = Production(folder, environment, ports, {})
    try:
        yield production
    finally:
        for process in production.processes.values():
            process.terminate()
        for process in production.processes.values():
            process.wait(LONG)


@pytest.fixture
def production(
    installation: Callable[..., AbstractContextManager[str]],
    fresh_database: Callable[..., AbstractContextManager[str]],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Production]:
    with ExitStack() as stack:
        stack.enter_context(installation(home, "order.yml", "office_nl.yml"))
        dagster_url = with_driver(stack.enter_context(fresh_database("template1")))
        monkeypatch.setenv("DAGSTER_DATABASE_URL", dagster_url)
        yield stack.enter_context(deployed(home, dagster_url))


def _runs(
    instance: dg.DagsterInstance, *statuses: dg.DagsterRunStatus
) -> list[dg.DagsterRun]:
    """The oldest first."""
    return list(instance.get_runs(dg.RunsFilter(statuses=list(statuses))))[::-1]


def _has_run_for_five_minutes(instance: dg.DagsterInstance) -> None:
    """As if the daemon had been down: a tick of the schedule is due at once."""
    origin = ORIGIN.repository_origin.get_instigator_origin(every_five_minutes.name)
    kind, cron = InstigatorType.SCHEDULE, every_five_minutes.cron_schedule
    since = ScheduleInstigatorData(cron, time.time() - 301)
    status = InstigatorStatus.DECLARED_IN_CODE
    instance.add_instigator_state(InstigatorState(origin, kind, status, since))


def _kill_worker(run: dg.DagsterRun) -> None:
    worker = psutil.Process(int(run.tags[PROCESS_TAG].split()[0]))
    children = worker.children(recursive=True)
    worker.kill()
    # dbt's, which the database would wait for.
    for child in children:
        child.kill()


@pytest.mark.nightly
def test_production_runs_retries_what_was_killed_and_shows_it(
    production: Production, home: Path
) -> None:
    """One story, since its servers take their time to start."""
    shell, options, script = COMPOSE["services"]["code"]["command"]
    production.start("code", [shell, options, script.replace("$$", "$")])
    code = ("127.0.0.1", int(production.ports["4000"]))

    def listens() -> bool:
        with socket.create_connection(code):
            return True

    production.wait("the code location", listens)
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        assert "Postgres" in type(instance.run_storage).__name__
        _has_run_for_five_minutes(instance)
        for service in ("daemon", "web"):
            program, *arguments = unit_command(service)
            production.start(service, [str(BIN / Path(program).name), *arguments])
        _a_killed_run_is_done_again(production, instance)
        _the_web_server_only_shows(production, instance)
        _a_run_that_failed_in_a_step_is_not(production, instance, home)
        _the_command_line_records_to_it(instance)
        _a_run_ends_before_its_server_does(production, instance)


def _a_killed_run_is_done_again(
    production: Production, instance: dg.DagsterInstance
) -> None:
    def executed() -> dg.DagsterRun | None:
        runs = _runs(instance, dg.DagsterRunStatus.STARTED)
        return next((run for run in runs if PROCESS_TAG in run.tags), None)

    run = production.wait("a scheduled run", executed)
    assert run.tags["dagster/schedule_name"] == every_five_minutes.name
    _kill_worker(run)

    def done() -> list[dg.DagsterRun]:
        runs = _runs(instance, dg.DagsterRunStatus.SUCCESS)
        return [r for r in runs if r.parent_run_id == run.run_id]

    (again,) = production.wait("its retry", done)
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.FAILURE
    assert again.tags["dagster/retry_number"] == "1"
    with database.connect() as connection:
        # All of it, at an instant of its own.
        as_of = connection.execute(
            "select as_of from raw.cuts where run_id = %s", [again.run_id]
        ).fetchone()
        tick = again.run_config["ops"]["raw__cuts"]["config"]["as_of"]
        assert as_of is not None
        assert as_of[0].isoformat() > tick


def _the_web_server_only_shows(
    production: Production, instance: dg.DagsterInstance
) -> None:
    loaded = production.wait("the web server", lambda: production.ask(LOADED))
    (entry,) = loaded["workspaceOrError"]["locationEntries"]
    assert entry["name"] == "dagster_project.definitions"
    assert entry["locationOrLoadError"]["__typename"] == "RepositoryLocation"
    before = instance.get_runs_count()
    said = production.ask(LAUNCH)["launchRun"]
    assert said["__typename"] == "UnauthorizedError"
    assert instance.get_runs_count() == before


def _a_run_that_failed_in_a_step_is_not(
    production: Production, instance: dg.DagsterInstance, home: Path
) -> None:
    known = {run.run_id for run in instance.get_runs()}
    broken = home / "workflows" / "broken.yml"
    broken.write_text("workflow_name: [\n")
    (home / "inbox" / "more.csv").write_text(HISTORY)

    def failed() -> dg.DagsterRun | None:
        runs = _runs(instance, dg.DagsterRunStatus.FAILURE)
        return next((run for run in runs if run.run_id not in known), None)

    # The sensor asks for it.
    run = production.wait("a run that fails", failed)
    name = "EVENT_LOG_CONSUMER_CURSOR-PIPELINE_FAILURE"
    cursors = instance.daemon_cursor_storage
    event = instance.get_records_for_run(
        run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE
    ).records[0]

    def is_looked_at() -> bool:
        cursor = cursors.get_cursor_values({name}).get(name)
        return cursor is not None and int(cursor) >= event.storage_id

    production.wait("the daemon's look at it", is_looked_at)
    broken.unlink()
    assert [r for r in instance.get_runs() if r.parent_run_id == run.run_id] == []


def _the_command_line_records_to_it(instance: dg.DagsterInstance) -> None:
    said = commands.process("run")
    assert said.code == 0, said.err
    by_hand = dg.RunsFilter(tags={"dagster/max_retries": "0"})
    (run,) = instance.get_runs(by_hand)
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.remote_job_origin == ORIGIN
    with database.connect() as connection:
        orders = connection.execute("select count(*) from sla.entity_current_status")
        assert orders.fetchone() == (2,)


def _a_run_ends_before_its_server_does(
    production: Production, instance: dg.DagsterInstance
) -> None:
    """As systemd and an init of a container do it: the server alone is told to end."""
    launch = ["job", "launch", "--workspace", "deploy/workspace.yaml"]
    subprocess.run(
        [BIN / "dagster", *launch, "--job", "status_engine"],
        cwd=production.folder,
        env=production.environment,
        check=True,
        capture_output=True,
    )

    def started() -> list[dg.DagsterRun]:
        runs = _runs(instance, dg.DagsterRunStatus.STARTED)
        return [run for run in runs if PROCESS_TAG in run.tags]

    (run, *_) = production.wait("a run", started)
    server = production.processes.pop("code")
    server.send_signal(signal.SIGTERM)
    assert server.wait(LONG) == 0, production.said()
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.SUCCESS, production.said()
