"""Configuration that changes: what a new version judges, and what it never touches."""

import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import histories
import pytest
from facts import (
    BUILT,
    append_rows,
    apply,
    assert_as_oracle,
    at,
    calendar,
    published,
    step,
    workflow,
)
from oracle import Row

from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
AS_OF = at(30)
ALL = (*BUILT, "entity_current_status")


def _workflow(hours: float, name: str = "standard", **given: Any) -> Row:
    steps = [
        step("new", 1, ["busy", "done"], sla_hours=hours),
        step("busy", 2, ["new", "done"], sla_hours=hours),
        step("done", 3, []),
    ]
    return workflow("order", name, steps, **given)


def _move(number: int, day: float, status: str, **given: Any) -> Row:
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {day} {status}")),
        "created_at": at(day),
        "entity_type": "order",
        "entity_id": number,
        "to_status": status,
        **given,
    }


def _deadlines(connection: Connection) -> dict[tuple[int, str], datetime | None]:
    rows = published(connection, "status_intervals", AS_OF)
    return {(r["entity_id"], r["status"]): r["sla_deadline"] for r in rows}


def _names(connection: Connection) -> dict[int, str | None]:
    rows = published(connection, "entity_current_status", AS_OF)
    return {row["entity_id"]: row["workflow_name"] for row in rows}


@pytest.fixture
def moves(connection: Connection) -> None:
    """Three orders: before, across and after the tenth day."""
    rows = [
        _move(1, 1, "new"),
        _move(1, 2, "busy"),
        _move(2, 9, "new"),
        _move(2, 10, "busy"),
        _move(3, 12, "new"),
    ]
    append_rows(connection, rows)


@pytest.mark.usefixtures("moves")
def test_a_new_version_judges_only_stays_entered_since_it_is_in_force(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), _workflow(24))
    build(database_url, AS_OF)
    before = _deadlines(connection)
    assert before == {
        (1, "new"): at(2),
        (1, "busy"): at(3),
        (2, "new"): at(10),
        (2, "busy"): at(11),
        (3, "new"): at(13),
    }
    apply(connection, tmp_path, at(10), _workflow(48))
    after = before | {(2, "busy"): at(12), (3, "new"): at(14)}
    assert_as_oracle(connection, AS_OF, ["entity_current_status"])
    assert _deadlines(connection) == before
    build(database_url, AS_OF)
    assert _deadlines(connection) == after
    assert_as_oracle(connection, AS_OF, ALL)


@pytest.mark.usefixtures("moves")
def test_a_retired_workflow_binds_nothing_new_and_keeps_what_it_has(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), _workflow(24))
    build(database_url, AS_OF)
    apply(connection, tmp_path, at(10), _workflow(48, is_active=False))
    build(database_url, AS_OF)
    assert _names(connection) == {1: "standard", 2: "standard", 3: None}
    deadlines = _deadlines(connection)
    assert (deadlines[2, "busy"], deadlines[3, "new"]) == (at(11), None)
    assert_as_oracle(connection, AS_OF, ALL)


@pytest.mark.usefixtures("moves")
def test_older_history_is_judged_by_what_was_applied_first(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    build(database_url, AS_OF)
    assert set(_names(connection).values()) == {None}
    apply(connection, tmp_path / "a", at(11), _workflow(24))
    apply(connection, tmp_path / "b", at(11.5), _workflow(1, "later", is_default=True))
    assert _names(connection) == {1: "standard", 2: "standard", 3: "later"}
    build(database_url, AS_OF)
    assert _names(connection) == {1: "standard", 2: "standard", 3: "later"}
    assert _deadlines(connection)[1, "busy"] == at(3)
    assert_as_oracle(connection, AS_OF, ALL)


@pytest.mark.usefixtures("moves")
def test_a_late_earlier_transition_rebinds_its_entity(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    urgent = _workflow(1, "urgent", conditions={"priority": "urgent"})
    apply(connection, tmp_path, at(0), _workflow(24), urgent)
    build(database_url, AS_OF)
    context = {"priority": "urgent"}
    append_rows(connection, [_move(2, 8, "new", business_context=context)])
    assert _names(connection) == {1: "standard", 2: "urgent", 3: "standard"}
    build(database_url, AS_OF)
    deadlines = _deadlines(connection)
    assert (deadlines[2, "new"], deadlines[2, "busy"]) == (
        at(8 + 1 / 24),
        at(10 + 1 / 24),
    )
    assert_as_oracle(connection, AS_OF, ALL)


def test_a_version_in_force_is_preferred_to_a_first_version_of_later(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """S8: what was applied first holds only where no candidate was in force."""
    urgent = {"priority": "urgent"}
    apply(connection, tmp_path / "a", at(0), _workflow(1, "one", conditions=urgent))
    apply(connection, tmp_path / "a", at(5), _workflow(2, "one"))
    apply(connection, tmp_path / "b", at(20), _workflow(3, "other", is_default=True))
    append_rows(connection, [_move(1, 10, "new")])
    build(database_url, AS_OF)
    assert _names(connection) == {1: "one"}
    assert_as_oracle(connection, AS_OF, ALL)


def test_a_later_version_of_another_workflow_holds_for_no_time_before(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """S8: though it was applied together with the first that matches."""
    other = {"kind": "other"}
    urgent = {"priority": "urgent"}
    apply(connection, tmp_path / "a", at(10), _workflow(1, "urgent", conditions=other))
    later = _workflow(1, "urgent", conditions=urgent)
    apply(connection, tmp_path / "b", at(11), later, _workflow(24))
    append_rows(connection, [_move(1, 1, "new", business_context=urgent)])
    build(database_url, AS_OF)
    assert _names(connection) == {1: "standard"}
    assert_as_oracle(connection, AS_OF, ALL)


def test_an_approver_named_by_an_empty_text_is_no_known_user(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """S19: whoever is named and not known is reported, whatever the name."""
    steps = [
        step("new", 1, ["done"]),
        step("done", 2, [], approval_role="boss"),
    ]
    apply(connection, tmp_path, at(0), workflow("order", "standard", steps))
    context = {"approved_by_user_id": ""}
    rows = [_move(1, 1, "new"), _move(1, 2, "done", business_context=context)]
    append_rows(connection, rows)
    build(database_url, AS_OF)
    (violation,) = published(connection, "workflow_violations", AS_OF)
    assert violation["violation"] == "unknown_user"


def test_users_and_business_entities_that_become_known_clear_what_was_reported(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    from histories import BOSS, CLERK, FLEET, HOME, parties

    steps = [step("new", 1, ["done"]), step("done", 2, [], approval_role="boss")]
    apply(connection, tmp_path / "w", at(0), workflow("order", "standard", steps))
    rows = [
        _move(
            n,
            day,
            status,
            business_context={"business_entity_id": entity},
            triggered_by_user_id=user,
        )
        for n, (entity, user) in enumerate(((FLEET, BOSS), (HOME, CLERK)))
        for day, status in ((1, "new"), (2, "done"))
    ]
    append_rows(connection, rows)
    build(database_url, AS_OF)
    assert_as_oracle(connection, AS_OF, ALL)
    assert len(published(connection, "workflow_violations", AS_OF)) == 8
    apply(connection, tmp_path / "p", at(3), *parties([]))
    build(database_url, AS_OF)
    assert_as_oracle(connection, AS_OF, ALL)
    (left,) = published(connection, "workflow_violations", AS_OF)
    assert (left["violation"], left["entity_id"]) == ("wrong_role", 1)
    # The role held since before, or only from its grant on, is judged at the instant.
    apply(connection, tmp_path / "p", at(1.5), *parties(["boss"]))
    build(database_url, AS_OF)
    assert_as_oracle(connection, AS_OF, ALL)


@pytest.mark.usefixtures("moves")
def test_a_workflow_applied_later_rebinds_nothing_that_is_bound(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """S8: though it would have matched, and is more specific."""
    apply(connection, tmp_path / "a", at(0), _workflow(24))
    build(database_url, AS_OF)
    append_rows(connection, [_move(4, 13, "new", business_context={"kind": "urgent"})])
    urgent = _workflow(1, "urgent", conditions={"kind": "urgent"})
    apply(connection, tmp_path / "b", at(14), urgent)
    append_rows(connection, [_move(5, 15, "new", business_context={"kind": "urgent"})])
    build(database_url, AS_OF)
    names = _names(connection)
    assert (names[4], names[5]) == ("standard", "urgent")
    assert_as_oracle(connection, AS_OF, ALL)


def test_a_holiday_gained_in_flight_moves_only_stays_entered_since(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """S9: a deadline already decided stays, even where the holiday lies before it."""
    week = {day: ["09:00-17:00"] for day in ("thursday", "friday", "monday")}
    office = calendar("office", "UTC", week)
    apply(connection, tmp_path / "w", at(0), office, _workflow(8, calendar="office"))
    # Thursday 8 January, half past four in the afternoon.
    append_rows(connection, [_move(1, 7 + 16.5 / 24, "new")])
    build(database_url, AS_OF)
    assert _deadlines(connection)[1, "new"] == at(8 + 16.5 / 24)
    # Friday becomes a holiday in the evening.
    holiday = office | {"closed_dates": [at(8).date()]}
    apply(connection, tmp_path / "c", at(7 + 20 / 24), holiday)
    moved = [_move(2, 7 + 21 / 24, "new"), _move(1, 7 + 22 / 24, "busy")]
    append_rows(connection, moved)
    assert_as_oracle(connection, AS_OF, ["entity_current_status"])
    build(database_url, AS_OF)
    assert _deadlines(connection) == {
        (1, "new"): at(8 + 16.5 / 24),
        (1, "busy"): at(11 + 17 / 24),
        (2, "new"): at(11 + 17 / 24),
    }
    assert_as_oracle(connection, AS_OF, ALL)


def test_an_entity_reopened_after_a_final_status_has_a_clock_again(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """S6, S14, S18: the illegal move is appended, reported, and judged."""
    apply(connection, tmp_path, at(0), _workflow(24))
    rows = [_move(1, 1, "new"), _move(1, 1.5, "done"), _move(1, 5, "new")]
    append_rows(connection, [*rows, _move(1, 6.5, "done")])
    build(database_url, AS_OF)
    stays = published(connection, "status_intervals", AS_OF)
    found = [
        (row["status"], row["visit"], row["sla_deadline"], row["verdict"])
        for row in sorted(stays, key=lambda row: row["entered_at"])
    ]
    assert found == [
        ("new", 1, at(2), "met"),
        ("done", 1, None, None),
        ("new", 2, at(6), "breached"),
        ("done", 2, None, None),
    ]
    (violation,) = published(connection, "workflow_violations", AS_OF)
    assert violation["violation"] == "left_final"
    assert_as_oracle(connection, AS_OF, ALL)


def test_users_that_become_known_touch_what_they_did(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """S19: nothing else of that cut would have this order judged again."""
    order = {
        "id": "00000000-0000-4000-8000-0000000000a1",
        "created_at": at(1),
        "entity_type": "order",
        "entity_id": 1,
        "to_status": "new",
        "triggered_by_user_id": histories.CLERK,
    }
    append_rows(connection, [order])
    build(database_url, at(5))

    def told() -> set[str]:
        rows = published(connection, "workflow_violations", at(5))
        return {row["violation"] for row in rows}

    assert told() == {"no_workflow", "unknown_user"}
    apply(connection, tmp_path, at(2), *histories.parties([]))
    build(database_url, at(5))
    assert told() == {"no_workflow"}
    assert_as_oracle(connection, at(5), BUILT)
