"""Alerts of SLAs, sent through channels to real receivers that fail now and then."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from click.testing import CliRunner
from receivers import HttpReceiver, MailReceiver

from dagster_project import sensors
from dagster_project.alerts import channels
from dagster_project.alerts.delivery import (
    ChannelResult,
    deliver_alerts,
    deliverable,
    standing_failures,
)
from dagster_project.cli import main
from dagster_project.definitions import build_definitions
from dagster_project.resources import Warehouse
from ingest.configuration import workflows
from ingest.delivery import deliver
from ingest.store import database
from ingest.store.database import Connection

Build = Callable[..., Any]
Channel = Callable[..., None]
Rows = Callable[[str], None]
MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
FLEET = "11111111-1111-4111-8111-111111111111"
CONFIGURATION = {
    "office.yml": """\
calendar_name: office
timezone: Europe/Amsterdam
windows:
  monday: ["09:00-17:00"]
  tuesday: ["09:00-17:00"]
covers: [2026, 2026]
""",
    "fleet.yml": f"""\
business_entities:
  - {{id: {FLEET}, name: Fleet}}
""",
    "order.yml": """\
entity_type: order
workflow_name: standard
business_entity: null
is_default: true
is_active: true
conditions: {}
calendar: null
steps:
  - status_name: new
    status_label: New
    status_color: "#2563eb"
    step_order: 1
    allowed_transitions: [done]
    sla_hours: 8
    requires_approval: false
    approval_role: null
    auto_transition_conditions: {}
    notification_settings:
      at_risk_hours: 2
      notify: [planner]
      stages:
        - {name: escalated, hours_after: 10, notify: [boss]}
    is_final: false
  - status_name: done
    status_label: Done
    status_color: "#16a34a"
    step_order: 2
    allowed_transitions: []
    sla_hours: null
    requires_approval: false
    approval_role: null
    auto_transition_conditions: {}
    notification_settings: {}
    is_final: true
""",
}
DELIVER = "from dagster_project.__main__ import main; main()"


def _after(hours: float) -> datetime:
    return MONDAY + timedelta(hours=hours)


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    receiver = HttpReceiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def mail() -> Iterator[MailReceiver]:
    mail = MailReceiver()
    yield mail
    mail.stop()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "FIRST_WAIT", timedelta(0))


@pytest.fixture
def channel(
    connection: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    receiver: HttpReceiver,
) -> Channel:
    """Configure a channel, by default to the receiver of HTTP."""
    for name, content in CONFIGURATION.items():
        (tmp_path / name).write_text(content)
    workflows.apply(connection, workflows.load(tmp_path))

    def make(name: str = "planning", address: str = "", **given: Any) -> None:
        variable = f"ALERTS_{name.upper()}"
        monkeypatch.setenv(variable, address or receiver.address)
        keys = {"name": name, "address_variable": variable, **given}
        lines = "".join(f"    {key}: {value}\n" for key, value in keys.items())
        path = tmp_path / f"{name}.yml"
        path.write_text(f"alert_channels:\n  -\n{lines}")
        workflows.apply(connection, workflows.load(path))

    return make


@pytest.fixture
def history(connection: Connection, tmp_path: Path) -> Rows:
    """Append transitions of orders: id, hours after Monday 09:00 UTC, status."""

    def append(text: str) -> None:
        path = tmp_path / "history.csv"
        rows = [line.split() for line in text.splitlines() if line.strip()]
        lines = [
            f"{_after(float(hours)).isoformat()},order,{number},{status},"
            + (f'"{{""business_entity_id"": ""{FLEET}""}}"' if more else "")
            for number, hours, status, *more in rows
        ]
        header = "created_at,entity_type,entity_id,to_status,business_context"
        path.write_text("\n".join([header, *lines]) + "\n")
        assert deliver(connection, path).result.rejected == 0

    return append


def _only(results: list[ChannelResult]) -> ChannelResult:
    (result,) = results
    return result


def _told(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select kind, stage, entity_id from raw.alert_deliveries order by delivery_id"
    ).fetchall()


def test_each_stage_is_told_once_in_the_order_in_which_they_fell_due(
    database_url: str,
    connection: Connection,
    build: Build,
    channel: Channel,
    history: Rows,
    receiver: HttpReceiver,
) -> None:
    channel()
    history("1 0 new\n2 1 new\n3 -30 new\n3 -29 done")
    build(database_url, _after(2))
    assert deliver_alerts(connection, as_of=_after(5.999)) == [
        ChannelResult("planning", "nothing due", 0, 0, 0)
    ]
    deliver_alerts(connection, as_of=_after(6))
    # Exactly at the deadline it is not overdue (S13).
    deliver_alerts(connection, as_of=_after(8))
    assert receiver.titles == ["At risk: order 1 in New", "At risk: order 2 in New"]
    later = _after(8) + timedelta(microseconds=1)
    for _ in range(2):
        deliver_alerts(connection, as_of=later)
    deliver_alerts(connection, as_of=_after(18))
    assert receiver.titles[2:] == [
        "Breached: order 1 in New",
        "Breached: order 2 in New",
        "Escalated: order 1 in New",
    ]
    assert len(_told(connection)) == 5
    body = receiver.taken[2]["message"]
    assert "order 1 is 'new' since Mon 2026-03-02 09:00:00\n" in body
    assert "Deadline Mon 2026-03-02 17:00:00, after 8 h of elapsed time" in body
    assert "May go to: done" in body
    assert "Why: status-engine explain order 1\n" in body


def test_what_ended_or_moved_before_its_alert_went_out_is_not_told(
    database_url: str,
    connection: Connection,
    build: Build,
    channel: Channel,
    history: Rows,
    receiver: HttpReceiver,
) -> None:
    channel()
    history("1 0 new\n2 0 new")
    build(database_url, _after(2))
    # Not built yet.
    history("1 3 done\n2 3 new")
    result = _only(deliver_alerts(connection, as_of=_after(20)))
    assert (result.state, receiver.taken) == ("nothing due", [])
    build(database_url, _after(4))
    deliver_alerts(connection, as_of=_after(9))
    assert [title.split()[-3] for title in receiver.titles] == ["2", "2"]


def test_many_at_once_are_one_digest_with_counts_and_the_worst_ten(
    database_url: str,
    connection: Connection,
    build: Build,
    channel: Channel,
    history: Rows,
    receiver: HttpReceiver,
) -> None:
    channel(digest_above=4, stages="[breached, escalated]")
    history("\n".join(f"{n} {n / 10} new" for n in range(1, 31)))
    build(database_url, _after(4))
    result = _only(deliver_alerts(connection, as_of=_after(19)))
    assert result == ChannelResult("planning", "delivered", 40, 40, 1)
    (message,) = receiver.taken
    assert message["title"] == "SLA alerts: 30 breached, 10 escalated"
    assert message["message"].splitlines()[0] == "40 order in 'new'"
    told = [line for line in message["message"].splitlines() if "deadline" in line]
    assert [int(line.split()[1]) for line in told] == list(range(1, 11))
    assert told[0].endswith("UTC: overdue by 10 h 54 min")
    assert _only(deliver_alerts(connection, as_of=_after(19))).due == 0


def test_a_channel_gets_what_its_lists_name_and_in_the_hours_of_its_calendar(
    database_url: str,
    connection: Connection,
    build: Build,
    channel: Channel,
    history: Rows,
) -> None:
    channel("everything", digest_above=0)
    channel("fleet", business_entities="[Fleet]")
    channel("boss", roles="[boss, nobody]")
    channel("quotes", entity_types="[quote]")
    channel("breaches", stages="[breached]", calendar="office")
    channel("gone", is_active="false")
    history("1 0 new\n2 0 new fleet")
    build(database_url, _after(2))
    # 20:00 in Amsterdam, then Tuesday 09:00 there.
    evening, morning = _after(10 + 8), _after(23)
    found = {r.channel_name: r for r in deliver_alerts(connection, as_of=evening)}
    assert {name: (r.state, r.delivered) for name, r in found.items()} == {
        "boss": ("delivered", 2),
        "breaches": ("silent", 0),
        "everything": ("delivered", 6),
        "fleet": ("delivered", 3),
        "quotes": ("nothing due", 0),
    }
    almost = morning - timedelta(microseconds=1)
    for instant, delivered in ((almost, 0), (morning, 2)):
        results = deliver_alerts(connection, as_of=instant)
        assert sum(result.delivered for result in results) == delivered


def test_what_was_told_and_then_restated_is_taken_back_once(
    database_url: str,
    connection: Connection,
    build: Build,
    channel: Channel,
    history: Rows,
    receiver: HttpReceiver,
) -> None:
    channel(stages="[breached]")
    history("1 0 new\n2 0 new\n3 0 new\n4 0 new")
    build(database_url, _after(2))
    deliver_alerts(connection, as_of=_after(9))
    assert len(receiver.taken) == 4
    # 1 had left in time; 2 left late; 3 began later, so it is not late yet.
    history("1 7.5 done\n2 8.5 done\n3 0.5 done\n3 5 new")
    build(database_url, _after(10))
    for _ in range(2):
        deliver_alerts(connection, as_of=_after(10))
    assert receiver.titles[4:] == [
        "Taken back: order 1 is not breached",
        "Taken back: order 3 is not breached",
    ]
    assert "it left 'new' 2026-03-02 16:30 UTC" in receiver.taken[4]["message"]
    deliver_alerts(connection, as_of=_after(13.5))
    assert receiver.titles[6:] == ["Breached: order 3 in New"]


def test_a_receiver_that_was_down_gets_all_once_it_is_back(
    database_url: str,
    connection: Connection,
    build: Build,
    channel: Channel,
    history: Rows,
    receiver: HttpReceiver,
    mail: MailReceiver,
) -> None:
    channel("posts")
    channel("mails", address=mail.address)
    history("1 0 new\n2 0.1 new\n3 0.2 new")
    build(database_url, _after(2))
    receiver.statuses = [200, 503]
    mail.refusals = 1
    found = {r.channel_name: r for r in deliver_alerts(connection, as_of=_after(7))}
    # In order: nothing goes past what was not taken.
    assert (found["posts"].delivered, found["mails"].delivered) == (1, 0)
    assert {found["posts"].state, found["mails"].state} == {"failed"}
    receiver.stop()
    mail.stop()
    for _ in range(2):
        results = deliver_alerts(connection, as_of=_after(7))
        assert {result.state for result in results} == {"failed"}
    assert len(standing_failures(connection)) == 2
    receiver.start()
    mail.start()
    assert deliverable(connection) == ["mails", "posts"]
    for _ in range(2):
        deliver_alerts(connection, as_of=_after(7))
    assert receiver.titles == [f"At risk: order {n} in New" for n in (1, 2, 3)]
    subjects = [
        line.partition(": ")[2]
        for text in mail.taken
        for line in text.splitlines()
        if line.startswith("Subject:")
    ]
    assert subjects == receiver.titles
    assert standing_failures(connection) == []
    kept = connection.execute("select string_agg(error, ' ') from raw.alert_messages")
    said = str(kept.fetchone())
    assert "503" in said
    assert not any(word in said for word in ("hunter2", "secret-token", "someone"))


def test_a_failed_channel_is_left_alone_ever_longer(
    database_url: str,
    connection: Connection,
    build: Build,
    channel: Channel,
    history: Rows,
    receiver: HttpReceiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel()
    history("1 0 new")
    build(database_url, _after(2))
    receiver.statuses = [500] * 3
    for _ in range(3):
        assert _only(deliver_alerts(connection, as_of=_after(7))).state == "failed"
    monkeypatch.setattr(channels, "FIRST_WAIT", timedelta(seconds=100))
    result = _only(deliver_alerts(connection, as_of=_after(7)))
    assert (result.state, receiver.taken) == ("waiting", [])
    assert deliverable(connection) == []
    (planning,) = channels.channels_in_force(connection)
    until = channels.waits_until(connection, planning, channels.SLA)
    (last,) = connection.execute("select max(sent_at) from raw.alert_messages")
    assert until == last[0] + timedelta(seconds=400)
    monkeypatch.setattr(channels, "FIRST_WAIT", timedelta(hours=1))
    until = channels.waits_until(connection, planning, channels.SLA)
    assert until == last[0] + channels.LONGEST_WAIT


def test_without_an_address_or_a_channel_it_is_said_that_nobody_is_told(
    database_url: str,
    connection: Connection,
    build: Build,
    channel: Channel,
    history: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history("1 0 new")
    build(database_url, _after(2))
    assert deliver_alerts(connection, as_of=_after(7)) == []
    channel()
    dry = _only(deliver_alerts(connection, as_of=_after(7), is_dry_run=True))
    assert (dry.state, dry.due) == ("dry run", 1)
    monkeypatch.delenv("ALERTS_PLANNING")
    result = _only(deliver_alerts(connection, as_of=_after(7)))
    assert (result.state, result.due) == ("no address", 1)
    (failure,) = standing_failures(connection)
    assert "variable ALERTS_PLANNING is not set" in failure
    assert _told(connection) == []


def _deliver_in_a_process(url: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", DELIVER, "alerts", "deliver"],
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_killed_at_each_stage_of_a_delivery_the_next_one_heals_it(
    database_url: str,
    connection: Connection,
    build: Build,
    channel: Channel,
    history: Rows,
    receiver: HttpReceiver,
) -> None:
    """At least once, by the same id; never again once it is recorded."""
    channel(stages="[breached]")
    history("1 0 new\n2 0.5 new\n3 1 new")
    build(database_url, _after(2))
    processes: list[subprocess.Popen[bytes]] = []

    def kill() -> None:
        os.kill(processes[-1].pid, signal.SIGKILL)

    # Before the receiver has taken it; after that, before it is recorded.
    for status in (500, 200):
        receiver.statuses, receiver.before_answer = [status], kill
        processes.append(_deliver_in_a_process(database_url))
        assert processes[-1].wait(60) == -signal.SIGKILL
        assert _told(connection) == []
    # After the first is recorded, at the second.
    receiver.before_answer = lambda: kill() if len(receiver.taken) == 3 else None
    processes.append(_deliver_in_a_process(database_url))
    assert processes[-1].wait(60) == -signal.SIGKILL
    assert [number for *_, number in _told(connection)] == [1]
    receiver.before_answer = lambda: None
    assert _deliver_in_a_process(database_url).wait(60) == 0
    assert [number for *_, number in _told(connection)] == [1, 2, 3]
    numbers = [int(title.split()[2]) for title in receiver.titles]
    assert numbers == [1, 1, 2, 2, 3]
    ids = [m["message"].rpartition("alert ")[2].split(",")[0] for m in receiver.taken]
    assert len(set(ids)) == 3


def test_where_the_database_goes_away_the_next_delivery_heals_it(
    database_url: str,
    connection: Connection,
    build: Build,
    channel: Channel,
    history: Rows,
    receiver: HttpReceiver,
) -> None:
    channel(stages="[breached]")
    history("1 0 new")
    build(database_url, _after(2))
    with database.connect(database_url) as other:

        def end_session() -> None:
            end = "select pg_terminate_backend(%s)"
            connection.execute(end, [other.info.backend_pid])

        receiver.before_answer = end_session
        with pytest.raises(psycopg.OperationalError):
            deliver_alerts(other, as_of=_after(9))
    receiver.before_answer = lambda: None
    assert _only(deliver_alerts(connection, as_of=_after(9))).delivered == 1
    assert receiver.titles == ["Breached: order 1 in New"] * 2
    assert _only(deliver_alerts(connection, as_of=_after(9))).due == 0


def test_two_that_deliver_at_once_tell_each_alert_once(
    database_url: str,
    connection: Connection,
    build: Build,
    channel: Channel,
    history: Rows,
    receiver: HttpReceiver,
) -> None:
    channel(stages="[breached]", digest_above=20)
    history("\n".join(f"{n} {n / 10} new" for n in range(1, 13)))
    build(database_url, _after(2))
    processes = [_deliver_in_a_process(database_url) for _ in range(3)]
    assert {process.wait(90) for process in processes} <= {0, 1}
    assert _deliver_in_a_process(database_url).wait(60) == 0
    assert sorted(int(title.split()[2]) for title in receiver.titles) == [*range(1, 13)]
    assert len(_told(connection)) == 12


def test_dagster_asks_for_a_delivery_makes_it_and_says_who_got_none(
    database_url: str,
    build: Build,
    channel: Channel,
    history: Rows,
    receiver: HttpReceiver,
    tmp_path: Path,
) -> None:
    channel()
    history("1 0 new")
    build(database_url, _after(2))
    warehouse = Warehouse(database_url=database_url, home=str(tmp_path))
    definitions = build_definitions(warehouse)
    job = definitions.resolve_job_def("deliver_alerts")

    with dg.instance_for_test() as instance:

        def tick() -> object:
            context = dg.build_sensor_context(instance)
            return sensors.alerts_fall_due(context, warehouse=warehouse)

        def run() -> tuple[dict[str, Any], bool]:
            result = job.execute_in_process(instance=instance)
            told = result.asset_materializations_for_node("alerts")[0].metadata
            (check,) = result.get_asset_check_evaluations()
            assert check.severity is dg.AssetCheckSeverity.ERROR
            return {name: value.value for name, value in told.items()}, check.passed

        assert isinstance(tick(), dg.RunRequest)
        receiver.statuses = [500]
        told, passed = run()
        assert (told["due"], told["delivered"], told["failed"], passed) == (
            3,
            0,
            1,
            False,
        )
        assert "planning: failed, 0 of 3 in 1 messages" in told["channels"]
        assert isinstance(tick(), dg.RunRequest)
        told, passed = run()
        assert (told["due"], told["delivered"], told["failed"], passed) == (
            3,
            3,
            0,
            True,
        )
        assert isinstance(tick(), dg.SkipReason)
        # A run of it that goes on is enough.
        history("2 0 new")
        build(database_url, _after(2))
        assert isinstance(tick(), dg.RunRequest)
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert isinstance(tick(), dg.SkipReason)


def test_commands_list_deliver_and_try_channels(
    database_url: str,
    build: Build,
    channel: Channel,
    history: Rows,
    receiver: HttpReceiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)

    def call(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["alerts", *arguments])
        return result.exit_code, result.output

    history("1 0 new")
    build(database_url, _after(2))
    assert "dry run: no channel is configured" in call("deliver")[1]
    assert "nobody is told" in call("list")[1]
    channel()
    code, said = call("list")
    assert (code, said.count("planning ")) == (0, 3)
    assert call("deliver", "--dry-run") == (
        0,
        "alerts to planning: dry run, 0 of 3 in 0 messages (asked for)\n",
    )
    assert call("test", "planning") == (0, "Channel planning took it.\n")
    receiver.statuses = [500]
    code, said = call("deliver")
    assert (code, "planning: 3 are due, and it failed: " in said) == (1, True)
    assert call("deliver")[0] == 0
    assert call("deliver") == (0, "nothing is due\n")
    assert len(receiver.taken) == 4
    code, said = call("test", "nobody")
    assert (code, "There is no channel 'nobody'; in force are planning." in said) == (
        1,
        True,
    )
