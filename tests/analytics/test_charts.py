"""Signals of charts, at the boundaries of their rules, from series made by hand."""

from datetime import date, timedelta

import polars as pl
from scipy import stats

from analytics import charts

DAY = date(2026, 3, 1)
STEADY = [10.0, 12.0] * 6


def _series(values: list[float]) -> pl.DataFrame:
    days = [DAY + timedelta(days=n) for n in range(len(values))]
    return pl.DataFrame({"date": days, "value": values})


def _signals(chart: pl.DataFrame) -> list[tuple]:
    return [
        (rule, (begin - DAY).days, None if end is None else (end - DAY).days)
        for rule, begin, end in charts.signals(chart).iter_rows()
    ]


def test_limits_are_by_moving_ranges() -> None:
    chart = charts.xmr(_series(STEADY))
    row = chart.row(0, named=True)
    assert (row["centre"], row["moving_range"]) == (11, None)
    assert (row["lower"], row["upper"]) == (11 - 2.66 * 2, 11 + 2.66 * 2)
    assert _signals(chart) == []


def test_a_point_beyond_the_limits_is_a_signal_with_an_end() -> None:
    values = [*STEADY, *STEADY, 60.0, *STEADY]
    found = _signals(charts.xmr(_series(values)))
    assert ("beyond_limits", 24, 24) in found
    last = _signals(charts.xmr(_series([*STEADY, *STEADY, 60.0])))
    assert ("beyond_limits", 24, None) in last


def test_a_run_is_of_eight_and_not_of_seven() -> None:
    low = [13.0, 8.0, 13.0, 8.0, 12.0, 10.0, 11.0, 9.0]
    for length, is_run in ((7, False), (8, True)):
        values = [*low, *[10.9] * length, *reversed(low)]
        rules = {rule for rule, *_ in _signals(charts.xmr(_series(values)))}
        assert ("run" in rules) is is_run


def test_two_of_three_far_on_one_side_are_a_signal_and_on_both_are_not() -> None:
    base = [10.0, 12.0] * 20
    same = charts.xmr(_series([*base, 15.5, 11.0, 15.5, *base]))
    both = charts.xmr(_series([*base, 15.5, 11.0, 6.5, *base]))
    assert [rule for rule, *_ in _signals(same)] == ["two_of_three"]
    assert _signals(both) == []


def test_a_restated_baseline_ends_what_was_a_signal_against_the_old_one() -> None:
    values = _series([*STEADY, *[v + 20 for v in STEADY]])
    assert _signals(charts.xmr(values)) != []
    restated = charts.xmr(values, [DAY + timedelta(days=12)])
    assert _signals(restated) == []
    assert restated["centre"].unique().sort().to_list() == [11, 31]


def test_limits_of_a_share_are_as_rare_as_they_say_however_few_there_are() -> None:
    due = [3, 10, 50, 400, 3, 10, 50, 400]
    points = pl.DataFrame(
        {
            "date": [DAY + timedelta(days=n) for n in range(8)],
            "met_count": [d * 9 // 10 for d in due],
            "due_count": due,
        }
    )
    chart = charts.p_chart(points)
    rare = stats.norm.sf(3)
    for row in chart.iter_rows(named=True):
        n, p = row["due_count"], row["centre"]
        below = stats.binom.cdf(round(row["lower"] * n) - 1, n, p)
        assert below < rare <= stats.binom.cdf(round(row["lower"] * n), n, p)
    assert not chart["beyond_limits"].any()
    worse = points.with_columns(
        pl.when(pl.col("date") == DAY + timedelta(days=7))
        .then(300)
        .otherwise(pl.col("met_count"))
        .alias("met_count")
    )
    assert charts.p_chart(worse)["beyond_limits"].any()


def test_a_day_on_which_nothing_was_due_has_no_limits_and_breaks_no_rule() -> None:
    points = pl.DataFrame(
        {
            "date": [DAY, DAY + timedelta(days=1)],
            "met_count": [9, 0],
            "due_count": [10, 0],
        }
    )
    row = charts.p_chart(points).row(1, named=True)
    assert (row["ratio"], row["lower"], row["beyond_limits"]) == (None, None, False)
