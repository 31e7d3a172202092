"""What a later cut changes of what was published is kept, nothing else (S9, S13)."""

import random
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import histories
import oracle
import pytest
from facts import append_rows, apply, at, published, step, workflow
from nights import tries
from oracle import Row

from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
STANDARD = workflow(
    "order",
    "standard",
    [
        step("new", 1, ["sent"], sla_hours=24),
        step("sent", 2, ["done"], sla_hours=24),
        step("done", 3, []),
    ],
    is_default=True,
)


def _order(number: int, day: float, status: str = "new", **given: Any) -> Row:
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {day} {status}")),
        "created_at": at(day),
        "entity_type": "order",
        "entity_id": number,
        "to_status": status,
        **given,
    }


def _newest_batch(connection: Connection) -> int:
    row = connection.execute("select max(batch_id) from raw.batches").fetchone()
    assert row is not None
    return int(row[0])


def _told(connection: Connection) -> set[tuple[Any, ...]]:
    """Verdicts by entity, status and visit; figures by day and status."""
    return {
        (
            row["figure"],
            row["entity_id"] if row["figure"] == "verdict" else row["entered_on"].day,
            row["status"],
            row["old_value"],
            row["new_value"],
        )
        for row in published(connection, "restatements", at(9))
    }


def test_time_and_what_comes_in_time_restate_nothing(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, [_order(1, 1), _order(2, 1), _order(2, 1.5, "sent")])
    build(database_url, at(2))
    # One stay ends too late, another becomes overdue, an order is new.
    append_rows(connection, [_order(1, 3, "sent"), _order(3, 2.5)])
    build(database_url, at(4))
    append_rows(connection, [_order(1, 4.5, "sent"), _order(2, 5, "done")])
    build(database_url, at(6))
    build(database_url, at(8), full_refresh=True)
    assert _told(connection) == set()


def test_a_late_row_restates_the_verdict_and_the_figures_of_its_day(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, [_order(1, 1), _order(1, 3, "sent"), _order(2, 1)])
    first = build(database_url, at(4))
    # It was sent in time after all; and another order of that day was never told of.
    append_rows(connection, [_order(1, 1.5, "sent")])
    append_rows(connection, [_order(3, 1.25), _order(3, 1.5, "sent")])
    second = build(database_url, at(5))
    assert _told(connection) == {
        ("verdict", 1, "new", "breached", "met"),
        ("interval_count", 1 + 1, "new", "2", "3"),
        ("met_count", 1 + 1, "new", "0", "2"),
        ("breached_count", 1 + 1, "new", "1", "0"),
        ("compliance_ratio", 1 + 1, "new", "0", "0.6666666666666666"),
        # Sent on the second day, of which nothing was told, not on the fourth.
        ("interval_count", 1 + 3, "sent", "1", "0"),
    }
    newest = _newest_batch(connection)
    rows = published(connection, "restatements", at(9))
    assert {(r["previous_cut"], r["cut"], r["restated_at"]) for r in rows} == {
        (first.number, second.number, at(5))
    }
    (verdict,) = [row for row in rows if row["figure"] == "verdict"]
    assert (verdict["batch_id"], verdict["visit"]) == (newest - 1, 1)
    assert max(row["batch_id"] for row in rows) == newest

    # Kept by builds that restate nothing, full ones included.
    build(database_url, at(6))
    assert published(connection, "restatements", at(9)) == rows
    build(database_url, at(7), full_refresh=True)
    assert published(connection, "restatements", at(9)) == rows


@pytest.mark.parametrize("full_refresh", [False, True])
def test_an_old_history_that_is_loaded_late_restates_only_what_it_changes(
    database_url: str,
    connection: Connection,
    build: Build,
    tmp_path: Path,
    full_refresh: bool,
) -> None:
    """Verdicts and groups that were not published are additions."""
    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, [_order(1, 3), _order(1, 3.5, "sent")])
    build(database_url, at(4))
    append_rows(
        connection,
        [
            _order(number, 0.1 * number + late, status)
            for number in range(2, 30)
            for late, status in ((0, "new"), (0.5, "sent"), (0.75, "done"))
        ],
    )
    build(database_url, at(5), full_refresh=full_refresh)
    # Five were sent on a day of which something was told.
    assert _told(connection) == {
        ("interval_count", 1 + 3, "sent", "1", "6"),
        ("met_count", 1 + 3, "sent", "0", "5"),
        ("compliance_ratio", 1 + 3, "sent", None, "1"),
    }


def test_a_verdict_and_a_group_that_are_no_more_are_restated(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    steps = [{**step, "sla_hours": None} for step in STANDARD["steps"]]
    slow = workflow("order", "slow", steps, conditions={"is_slow": True})
    apply(connection, tmp_path, at(0), STANDARD, slow)
    append_rows(connection, [_order(1, 1), _order(1, 1.5, "sent")])
    build(database_url, at(2))
    # Its first transition comes late, and binds it to the other workflow.
    append_rows(connection, [_order(1, 0.5, business_context={"is_slow": True})])
    build(database_url, at(3))
    assert _told(connection) == {
        ("verdict", 1, "new", "met", None),
        ("interval_count", 1 + 1, "new", "1", "0"),
        ("met_count", 1 + 1, "new", "1", "0"),
        ("compliance_ratio", 1 + 1, "new", "1", None),
        ("interval_count", 1 + 1, "sent", "1", "0"),
    }


def test_additions_that_an_older_release_kept_are_left_out_of_a_full_build(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), STANDARD)
    build(database_url, at(4))
    for day, old in ((1, "0"), (2, "3")):
        for figure, value in (("interval_count", old), ("met_count", "0")):
            connection.execute(
                "insert into sla.restatements (restatement_id, previous_cut, cut,"
                " restated_at, figure, entity_type, status, entered_on, old_value,"
                " new_value) values (gen_random_uuid(), 1, 2, %s, %s, 'order', 'new',"
                " %s, %s, '4')",
                [at(4), figure, at(day).date(), value],
            )
    build(database_url, at(5), full_refresh=True)
    assert _told(connection) == {
        ("interval_count", 1 + 2, "new", "3", "4"),
        ("met_count", 1 + 2, "new", "0", "4"),
    }


@pytest.mark.parametrize("full_refresh", [False, True])
def test_configuration_restates_what_it_binds(
    database_url: str,
    connection: Connection,
    build: Build,
    tmp_path: Path,
    full_refresh: bool,
) -> None:
    """S8: what is applied first holds for the time before."""
    append_rows(connection, [_order(1, 1), _order(1, 3, "sent")])
    build(database_url, at(4))
    apply(connection, tmp_path, at(3.5), STANDARD)
    build(database_url, at(5), full_refresh=full_refresh)
    told = published(connection, "restatements", at(9))
    assert {row["batch_id"] for row in told} == {_newest_batch(connection)}
    # The groups with a workflow are new.
    assert {
        (r["figure"], r["status"], r["workflow_name"], r["old_value"], r["new_value"])
        for r in told
    } == {
        ("interval_count", "new", None, "1", "0"),
        ("interval_count", "sent", None, "1", "0"),
    }


def test_a_deadline_that_comes_late_restates_what_was_overdue(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, [_order(1, 1)])
    build(database_url, at(4))
    append_rows(connection, [_order(1, 1.5, sla_deadline=at(8))])
    build(database_url, at(5))
    assert _told(connection) == {
        ("overdue_count", 1 + 1, "new", "1", "0"),
        ("compliance_ratio", 1 + 1, "new", "0", None),
    }


def test_what_no_batch_explains_is_restated_without_one(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """As when a new release judges otherwise: the published row said something else."""
    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, [_order(1, 1), _order(1, 1.5, "sent")])
    build(database_url, at(4))
    connection.execute(
        "update sla.status_intervals set verdict = 'breached' where status = 'new'"
    )
    build(database_url, at(5), full_refresh=True)
    (row,) = [
        r
        for r in published(connection, "restatements", at(9))
        if r["figure"] == "verdict"
    ]
    assert (row["old_value"], row["new_value"]) == ("breached", "met")
    assert row["batch_id"] is None


def test_what_a_cut_held_from_after_its_instant_counts_as_it_was_published(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """As every run may: its instant is the tick, its cut is pinned a moment later."""
    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, [_order(1, 1), _order(1, 3.001, "sent")])
    append_rows(connection, [_order(2, 1), _order(2, 3.001, "sent")])
    build(database_url, at(3))
    append_rows(connection, [_order(1, 1.5, "sent"), _order(2, 3.002, "done")])
    build(database_url, at(4))
    assert _told(connection) == {
        ("verdict", 1, "new", "breached", "met"),
        ("met_count", 1 + 1, "new", "0", "1"),
        ("breached_count", 1 + 1, "new", "2", "1"),
        ("compliance_ratio", 1 + 1, "new", "0", "0.5"),
        ("interval_count", 1 + 3, "sent", "2", "1"),
    }


def test_a_stay_that_began_earlier_but_is_judged_the_same_has_no_verdict_restated(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, [_order(1, 1), _order(1, 1.5, "sent")])
    build(database_url, at(2))
    append_rows(connection, [_order(1, 0.9)])
    build(database_url, at(2))
    assert _told(connection) == {
        ("interval_count", 1 + 1, "new", "1", "0"),
        ("met_count", 1 + 1, "new", "1", "0"),
        ("compliance_ratio", 1 + 1, "new", "1", None),
    }


@pytest.mark.parametrize("seed", range(21, tries(22, 25)))
def test_restatements_are_what_two_builds_say_otherwise_of_one_instant(
    database_url: str, connection: Connection, build: Build, tmp_path: Path, seed: int
) -> None:
    """Of random histories, after incremental and full builds."""
    history, rng = histories.make(seed), random.Random(seed)
    batches, configurations = list(history.batches), list(history.configurations)
    day = 45
    apply(connection, tmp_path / "first", *_files(configurations.pop(0)))
    append_rows(connection, batches.pop(0))
    build(database_url, at(day))
    count = 0
    while batches or configurations:
        for _ in range(min(len(batches), rng.randint(0, 2))):
            append_rows(connection, batches.pop(rng.randrange(len(batches))))
        if configurations and rng.random() < 0.5:
            folder = tmp_path / str(len(configurations))
            apply(connection, folder, *_files(configurations.pop(0)))
        before = _judged(connection, at(day))
        later = day + rng.choice((0, 1, 3))
        cut = build(database_url, at(later), full_refresh=rng.random() < 0.3)
        after = _judged(connection, at(day))
        day = later
        told = Counter(
            (
                row["figure"],
                *(row[name] for name in (STAY if row["visit"] else GROUP)),
                row["old_value"],
                row["new_value"],
            )
            for row in published(connection, "restatements", at(day))
            if row["cut"] == cut.number
        )
        assert told == _changed(before, after)
        count += told.total()
    assert count > 100


STAY = ("entity_type", "entity_id", "status", "visit")
GROUP = ("entered_on", "entity_type", "workflow_name", "status", "business_entity_id")
Judged = tuple[dict[Any, str | None], dict[Any, Counter[str]]]


def _files(configuration: tuple[Any, list[Row]]) -> tuple[Any, ...]:
    instant, contents = configuration
    return instant, *contents


def _judged(connection: Connection, instant: datetime) -> Judged:
    """The verdict of each stay, and the counts of each group, as of an instant."""
    verdicts: dict[Any, str | None] = {}
    groups: dict[Any, Counter[str]] = {}
    for row in published(connection, "status_intervals", instant):
        verdict = row["verdict"] if row["left_at"] else None
        if oracle.is_overdue(row, instant):
            verdict = "overdue"
        verdicts[tuple(row[name] for name in STAY)] = verdict
        row["entered_on"] = row["entered_at"].astimezone(UTC).date()
        group = groups.setdefault(tuple(row[name] for name in GROUP), Counter())
        group.update(["interval", *([verdict] if verdict else [])])
    return verdicts, groups


def _changed(before: Judged, after: Judged) -> Counter[Any]:
    """Rows of restatements, without what tells when and why."""
    verdicts = [
        ("verdict", *stay, old, after[0].get(stay))
        for stay, old in before[0].items()
        if old in ("met", "breached") and old != after[0].get(stay)
    ]
    figures = [
        (name, *group, old, new)
        for group in before[1]
        for name, old, new in zip(
            FIGURES,
            _figures(before[1].get(group, Counter())),
            _figures(after[1].get(group, Counter())),
            strict=True,
        )
        if old != new
    ]
    return Counter([*verdicts, *figures])


FIGURES = (
    "interval_count",
    "met_count",
    "breached_count",
    "overdue_count",
    "compliance_ratio",
)


def _figures(counts: Counter[str]) -> list[str | None]:
    judged = [counts[name] for name in ("met", "breached", "overdue")]
    ratio = judged[0] / sum(judged) if any(judged) else None
    shown = None if ratio is None else repr(ratio).removesuffix(".0")
    return [*map(str, [counts["interval"], *judged]), shown]
