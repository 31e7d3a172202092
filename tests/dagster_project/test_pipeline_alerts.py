"""Pipeline alerts: of a real instance in a temporary home, to a real receiver."""

import os
import re
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    TickData,
    TickStatus,
)
from dagster._utils.error import SerializableErrorInfo
from hypothesis import given
from hypothesis import strategies as st
from receivers import HttpReceiver

from dagster_project import sensors
from dagster_project.alerts import channels
from dagster_project.alerts.incidents import (
    HALF_HOUR,
    Incidents,
    Looked,
    Observation,
    Told,
    after,
    due,
    forget,
    kind_of_error,
    observe,
)
from dagster_project.alerts.pipeline import BUSY, alarm
from dagster_project.alerts.remembered import (
    CHANNELS_NAME,
    MEMORY_NAME,
    remember_channels,
    remembering,
)
from dagster_project.alerts.watching import KINDS, tell_of_pipeline
from dagster_project.definitions import build_definitions
from dagster_project.health.findings import Finding
from dagster_project.resources import Warehouse
from dagster_project.run import dagster_home
from ingest.configuration import workflows
from ingest.delivery import deliver
from ingest.store.database import Connection

Tick = Callable[..., list[str]]
JOB = dg.GraphDefinition(name="status_engine", node_defs=[]).to_job()
OTHER_JOB = dg.GraphDefinition(name="verify", node_defs=[]).to_job()
CHANNEL = """\
alert_channels:
  - name: operators
    address_variable: ALERTS_OPERATORS
    pipeline_alerts: true
  - name: planners
    address_variable: ALERTS_PLANNERS
"""
NOWHERE = "postgresql://postgres@127.0.0.1:1/none"
LAYERS = dg.AssetKey(["sla", "status_intervals"]), dg.AssetKey(["published", "orders"])


@dg.asset_check(asset=LAYERS[0])
def is_right() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


GRAPH = (
    dg.Definitions(
        assets=[
            dg.AssetSpec(LAYERS[0]),
            dg.apply_freshness_policy(
                dg.AssetSpec(LAYERS[1]),
                dg.FreshnessPolicy.time_window(fail_window=timedelta(minutes=15)),
            ),
        ],
        asset_checks=[is_right],
    )
    .get_repository_def()
    .asset_graph
)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpReceiver]:
    receiver = HttpReceiver()
    monkeypatch.setenv("ALERTS_OPERATORS", receiver.address)
    monkeypatch.setenv("ALERTS_PLANNERS", receiver.address)
    yield receiver
    receiver.stop()


@pytest.fixture
def home(tmp_path: Path, connection: Connection) -> Path:
    path = tmp_path / "channels.yml"
    path.write_text(CHANNEL)
    workflows.apply(connection, workflows.load(path))
    return tmp_path / "home"


@pytest.fixture
def instance(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", "")
    home.mkdir()
    with dg.DagsterInstance.from_config(str(dagster_home(home))) as instance:
        yield instance


@pytest.fixture
def tick(
    instance: dg.DagsterInstance,
    home: Path,
    env_database: str,  # noqa: ARG001
    receiver: HttpReceiver,  # noqa: ARG001
) -> Tick:
    """What the sensor does, some seconds from now."""

    began = time.time()

    def look(seconds: float = 0, conninfo: str | None = None) -> list[str]:
        now = began + seconds
        return tell_of_pipeline(instance, GRAPH, home, conninfo=conninfo, now=now)

    return look


def _fail(
    instance: dg.DagsterInstance, count: int = 1, job: Any = JOB, said: str = "gone"
) -> str:
    """Runs that failed, by the instance's own API; the id of the newest.

    It takes 50 ms a run, so that of many all but three are copies of the third in the
    instance's tables, unless it is night.
    """
    own = count if "NIGHTLY" in os.environ else min(count, 3)
    for number in range(own):
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        instance.report_run_failed(run, f"Process {number} is {said}.")
    folder = Path(instance.root_directory) / "history"
    copies = [str(uuid.uuid4()) for _ in range(count - own)]
    for path, table, names in (
        (
            folder / "runs.db",
            "runs",
            "pipeline_name, status, run_body, snapshot_id, "
            "create_timestamp, update_timestamp, start_time, end_time",
        ),
        (
            folder / "runs" / "index.db",
            "event_logs",
            "event, dagster_event_type, timestamp",
        ),
    ):
        body = names.replace("run_body", "replace(run_body, :old, :new)")
        body = re.sub(r"\bevent,", "replace(event, :old, :new),", body)
        with sqlite3.connect(path) as storage:
            storage.executemany(
                f"insert into {table} (run_id, {names}) select :new, {body} "
                f"from {table} where run_id = :old"
                + (" and dagster_event_type = 'PIPELINE_FAILURE'" * (table != "runs")),
                [{"old": run.run_id, "new": copy} for copy in copies],
            )
        storage.close()
    return copies[-1] if copies else run.run_id


def _succeed(instance: dg.DagsterInstance, job: Any = JOB) -> None:
    assert job.execute_in_process(instance=instance).success


def _counts(receiver: HttpReceiver) -> list[tuple[int, int]]:
    """Of each message that has counts: new ones, and all of them."""
    texts = "\n".join(message["message"] for message in receiver.taken)
    found = re.findall(r"^([\d,]+) new, ([\d,]+) in all", texts, re.MULTILINE)
    return [(int(n.replace(",", "")), int(m.replace(",", ""))) for n, m in found]


def test_a_thousand_failures_within_an_hour_are_three_messages_with_right_counts(
    instance: dg.DagsterInstance,
    tick: Tick,
    receiver: HttpReceiver,
    connection: Connection,
) -> None:
    tick()
    assert receiver.taken == []
    for seconds in [*range(0, 3600, 300), 3599]:
        _fail(instance, 40 if seconds == 3599 else 80)
        tick(seconds)
        assert len(receiver.taken) == (1 if seconds < 1800 else 2)
    tick(3600)
    counts = _counts(receiver)
    assert [total for _, total in counts] == [80, counts[0][0] + counts[1][0], 1000]
    assert sum(new for new, _ in counts) == 1000
    assert receiver.titles == ["Pipeline: status_engine failed at no step"] * 3
    for later in (3700, 5399):
        tick(later)
    assert len(receiver.taken) == 3
    _succeed(instance)
    for later in (5410, 7300, 9200):
        tick(later)
    assert receiver.titles[3:] == ["Over: status_engine failed at no step"]
    rows = connection.execute(
        "select topic, is_delivered, alert_count, details -> 'causes' -> 0 -> 'told' "
        "->> 'count' from raw.alert_messages order by sent_at"
    ).fetchall()
    told = ["80", str(counts[1][1]), "1000", "1000"]
    assert rows == [("pipeline", True, 1, count) for count in told]


def test_with_5000_failed_runs_the_newest_is_told_in_one_tick(
    instance: dg.DagsterInstance, tick: Tick, receiver: HttpReceiver
) -> None:
    tick()
    # Those that wait behind were told of before.
    _fail(instance)
    tick()
    _fail(instance, 5000)
    newest = _fail(instance, said="of another kind")
    began = time.monotonic()
    tick(1)
    assert time.monotonic() - began < 60
    assert len(receiver.taken) == 2
    told = receiver.taken[1]["message"]
    assert f"Process 0 is of another kind. (the newest is run {newest[:8]})" in told
    tick(1900)
    # The reasons of the newest are read, and all are counted.
    assert _total(receiver) == 5002


def _total(receiver: HttpReceiver) -> int:
    """All that was told as new; a single one is told without a count."""
    texts = "\n".join(message["message"] for message in receiver.taken)
    return sum(n for n, _ in _counts(receiver)) + texts.count("\nSince ")


def test_errors_differ_by_their_words_and_not_without_bound(
    instance: dg.DagsterInstance, tick: Tick, receiver: HttpReceiver
) -> None:
    texts = (
        "run 0d3e7a52-0a40-4b5e-9c13-2f5a1d0b6c11 took 17 s",
        "run 9b1f54aa-77c1-4a35-8e0e-55f1d9a3b2c4 took 4 s\nat line 3",
    )
    assert len({kind_of_error(text) for text in texts}) == 1
    words = [f"a {chr(97 + n) * 3} b" for n in range(20)]
    for word in words[:10]:
        _fail(instance, said=word)
    tick()
    for word in words[10:]:
        _fail(instance, said=word)
    tick(30)
    assert len(receiver.taken) == 1
    assert receiver.titles[0].startswith(f"Pipeline: {KINDS + 1} troubles, 0 over")
    tick(1900)
    assert len(receiver.taken) == 2
    assert "10 new, 15 in all" in receiver.taken[1]["message"]


def test_another_job_that_succeeds_ends_nothing(
    instance: dg.DagsterInstance, tick: Tick, receiver: HttpReceiver
) -> None:
    _fail(instance)
    tick()
    _succeed(instance, OTHER_JOB)
    tick(1900)
    assert len(receiver.taken) == 1


def test_checks_freshness_ticks_refusals_and_rejects_are_told_and_told_over(
    instance: dg.DagsterInstance,
    tick: Tick,
    receiver: HttpReceiver,
    connection: Connection,
    home: Path,
    tmp_path: Path,
) -> None:
    def check(severity: dg.AssetCheckSeverity, *, passed: bool) -> None:
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=LAYERS[0],
                check_name="is_right",
                passed=passed,
                metadata={},
                severity=severity,
                description="4 rows differ",
            )
        )

    def put(name: str, good: int, bad: int) -> None:
        rows = [f"2026-03-02T09:00:{n % 60:02}Z,order,{n},new" for n in range(good)]
        rows += [f"yesterday,order,{n},{name}" for n in range(bad)]
        path = tmp_path / f"{name}.csv"
        header = "created_at,entity_type,entity_id,to_status"
        path.write_text("\n".join([header, *rows]) + "\n")
        deliver(connection, path)

    def titles_after(seconds: float) -> list[str]:
        before = len(receiver.taken)
        tick(seconds)
        return [m["message"] for m in receiver.taken[before:]]

    check(dg.AssetCheckSeverity.WARN, passed=False)
    for number in range(6):
        put(f"usual{number}", 100 + number, 20)
    instance.report_runless_asset_event(dg.AssetMaterialization(LAYERS[1]))
    assert titles_after(0) == []
    check(dg.AssetCheckSeverity.ERROR, passed=False)
    (home / "refused").mkdir()
    (home / "refused" / "a.csv.txt").write_text("a.csv has no header.\n")
    put("unusual", 100, 30)
    _tick(instance, TickStatus.FAILURE)
    (said,) = titles_after(1000)
    for words in (
        "check is_right of sla/status_intervals failed: 4 rows differ",
        "published is not fresh: 1 assets were not made within their window: orders",
        "a tick of sensor alerts_fall_due failed: it can't be N",
        "1 files of the inbox are refused: the newest: a.csv has no header.",
        "are rejected: 30 of 130 rows of unusual.csv, 23.1%; up to",
    ):
        assert words in said
    assert receiver.titles[0].startswith("Pipeline: 5 troubles, 0 over")
    check(dg.AssetCheckSeverity.ERROR, passed=True)
    (home / "refused" / "a.csv.txt").unlink()
    put("usual6", 106, 21)
    _tick(instance, TickStatus.SUCCESS)
    # Freshness alone is as it was: nothing was made since.
    (said,) = titles_after(1000 + 1801)
    assert said.count("\nOver: ") == 4
    assert titles_after(1000 + 2 * 1801) == []


def _tick(instance: dg.DagsterInstance, status: TickStatus) -> None:
    code = RegisteredCodeLocationOrigin("dagster_project.definitions")
    origin = RemoteRepositoryOrigin(code, "__repository__").get_instigator_origin(
        "alerts_fall_due"
    )
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING)
    known = instance.all_instigator_state()
    if not known:
        instance.add_instigator_state(state)
    error = SerializableErrorInfo("it can't be 17", [], "ValueError")
    instance.create_tick(
        TickData(
            state.instigator_origin_id,
            "alerts_fall_due",
            InstigatorType.SENSOR,
            status,
            time.time(),
            selector_id=state.selector_id,
            run_ids=[] if status is TickStatus.SUCCESS else None,
            error=error if status is TickStatus.FAILURE else None,
        )
    )


def test_while_the_database_is_down_people_are_told_and_it_is_recorded_after(
    instance: dg.DagsterInstance,
    tick: Tick,
    receiver: HttpReceiver,
    connection: Connection,
    home: Path,
) -> None:
    tick()
    _fail(instance)
    for seconds in (1, 31, 61):
        tick(seconds, NOWHERE)
    (message,) = receiver.taken
    assert "database failed" in message["message"]
    assert "status_engine failed at no step" in message["message"]
    _fail(instance, 2)
    tick(1900, NOWHERE)
    assert _counts(receiver) == [(2, 3)]
    recorded = "select count(*), count(distinct sent_at) from raw.alert_messages"
    assert connection.execute(recorded).fetchone() == (0, 0)
    for seconds in (1930, 3800, 5700):
        tick(seconds)
    assert connection.execute(recorded).fetchone() == (3, 3)
    assert receiver.titles[2:] == ["Over: database failed"]
    files = [home / CHANNELS_NAME, home / MEMORY_NAME]
    for path in files:
        assert path.stat().st_mode & 0o077 == 0
        assert not re.search("hunter2|secret-token", path.read_text())
    assert "ALERTS_OPERATORS" in files[0].read_text()


def test_where_the_database_goes_away_while_it_is_told_it_is_told_once(
    instance: dg.DagsterInstance,
    tick: Tick,
    receiver: HttpReceiver,
    connection: Connection,
) -> None:
    def end_sessions() -> None:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )

    _fail(instance)
    receiver.before_answer = end_sessions
    assert tick() == ["pipeline alerts to operators: 1 told"]
    receiver.before_answer = lambda: None
    recorded = "select count(*) from raw.alert_messages where is_delivered"
    assert connection.execute(recorded).fetchone() == (0,)
    assert tick(30) == []
    assert connection.execute(recorded).fetchone() == (1,)
    assert len(receiver.taken) == 1


def test_what_was_told_is_known_by_the_table_where_the_home_is_new(
    instance: dg.DagsterInstance, tick: Tick, receiver: HttpReceiver, home: Path
) -> None:
    _fail(instance)
    tick()
    (home / MEMORY_NAME).unlink()
    tick(60)
    assert len(receiver.taken) == 1
    _succeed(instance)
    tick(1900)
    assert receiver.titles[1:] == ["Over: status_engine failed at no step"]


def test_a_receiver_that_is_down_is_left_alone_and_told_all_later(
    instance: dg.DagsterInstance,
    tick: Tick,
    receiver: HttpReceiver,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver.statuses = [500, 500]
    _fail(instance)
    assert "failed (" in tick()[0]
    assert "left alone" in tick(10)[0]
    assert "failed (" in tick(31)[0]
    assert "left alone" in tick(80)[0]
    _fail(instance)
    monkeypatch.delenv("ALERTS_OPERATORS")
    assert "variable ALERTS_OPERATORS is not set" in tick(100)[0]
    monkeypatch.setenv("ALERTS_OPERATORS", receiver.address)
    tick(100)
    assert _counts(receiver) == [(2, 2)]
    assert channels.LONGEST_WAIT.total_seconds() < HALF_HOUR
    states = connection.execute(
        "select is_delivered from raw.alert_messages order by sent_at"
    ).fetchall()
    assert states == [(False,), (False,), (True,)]


def test_one_process_at_a_time_tells(tick: Tick, home: Path) -> None:
    with remembering(home) as memory:
        assert memory is not None
        assert tick() == [BUSY]


def test_an_alarm_of_health_and_the_sensor_tell_it_once(
    tick: Tick,
    receiver: HttpReceiver,
    home: Path,
    connection: Connection,
) -> None:
    remember_channels(home, channels.channels_in_force(connection))
    dead = [Finding("daemon", "fail", "it is dead"), Finding("cut", "warn", "old")]
    now = time.time()
    for _ in range(2):
        alarm(home, dead, now=now)
    assert receiver.titles == ["Pipeline: daemon failed"]
    # Of a daemon the sensor, which is in it, does not judge.
    tick(1900)
    assert len(receiver.taken) == 1
    alarm(home, [dead[0]._replace(state="ok")], now=now + 2000)
    assert receiver.titles[1:] == ["Over: daemon failed"]


def test_the_sensor_tells_by_the_definitions_of_the_project(
    instance: dg.DagsterInstance,
    home: Path,
    env_database: str,
    receiver: HttpReceiver,
) -> None:
    warehouse = Warehouse(database_url=env_database, home=str(home))
    definitions = build_definitions(warehouse)
    _fail(instance)
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(["alerts", "alert_deliveries"]),
            check_name="every_alert_was_delivered",
            passed=False,
            metadata={},
        )
    )
    with dg.build_sensor_context(instance, definitions=definitions) as context:
        skipped = sensors.pipeline_alerts(context, warehouse=warehouse)
    assert isinstance(skipped, dg.SkipReason)
    assert skipped.skip_message == "pipeline alerts to operators: 2 told"
    assert "check every_alert_was_delivered of" in receiver.taken[0]["message"]


@given(
    st.lists(
        st.tuples(
            st.integers(10, 4000),
            st.integers(0, 3),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_whatever_happens_a_cause_is_told_once_a_half_hour_and_wholly(
    steps: list[tuple[int, int, bool]],
) -> None:
    """Seconds until a look, occurrences since the last one, whether it then stands."""
    incidents: Incidents = {}
    told: dict[str, Told] = {}
    now, mark, happened, said, times = 0.0, 0, 0, 0, list[float]()
    # At the end nothing happens any more, for long enough.
    for seconds, count, stands in [*steps, *[(1801, 0, False)] * 3]:
        now += seconds
        happened += count
        mark += count
        found = [Observation("run/a", "a", "b", count, str(mark))] if count else []
        still = frozenset({"run/a"}) if stands else frozenset()
        forget(incidents, [told], now)
        observe(incidents, [Looked("run/", found, still)], now)
        if not count and not stands and "run/a" in incidents:
            assert incidents["run/a"].ended_at is not None
        for telling in due(incidents, told, now):
            said += telling.new
            times.append(now)
            told["run/a"] = after(telling, now)
            assert telling.is_over == (telling.incident.ended_at is not None)
    assert said == happened
    assert all(b - a >= HALF_HOUR for a, b in pairwise(times))
    assert not happened or told["run/a"].is_over
