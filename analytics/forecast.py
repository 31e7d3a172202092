"""How likely an open stay is to breach, and whether that beats a base rate.

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
from analytics.stays import (
    CLOCK,
    instant_of,
    join_clock,
    join_reading,
    reading_us,
    seconds_between,
)
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
# Durations are told to so many binary digits: to the second below 1,024 seconds, to
# 0.2 % above. Curves over five million stays have some thousand steps then, not a
# million.
DIGITS = 10
BINS = 10
ROUNDS = 1_000

# Instants are microseconds of the epoch: the clock of the forecast is a parameter.
COMPARABLE = f"""
    {CLOCK},

    -- Of those that have ended, all are read and none is kept: few columns.
    closed as not materialized (
        select
            entity_type, workflow_name, status, sla_deadline, left_at, next_status,
            business_seconds as seconds
        from status_intervals
        where entered_at <= $at and left_at <= $at and not is_final
    ),

    open_then as materialized (
        select
            interval_id, entity_type, entity_id, workflow_name, status, entered_at,
            calendar_id, sla_deadline as deadline_now, left_at, first_transition_id,
            transition_count, sla_hours,
            -- So that a transition after $at may have brought it (S10).
            deadline_source = 'explicit' and transition_count > 1 as may_have_moved
        from status_intervals
        where
            entered_at <= $at and (left_at is null or left_at > $at) and not is_final
    ),

    movable as (
        select
            stays.interval_id, stays.entity_type, stays.entity_id,
            stays.first_transition_id, stays.transition_count, stays.calendar_id,
            stays.entered_at,
            -- Wide enough for the product: 18 digits hold 277 hours of it.
            (sla_hours::decimal(28, 6) * 3600000000::decimal(10, 0))::bigint
                as hours_us,
            {reading_us("entered", "stays.entered_at")} + hours_us as due_us
        from (from open_then where may_have_moved) as stays
        {join_clock("entered", "stays.calendar_id", "stays.entered_at")}
    ),

    brought as (
        select
            movable.interval_id,
            arg_max(told.sla_deadline, told.entity_place) as sla_deadline
        from movable
        inner join audit_trail as opened
            on movable.first_transition_id = opened.transition_id
        inner join audit_trail as told
            on
                movable.entity_type = told.entity_type
                and movable.entity_id = told.entity_id
                and told.entity_place >= opened.entity_place
                and told.entity_place < opened.entity_place + transition_count
        where told.created_at <= $at and told.sla_deadline is not null
        group by movable.interval_id
    ),

    of_then as (
        select
            movable.interval_id,
            coalesce(
                brought.sla_deadline,
                if(
                    movable.calendar_id is null or hours_us = 0,
                    entered_at + to_microseconds(hours_us),
                    {instant_of("hours", "due_us")}
                )
            ) as deadline_then
        from movable
        left join brought on movable.interval_id = brought.interval_id
        {join_reading("hours", "movable.calendar_id", "due_us")}
    ),

    known as (
        select
            open_then.*,
            if(may_have_moved, deadline_then, deadline_now) as sla_deadline
        from open_then
        left join of_then on open_then.interval_id = of_then.interval_id
    ),

    clock_then as (
        select calendars.calendar_id, {reading_us("shown", "$at")} as shows_us
        from (select distinct calendar_id, $at as at from calendar_windows) as calendars
        {join_clock("shown", "calendars.calendar_id", "calendars.at")}
    ),

    read as (
        select
            known.*,
            case
                when known.calendar_id is null then epoch_us(entered_at)
                else {reading_us("entered", "entered_at")}
            end as entered_us,
            if(known.calendar_id is null, epoch_us($at), clock_then.shows_us) as seen_us
        from known
        left join clock_then on known.calendar_id = clock_then.calendar_id
        {join_clock("entered", "known.calendar_id", "entered_at")}
    ),

    still_open as materialized (
        select
            * exclude (seen_us), {seconds_between("entered_us", "seen_us")} as seconds
        from read
    ),

    lasted as not materialized (
        select
            entity_type, workflow_name, status, seconds, next_status, true as has_left
        from closed
        where seconds is not null
        union all by name
        select entity_type, workflow_name, status, seconds, false as has_left
        from still_open
        where seconds is not null
    ),

    base as (
        select
            (count(*) filter (coalesce(left_at, $at + interval 1 second) > sla_deadline)
            + 1) / (count(*) + 2) as base_ratio
        from (
            select left_at, sla_deadline from closed where sla_deadline is not null
            union all
            select left_at, sla_deadline from known where sla_deadline <= $at
        )
    ),

    waiting as materialized (
        select
            stays.*,
            case
                when stays.calendar_id is null then epoch_us(sla_deadline)
                else {reading_us("due", "sla_deadline")}
            end as due_us,
            {seconds_between("entered_us", "due_us")} as due_seconds
        from (
            from still_open where seconds is not null and sla_deadline is not null
        ) as stays
        {join_clock("due", "stays.calendar_id", "sla_deadline")}
    )
"""


class Verdict(NamedTuple):
    """What a back-test found, over stays whose outcome is known.

    brier: mean squared error of the forecast; base_brier: that of the one probability
    that fits the outcomes best in hindsight, the base rate, which no constant beats.
    gain: base_brier - brier, with its interval by a bootstrap over stays. beats_base:
    the whole interval is above 0. sentence: the same for a person. moved_count: stays
    of which a later transition moved the deadline that the forecast was about.
    """

    forecast_count: int
    stay_count: int
    breached_count: int
    moved_count: int
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
    out. sla_deadline is the one of then: no later transition had moved it (S10).
    """
    found = _with_outcomes(publication, at or publication.as_of)
    return found.drop("left_at", "deadline_now")


def _with_outcomes(publication: Publication, instant: datetime) -> pl.DataFrame:
    """The forecast, with when the stay was left in the end, and its deadline of now."""
    levels = "".join(_level(place, by) for place, by in enumerate(LEVELS))
    joins = "".join(
        f"left join shares_{place} using (interval_id) " for place in range(len(LEVELS))
    )
    sql = f"""
        with {COMPARABLE},

        parts as (
            select
                {", ".join(LEVELS[0])},
                {_told("seconds")} as seconds,
                count(*) filter (has_left) as left_count,
                count(*) filter (not has_left) as censored_count
            from lasted
            group by all
        )
        {levels}
        select
            interval_id, entity_type, entity_id, workflow_name, status, entered_at,
            sla_deadline, seconds, due_seconds,
            coalesce(remaining_0, 0)::bigint as comparable_count,
            case when sla_deadline < $at then 1 else {_shrunk(0)} end
                as breach_probability,
            left_at, deadline_now
        from waiting
        cross join base
        {joins}
        where due_us is not null
        order by breach_probability desc, sla_deadline, entity_type, entity_id
    """
    return publication.frame(Query(sql, {"at": instant}))


def _level(place: int, by: tuple[str, ...]) -> str:
    """CTEs of one grouping: `shares_<place>`, by stay, of those that lasted as long."""
    # One text, because null is a group of its own and ASOF joins take equality alone.
    key = f"concat_ws('/', {', '.join(_text(name) for name in by)})" if by else "''"
    return f""",
        grouped_{place} as not materialized (
            select {key} as group_key, seconds, left_count, censored_count from parts
        ),

        {curve_ctes(f"grouped_{place}", ("group_key",), f"_{place}")},

        starts_{place} as (
            select
                group_key,
                -1::bigint as seconds,
                1.0::double as survival,
                sum(left_count + censored_count)::bigint as remaining_count
            from counted_{place}
            group by group_key
            union all
            select group_key, seconds, survival, remaining_count from curve_{place}
        ),

        shares_{place} as (
            select
                interval_id,
                so_far.remaining_count as remaining_{place},
                beyond.survival / nullif(so_far.survival, 0) as share_{place}
            from (
                select
                    interval_id,
                    {key} as group_key,
                    {_told("seconds")} as told_seconds,
                    {_told("greatest(due_seconds, seconds)")} as told_due_seconds
                from waiting
            ) as stays
            asof join starts_{place} as so_far
                on
                    stays.group_key = so_far.group_key
                    and told_seconds >= so_far.seconds
            asof join starts_{place} as beyond
                on
                    stays.group_key = beyond.group_key
                    and told_due_seconds >= beyond.seconds
        )
    """


def _told(seconds: str) -> str:
    """Whole seconds, not negative, cut off after DIGITS binary digits."""
    places = f"greatest(floor(log2(greatest({seconds}, 1)))::bigint - {DIGITS - 1}, 0)"
    return f"(({seconds}) >> {places} << {places})"


def _text(name: str) -> str:
    return f"coalesce(replace({name}, '/', '//'), '/')"


def _shrunk(place: int) -> str:
    """The share of a grouping and of its coarser ones, the base rate the coarsest.

    A group's share counts as often as it has stays that lasted as long, the coarser
    one's PRIOR_STAYS times; a group that none of them outlived knows nothing.
    """
    if place == len(LEVELS):
        return "base_ratio"
    count = f"if(share_{place} is null, 0, coalesce(remaining_{place}, 0))"
    coarser = f"{PRIOR_STAYS} * {_shrunk(place + 1)}"
    own = f"{count} * coalesce(share_{place}, 0)"
    return f"(({own} + {coarser}) / ({count} + {PRIOR_STAYS}))"


def exits(publication: Publication, at: datetime | None = None) -> pl.DataFrame:
    """Where each stay of `forecast` goes by its deadline: competing exits.

    By Aalen and Johansen's estimate over the stays of its own type, workflow and status
    that lasted as long, without shrinkage. Columns: interval_id; next_status;
    probability of going there by the deadline. Those of a stay and the share that stays
    beyond the deadline add up to 1. Stays without comparable ones have no row.
    """
    key = f"concat_ws('/', {', '.join(_text(name) for name in LEVELS[0])})"
    sql = f"""
        with {COMPARABLE},

        grouped as (
            select {key} as group_key, seconds, has_left, next_status as exit
            from lasted
        ),

        counts as (
            select
                group_key,
                seconds,
                has_left::bigint as left_count,
                1 - left_count as censored_count
            from grouped
        ),

        {curve_ctes("counts", ("group_key",))},

        steps as (
            select
                group_key,
                seconds,
                at_risk_count,
                survival,
                coalesce(
                    lag(survival) over (partition by group_key order by seconds), 1
                ) as survival_before
            from curve
        ),

        left_for as (
            select group_key, seconds, exit, count(*) as exit_count
            from grouped
            where has_left
            group by all
        ),

        incidence as (
            select
                group_key,
                exit,
                seconds,
                sum(survival_before * exit_count / at_risk_count) over (
                    partition by group_key, exit order by seconds
                    rows between unbounded preceding and current row
                ) as incidence
            from left_for
            inner join steps using (group_key, seconds)
            union all
            select distinct group_key, exit, -1, 0 from left_for
        ),

        survived as (
            select group_key, seconds, survival from curve
            union all
            select distinct group_key, -1, 1.0 from grouped
        ),

        asked as (
            select
                waiting.interval_id, waiting.seconds, waiting.due_seconds,
                waiting.group_key, survived.survival, ways.exit
            from (select *, {key} as group_key from waiting) as waiting
            asof join survived
                on
                    waiting.group_key = survived.group_key
                    and waiting.seconds >= survived.seconds
            inner join (select distinct group_key, exit from left_for) as ways
                on waiting.group_key = ways.group_key
            where survived.survival > 0 and waiting.due_seconds >= waiting.seconds
        )

        select
            asked.interval_id,
            asked.exit as next_status,
            (beyond.incidence - so_far.incidence) / asked.survival as probability
        from asked
        asof join incidence as so_far
            on
                asked.group_key = so_far.group_key
                and asked.exit = so_far.exit
                and asked.seconds >= so_far.seconds
        asof join incidence as beyond
            on
                asked.group_key = beyond.group_key
                and asked.exit = beyond.exit
                and asked.due_seconds >= beyond.seconds
        order by all
    """
    return publication.frame(Query(sql, {"at": at or publication.as_of}))


def back_test(publication: Publication, instants: list[datetime]) -> BackTest:
    """Forecast at past instants, by what was known then; hold it against what came.

    A forecast is about the deadline that was known: a stay that kept only a later one
    breached. Only stays whose deadline is before the publication's clock are asked
    about, since of others those that met theirs would be known, and those that will
    not are not.
    """
    frames = [
        _with_outcomes(publication, instant)
        .with_columns(pl.lit(instant).alias("at"))
        .filter(
            (pl.col("sla_deadline") >= instant)
            & (pl.col("sla_deadline") < publication.as_of)
        )
        for instant in instants
    ]
    forecasts = pl.concat(frames).with_columns(
        (pl.col("left_at") > pl.col("sla_deadline"))
        .fill_null(True)
        .alias("is_breached"),
        pl.col("sla_deadline").ne_missing(pl.col("deadline_now")).alias("is_moved"),
    )
    forecasts = forecasts.drop("left_at", "deadline_now")
    return BackTest(forecasts, _calibration(forecasts), _verdict(forecasts))


def _calibration(forecasts: pl.DataFrame) -> pl.DataFrame:
    """A row per tenth of the probability that has forecasts: what came of them.

    Columns: bin (its lower end); forecast_count; breached_count; mean_probability;
    observed_ratio with observed_low and observed_high (exact, as if no stay were asked
    about twice).
    """
    place = (pl.col("breach_probability") * BINS).floor().clip(0, BINS - 1) / BINS
    counted = (
        forecasts.group_by(place.alias("bin"))
        .agg(
            pl.len().alias("forecast_count"),
            pl.col("is_breached").sum().alias("breached_count"),
            pl.col("breach_probability").mean().alias("mean_probability"),
        )
        .sort("bin")
    )
    return with_intervals(counted, "breached_count", "forecast_count", "observed")


def _verdict(forecasts: pl.DataFrame) -> Verdict:
    if forecasts.is_empty():
        sentence = "No stay was open at these instants whose outcome is known."
        return Verdict(0, 0, 0, 0, None, None, None, None, False, sentence)
    missed = pl.col("breach_probability") - pl.col("is_breached").cast(pl.Float64)
    # A stay that is open at several instants has one outcome: it is drawn whole.
    sums = forecasts.group_by("interval_id", maintain_order=True).agg(
        pl.len().cast(pl.Float64).alias("count"),
        pl.col("is_breached").sum().cast(pl.Float64).alias("breached"),
        (missed**2).sum().alias("squares"),
    )
    by_stay = sums.select("count", "breached", "squares").to_numpy()
    brier, base_brier = _scores(by_stay.sum(axis=0))
    interval = _bootstrap(by_stay)
    beats = interval.low > 0
    sentence = _sentence(brier, base_brier, interval, beats)
    count, breached, _ = by_stay.sum(axis=0)
    return Verdict(
        int(count),
        sums.height,
        int(breached),
        forecasts.filter("is_moved")["interval_id"].n_unique(),
        brier,
        base_brier,
        base_brier - brier,
        interval,
        beats,
        sentence,
    )


def _scores(sums: NDArray[np.float64]) -> tuple[float, float]:
    """Brier scores of the forecast and of the base rate, from sums over stays."""
    count, breached, squares = sums
    base = breached / count
    return float(squares / count), float(base * (1 - base))


def _bootstrap(by_stay: NDArray[np.float64]) -> Interval:
    """Percentiles of the gain over stays drawn again, always in the same way."""
    draw = np.random.default_rng(22)
    n = len(by_stay)
    gains = []
    for _ in range(ROUNDS):
        brier, base = _scores(by_stay[draw.integers(0, n, n)].sum(axis=0))
        gains.append(base - brier)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(gains, [tail, 100 - tail])
    return Interval(float(low), float(high))


def _sentence(brier: float, base: float, gain: Interval, beats: bool) -> str:
    scores = f"Brier score {brier:.4f} against {base:.4f} of the base rate"
    between = f"the gain is between {gain.low:+.4f} and {gain.high:+.4f}"
    if beats:
        return f"The forecast beats the base rate: {scores}; {between}."
    return f"The forecast does not beat the base rate: {scores}; {between}."
