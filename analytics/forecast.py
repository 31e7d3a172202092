"""How likely an open stay is to breach, and whether that is worth more than a base rate.

From the survival of comparable past stays in business time: of those that lasted as
long as this one, the share that lasted beyond its deadline. Past stays are all that the
publication knows by an instant; the same SQL answers now and, for the back-test, then.
What a fitted model would add belongs elsewhere; here every figure is a count of stays.
"""

from datetime import datetime
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analytics.proportions import CONFIDENCE, Interval, with_intervals
from analytics.published import Publication, Query
from analytics.stays import CLOCK, join_clock, reading_us, seconds_between
from analytics.survival import curve_ctes

# From the finest group to all stays. Statuses differ more than workflows do.
LEVELS = (
    ("entity_type", "workflow_name", "status"),
    ("entity_type", "status"),
    ("entity_type",),
    (),
)
# A coarser group counts as so many stays of the finer one: with 20 stays of its own
# that lasted as long, a group is believed by half; with 200, by ten elevenths.
PRIOR_STAYS = 20
BINS = 10
ROUNDS = 1_000

# Instants are microseconds of the epoch: the clock of the forecast is a parameter.
COMPARABLE = f"""
    {CLOCK},

    known as (
        select
            interval_id, entity_type, entity_id, workflow_name, status, entered_at,
            calendar_id, sla_deadline, left_at,
            case when left_at <= $at then left_at else $at end as seen_until,
            coalesce(left_at <= $at, false) as has_left
        from status_intervals
        where entered_at <= $at and not is_final
    ),

    read as (
        select
            known.*,
            case
                when known.calendar_id is null then epoch_us(entered_at)
                else {reading_us("entered", "entered_at")}
            end as entered_us,
            case
                when known.calendar_id is null then epoch_us(seen_until)
                else {reading_us("seen", "seen_until")}
            end as seen_us
        from known
        {join_clock("entered", "known.calendar_id", "entered_at")}
        {join_clock("seen", "known.calendar_id", "seen_until")}
    ),

    lasted as (
        select *, {seconds_between("entered_us", "seen_us")} as seconds
        from read
        where seen_us >= entered_us
    ),

    base as (
        select
            (count(*) filter (coalesce(left_at, $at + interval 1 second) > sla_deadline)
            + 1) / (count(*) + 2) as base_ratio
        from known
        where sla_deadline <= $at or (has_left and sla_deadline is not null)
    ),

    waiting as (
        select
            lasted.*,
            case
                when lasted.calendar_id is null then epoch_us(sla_deadline)
                else {reading_us("due", "sla_deadline")}
            end as due_us,
            {seconds_between("entered_us", "due_us")} as due_seconds
        from lasted
        {join_clock("due", "lasted.calendar_id", "sla_deadline")}
        where not has_left and sla_deadline is not null
    )
"""


class Verdict(NamedTuple):
    """What a back-test found, over stays whose outcome is known.

    brier: mean squared error of the forecast; base_brier: that of the one probability
    that fits the outcomes best in hindsight, the base rate, which no constant beats.
    gain: base_brier - brier, with its interval by a bootstrap over stays. beats_base:
    the whole interval is above 0. sentence: the same for a person.
    """

    forecast_count: int
    stay_count: int
    breached_count: int
    brier: float | None
    base_brier: float | None
    gain: float | None
    interval: Interval | None
    beats_base: bool
    sentence: str


class BackTest(NamedTuple):
    """forecasts: a row per instant and open stay; calibration: a row per bin."""

    forecasts: pl.DataFrame
    calibration: pl.DataFrame
    verdict: Verdict


def forecast(publication: Publication, at: datetime | None = None) -> pl.DataFrame:
    """For each stay that is open with a deadline, how likely it is to breach.

    at: by what was known then, entered and left; by default the publication's clock.

    Columns: interval_id, entity_type, entity_id, workflow_name, status, entered_at,
    sla_deadline; seconds (business time so far, whole); due_seconds (business time
    from entering to the deadline); comparable_count (past stays of its own type,
    workflow and status that lasted as long); breach_probability in [0, 1], 1 where it
    is overdue. Most likely first. Stays that their calendar does not cover are left
    out. A deadline that was moved by a later transition is the one of now.
    """
    instant = at or publication.as_of
    levels = "".join(_level(place, by) for place, by in enumerate(LEVELS))
    joins = "".join(
        f"left join shares_{place} using (interval_id) " for place in range(len(LEVELS))
    )
    sql = f"""
        with {COMPARABLE} {levels}
        select
            interval_id, entity_type, entity_id, workflow_name, status, entered_at,
            sla_deadline, seconds, due_seconds,
            coalesce(remaining_0, 0)::bigint as comparable_count,
            case when sla_deadline < $at then 1 else {_shrunk(0)} end
                as breach_probability
        from waiting
        cross join base
        {joins}
        where due_us is not null
        order by breach_probability desc, sla_deadline, entity_type, entity_id
    """
    return publication.frame(Query(sql, {"at": instant}))


def _level(place: int, by: tuple[str, ...]) -> str:
    """CTEs of one grouping: `shares_<place>`, by stay, of those that lasted as long."""
    same = "".join(f" and waiting.{n} is not distinct from _.{n}" for n in by)
    # ASOF joins take equality alone; null is a group of its own.
    key = " || '/' || ".join(f"coalesce({n}, '')" for n in by) or "''"
    del same
    ctes = curve_ctes(f"grouped_{place}", ("group_key",))
    for name in ("counted", "risked", "curve"):
        ctes = _renamed(ctes, name, f"{name}_{place}")
    return f""",
        grouped_{place} as not materialized (
            select {key} as group_key, seconds, has_left from lasted
        ),

        {ctes},

        starts_{place} as (
            select group_key, -1::bigint as seconds, 1.0::double as survival,
                sum(left_count + censored_count)::bigint as remaining_count
            from counted_{place} group by group_key
            union all
            select group_key, seconds, survival, remaining_count from curve_{place}
        ),

        shares_{place} as (
            select
                interval_id,
                so_far.remaining_count as remaining_{place},
                beyond.survival / nullif(so_far.survival, 0) as share_{place}
            from (select *, {key} as group_key from waiting) as waiting
            asof join starts_{place} as so_far
                on waiting.group_key = so_far.group_key
                and waiting.seconds >= so_far.seconds
            asof join starts_{place} as beyond
                on waiting.group_key = beyond.group_key
                and greatest(waiting.due_seconds, waiting.seconds) >= beyond.seconds
        )
    """
