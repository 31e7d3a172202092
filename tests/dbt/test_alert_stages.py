"""When alerts fall due (S11, S13), held against the oracle."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import business_time_oracle as business_time
import oracle
import pytest
from facts import append_rows, appended, apply, at, calendar, published, step, workflow
from oracle import Row
from psycopg.types.json import Jsonb

from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
STAGES = [
    {"name": "long_before", "hours_before": 900},
    {"name": "before", "hours_before": 3.5},
    {"name": "at_it", "hours_before": 0},
    {"name": "right_after", "hours_after": 0},
    {"name": "after", "hours_after": 12.000001, "notify": ["boss"]},
    {"name": "long_after", "hours_after": 3000},
]
CALENDARS = {
    # Lunch breaks, nights over both changes of clocks, and none.
    "order": calendar(
        "office",
        "Europe/Amsterdam",
        {day: ["08:00-12:00", "12:30-17:00"] for day in WEEK[:5]},
    ),
    "quote": calendar(
        "nights", "America/New_York", {day: ["22:00-06:00"] for day in WEEK}
    ),
    "visit": None,
}
ONE = timedelta(microseconds=1)


def _steps() -> list[Row]:
    settings = {"at_risk_hours": 2.25, "notify": ["planner"], "stages": STAGES}
    return [
        step("new", 1, ["done"], sla_hours=8, notification_settings=settings),
        step("done", 2, []),
    ]


def _transitions(rng: random.Random) -> list[Row]:
    """Stays around both nights on which clocks change, some with a given deadline."""
    rows: list[Row] = []
    for number in range(240):
        day = rng.choice([65, 85, 300, 200]) + rng.random() * 6
        row = {
            "entity_type": rng.choice(list(CALENDARS)),
            "entity_id": number,
            "created_at": at(day, rng.choice([0, 1, 999_999])),
            "to_status": "new",
        }
        if number % 3 == 0:
            row["sla_deadline"] = row["created_at"] + timedelta(
                hours=rng.randrange(-20, 90), microseconds=rng.randrange(2)
            )
        rows.append(row)
        if number % 4 == 0:
            end = {"created_at": at(day + 1), "to_status": "done"}
            rows.append({**row, **end, "sla_deadline": None})
    return rows


def _due(facts: oracle.Facts) -> list[Row]:
    """What sla_alerts must hold, without the derived ids."""
    openings = {row["id"]: oracle.opening_of(row) for row in facts.calendars} | {
        None: None
    }
    found = []
    for stay in oracle.intervals(facts):
        deadline = stay["sla_deadline"]
        if stay["left_at"] is not None or deadline is None:
            continue
        opening = openings[stay["calendar_id"]]
        stages: list[tuple[str, datetime | None, list[str]]] = [
            ("at_risk", stay["at_risk_from"], ["planner"]),
            ("breached", deadline + ONE, ["planner"]),
        ]
        for stage in STAGES:
            hours = Decimal(str(stage.get("hours_before", stage.get("hours_after"))))
            told = (
                business_time.lead(opening, deadline, hours)
                if "hours_before" in stage
                else business_time.deadline(opening, deadline, hours)
            )
            stages.append((stage["name"], told, stage.get("notify", ["planner"])))
        same = (
            "entity_type",
            "entity_id",
            "status",
            "entered_at",
            "sla_deadline",
            "business_entity_id",
            "workflow_id",
            "step_id",
            "calendar_id",
        )
        found += [
            {
                **{name: stay[name] for name in same},
                "stage": name,
                "due_at": max(told, stay["entered_at"]),
                "roles": roles,
            }
            for name, told, roles in stages
            if told is not None
        ]
    return found


def test_stages_fall_due_in_business_time_across_changes_of_clocks(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """S11 backwards and forwards from the deadline; built in part as at once."""
    files: list[Any] = [file for file in CALENDARS.values() if file]
    files += [
        workflow(kind, "w", _steps(), calendar=file and file["calendar_name"])
        for kind, file in CALENDARS.items()
    ]
    apply(connection, tmp_path, at(0), *files)
    rows = _transitions(random.Random(20261129))
    append_rows(connection, rows[: len(rows) // 2])
    build(database_url, at(364))
    append_rows(connection, rows[len(rows) // 2 :])
    build(database_url, at(364))
    expected = _due(appended(connection))
    assert {row["stage"] for row in expected} == {
        "at_risk",
        "breached",
        *(stage["name"] for stage in STAGES),
    }
    found = [
        {k: v for k, v in row.items() if k not in ("alert_id", "interval_id")}
        for row in published(connection, "sla_alerts", at(364))
    ]
    order = ("entity_type", "entity_id", "stage")

    def sort(rows: list[Row]) -> list[Row]:
        return sorted(rows, key=lambda row: [row[name] for name in order])

    assert sort(found) == sort(expected)
    before = [row for row in expected if row["due_at"] <= at(88)]
    told = published(connection, "due_alerts", at(88))
    assert len(told) == len(before) > 0


@pytest.mark.parametrize("settings", [{"stages": "soon"}, {"stages": None}, {"x": 1}])
def test_settings_of_versions_that_were_not_checked_have_the_stages_of_all(
    database_url: str,
    connection: Connection,
    build: Build,
    tmp_path: Path,
    settings: dict[str, Any],
) -> None:
    steps = [step("new", 1, ["done"], sla_hours=8), step("done", 2, [])]
    apply(connection, tmp_path, at(0), workflow("order", "w", steps))
    with connection.transaction():
        # As releases before 2026-11-29 kept them.
        connection.execute("set local session_replication_role = replica")
        connection.execute(
            "update raw.status_workflow_steps set notification_settings = %s",
            [Jsonb(settings)],
        )
    row = {"entity_type": "order", "entity_id": 1, "created_at": at(1)}
    append_rows(connection, [{**row, "to_status": "new"}])
    build(database_url, at(2))
    (alert,) = published(connection, "sla_alerts", at(2))
    assert (alert["stage"], alert["roles"]) == ("breached", [])
