"""Every question over a home folder that a run really built and published."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import business_time_oracle as business_time
import polars as pl
import pytest
import yaml
from holidays import country_holidays

from analytics import breaches, charts, findings, forecast, stays, survival, targets
from analytics.published import (
    Publication,
    PublicationError,
    Query,
    open_publication,
)
from analytics.report import page, report
from analytics.stays import Scope

PROJECT = Path(__file__).parents[2]
AS_OF = datetime(2026, 3, 31, 12, tzinfo=UTC)
Published = Callable[..., AbstractContextManager[Publication]]
WAY = ("new", "confirmed", "scheduled", "in_progress", "completed")

TARGETS = """\
targets:
  - {name: orders, entity_type: order, at_least: 90, effective_from: 2026-03-01}
  - {name: new, entity_type: order, workflow: standard, status: new, at_least: 80,
     effective_from: 2026-03-05}
  - {name: new, entity_type: order, workflow: standard, status: new, at_least: 100,
     effective_from: 2026-03-20}
  - {name: visits, entity_type: visit, at_least: 50, effective_from: 2026-04-01}
"""


class Told(NamedTuple):
    """A transition of an order, with the deadline that it brings, if any."""

    entity: int
    at: datetime
    status: str
    deadline: datetime | None


def _histories() -> Iterator[Told]:
    """Orders that go some way, at instants to the microsecond, also at night.

    Some stays are given a deadline as they begin, and some later, once or more.
    """
    draw = Random(22)
    for entity in range(1000, 1200):
        at = datetime(2026, 3, 1, tzinfo=UTC)
        for status in WAY[: draw.randint(1, len(WAY))]:
            at += timedelta(microseconds=draw.randrange(5 * 86_400_000_000))
            yield Told(entity, at, status, _some_deadline(draw, at, 0.2))
            while draw.random() < 0.4:
                at += timedelta(microseconds=draw.randrange(2 * 86_400_000_000))
                yield Told(entity, at, status, _some_deadline(draw, at, 0.7))


def _some_deadline(draw: Random, at: datetime, share: float) -> datetime | None:
    return at + timedelta(hours=draw.randrange(200)) if draw.random() < share else None


HISTORY = list(_histories())


@pytest.fixture(scope="module")
def publication(published: Published) -> Iterator[Publication]:
    lines = ["created_at,entity_type,entity_id,to_status,sla_deadline"]
    lines += [
        f"{row.at.isoformat()},order,{row.entity},{row.status},"
        f"{row.deadline.isoformat() if row.deadline else ''}"
        for row in HISTORY
    ]
    with published("\n".join(lines) + "\n", AS_OF, TARGETS) as opened:
        yield opened


def test_it_has_the_clock_of_its_cut(publication: Publication) -> None:
    assert publication.as_of == AS_OF
    assert publication.cut >= 2


def test_where_nothing_is_published_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(PublicationError, match=r"Nothing is published in .* Run: "):
        open_publication(tmp_path)
    file = tmp_path / "published" / "current" / "analytics.duckdb"
    file.parent.mkdir(parents=True)
    file.write_text("no database")
    with pytest.raises(PublicationError, match="can't be read as a publication"):
        open_publication(tmp_path)


def test_the_clock_of_open_stays_gives_every_closed_one_its_business_seconds(
    publication: Publication,
) -> None:
    wrong, looked_at = publication.connection.execute(
        f"""
        with {stays.CLOCK},

        counted as (
            select
                business_seconds,
                {
            stays.seconds_between(
                stays.reading_us("entered", "entered_at"),
                stays.reading_us("later", "left_at"),
            )
        } as expected
            from status_intervals as closed
            {stays.join_clock("entered", "closed.calendar_id", "entered_at")}
            {stays.join_clock("later", "closed.calendar_id", "left_at")}
            where left_at is not null and closed.calendar_id is not null
        )

        select
            count(*) filter (business_seconds is distinct from expected), count(*)
        from counted
        """
    ).fetchone()
    assert looked_at > 200
    assert wrong == 0


def test_compliance_is_that_of_the_published_table(publication: Publication) -> None:
    sql, parameters = stays.judged(Scope())
    found = publication.connection.execute(
        f"select count(*) filter (is_due), count(*) filter (is_breached) from ({sql})",
        parameters,
    ).fetchone()
    told = publication.connection.execute(
        "select sum(due_count), sum(breached_count + overdue_count) "
        "from sla_performance"
    ).fetchone()
    assert found == told
    assert found[1] > 50


def test_every_question_is_answered(publication: Publication) -> None:
    quantiles = survival.quantiles(publication)
    assert quantiles["stay_count"].sum() > 300
    for finding in findings.all_findings(publication):
        assert publication.frame(finding.rows).height == finding.count
    known = breaches.associations(publication)
    for row in known.iter_rows(named=True):
        rows = breaches.association_rows(Scope(), row["factor"], row["value"])
        assert publication.frame(rows).height == row["breached_count"]
    open_due = publication.connection.execute(
        "select count(*) from status_intervals where left_at is null "
        "and sla_deadline is not null and calendar_id is not null"
    ).fetchone()[0]
    found = forecast.forecast(publication)
    assert found.height == open_due > 0
    assert found["breach_probability"].is_between(0, 1).all()
    tested = forecast.back_test(publication, [AS_OF - timedelta(days=10)])
    assert tested.verdict.forecast_count == tested.forecasts.height > 0
    target = targets.Target("order", None, None, 0.9, date(2026, 3, 1))
    budget = targets.error_budget(publication, target)
    assert budget.due_count > 100
    assert targets.burn_rates(publication, target).height == 3
    days = publication.connection.execute(
        "select entered_on as date, count(*)::double as value "
        "from sla_performance group by all"
    ).pl()
    assert charts.xmr(days).height == days.height
    assert isinstance(charts.signals(charts.xmr(days)), pl.DataFrame)


def _workflow_file(name: str) -> dict[str, Any]:
    return yaml.safe_load((PROJECT / "workflows" / name).read_text())


def _known_deadlines(instant: datetime) -> dict[int, datetime | None]:
    """S10 by the transitions up to an instant alone: of each order's stay then."""
    office = _workflow_file("office_nl.yml")
    days = country_holidays("NL", years=2026)
    calendar = business_time.calendar(
        office["timezone"],
        office["windows"],
        date(2026, 1, 1),
        date(2026, 12, 31),
        [*days, *office["closed_dates"]],
    )
    steps = {step["status_name"]: step for step in _workflow_file("order.yml")["steps"]}
    told = [row for row in HISTORY if row.at <= instant]
    known: dict[int, datetime | None] = {}
    for entity, group in groupby(told, key=lambda row: row.entity):
        *_, (status, stay) = (
            (status, list(rows)) for status, rows in groupby(group, lambda r: r.status)
        )
        step = steps.get(status, {"sla_hours": None, "is_final": False})
        brought = [row.deadline for row in stay if row.deadline]
        hours = step["sla_hours"]
        if step["is_final"]:
            continue
        known[entity] = (
            brought[-1]
            if brought
            else business_time.deadline(calendar, stay[0].at, Decimal(str(hours)))
            if hours is not None
            else None
        )
    return known


@pytest.mark.parametrize("day", [8, 12, 16])
def test_a_deadline_is_the_one_that_was_known_then(
    publication: Publication, day: int
) -> None:
    """S10, whatever later transitions brought; and outcomes are by that deadline."""
    instant = datetime(2026, 3, day, 9, tzinfo=UTC)
    ours = pl.col("entity_id") >= HISTORY[0].entity
    found = forecast.forecast(publication, instant).filter(ours)
    known = {e: due for e, due in _known_deadlines(instant).items() if due}
    assert len(known) > 40
    assert dict(found.select("entity_id", "sla_deadline").iter_rows()) == known
    tested = forecast.back_test(publication, [instant])
    asked = tested.forecasts.filter(ours)
    ends = {
        (row.entity, before.status): row.at
        for before, row in pairwise(HISTORY)
        if before.entity == row.entity and before.status != row.status
    }
    assert asked.height > 30
    for row in asked.iter_rows(named=True):
        left_at = ends.get((row["entity_id"], row["status"]))
        due = known[row["entity_id"]]
        assert row["is_breached"] == (left_at is None or left_at > due)
    later = {(r.entity, r.status) for r in HISTORY if r.at > instant and r.deadline}
    moved = asked.filter("is_moved").select("entity_id", "status").rows()
    assert set(moved) == later & set(asked.select("entity_id", "status").rows())
    assert tested.verdict.moved_count == len(moved) >= 3


def test_each_window_of_a_target_holds_what_the_stays_say_of_its_days(
    publication: Publication,
) -> None:
    """By the instants of their decisions, and by what was asked on each day."""
    scopes = {
        "orders": Scope(entity_type="order"),
        "new": Scope(entity_type="order", workflow_name="standard", status="new"),
    }
    table = publication.frame(Query("from target_compliance", {}))
    assert set(table["target_name"]) == set(scopes)
    assert table["through_on"].max() == date(2026, 3, 30)
    for name, scope in scopes.items():
        decided = publication.frame(stays.judged(scope)).filter("is_due")
        counted = table.filter(pl.col("target_name") == name)
        assert counted["breached_count"].max() > 0
        for row in counted.iter_rows(named=True):
            until = datetime.combine(row["through_on"], time(), UTC) + timedelta(days=1)
            since = until - timedelta(days=row["window_days"])
            begin = datetime(2026, 3, 5 if name == "new" else 1, tzinfo=UTC)
            own = decided.filter(
                pl.col("decided_at") >= max(since, begin), pl.col("decided_at") < until
            )
            assert row["due_count"] == own.height
            assert row["breached_count"] == own["is_breached"].sum()
    changed = table.filter(pl.col("target_name") == "new", pl.col("window_days") == 28)
    assert set(changed["at_least_ratio"]) == {0.8, 1}


def test_the_review_shows_the_targets_of_its_week(publication: Publication) -> None:
    found = report(publication)
    orders, new = found.targets[1], found.targets[0]
    (of_all,) = found.types
    assert (orders.name, orders.group, orders.share) == ("orders", "order", of_all.now)
    breached = orders.share.due - orders.share.met
    assert orders.allowed == pytest.approx(orders.share.due / 10)
    assert orders.left == pytest.approx(orders.allowed - breached)
    assert orders.burns[1] == pytest.approx(breached / orders.allowed)
    assert orders.is_kept == (breached <= orders.share.due / 10)
    # Nothing was new in that week; the weeks before, it asked for less.
    assert (new.at_least, new.share.due, new.burns[1]) == (1, 0, None)
    assert new.burns[2] > 0
    html = page(found)
    assert "order / standard / new" in html
    assert "No target is in force" not in html
    in_force = targets.in_force(publication)
    assert {name: target.ratio for name, target in in_force.items()} == {
        "new": 1,
        "orders": 0.9,
    }
    assert targets.error_budget(publication, in_force["orders"]).due_count > 100
