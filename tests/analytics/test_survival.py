"""Curves and quantiles: lifelines as the oracle, on stays with ties and open ends.

Both sides are floating point: survivals are held equal to nine digits; seconds, which
are whole, to the last.
"""

import math

import polars as pl
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import median_survival_times, qth_survival_times
from published_rows import Publish

from analytics import survival
from analytics.stays import Scope

AS_OF = "2026-06-01T00:00:00Z"
# Few distinct durations, so that many tie, open and closed ones too.
MANY = """
insert into stays by name
select
    i as entity_id,
    ['new', 'sent', 'held'][1 + i % 3] as status,
    case
        when i % 4 = 0
            then timestamptz '2026-06-01 00:00:00Z' - interval (hash(i) % 90) hour
        else timestamptz '2026-03-01 00:00:00Z'
    end as entered_at,
    case
        when i % 4 > 0
            then entered_at + interval (hash(i * 7) % (20 + 30 * (i % 3))) hour
    end as left_at
from range(600) as t (i);
"""


def _fitted(rows: pl.DataFrame) -> KaplanMeierFitter:
    return KaplanMeierFitter().fit(
        rows["seconds"].to_list(), rows["has_left"].to_list()
    )


def _durations(publication) -> pl.DataFrame:
    return publication.connection.execute(
        """
        select
            status, left_at is not null as has_left,
            date_diff('second', entered_at, coalesce(left_at, as_of)) as seconds
        from status_intervals cross join publication
        """
    ).pl()


def test_curves_are_kaplan_and_meiers_with_greenwoods_bounds(publish: Publish) -> None:
    publication = publish(MANY, AS_OF)
    found = survival.curves(publication, by=("status",))
    durations = _durations(publication)
    for (status,), curve in found.group_by("status"):
        fitted = _fitted(durations.filter(pl.col("status") == status))
        times = curve["seconds"].to_list()
        expected = fitted.survival_function_at_times(times).to_numpy()
        assert curve["survival"].to_numpy() == pytest.approx(expected, rel=1e-9)
        bounds = fitted.confidence_interval_survival_function_.loc[times].to_numpy()
        is_known = curve["low"].is_not_null().to_numpy()
        ends = curve.select("low", "high").to_numpy().astype(float)
        assert ends[is_known] == pytest.approx(bounds[is_known], rel=1e-9)
        assert curve["at_risk_count"].to_list() == (
            fitted.event_table.loc[times]["at_risk"].to_list()
        )


def test_quantiles_are_of_all_stays_beside_those_of_closed_ones(
    publish: Publish,
) -> None:
    publication = publish(MANY, AS_OF)
    durations = _durations(publication)
    for row in survival.quantiles(publication, by=("status",)).iter_rows(named=True):
        of_status = durations.filter(pl.col("status") == row["status"])
        fitted = _fitted(of_status)
        closed = of_status.filter("has_left")["seconds"].sort().to_list()
        for name, q in (("p50", 0.5), ("p90", 0.1), ("p99", 0.01)):
            expected = qth_survival_times(q, fitted.survival_function_)
            assert row[name] == (None if math.isinf(expected) else expected)
            assert row[f"closed_{name}"] == closed[math.ceil(len(closed) * (1 - q)) - 1]
        ends = median_survival_times(fitted.confidence_interval_survival_function_)
        assert (row["p50_low"], row["p50_high"]) == tuple(ends.to_numpy()[0])
        assert row["stay_count"] == row["closed_count"] + row["open_count"] == 200
        assert row["p50"] > row["closed_p50"]


def test_a_half_that_left_is_the_median_whatever_the_rounding(publish: Publish) -> None:
    publication = publish(
        """
        insert into stays by name
        select
            1000 * n + i as entity_id,
            n::varchar as status,
            timestamptz '2026-03-01 00:00:00Z' as entered_at,
            entered_at + interval (i) minute as left_at
        from range(2, 200, 2) as groups (n), range(1, n + 1) as t (i)
        """,
        AS_OF,
    )
    found = survival.quantiles(publication, by=("status",))
    assert found.select("status", "p50").sort(pl.col("status").cast(int)).rows() == [
        (str(n), n // 2 * 60) for n in range(2, 200, 2)
    ]


def test_all_open_and_nothing_at_all_have_no_quantiles(publish: Publish) -> None:
    publication = publish(
        "insert into stays (entity_id, status, entered_at) "
        "values (1, 'new', '2026-03-01 00:00:00Z')",
        AS_OF,
    )
    row = survival.quantiles(publication).row(0, named=True)
    assert (row["stay_count"], row["closed_count"], row["open_count"]) == (1, 0, 1)
    assert (row["p50"], row["closed_p50"]) == (None, None)
    assert survival.quantiles(publication, Scope(entity_type="quote")).is_empty()


def test_what_is_final_or_begins_after_the_clock_waits_for_nothing(
    publish: Publish,
) -> None:
    publication = publish(
        "insert into stays (entity_id, status, entered_at, is_final) values "
        "(1, 'done', '2026-03-01 00:00:00Z', true), "
        "(2, 'new', '2026-06-02 00:00:00Z', false)",
        AS_OF,
    )
    assert survival.quantiles(publication).is_empty()


def test_an_open_stay_has_the_business_time_of_its_calendar(publish: Publish) -> None:
    # 09-17 on three days; the clock is at noon of the last.
    publication = publish(
        """
        insert into calendar_windows by name
        select 'c' as calendar_id, unnest([
            timestamptz '2026-05-28 09:00:00Z', '2026-05-29 09:00:00Z',
            '2026-06-01 09:00:00Z'
        ]) as opens_at, opens_at + interval 8 hour as closes_at;
        insert into stays (entity_id, status, entered_at, calendar_id) values
            (1, 'a', '2026-05-28 09:00:00Z', 'c'),
            (2, 'b', '2026-05-28 16:00:00Z', 'c'),
            (3, 'c', '2026-05-30 12:00:00Z', 'c'),
            (4, 'd', '2026-06-01 11:59:59.5Z', 'c'),
            (5, 'e', '2026-05-28 08:59:00Z', 'c'),
            (6, 'f', '2026-06-01 00:00:00Z', null);
        """,
        "2026-06-01T12:00:00Z",
    )
    sql, parameters = survival.lasting(Scope())
    found = publication.connection.execute(
        f"select status, business_seconds from ({sql}) order by status", parameters
    ).fetchall()
    hour = 3600
    assert found == [
        ("a", 19 * hour),
        ("b", 12 * hour),
        ("c", 3 * hour),
        ("d", 0),
        # Before its calendar begins, nothing is known.
        ("e", None),
        ("f", 12 * hour),
    ]
