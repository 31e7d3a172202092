"""Health: of a real installation, from outside Dagster, whatever is broken of it."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
from commands import run
from dagster._core.storage.runs.schema import RunStorageSqlMetadata
from dagster._daemon.controller import DEFAULT_HEARTBEAT_INTERVAL_SECONDS
from dagster._daemon.types import DaemonHeartbeat
from first_run import HISTORY, Built

from dagster_project import processes
from dagster_project.health import instance as instance_questions
from dagster_project.health import survey as surveys
from dagster_project.health.findings import HELP, Finding, as_prometheus
from dagster_project.health.instance import INTERVAL, Unended, asking, stuck
from dagster_project.health.survey import disk, survey
from dagster_project.run import ORIGIN, dagster_home
from dagster_project.verifications import record_failure
from ingest.delivery import deliver
from ingest.store import cuts, database, embedded

Installation = Callable[..., AbstractContextManager[str]]
NOTHING_WAITS = timedelta(0)
JOB = dg.GraphDefinition(name="status_engine", node_defs=[]).to_job()


@pytest.fixture
def installed(
    built: Built, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """What a first run left a moment ago; disks of test machines are often full."""
    monkeypatch.setattr(surveys, "FULL", 0)
    monkeypatch.setattr(surveys, "LEAST", 0)
    with installation(built.home, template=built.url):
        yield built.home


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    home.mkdir()
    with dg.DagsterInstance.from_config(str(dagster_home(home))) as instance:
        yield instance


def _found(home: Path, **asked: Any) -> dict[str, Finding]:
    findings = survey(home, **asked)
    found = {finding.name: finding for finding in findings}
    assert len(found) == len(findings)
    return found


def _later(minutes: float = 0, seconds: float = 0) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=minutes, seconds=seconds)


def test_a_healthy_installation_is_told_by_lines_json_and_prometheus(
    installed: Path,
) -> None:
    assert installed.exists()
    said = run("health")
    assert (said.code, said.err) == (0, "")
    names = [re.match(r"(?:ok  |warn)  (\w+): \S", n) for n in said.out.splitlines()]
    assert [name and name[1] for name in names] == [
        "database",
        "batch",
        "cut",
        "build",
        "alerts",
        "verification",
        "publication",
        "daemon",
        "runs",
        "last_run",
        "disk_home",
        "disk_published",
    ]
    told = json.loads(run("health", "--json").out)
    assert told["state"] in ("ok", "warn")
    assert told["findings"]["build"]["unbuilt_batches"] == 0
    assert told["findings"]["database"]["database_bytes"] > 1_000_000
    text = run("health", "--prometheus").out
    samples = re.findall(r'^(\w+)(?:\{name="\w+"\})? ([0-9.e+-]+)$', text, re.MULTILINE)
    families = re.findall(r"^# TYPE (\w+) gauge$", text, re.MULTILINE)
    assert len(samples) + 2 * len(families) == len(text.splitlines())
    assert {name for name, _ in samples} == set(families)
    assert re.findall(r"^# HELP (\w+) \S", text, re.MULTILINE) == families
    # All but that of the daemon, which never ran.
    assert set(HELP) - set(families) == {
        "status_engine_daemon_age_seconds",
        "status_engine_alerts_due",
        "status_engine_channels_failing",
    }
    assert run("health", "--json", "--prometheus").code == 2
    assert run("health", "--daemon").code == 1


def test_batches_that_wait_and_files_that_are_behind_are_failures(
    installed: Path, tmp_path: Path
) -> None:
    path = tmp_path / "more.csv"
    path.write_text(HISTORY.splitlines()[0] + "\n2026-03-09T15:00:00Z,order,2,done\n")
    with database.connect() as connection:
        deliver(connection, path)
        found = _found(installed, within=timedelta(hours=1))
        assert found["build"].state == "ok"
        assert found["build"].figures["unbuilt_batches"] == 1
        found = _found(installed, within=NOTHING_WAITS)
        assert found["build"].state == "fail"
        assert "; 1 batches wait, the oldest for " in found["build"].said
        # In a cut or in none, it is not built.
        pinned = cuts.pin(connection, "a run")
        assert _found(installed, within=NOTHING_WAITS)["build"].state == "fail"
        assert _found(installed, within=NOTHING_WAITS)["publication"].state == "ok"
        connection.execute("update sla.built_cuts set cut = %s", [pinned.number])
        found = _found(installed, within=NOTHING_WAITS)
        assert (found["build"].state, found["publication"].state) == ("ok", "fail")
        assert found["publication"].said.endswith("Run: status-engine publish")
        assert found["verification"].state == "ok"
        record_failure(connection, pinned, "2 rows differ")
    found = _found(installed)
    assert found["verification"].state == "fail"
    assert "2 rows differ" in found["verification"].said
    assert run("health").code == 1


def test_a_dead_daemon_is_noticed_within_two_intervals(
    instance: dg.DagsterInstance, home: Path, database_url: str
) -> None:
    assert timedelta(seconds=DEFAULT_HEARTBEAT_INTERVAL_SECONDS) == INTERVAL
    asked = {"conninfo": database_url}
    assert _found(home, **asked)["daemon"].state == "ok"
    assert _found(home, **asked, is_daemon_expected=True)["daemon"].state == "fail"
    beats = {"SCHEDULER": _later(), "SENSOR": _later(minutes=-11)}
    for kind, beat in beats.items():
        instance.add_daemon_heartbeat(DaemonHeartbeat(beat.timestamp(), kind, "1"))
    with asking(home) as storage:
        assert storage is not None
        stored = storage.rows("select daemon_type, body from daemon_heartbeats")
    found = {kind: json.loads(body)["timestamp"] for kind, body in stored}
    asked_dagster = instance.get_daemon_heartbeats()
    assert found == {kind: beat.timestamp for kind, beat in asked_dagster.items()}
    at = beats["SCHEDULER"] + 2 * INTERVAL
    assert _found(home, **asked, now=at)["daemon"].state == "warn"
    late = at + timedelta(seconds=1)
    assert _found(home, **asked, now=late)["daemon"].state == "fail"
    found_without = _found(home, **asked, now=late, is_daemon_expected=False)
    assert found_without["daemon"].state == "ok"


def test_a_schedule_that_stopped_under_a_living_daemon_is_a_failure(
    instance: dg.DagsterInstance, home: Path, database_url: str
) -> None:
    with database.connect(database_url) as connection:
        cuts.pin(connection, "a run")
    lagging = {"conninfo": database_url, "within": NOTHING_WAITS}
    assert _found(home, **lagging)["cut"].state == "ok"
    beat = DaemonHeartbeat(time.time(), "SCHEDULER", "1")
    instance.add_daemon_heartbeat(beat)
    assert _found(home, **lagging)["cut"].state == "fail"
    assert _found(home, conninfo=database_url)["cut"].state == "ok"


def test_runs_that_are_stuck_and_one_that_failed_are_failures(
    instance: dg.DagsterInstance, home: Path, database_url: str
) -> None:
    assert instance_questions.PROCESS_TAG == processes.PROCESS_TAG
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    tags = {os.getpid(): processes.process_tag(os.getpid())}
    tags[gone.pid] = processes.process_tag(gone.pid)
    gone.communicate(b"\n")
    runs = {
        pid: instance.create_run_for_job(JOB, tags=tag) for pid, tag in tags.items()
    }
    for begun in runs.values():
        instance.report_engine_event("begins", begun)
        instance.handle_new_event(_started(begun))
    instance.create_run_for_job(
        JOB, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=ORIGIN
    )

    def found_stuck(minutes: float) -> Finding:
        return _found(home, conninfo=database_url, now=_later(minutes))["runs"]

    assert (found_stuck(14).state, found_stuck(14).figures["runs_queued"]) == ("ok", 1)
    assert found_stuck(16).figures["runs_stuck"] == 2
    dead = runs[gone.pid]
    assert (
        f"run {dead.run_id[:8]} of status_engine has no process" in found_stuck(16).said
    )
    assert " waits for 16 min" in found_stuck(16).said
    assert found_stuck(6 * 60 + 1).figures["runs_stuck"] == 3

    def last() -> Finding:
        return _found(home, conninfo=database_url)["last_run"]

    assert last().state == "ok"
    instance.report_run_failed(dead, "It was killed.")
    assert last().state == "fail"
    assert re.match(rf"run {dead.run_id[:8]} of status_engine failed \d s", last().said)
    assert JOB.execute_in_process(instance=instance).success
    assert last().state == "ok"


def _started(begun: dg.DagsterRun) -> dg.EventLogEntry:
    event = dg.DagsterEvent("PIPELINE_START", begun.job_name)
    return dg.EventLogEntry(
        error_info=None,
        level="info",
        user_message="",
        run_id=begun.run_id,
        timestamp=time.time(),
        job_name=begun.job_name,
        dagster_event=event,
    )


def test_the_storage_of_dagster_may_be_in_postgres(
    home: Path, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dagster_home(home)
    settings = home / "dagster" / "dagster.yaml"
    settings.write_text("storage: {postgres: {postgres_url: {env: DAGSTER_URL}}}\n")
    with_driver = empty_database_url.replace("postgresql:", "postgresql+psycopg2:", 1)
    monkeypatch.setenv("DAGSTER_URL", with_driver)
    names = database.environment(empty_database_url)
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    engine = sqlalchemy.create_engine("postgresql+psycopg://")
    RunStorageSqlMetadata.create_all(engine)
    engine.dispose()
    with database.connect(empty_database_url) as connection:
        connection.execute(
            "insert into public.daemon_heartbeats (daemon_type, timestamp, body) "
            "values ('SENSOR', clock_timestamp(), '{\"timestamp\": 1.5}')"
        )
        connection.execute(
            "insert into public.runs (run_id, pipeline_name, status, create_timestamp) "
            "values ('abc', 'status_engine', 'QUEUED', "
            "clock_timestamp() at time zone 'UTC' - interval '16 minutes')"
        )
    found = _found(home, conninfo=empty_database_url)
    assert found["daemon"].state == "fail"
    assert found["runs"].said == "run abc of status_engine waits for 16 min"
    # Of a process of another machine nobody here knows.
    began = _later(minutes=-20).timestamp()
    run_of = Unended("abc", "status_engine", "STARTED", "", began, "1 1.0 elsewhere")
    states = [
        stuck([run_of], timedelta(minutes=15), _later(), is_local=is_local).state
        for is_local in (False, True)
    ]
    assert states == ["ok", "fail"]
    # Schema raw is not there either; nothing is made by asking.
    assert found["batch"].state == "warn"
    settings.write_text("storage: {mysql: {mysql_url: x}}\n")
    assert "of no kind known here" in _found(home)["daemon"].said


def test_a_stopped_database_is_told_and_not_started(
    public_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    home = public_folder / "stopped"
    monkeypatch.setenv("STATUS_ENGINE_HOME", str(home))
    assert run("health").code == 1
    assert not home.exists()
    embedded.start(home)
    try:
        assert _found(home)["database"].state == "ok"
        embedded.stop(home)
        said = run("health")
        assert said.code == 1
        assert said.out.startswith("fail  database: the embedded one does not run; ")
        assert not embedded.stop(home)
    finally:
        embedded.stop(home, delete=True)


def test_a_server_that_takes_questions_and_never_answers_is_given_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        address = f"postgresql://postgres@127.0.0.1:{port}/x"
        began = time.monotonic()
        found = _found(home, conninfo=address)
        assert time.monotonic() - began < 10
        assert found["database"].state == "fail"
        assert found["disk_home"].figures["home_free_bytes"] > 0
        # Nor is it waited for what hangs within a question.
        monkeypatch.setattr(surveys, "GIVEN_UP", timedelta(seconds=0.2))
        found = _found(home, conninfo=address)
        assert found["database_answers"].state == "fail"


def test_a_probe_loads_neither_dagster_nor_dbt(installed: Path) -> None:
    heavy = "dagster", "dbt", "apprise", "duckdb"
    code = (
        "import sys\nfrom dagster_project.cli import main\n"
        "try: main(['health'])\n"
        f"finally: print([n for n in {heavy} if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "STATUS_ENGINE_HOME": str(installed)},
        cwd=database.PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_a_disk_is_short_below_a_tenth_and_full_below_a_part_of_that() -> None:
    size = 100 * 2**30
    states = [
        disk("home", Path("/x"), size, free).state
        for free in (size // 10, size // 10 - 1, size * 3 // 100 - 1, 2**27)
    ]
    assert states == ["ok", "warn", "fail", "fail"]
    assert disk("home", Path("/x"), 2**28, 2**27).state == "fail"
    text = as_prometheus([disk("home", Path("/x"), size, 5)])
    assert 'status_engine_health{name="disk_home"} 2' in text.splitlines()
