"""Signals of targets: each told once when it begins and once when it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from receivers import HttpReceiver

from dagster_project.alerts import channels
from dagster_project.alerts.delivery import deliver_alerts
from dagster_project.alerts.signals import standing
from dagster_project.cli import main
from ingest.configuration import workflows
from ingest.delivery import deliver
from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
FLEET = "11111111-1111-4111-8111-111111111111"
STEP = """\
  - status_name: {}
    status_label: A status
    status_color: "#2563eb"
    step_order: {}
    allowed_transitions: [{}]
    sla_hours: {}
    requires_approval: false
    approval_role: null
    auto_transition_conditions: {{}}
    notification_settings: {{}}
    is_final: {}
"""
CONFIGURATION = {
    "fleet.yml": f"business_entities: [{{id: {FLEET}, name: Fleet}}]\n",
    "order.yml": f"""\
entity_type: order
workflow_name: standard
business_entity: null
is_default: true
is_active: true
conditions: {{}}
calendar: null
steps:
{STEP.format("new", 1, "done", 8, "false")}{STEP.format("done", 2, "", "null", "true")}
""",
    "targets.yml": """\
targets:
  - name: orders
    entity_type: order
    status: new
    at_least: 90
    effective_from: 2026-02-01
    notify: [planner]
  - {name: fleet, entity_type: order, business_entity: Fleet, at_least: 100,
     effective_from: 2026-03-05}
  - {name: quotes, entity_type: quote, at_least: 90, effective_from: 2026-02-01}
""",
}
END = 'effective_from: "2026-03-08"'
# As `deliver_alerts` of a process of its own, whatever the time is.
DELIVER = """
import sys
from datetime import datetime
from dagster_project.alerts.delivery import deliver_alerts
from ingest.store import database
with database.connect(sys.argv[1]) as connection:
    deliver_alerts(connection, as_of=datetime.fromisoformat(sys.argv[2]))
"""


def _noon(day: int) -> datetime:
    return datetime(2026, 3, day, 12, tzinfo=UTC)


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    receiver = HttpReceiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def channel(
    connection: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    receiver: HttpReceiver,
) -> Callable[..., None]:
    """Configure a channel to the receiver; without a pause after failures."""
    monkeypatch.setattr(channels, "FIRST_WAIT", timedelta(0))

    def make(name: str = "all", **given: Any) -> None:
        monkeypatch.setenv(f"ALERTS_{name.upper()}", receiver.address)
        keys = {"name": name, "address_variable": f"ALERTS_{name.upper()}", **given}
        lines = "".join(f"    {key}: {value}\n" for key, value in keys.items())
        path = tmp_path / f"{name}.yml"
        path.write_text(f"alert_channels:\n  -\n{lines}")
        workflows.apply(connection, workflows.load(path))

    return make


@pytest.fixture
def built(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> str:
    """Ten orders a day, all in time but those of three days; one of the fleet is late.

    In time they leave after an hour, else after nine, an hour late. 2 to 4 March are
    late, Sunday 8 March has none; one of the fleet is late on the 6th.
    """
    folder = tmp_path / "configuration"
    folder.mkdir()
    for name, content in CONFIGURATION.items():
        (folder / name).write_text(content)
    workflows.apply(connection, workflows.load(folder))
    lines = ["created_at,entity_type,entity_id,to_status,business_context"]
    days = [datetime(2026, 2, 16, 8, tzinfo=UTC) + timedelta(n) for n in range(25)]
    for place, day in enumerate(days):
        for number in range(0 if day.date() == date(2026, 3, 8) else 10):
            is_late = date(2026, 3, 2) <= day.date() <= date(2026, 3, 4)
            is_of_fleet = number == 0 and day.date() == date(2026, 3, 6)
            left_at = day + timedelta(hours=9 if is_late or is_of_fleet else 1)
            said = f'"{{""business_entity_id"": ""{FLEET}""}}"' if is_of_fleet else ""
            entity = f"order,{place * 10 + number}"
            lines.append(f"{day.isoformat()},{entity},new,{said}")
            lines.append(f"{left_at.isoformat()},{entity},done,")
    path = tmp_path / "history.csv"
    path.write_text("\n".join(lines) + "\n")
    assert deliver(connection, path).result.rejected == 0
    build(database_url, _noon(13))
    return database_url


def _seen(connection: Connection, target: str, rule: str) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select is_standing, through_on::text from raw.target_signals "
        "where target_name = %s and rule = %s order by event_id",
        [target, rule],
    ).fetchall()


def test_a_signal_is_told_when_it_begins_and_when_it_ends_whenever_it_is_killed(
    connection: Connection,
    built: str,
    channel: Callable[..., None],
    receiver: HttpReceiver,
) -> None:
    channel(stages="[burn_7d]", entity_types="[order]", roles="[planner]")
    # After two days of three, 20 of 70 may be chance yet; and a day counts once over.
    for instant in (_noon(4), datetime(2026, 3, 4, 23, 59, 59, tzinfo=UTC)):
        deliver_alerts(connection, as_of=instant)
    assert (receiver.taken, _seen(connection, "orders", "burn_7d")) == ([], [])
    processes: list[subprocess.Popen[bytes]] = []

    def killed(status: int, at: datetime) -> None:
        receiver.statuses = [status]
        receiver.before_answer = lambda: os.kill(processes[-1].pid, signal.SIGKILL)
        command = [sys.executable, "-c", DELIVER, built, at.isoformat()]
        processes.append(subprocess.Popen(command))
        assert processes[-1].wait(60) == -signal.SIGKILL
        receiver.before_answer = lambda: None

    for instant in (datetime(2026, 3, 5, tzinfo=UTC), datetime(2026, 3, 6, tzinfo=UTC)):
        # Before the receiver has taken it; after that, before it is recorded.
        killed(500, instant)
        killed(200, instant)
        for _ in range(2):
            deliver_alerts(connection, as_of=instant)
    deliver_alerts(connection, as_of=_noon(12))
    title = "orders: its error budget burns 4.3 times as fast as it comes"
    assert receiver.titles == [f"Signal: {title}"] * 2 + [f"Over: {title}"] * 2
    body = receiver.taken[0]["message"]
    assert "Target: compliance of at least 90 %, order / new\n" in body
    assert "7 days up to 2026-03-04: 30 of 70 breached, 7.0 allowed\n" in body
    assert "1 day up to 2026-03-04: 10 of 10 breached, 1.0 allowed\n" in body
    said = [m["message"].split("\n")[-1].split(",")[0] for m in receiver.taken]
    assert said[0] == said[1]
    assert said[2] == said[3] == said[0].replace("signal", "end")
    assert "seen first by the days up to 2026-03-04" in receiver.taken[-1]["message"]
    told = connection.execute(
        "select kind, stage, interval_id, entity_type from raw.alert_deliveries"
    ).fetchall()
    assert told == [
        ("signal", "burn_7d", None, "order"),
        ("end", "burn_7d", None, "order"),
    ]
    assert _seen(connection, "orders", "burn_7d") == [
        (True, "2026-03-04"),
        (False, "2026-03-05"),
    ]


def test_channels_get_the_signals_that_their_lists_name_and_those_that_stand(
    connection: Connection,
    built: str,
    channel: Callable[..., None],
    receiver: HttpReceiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel("quotes", entity_types="[quote]")
    deliver_alerts(connection, as_of=_noon(5))
    assert receiver.titles == []
    channel("fleet", business_entities="[Fleet]")
    channel("boss", roles="[boss]")
    channel("planner", roles="[planner]", digest_above=0)
    deliver_alerts(connection, as_of=_noon(5))
    # Seen before the channel was there, and standing: told, as one message.
    (digest,) = receiver.taken
    assert digest["title"] == "SLA alerts: 3 of targets"
    burns = "orders: its error budget burns {} times as fast as it comes"
    assert {line for line in digest["message"].splitlines() if "Signal" in line} == {
        "Signal: orders: its compliance is worse than it was",
        f"Signal: {burns.format(1.8)}",
        f"Signal: {burns.format(4.3)}",
    }
    # The first breach of a target of 100 %; of two of the others the end.
    deliver_alerts(connection, as_of=_noon(7))
    none_left = "Signal: fleet: it leaves nothing to breaches, and there are some"
    assert receiver.titles[1:] == [none_left, none_left, "SLA alerts: 2 of targets"]
    over = {line for line in receiver.taken[-1]["message"].splitlines() if "Ov" in line}
    assert over == {
        "Over: orders: its compliance is worse than it was",
        f"Over: {burns.format(4.3)}",
    }
    monkeypatch.setenv("DATABASE_URL", built)
    channel("late", business_entities="[Fleet]")
    listed = CliRunner().invoke(main, ["alerts", "list"])
    rows = [line.split() for line in listed.output.splitlines()[1:]]
    assert rows == [
        ["late", "signal", rule, "order", "fleet"] for rule in ("burn_28d", "burn_7d")
    ]
    # A target that ended has no signal.
    end = f"targets:\n  - {{name: fleet, entity_type: order, at_least: null, {END}}}\n"
    (tmp_path / "end.yml").write_text(end)
    workflows.apply(connection, workflows.load(tmp_path / "end.yml"), at=_noon(7))
    deliver_alerts(connection, as_of=_noon(9))
    assert receiver.titles[-2:] == [none_left.replace("Signal", "Over")] * 2


def _row(day: int, met: int, due: int, **given: Any) -> dict[str, Any]:
    return {
        "target_name": "t",
        "through_on": date(2026, 1, 1) + timedelta(day),
        "window_days": 1,
        "entity_type": "order",
        "workflow_name": None,
        "status": None,
        "business_entity_id": None,
        "roles": [],
        "effective_from": date(2026, 1, 1),
        "at_least_ratio": 0.9,
        "due_count": due,
        "met_count": met,
        "breached_count": due - met,
        "allowed_count": due / 10,
        "burn_rate": (due - met) / (due / 10) if due else None,
        **given,
    }


def _charted(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Rules of the chart that stand on the last of the days, and their titles."""
    quiet = {"due_count": 0, "breached_count": 0, "burn_rate": None}
    days = [{**row, **more} for row in rows for more in _windows(quiet)]
    found = standing(days, rows[-1]["through_on"])
    return [(signal.rule, signal.title) for signal in found]


def _windows(quiet: dict[str, Any]) -> list[dict[str, Any]]:
    return [{}, {"window_days": 7, **quiet}, {"window_days": 28, **quiet}]


def test_a_break_of_the_chart_stands_over_days_on_which_nothing_was_due() -> None:
    usual = [_row(day, 17 + day % 3, 20) for day in range(20)]
    bad = _row(20, 8, 20)
    expected = [("chart", "t: its compliance is worse than it was")]
    assert _charted(usual) == []
    assert _charted([*usual, bad]) == expected
    assert _charted([*usual, bad, _row(21, 0, 0)]) == expected
    assert _charted([*usual, bad, _row(21, 18, 20)]) == []


def test_a_version_of_the_target_restates_the_chart_and_its_end_ends_all() -> None:
    usual = [_row(day, 17 + day % 3, 20) for day in range(20)]
    worse = [_row(day, 12 + day % 3, 20) for day in range(20, 30)]
    assert ("chart", "t: its compliance is worse than it was") in _charted(
        usual + worse
    )
    restated = [{**row, "effective_from": date(2026, 1, 21)} for row in worse]
    assert _charted(usual + restated) == []
    days = [{**row, **more} for row in usual + worse for more in _windows({})]
    assert standing(days, date(2026, 2, 15)) == []
