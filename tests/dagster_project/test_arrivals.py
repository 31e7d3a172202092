"""What asks for a run between two ticks, and sources in a run."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pytest
from commands import assert_one_sentence
from commands import run as command
from first_run import Built

from dagster_project import schedules, sensors
from dagster_project.cli.builds import ALL_PARTS
from dagster_project.definitions import build_definitions
from dagster_project.processes import PROCESS_TAG
from dagster_project.resources import Warehouse
from dagster_project.run import ORIGIN, RunError, dagster_home, run
from ingest import append, record
from ingest.followed_source import load_source
from ingest.following import follow
from ingest.shelves import take
from ingest.store import cuts, database
from ingest.store.database import Connection

SOURCE = """\
connection: {variable}
query: select 7 as nr, timestamptz '2026-03-01 09:00Z' as at, 'new' as status
mapping: {{entity_type: {{constant: order}}, entity_id: nr, created_at: at,
  to_status: status}}
watermark: at
overlap: 10 minutes
interval: 1 hour
"""


@pytest.fixture
def instance(home: Path, installed_url: str) -> Iterator[dg.DagsterInstance]:
    """The instance of the home, with the settings that every one has."""
    assert installed_url
    with dg.DagsterInstance.from_config(str(dagster_home(home))) as instance:
        yield instance


@pytest.fixture
def connection(installed_url: str) -> Iterator[Connection]:
    with database.connect(installed_url) as connection:
        yield connection


def _tick(instance: dg.DagsterInstance) -> dg.RunRequest | None:
    context = dg.build_sensor_context(instance)
    asked = sensors.arrivals(context, warehouse=Warehouse())
    assert isinstance(asked, dg.RunRequest | dg.SkipReason)
    return asked if isinstance(asked, dg.RunRequest) else None


def _key(instance: dg.DagsterInstance) -> str | None:
    asked = _tick(instance)
    return asked.run_key if asked else None


def _run(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus, **tags: str
) -> dg.DagsterRun:
    """A run of the job, as far as the instance knows."""
    job = build_definitions().resolve_job_def(schedules.status_engine.name)
    return instance.create_run_for_job(
        job, status=status, tags=tags, remote_job_origin=ORIGIN
    )


def _record(connection: Connection, entity_id: int = 1) -> None:
    record(connection, entity_type="order", entity_id=entity_id, to_status="new")


def _define(home: Path, name: str, variable: str) -> Path:
    path = home / "sources" / f"{name}.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SOURCE.format(variable=variable))
    return path


def test_one_run_is_asked_for_a_set_of_waiting_files(
    instance: dg.DagsterInstance, home: Path
) -> None:
    assert _tick(instance) is None
    folder = home / "inbox" / "shop"
    folder.mkdir(parents=True)
    (folder / "mapping.yml").write_text("source: shop\n")
    assert _tick(instance) is None
    (folder / "orders.csv").write_text("id\n")
    first = _key(instance)
    assert first == _key(instance) is not None
    (folder / "orders.csv").write_text("id,created_at\n")
    assert _key(instance) not in (None, first)


def test_a_run_is_asked_for_again_for_what_a_killed_one_left(
    instance: dg.DagsterInstance, home: Path
) -> None:
    file = home / "inbox" / "a.csv"
    file.parent.mkdir(parents=True)
    file.write_text("id\n")
    first = _key(instance)
    place = take(file)
    left, again = _key(instance), _key(instance)
    assert None not in (first, left, again)
    assert len({first, left, again}) == 2
    place.unlink()
    assert _tick(instance) is None


def test_what_is_only_passed_over_starts_no_run(
    instance: dg.DagsterInstance, home: Path
) -> None:
    folder = home / "inbox" / "shop" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("id\n")
    (folder.parent / "b.csv").symlink_to(folder / "a.csv")
    (folder.parents[1] / ".c.csv").write_text("id\n")
    assert _tick(instance) is None


def test_a_run_is_asked_for_where_batches_wait(
    instance: dg.DagsterInstance,
    connection: Connection,
) -> None:
    _record(connection)
    first = _key(instance)
    assert first == _key(instance) is not None
    _record(connection, 2)
    assert _key(instance) not in (None, first)
    cuts.pin(connection, uuid.uuid4().hex)
    assert _tick(instance) is None
    row = ("2026-01-01T00:00:00Z", "order", 9, "new")
    names = ("created_at", "entity_type", "entity_id", "to_status")
    rows = pl.DataFrame([row], names, orient="row")
    append(connection, rows)
    assert _tick(instance) is not None
    cuts.pin(connection, uuid.uuid4().hex)
    # Nothing but duplicates, as a source's overlap brings them at each reading.
    append(connection, rows)
    assert _tick(instance) is None


def test_a_run_is_asked_for_where_a_source_is_due(
    instance: dg.DagsterInstance,
    home: Path,
    installed_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_URL", installed_url)
    (home / "sources").mkdir(parents=True)
    (home / "sources" / "broken.yml").write_text("query: 1\n")
    assert _tick(instance) is None
    _define(home, "shop", "SHOP_URL")
    assert _tick(instance) is not None
    with database.connect(installed_url) as connection:
        follow(connection, load_source(home / "sources" / "shop.yml"))
        cuts.pin(connection, uuid.uuid4().hex)
    assert _tick(instance) is None


@pytest.mark.parametrize("status", sensors.AT_WORK)
def test_while_a_run_waits_or_works_no_other_is_asked_for(
    instance: dg.DagsterInstance,
    connection: Connection,
    status: dg.DagsterRunStatus,
) -> None:
    _record(connection)
    run = _run(instance, status)
    assert _tick(instance) is None
    instance.delete_run(run.run_id)
    assert _tick(instance) is not None


def test_a_run_whose_process_is_gone_holds_up_nothing_for_long(
    instance: dg.DagsterInstance,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _record(connection)
    tags = {PROCESS_TAG: "999999999 1.0"}
    _run(instance, dg.DagsterRunStatus.STARTED, **tags)
    # It is ended, as failed just now.
    assert _tick(instance) is None
    monkeypatch.setattr(sensors, "PAUSE", 0)
    assert _tick(instance) is not None


def test_after_a_failed_run_there_is_a_pause(
    instance: dg.DagsterInstance,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _record(connection)
    failed = _run(instance, dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(failed)
    assert _tick(instance) is None
    later = time.time() + sensors.PAUSE
    monkeypatch.setattr(sensors.time, "time", lambda: later)
    assert _tick(instance) is not None


def test_a_burst_asks_for_one_run_at_a_time(
    instance: dg.DagsterInstance, connection: Connection
) -> None:
    """A tick each 20 s; a run takes two of them, and pins in the first."""
    asked, at_work = 0, None
    for number in range(30):
        _record(connection, number)
        if number % 3:
            continue
        if at_work is not None and number % 2:
            instance.report_run_canceled(at_work)
            at_work = None
        if _tick(instance) is not None:
            assert at_work is None
            asked += 1
            at_work = _run(instance, dg.DagsterRunStatus.STARTED)
            cuts.pin(connection, at_work.run_id)
    assert asked == 6
    assert sensors.arrivals.minimum_interval_seconds == 20


def test_a_failing_source_fails_the_run_after_all_else_is_published(
    installation: Callable[..., AbstractContextManager[str]],
    home: Path,
    first_run: Built,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = "se!cret"
    files = ("order.yml", "office_nl.yml")
    with installation(home, *files, template=first_run.url) as url:
        monkeypatch.setenv("SHOP_URL", url)
        away = f"postgresql://me:{secret}@127.0.0.1:1/none"
        monkeypatch.setenv("AWAY_URL", away)
        _define(home, "a_away", "AWAY_URL")
        _define(home, "shop", "SHOP_URL")
        (home / "inbox").mkdir()
        (home / "inbox" / "one.csv").write_text(
            "created_at,entity_type,entity_id,to_status\n"
            "2026-03-01T09:00:00Z,order,5,new\n"
        )
        with pytest.raises(RunError, match=r"a_away: .*Check AWAY_URL") as caught:
            run(Warehouse(), ALL_PARTS)
        assert "shop" not in str(caught.value)
        published = home / "published" / "current" / "analytics.duckdb"
        with duckdb.connect(published, read_only=True) as files:
            found = files.sql("select entity_id from entity_current_status order by 1")
            assert found.fetchall() == [(1,), (2,), (5,), (7,)]
        assert _failed_checks(home) == ["every_source_was_read"]
        # It is not due again: the run does what there is, and the check stands.
        run(Warehouse(), ALL_PARTS)
        assert _failed_checks(home) == ["every_source_was_read"]
        (home / "sources" / "a_away.yml").unlink()
        run(Warehouse(), ALL_PARTS)
        assert _failed_checks(home) == []
    kept = [p for p in home.rglob("*") if p.is_file()]
    assert [p for p in kept if secret.encode() in p.read_bytes()] == []


def _failed_checks(home: Path) -> list[str]:
    """Of the newest run."""
    with dg.DagsterInstance.from_config(str(dagster_home(home))) as instance:
        newest = instance.get_runs(limit=1)[0]
        found = instance.all_logs(
            newest.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        )
        said = [entry.dagster_event.event_specific_data for entry in found]
        return [check.check_name for check in said if not check.passed]


def test_commands_check_list_and_follow_a_source(
    home: Path, installed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed_url
    monkeypatch.setenv("SHOP_URL", installed_url)
    path = _define(home, "shop", "SHOP_URL")
    assert command("sources", "check").err == "1 sources are sound.\n"
    said = command("sources", "follow", "shop")
    assert (said.code, "1 appended" in said.err) == (0, True)
    assert "2026-03-01 09:00:00+00" in command("sources", "list").out
    path.write_text(SOURCE.format(variable="NOT_SET"))
    assert_one_sentence(command("sources", "follow", "shop"), "NOT_SET is not set")
    assert "NOT_SET is not set" in command("sources", "list").out
    path.write_text("query: 1\n")
    assert command("sources", "check").code == 1
    assert_one_sentence(command("sources", "follow", "none"), "none.yml")
