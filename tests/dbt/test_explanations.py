"""The views that say why: windows, stays, candidates, the audit trail, milestones."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import histories
import pytest
from click import unstyle
from facts import (
    append_rows,
    appended,
    apply,
    assert_as_oracle,
    at,
    published,
    step,
    workflow,
)
from oracle import Row, in_order, intervals, violations

from dagster_project.explain import explain, narrate
from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
AS_OF = at(45, 7)
OFFICE = {
    "calendar_name": "office",
    "timezone": "Europe/Amsterdam",
    "windows": {
        day: ["08:00-12:00", "12:30-17:00"]
        for day in ("monday", "tuesday", "wednesday", "thursday", "friday")
    },
    "closed_dates": [date(2026, 1, 12)],
    "covers": [2025, 2027],
}


def _seconds(later: datetime, earlier: datetime) -> Decimal:
    span = later - earlier
    return Decimal(span // timedelta(microseconds=1)).scaleb(-6)


@pytest.fixture
def history(connection: Connection, tmp_path: Path) -> None:
    """A random history, all of its configuration applied."""
    made = histories.make(6)
    for number, (instant, contents) in enumerate(made.configurations):
        apply(connection, tmp_path / str(number), instant, *contents)
    for batch in made.batches:
        append_rows(connection, batch)


@pytest.fixture
def under_office(connection: Connection, tmp_path: Path) -> None:
    """An order under office hours: 12 hours from a Friday afternoon, with a holiday."""
    steps = [step("new", 1, ["done"], sla_hours=12), step("done", 2, [])]
    contents = workflow("order", "standard", steps, calendar="office")
    urgent = workflow("order", "urgent", steps, conditions={"priority": "urgent"})
    apply(connection, tmp_path, at(0), OFFICE, contents, urgent)
    rows = [
        {
            "created_at": instant,
            "entity_type": "order",
            "entity_id": 1,
            "to_status": status,
        }
        for instant, status in (
            # Friday 2026-01-09 16:00 and Wednesday 2026-01-14 11:00 in Amsterdam.
            (at(8 + 15 / 24), "new"),
            (at(13 + 10 / 24), "done"),
        )
    ]
    append_rows(connection, rows)


@pytest.mark.usefixtures("history")
def test_counted_and_closed_time_of_every_stay_is_its_elapsed_time(
    database_url: str, connection: Connection, build: Build
) -> None:
    build(database_url, AS_OF)
    stays = published(connection, "interval_explanations", AS_OF)
    built = {
        row["interval_id"]: row
        for row in published(connection, "status_intervals", AS_OF)
    }
    assert {row["interval_id"] for row in stays} == built.keys()
    assert any(row["closed_seconds"] for row in stays)
    for row in stays:
        until = row["left_at"] or max(AS_OF, row["entered_at"])
        assert row["measured_until"] == until
        assert row["elapsed_seconds"] == _seconds(until, row["entered_at"])
        if row["left_at"] is not None:
            seconds = built[row["interval_id"]]["business_seconds"]
            assert (seconds is None) == (row["counted_seconds"] is None)
            assert seconds is None or seconds == row["counted_seconds"] // 1
        if row["counted_seconds"] is not None:
            total = row["counted_seconds"] + row["closed_seconds"]
            assert total == row["elapsed_seconds"]
        if row["sla_deadline"] is not None:
            assert row["margin_seconds"] == _seconds(row["sla_deadline"], until)


@pytest.mark.usefixtures("history")
def test_windows_follow_one_another_from_the_start_of_a_stay_to_its_deadline(
    database_url: str, connection: Connection, build: Build
) -> None:
    build(database_url, AS_OF)
    windows: dict[Any, list[Row]] = {}
    for row in published(connection, "deadline_windows", AS_OF):
        windows.setdefault(row["interval_id"], []).append(row)
    explained = 0
    for stay in published(connection, "status_intervals", AS_OF):
        rows = windows.pop(stay["interval_id"], [])
        rows.sort(key=lambda row: (row["counted_from"], row["opens_at"]))
        if stay["deadline_source"] != "workflow" or stay["calendar_id"] is None:
            assert rows == []
            continue
        if stay["sla_hours"] == 0:
            continue
        explained += 1
        assert rows[0]["counted_from"] == stay["entered_at"]
        assert rows[-1]["counted_until"] == stay["sla_deadline"]
        assert rows[-1]["closed_seconds"] == 0
        counted = sum(row["counted_seconds"] for row in rows)
        assert counted == stay["sla_hours"] * 3600
        for row in rows:
            total = row["counted_seconds"] + row["closed_seconds"]
            assert total == row["elapsed_seconds"]
            length = _seconds(row["counted_until"], row["counted_from"])
            assert row["counted_seconds"] == length
        for row, following in pairwise(rows):
            gap = _seconds(following["counted_from"], row["counted_from"])
            assert row["elapsed_seconds"] == gap
    assert windows == {}
    assert explained > 0


@pytest.mark.usefixtures("under_office")
def test_a_deadline_is_explained_by_nights_a_weekend_and_a_holiday(
    database_url: str, connection: Connection, build: Build
) -> None:
    build(database_url, AS_OF)
    rows = published(connection, "deadline_windows", AS_OF)
    rows.sort(key=lambda row: row["counted_from"])
    hours = [
        (row["counted_seconds"] / 3600, row["closed_seconds"] / 3600) for row in rows
    ]
    # Friday's last hour; the weekend and Monday's holiday; Tuesday; Wednesday.
    assert hours == [(1, 87), (4, Decimal("0.5")), (Decimal("4.5"), 15), (2.5, 0)]
    because = [row["closed_because"] for row in rows]
    assert because == ["closed", None, None, None]
    (new,) = [
        row
        for row in published(connection, "interval_explanations", AS_OF)
        if row["status"] == "new"
    ]
    assert new["sla_deadline"] == at(13 + 9.5 / 24)
    assert (new["verdict"], new["margin_seconds"]) == ("breached", -1800)
    assert (new["calendar_name"], new["calendar_timezone"]) == (
        "office",
        "Europe/Amsterdam",
    )


@pytest.mark.usefixtures("under_office")
def test_an_explanation_says_its_one_zone_once_and_no_digits_that_are_zero(
    database_url: str, connection: Connection, build: Build
) -> None:
    # Half a second past the hour that clocks go through twice, the second time.
    again = datetime(2026, 10, 25, 1, 30, 0, 500_000, tzinfo=UTC)
    rows = [("new", again), ("done", at(40))]
    append_rows(
        connection,
        [
            {
                "created_at": instant,
                "entity_type": kind,
                "entity_id": 1,
                "to_status": status,
            }
            for kind, (status, instant) in zip(("order", "quote"), rows, strict=True)
        ],
    )
    build(database_url, again)
    told = [unstyle(line) for line in narrate(explain(connection, "order", 1))]
    text = "\n".join(told)
    assert told[1] == "  (times are in Europe/Amsterdam)"
    assert text.count("Europe/Amsterdam") == 1
    assert "UTC" not in text
    assert "  Fri 2026-01-09 16:00:00, batch " in text
    assert "- Tue 2026-01-13 12:00:00" in text
    assert told[0] == "order 1 is 'new' since Sun 2026-10-25 02:30:00.5 +0100, overdue"
    assert not re.search(r"\.\d*0\b", text.replace("..", ""))
    # Without a calendar.
    told = [unstyle(line) for line in narrate(explain(connection, "quote", 1))]
    assert told[1] == "  (times are in UTC)"


@pytest.mark.usefixtures("under_office")
def test_what_was_not_built_yet_is_explained_all_the_same(
    database_url: str, connection: Connection, build: Build
) -> None:
    """S16: as soon as it is committed."""
    build(database_url, AS_OF)
    before = published(connection, "interval_explanations", AS_OF)
    moved = {
        "created_at": at(12),
        "entity_type": "order",
        "entity_id": 2,
        "to_status": "new",
    }
    append_rows(connection, [moved])
    after = published(connection, "interval_explanations", AS_OF)
    (added,) = [row for row in after if row["entity_id"] == 2]
    assert added["counted_seconds"] > 0
    assert len(after) == len(before) + 1
    trail = published(connection, "audit_trail", AS_OF)
    assert {row["entity_id"]: row["is_judged"] for row in trail} == {1: True, 2: False}
    assert any(
        row["entity_id"] == 2 and row["is_bound"]
        for row in published(connection, "workflow_candidates", AS_OF)
    )


@pytest.mark.usefixtures("history")
def test_exactly_the_workflow_of_a_stay_is_said_to_bind_its_entity(
    database_url: str, connection: Connection, build: Build
) -> None:
    build(database_url, AS_OF)
    bound: dict[tuple[str, int], list[str]] = {}
    reasons = set()
    for row in published(connection, "workflow_candidates", AS_OF):
        reasons.add(row["reason"].partition(":")[0])
        names = bound.setdefault((row["entity_type"], row["entity_id"]), [])
        names += [row["workflow_name"]] if row["is_bound"] else []
    for stay in published(connection, "status_intervals", AS_OF):
        name = stay["workflow_name"]
        found = bound.get((stay["entity_type"], stay["entity_id"]), [])
        assert found == ([] if name is None else [name])
    assert reasons == {
        "binds it",
        "is of another business entity",
        "has conditions that are not met",
        "was retired then",
        "was applied later",
        "matches, and is less specific",
    }


@pytest.mark.usefixtures("history")
def test_the_audit_trail_holds_every_transition_with_its_violations(
    database_url: str, connection: Connection, build: Build
) -> None:
    """S18."""
    build(database_url, AS_OF)
    facts = appended(connection)
    said: dict[Any, list[str]] = {}
    for row in violations(facts, intervals(facts)):
        said.setdefault(row["transition_id"], []).append(row["violation"])
    trail = {
        row["transition_id"]: row for row in published(connection, "audit_trail", AS_OF)
    }
    assert len(trail) == len(facts.transitions)
    for rows in in_order(facts.transitions).values():
        previous = None
        for place, row in enumerate(rows, start=1):
            found = trail[row["id"]]
            assert found["entity_place"] == place
            assert found["previous_status"] == previous
            assert found["is_judged"]
            names = ", ".join(sorted(said.get(row["id"], [])))
            assert found["violations"] == (names or None)
            assert found["batch_id"] == row["batch_id"]
            previous = row["to_status"]
    names = {row["triggered_by_user_name"] for row in trail.values()}
    assert names == {None, "Clerk", "Boss", "Leaver"}


@pytest.mark.usefixtures("under_office")
def test_orders_have_a_plain_history(
    database_url: str, connection: Connection, build: Build
) -> None:
    build(database_url, AS_OF)
    rows = published(connection, "order_status_history", AS_OF)
    rows.sort(key=lambda row: row["changed_at"])
    assert [
        (row["order_id"], row["old_status"], row["new_status"], row["changed_at"])
        for row in rows
    ] == [
        (1, None, "new", at(8 + 15 / 24)),
        (1, "new", "done", at(13 + 10 / 24)),
    ]


def test_deadlines_at_the_ends_of_time_are_read_and_explained(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """As given; Python's instants, and so its readers, know the years 1 to 9999."""
    at_risk = {"at_risk_hours": 6}
    steps = [
        step("new", 1, ["done"], sla_hours=12, notification_settings=at_risk),
        step("done", 2, []),
    ]
    apply(
        connection,
        tmp_path,
        at(0),
        OFFICE,
        workflow("order", "standard", steps, calendar="office"),
    )
    ends = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ]
    append_rows(
        connection,
        [
            {
                "created_at": at(1),
                "entity_type": "order",
                "entity_id": number,
                "to_status": "new",
                "sla_deadline": end,
            }
            for number, end in enumerate(ends)
        ],
    )
    build(database_url, AS_OF)
    assert_as_oracle(connection, AS_OF, ["status_intervals", "entity_current_status"])
    for number, deadline in enumerate(
        (
            "deadline Mon 0001-01-01 00:19:32, as it was given",
            # In Amsterdam it is the year 10000 by then.
            "deadline Fri 9999-12-31 23:59:59.999999 UTC, as it was given",
        )
    ):
        told = [line.strip() for line in narrate(explain(connection, "order", number))]
        assert deadline in told
