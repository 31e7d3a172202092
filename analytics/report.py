"""The week's review of service levels: what the page of it says, as figures.

How it looks is in `report.html`. A week is of UTC, Monday to Sunday, and holds what was
decided in it: a breach at its deadline, a met stay at its end (S13, S21).
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analytics import findings
from analytics.breaches import associations
from analytics.forecast import BackTest, Verdict, back_test, forecast
from analytics.proportions import Interval, difference, exact_interval
from analytics.published import Publication, PublicationError, Query
from analytics.stays import ALL, Scope, judged

WEEK = timedelta(days=7)
# Of the courses that are drawn.
WEEKS = 13
# Weeks of stays that findings are about, up to the end of the reported one.
FINDING_WEEKS = 4
# Past Mondays at which the forecast is held against what came.
TESTED_WEEKS = 6
# Rows of a list; how many there are beside them is said.
SHOWN = 12
SIGNIFICANT = 0.05
# What the page shows where there is no value.
NOTHING = "-"
_WEEK = re.compile(r"(\d{4})-W(\d{2})")


class Share(NamedTuple):
    """Compliance (S21): met of due, with its exact 95 % interval; None of nothing."""

    met: int
    due: int
    ratio: float | None
    interval: Interval | None


class Line(NamedTuple):
    """A group in the week and in the one before; is_noise: no more than chance."""

    group: str
    now: Share
    before: Share
    change: float | None
    is_noise: bool


class TargetLine(NamedTuple):
    """A target in the week, by what it asked of each day (target_compliance).

    at_least: what it asked on the week's last day. left, allowed: breaches of the
    week's error budget. burns: its rate over the 1, 7 and 28 days up to the week's end;
    None where nothing was due. is_kept: None likewise.
    """

    name: str
    group: str
    at_least: float
    share: Share
    allowed: float
    left: float
    burns: tuple[float | None, ...]
    is_kept: bool | None


class Listed(NamedTuple):
    """The first rows of a list, and how many there are."""

    rows: list[dict[str, Any]]
    total: int


class Report(NamedTuple):
    """All that the page says; `week` as 2026-W47, instants in UTC."""

    week: str
    since: date
    until: date
    cut: int
    as_of: datetime
    total: Line
    types: list[Line]
    statuses: list[Line]
    targets: list[TargetLine]
    lateness: list[dict[str, Any]]
    weeks: list[tuple[date, Share]]
    work: list[tuple[date, int, int]]
    bands: list[dict[str, Any]]
    findings: Listed
    associations: Listed
    likely: Listed
    expected_breaches: float
    forecast_verdict: Verdict | None
    calibration: list[dict[str, Any]]


def monday_of(week: str) -> date:
    """The Monday of an ISO week, as 2026-W47.

    Raises:
        ValueError: it is none.
    """
    found = _WEEK.fullmatch(week)
    if not found:
        msg = f"{week!r} is no week; write it as 2026-W47."
        raise ValueError(msg)
    try:
        return date.fromisocalendar(int(found[1]), int(found[2]), 1)
    except ValueError as error:
        msg = f"There is no week {week}: {error}."
        raise ValueError(msg) from error


def last_week(as_of: datetime) -> date:
    """The Monday of the last week that is over."""
    today = as_of.astimezone(UTC).date()
    return today - timedelta(days=today.weekday()) - WEEK


def report(publication: Publication, monday: date | None = None) -> Report:
    """The figures of a week, by default of the last that is over.

    Raises:
        PublicationError: the week is not over by the publication's clock.
    """
    since = _midnight(monday or last_week(publication.as_of))
    until = since + WEEK
    year, number, _ = since.isocalendar()
    week = f"{year}-W{number:02}"
    if until > publication.as_of:
        msg = (
            f"Week {week} is not over: what is published is of "
            f"{publication.as_of:%Y-%m-%d %H:%M} UTC."
        )
        raise PublicationError(msg)
    decided = decided_counts(publication, since)
    recent = Scope(since=until - FINDING_WEEKS * WEEK, until=until)
    open_stays = forecast(publication)
    soon = open_stays.filter(
        (pl.col("sla_deadline") >= publication.as_of)
        & (pl.col("sla_deadline") < publication.as_of + WEEK)
    )
    back_tested = tested(publication)
    return Report(
        week,
        since.date(),
        (until - timedelta(days=1)).date(),
        publication.cut,
        publication.as_of,
        total_line(decided),
        compliance_lines(decided, ["entity_type"]),
        compliance_lines(decided, ["entity_type", "workflow_name", "status"]),
        target_lines(publication, until),
        lateness(publication, since),
        compliance_by_week(publication, until),
        _work(publication, until),
        open_by_band(publication),
        _findings(publication, recent),
        _associations(publication, recent),
        _listed(soon),
        float(soon["breach_probability"].sum()),
        back_tested.verdict if back_tested else None,
        back_tested.calibration.to_dicts() if back_tested else [],
    )


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _share(met: int, due: int) -> Share:
    if not due:
        return Share(0, 0, None, None)
    return Share(met, due, met / due, exact_interval(met, due))


def _line(group: str, met: int, due: int, met_before: int, due_before: int) -> Line:
    found = difference((met_before, due_before), (met, due))
    return Line(
        group,
        _share(met, due),
        _share(met_before, due_before),
        found.difference,
        found.is_noise,
    )


def decided_counts(
    publication: Publication, since: datetime, scope: Scope = ALL
) -> pl.DataFrame:
    """Counts of the week and of the one before, by type, workflow and status.

    scope: of whatever instant; what was decided when is the question here.
    """
    source = judged(scope)
    sql = f"""
        select
            entity_type,
            workflow_name,
            status,
            count(*) filter (decided_at >= $since) as due,
            count(*) filter (decided_at >= $since and not is_breached) as met,
            count(*) filter (decided_at < $since) as due_before,
            count(*) filter (decided_at < $since and not is_breached) as met_before
        from ({source.sql})
        where is_due and decided_at >= $before and decided_at < $until
        group by all
    """
    span = {"since": since, "before": since - WEEK, "until": since + WEEK}
    return publication.frame(Query(sql, {**source.parameters, **span}))


def total_line(decided: pl.DataFrame) -> Line:
    """All of what was decided, as one group."""
    lines = compliance_lines(decided, []) if decided.height else []
    return lines[0] if lines else _line("all", 0, 0, 0, 0)


def compliance_lines(decided: pl.DataFrame, by: Sequence[str]) -> list[Line]:
    """Groups of which something was due in the week, the most breaches first."""
    counts = ("met", "due", "met_before", "due_before")
    sums = [pl.col(name).sum() for name in counts]
    frame = decided.group_by(by).agg(sums) if by else decided.select(sums)
    lines = [
        _line(
            " / ".join(str(row[name] or "no workflow") for name in by) or "all",
            *(row[name] for name in counts),
        )
        for row in frame.iter_rows(named=True)
    ]
    found = [line for line in lines if line.now.due or not by]
    return sorted(found, key=lambda line: (line.now.met - line.now.due, line.group))


def target_lines(
    publication: Publication, until: datetime, entity_type: str | None = None
) -> list[TargetLine]:
    """Those in force on the week's last day, by name; of a type, or of all."""
    sql = """
        select
            target_name,
            concat_ws(' / ', entity_type, workflow_name, status, business_entity_name)
                as target_group,
            at_least_ratio,
            allowed_count,
            left_count,
            met_count,
            due_count,
            is_kept,
            list(burn_rate order by window_days) over (
                partition by target_name
            ) as burns
        from target_compliance
        left join business_entities using (business_entity_id)
        where
            through_on = $last
            and ($entity_type is null or entity_type = $entity_type)
        qualify window_days = 7
        order by target_name
    """
    asked = {
        "last": (until - timedelta(days=1)).date(),
        "entity_type": entity_type,
    }
    return [
        TargetLine(
            row["target_name"],
            row["target_group"],
            row["at_least_ratio"],
            _share(row["met_count"], row["due_count"]),
            row["allowed_count"],
            row["left_count"],
            tuple(row["burns"]),
            row["is_kept"],
        )
        for row in publication.frame(Query(sql, asked)).iter_rows(named=True)
    ]


def lateness(
    publication: Publication, since: datetime, scope: Scope = ALL
) -> list[dict[str, Any]]:
    """How late breaches were that ended in the week, by type; seconds."""
    condition = scope.condition()
    sql = f"""
        select
            entity_type,
            count(*) as breached_count,
            quantile_disc(late_us, 0.5) // 1000000 as p50,
            quantile_disc(late_us, 0.9) // 1000000 as p90,
            max(late_us) // 1000000 as worst,
            quantile_disc(late_business_seconds, 0.5) as business_p50,
            quantile_disc(late_business_seconds, 0.9) as business_p90,
            max(late_business_seconds) as business_worst
        from (
            select *, epoch_us(left_at) - epoch_us(sla_deadline) as late_us
            from status_intervals
            where
                {condition.sql}
                and verdict = 'breached' and left_at >= $since and left_at < $until
        )
        group by entity_type
        order by breached_count desc, entity_type
    """
    span = {"since": since, "until": since + WEEK}
    return publication.frame(Query(sql, {**condition.parameters, **span})).to_dicts()


def compliance_by_week(
    publication: Publication, until: datetime, scope: Scope = ALL
) -> list[tuple[date, Share]]:
    """Compliance of the weeks up to an instant; where nothing was due there is none."""
    source = judged(scope)
    sql = f"""
        select
            weeks.monday,
            count(*) filter (is_due and not is_breached) as met,
            count(*) filter (is_due) as due
        from (
            select unnest(range(
                $first::date, $until::date, interval '7 days'
            ))::date as monday
        ) as weeks
        left join ({source.sql}) as stays
            on
                stays.is_due
                and stays.decided_at >= weeks.monday::timestamptz
                and stays.decided_at < (weeks.monday + 7)::timestamptz
        group by all
        order by all
    """
    first = {"first": (until - WEEKS * WEEK).date(), "until": until.date()}
    rows = publication.frame(Query(sql, {**source.parameters, **first})).iter_rows()
    return [(monday, _share(met, due)) for monday, met, due in rows]


def _work(publication: Publication, until: datetime) -> list[tuple[date, int, int]]:
    """At each day's end, what was open and not final, and what of it was overdue."""
    sql = """
        select counted_on, sum(open_count)::bigint, sum(overdue_count)::bigint
        from workload
        where
            counted_on >= $first
            and counted_on < $until
            and (entity_type, status) not in (
                select (entity_type, status) from workflow_steps where is_final
            )
        group by counted_on
        order by counted_on
    """
    span = {"first": (until - WEEKS * WEEK).date(), "until": until.date()}
    return list(publication.frame(Query(sql, span)).iter_rows())


def open_by_band(publication: Publication, scope: Scope = ALL) -> list[dict[str, Any]]:
    """Open stays by type and by how much of their time is used, as of the clock."""
    condition = scope.condition()
    sql = f"""
        select
            entity_type,
            sum(open_count)::bigint as open_count,
            coalesce(sum(open_count) filter (used_band is null), 0)::bigint as none,
            coalesce(sum(open_count) filter (used_band = '0-50 %'), 0)::bigint as b50,
            coalesce(sum(open_count) filter (used_band = '50-75 %'), 0)::bigint as b75,
            coalesce(sum(open_count) filter (used_band = '75-90 %'), 0)::bigint as b90,
            coalesce(
                sum(open_count) filter (used_band = '90-100 %'), 0
            )::bigint as b100,
            coalesce(
                sum(open_count) filter (used_band = 'overdue'), 0
            )::bigint as overdue
        from open_work
        where {condition.sql}
        group by entity_type
        order by overdue desc, entity_type
    """
    return publication.frame(Query(sql, condition.parameters)).to_dicts()


def _findings(publication: Publication, scope: Scope) -> Listed:
    """What stands out of stays entered lately, by how many rows have it."""
    found = findings.table(findings.all_findings(publication, scope))
    return _listed(
        found.sort(["count", "name", "group"], descending=[True, False, False])
    )


def _associations(publication: Publication, scope: Scope) -> Listed:
    """What raises the odds of a breach, more than looking at many explains."""
    found = associations(publication, scope)
    return _listed(found.filter((pl.col("q") < SIGNIFICANT) & (pl.col("lift") > 1)))


def _listed(frame: pl.DataFrame) -> Listed:
    return Listed(frame.head(SHOWN).to_dicts(), frame.height)


def tested(publication: Publication) -> BackTest | None:
    """The forecast held against what came, on past Mondays; None of no history."""
    last = _midnight(last_week(publication.as_of))
    begun = publication.frame(
        Query("select min(entered_at) as begun from status_intervals", {})
    )["begun"][0]
    instants = [last - place * WEEK for place in range(TESTED_WEEKS)]
    known = [instant for instant in instants if begun is not None and instant > begun]
    return back_test(publication, known) if known else None


def page(found: Report) -> str:
    """The page: HTML in one text that asks for no other file, network or script."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "lasting": lasting,
        "count": _count,
        "odds": odds,
        "burn": burn,
        "budget": budget,
    }
    template = environment.get_template("report.html")
    return template.render(
        report=found,
        course=_course(found.weeks),
        work=_area(found.work),
        calibration=_calibration(found.calibration),
        tested_weeks=TESTED_WEEKS,
    )


def percent(ratio: float | None) -> str:
    """A share, or NOTHING."""
    return NOTHING if ratio is None else f"{ratio:.1%}"


def _count(number: int | None) -> str:
    return NOTHING if number is None else f"{number:,}"


def odds(ratio: float | None) -> str:
    """An odds ratio, or another that has no upper end; or NOTHING."""
    if ratio is None:
        return NOTHING
    return f"{ratio:,.2f}" if isfinite(ratio) else "without bound"


def burn(rate: float | None) -> str:
    """A burn rate, or NOTHING."""
    if rate is None:
        return NOTHING
    return f"{rate:,.1f}" if isfinite(rate) else "without bound"


def budget(count: float) -> str:
    """A budget in breaches; a part of one is worth telling where there are few."""
    return f"{count:,.1f}".removesuffix(".0")


def lasting(seconds: int | None) -> str:
    """A duration in its two largest units: 3 d 4 h, 12 min 5 s."""
    if seconds is None:
        return NOTHING
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        number, seconds = divmod(seconds, length)
        parts.append((number, unit))
    first = next((place for place, (n, _) in enumerate(parts) if n), len(parts) - 1)
    said = [f"{n:,} {unit}" for n, unit in parts[first : first + 2] if n]
    return " ".join(said) or "0 s"


# Places in the pictures, in pixels: inside of their axes.
LEFT, TOP, WIDTH, HEIGHT = 46, 12, 660, 150
# Of the picture of two shares, as wide as a share is high.
SIDE = HEIGHT


def _course(weeks: Sequence[tuple[date, Share]]) -> list[dict[str, Any]]:
    """Where compliance of each week is drawn, from 0 to 100 %, with its interval."""
    step = WIDTH / max(len(weeks), 1)
    return [
        {
            "x": round(LEFT + step * (place + 0.5), 1),
            "y": _down(share.ratio),
            "low": _down(share.interval.low),
            "high": _down(share.interval.high),
            "label": f"week from {monday}: {share.ratio:.1%} of {share.due:,}",
            "monday": monday,
        }
        for place, (monday, share) in enumerate(weeks)
        if share.ratio is not None and share.interval is not None
    ]


def _calibration(bins: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where each bin is drawn: what was said to the right, what came upwards."""
    return [
        {
            "x": round(LEFT + SIDE * row["mean_probability"], 1),
            "y": _down(row["observed_ratio"]),
            "low": _down(row["observed_low"]),
            "high": _down(row["observed_high"]),
            "label": f"said {row['mean_probability']:.1%}, came "
            f"{row['observed_ratio']:.1%} of {row['forecast_count']:,}",
        }
        for row in bins
    ]


def _down(ratio: float) -> float:
    return round(TOP + HEIGHT * (1 - ratio), 1)


def _area(work: Sequence[tuple[date, int, int]]) -> dict[str, Any]:
    """Two areas from the axis, what is open and what is overdue; empty without days."""
    if not work:
        return {"largest": 0, "open": "", "overdue": ""}
    largest = max(*(count for _, count, _ in work), 1)
    step = WIDTH / max(len(work) - 1, 1)

    def outline(counts: Sequence[int]) -> str:
        points = " ".join(
            f"{LEFT + step * place:.1f},{_down(count / largest)}"
            for place, count in enumerate(counts)
        )
        end = LEFT + step * (len(counts) - 1)
        return f"{LEFT},{_down(0)} {points} {end:.1f},{_down(0)}"

    return {
        "largest": largest,
        "open": outline([count for _, count, _ in work]),
        "overdue": outline([count for _, _, count in work]),
    }
