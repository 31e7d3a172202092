"""Every question over a home folder that a run really built and published."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest

from analytics import breaches, charts, findings, forecast, stays, survival, targets
from analytics.published import (
    Publication,
    PublicationError,
    Query,
    open_publication,
)
from analytics.report import page, report
from analytics.stays import Scope

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


def _history() -> str:
    """Orders that go some way, at instants to the microsecond, also at night."""
    draw = Random(22)
    lines = ["created_at,entity_type,entity_id,to_status"]
    for entity in range(1000, 1200):
        at = datetime(2026, 3, 1, tzinfo=UTC)
        for status in WAY[: draw.randint(1, len(WAY))]:
            at += timedelta(microseconds=draw.randrange(5 * 86_400_000_000))
            lines.append(f"{at.isoformat()},order,{entity},{status}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def publication(published: Published) -> Iterator[Publication]:
    with published(_history(), AS_OF, TARGETS) as opened:
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
