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
from analytics.survival import Counts, count_seconds, curve, named

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
# More than any stay lasts, so that a group and its seconds are one number, in order.
MOST_SECONDS = 2**44
# A grouping by nothing has one group as well.
ONE = pl.lit(0).alias("all")
BINS = 10
ROUNDS = 1_000

# What is open at $at, with what was known of it then. Instants are microseconds of the
# epoch: the clock of the forecast is a parameter.
STILL_OPEN = f"""
    with {CLOCK},

    open_then as materialized (
        select
            -- A number joins in less time than a text.
            row_number() over () as stay,
            interval_id, entity_type, entity_id, workflow_name, status, entered_at,
            calendar_id, sla_deadline as deadline_now, left_at, stay_number,
            transition_count, sla_hours,
            -- So that a transition after $at may have brought it (S10).
            deadline_source = 'explicit' and transition_count > 1 as may_have_moved
        from status_intervals
        where
            entered_at <= $at and (left_at is null or left_at > $at) and not is_final
    ),

    -- ASOF joins sort all columns that they are given.
    entered as (
        select stays.stay, {reading_us("clock", "stays.entered_at")} as entered_us
        from (
            select stay, calendar_id, entered_at from open_then
            where calendar_id is not null
        ) as stays
        {join_clock("clock", "stays.calendar_id", "stays.entered_at")}
    ),

    movable as (
        select
            stay, entity_type, entity_id, calendar_id, stay_number, transition_count,
            entered_at,
            -- Wide enough for the product: 18 digits hold 277 hours of it.
            (sla_hours::decimal(28, 6) * 3600000000::decimal(10, 0))::bigint
                as hours_us,
            entered_us + hours_us as due_us
        from open_then
        left join entered using (stay)
        where may_have_moved
    ),

    -- Stays are all of an entity's transitions, so the places of theirs follow.
    placed as (
        select
            movable.stay, movable.entity_type, movable.entity_id,
            movable.transition_count,
            1 + coalesce(sum(earlier.transition_count), 0)::bigint as first_place
        from movable
        left join status_intervals as earlier
            on
                movable.entity_type = earlier.entity_type
                and movable.entity_id = earlier.entity_id
                and movable.stay_number > earlier.stay_number
        group by all
    ),

    brought as (
        select
            placed.stay,
            arg_max(told.sla_deadline, told.entity_place) as sla_deadline
        from placed
        inner join audit_trail as told
            on
                placed.entity_type = told.entity_type
                and placed.entity_id = told.entity_id
                and told.entity_place >= first_place
                and told.entity_place < first_place + transition_count
        where told.created_at <= $at and told.sla_deadline is not null
        group by placed.stay
    ),

    of_then as (
        select
            movable.stay,
            coalesce(
                brought.sla_deadline,
                if(
                    movable.calendar_id is null or hours_us = 0,
                    entered_at + to_microseconds(hours_us),
                    {instant_of("hours", "due_us")}
                )
            ) as deadline_then
        from movable
        left join brought on movable.stay = brought.stay
        {join_reading("hours", "movable.calendar_id", "due_us")}
    ),

    known as (
        select
            open_then.*,
            if(may_have_moved, deadline_then, deadline_now) as sla_deadline
        from open_then
        left join of_then on open_then.stay = of_then.stay
    ),

    clock_then as (
        select calendars.calendar_id, {reading_us("shown", "$at")} as shows_us
        from (select distinct calendar_id, $at as at from calendar_windows) as calendars
        {join_clock("shown", "calendars.calendar_id", "calendars.at")}
    ),

    read as (
        select
            known.*,
            if(known.calendar_id is null, epoch_us(entered_at), entered_us)
                as entered_us,
            if(known.calendar_id is null, epoch_us($at), clock_then.shows_us) as seen_us
        from known
        left join clock_then on known.calendar_id = clock_then.calendar_id
        left join entered using (stay)
    ),

    due as (
        select
            stays.stay,
            {seconds_between("entered_us", reading_us("due", "sla_deadline"))}
                as due_seconds
        from (
            select stay, calendar_id, entered_us, sla_deadline from read
            where calendar_id is not null
        ) as stays
        {join_clock("due", "stays.calendar_id", "sla_deadline")}
    )

    select
        interval_id, entity_type, entity_id, workflow_name, status, entered_at,
        sla_deadline, deadline_now, left_at,
        {seconds_between("entered_us", "seen_us")} as seconds,
        if(
            calendar_id is null,
            {seconds_between("entered_us", "epoch_us(sla_deadline)")},
            due.due_seconds
        ) as due_seconds
    from read
    left join due using (stay)
"""
# What had ended by then.
CLOSED = "entered_at <= $at and left_at <= $at and not is_final"


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
    still_open = publication.frame(Query(STILL_OPEN, {"at": instant}))
    waiting = _waiting(still_open)
    lasted = _lasted(_closed(publication, instant, LEVELS[0]), still_open)
    probability = np.full(waiting.height, _base_ratio(publication, still_open, instant))
    # The coarsest first. A group's share counts as often as it has stays that lasted
    # as long, the coarser one's PRIOR_STAYS times; a group that none of them outlived
    # knows nothing.
    told = _with_told(waiting)
    for by in reversed(LEVELS):
        remaining, share = _shares(lasted, told, by)
        count = np.where(np.isnan(share), 0, remaining)
        own = count * np.nan_to_num(share)
        probability = (own + PRIOR_STAYS * probability) / (count + PRIOR_STAYS)
    return waiting.select(
        *("interval_id", "entity_type", "entity_id", "workflow_name", "status"),
        *("entered_at", "sla_deadline", "seconds", "due_seconds"),
        pl.Series("comparable_count", remaining),
        pl.when(pl.col("sla_deadline") < instant)
        .then(1.0)
        .otherwise(pl.Series(probability))
        .alias("breach_probability"),
        *("left_at", "deadline_now"),
    ).sort(
        *("breach_probability", "sla_deadline", "entity_type", "entity_id"),
        descending=[True, False, False, False],
    )


def _closed(publication: Publication, instant: datetime, by: tuple[str, ...]) -> Counts:
    """Of which groups the stays that had ended by an instant lasted how long."""
    sql = f"""
        select {", ".join(by)}, business_seconds as seconds, true as has_left
        from status_intervals
        where {CLOSED} and business_seconds is not null
    """
    return count_seconds(publication, Query(sql, {"at": instant}), by)


def _waiting(still_open: pl.DataFrame) -> pl.DataFrame:
    """Those with a deadline, in calendars that cover them."""
    return still_open.drop_nulls(["seconds", "sla_deadline", "due_seconds"])


def _lasted(closed: Counts, still_open: pl.DataFrame) -> pl.DataFrame:
    """All comparable stays, counted by the finest group and told seconds."""
    ended = _summed(closed.frame.with_columns(_told("seconds")), ["group"])
    rows = [
        named(closed.groups, ended).drop("group"),
        _censored(still_open).with_columns(_told("seconds")),
    ]
    return _summed(pl.concat(rows), [*LEVELS[0]]).with_columns(ONE)


def _censored(still_open: pl.DataFrame) -> pl.DataFrame:
    """A row per stay that had not ended, as `_closed` counts those that had."""
    return still_open.drop_nulls("seconds").select(
        *LEVELS[0],
        "seconds",
        pl.lit(0, pl.Int64).alias("left_count"),
        pl.lit(1, pl.Int64).alias("censored_count"),
    )


def _with_told(waiting: pl.DataFrame) -> pl.DataFrame:
    """Their groups, and told seconds so far and up to the deadline, `due`."""
    due = pl.max_horizontal("due_seconds", "seconds").alias("due")
    rows = waiting.with_columns(_told("seconds"), due).with_columns(_told("due"))
    return rows.select(*LEVELS[0], ONE, "seconds", "due")


def _told(name: str) -> pl.Expr:
    """Whole seconds, not negative, cut off after DIGITS binary digits."""

    def cut(seconds: pl.Series) -> pl.Series:
        whole = seconds.to_numpy()
        places = np.maximum(np.frexp(whole)[1] - DIGITS, 0)
        return pl.Series(whole >> places << places)

    return pl.col(name).map_batches(cut, return_dtype=pl.Int64)


def _base_ratio(
    publication: Publication, still_open: pl.DataFrame, instant: datetime
) -> float:
    """The share of breaches by then, of all with a deadline that had come to it."""
    sql = f"""
        select count(*) filter (left_at > sla_deadline) as breached, count(*) as judged
        from status_intervals
        where {CLOSED} and sla_deadline is not null
    """
    ended = publication.frame(Query(sql, {"at": instant}))
    breached, judged = ended.row(0)
    overdue = still_open.filter(pl.col("sla_deadline") <= instant).height
    return float((breached + overdue + 1) / (judged + overdue + 2))


def _shares(
    lasted: pl.DataFrame, told: pl.DataFrame, by: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each stay's group: how many lasted longer, and which share beyond its due.

    The share is nan where none lasted longer.
    """
    key = [*by, "all"]
    groups = lasted.select(key).unique().with_row_index("group")
    counts = _in_order(lasted.join(groups, on=key, nulls_equal=True))
    asked = told.join(
        groups, on=key, how="left", nulls_equal=True, maintain_order="left"
    )
    steps = _steps(
        curve(counts).select("group", "seconds", "survival", "remaining_count"),
        counts.group_by("group").agg(
            pl.lit(1.0).alias("survival"),
            pl.sum_horizontal("left_count", "censored_count")
            .sum()
            .alias("remaining_count"),
        ),
    )
    so_far, beyond = (
        _reached(steps, asked["group"], asked[name]) for name in ("seconds", "due")
    )
    lasting = so_far["survival"].to_numpy()
    share = np.divide(
        beyond["survival"].to_numpy(),
        lasting,
        out=np.full(len(lasting), np.nan),
        where=lasting > 0,
    )
    return so_far["remaining_count"].to_numpy(), share


def _summed(rows: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Counts by these columns and the second."""
    counts = pl.col("left_count", "censored_count")
    return rows.group_by(*by, "seconds").agg(counts.sum())


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Counts by group and second, in this order, as `curve` takes them."""
    return _summed(rows, ["group"]).sort("group", "seconds")


def _steps(rows: pl.DataFrame, starts: pl.DataFrame) -> pl.DataFrame:
    """A step function a group: what holds from some seconds on, and from the start."""
    first = starts.with_columns(pl.lit(-1, pl.Int64).alias("seconds"))
    parts = [
        part.with_columns(pl.col("group").cast(pl.Int64))
        for part in (first.select(rows.columns), rows)
    ]
    return pl.concat(parts).sort("group", "seconds")


def _reached(steps: pl.DataFrame, group: pl.Series, seconds: pl.Series) -> pl.DataFrame:
    """The last step of each group that is not after these seconds, a row for each."""
    keys = (steps["group"] * MOST_SECONDS + steps["seconds"]).to_numpy()
    asked = (group.cast(pl.Int64) * MOST_SECONDS + seconds).to_numpy()
    return steps[np.searchsorted(keys, asked, side="right") - 1]


def exits(publication: Publication, at: datetime | None = None) -> pl.DataFrame:
    """Where each stay of `forecast` goes by its deadline: competing exits.

    By Aalen and Johansen's estimate over the stays of its own type, workflow and status
    that lasted as long, without shrinkage. Columns: interval_id; next_status;
    probability of going there by the deadline. Those of a stay and the share that stays
    beyond the deadline add up to 1. Stays without comparable ones have no row.
    """
    instant = at or publication.as_of
    key = list(LEVELS[0])
    still_open = publication.frame(Query(STILL_OPEN, {"at": instant}))
    closed = _closed(publication, instant, (*LEVELS[0], "next_status"))
    groups = (
        pl.concat([closed.groups.select(key), still_open.select(key)])
        .unique()
        .with_row_index("group")
    )
    ways = (
        closed.groups.with_row_index("way")
        .join(groups, on=key, nulls_equal=True)
        .select(pl.col("way").cast(pl.Int64), "group", "next_status")
    )
    ended = closed.frame.rename({"group": "way"}).join(ways, on="way")
    censored = _censored(still_open).join(groups, on=key, nulls_equal=True)
    columns = ("group", "seconds", "left_count", "censored_count")
    lasted = pl.concat([ended.select(columns), censored.select(columns)])
    known = curve(_in_order(lasted))
    left_for = _incidence(ended, ways, known)
    survived = _steps(
        known.select("group", "seconds", "survival"),
        groups.select("group", pl.lit(1.0).alias("survival")),
    )
    waiting = _waiting(still_open).join(groups, on=key, nulls_equal=True)
    lasting = _reached(survived, waiting["group"], waiting["seconds"])["survival"]
    asked = (
        waiting.with_columns(lasting)
        .filter(pl.col("survival") > 0, pl.col("due_seconds") >= pl.col("seconds"))
        .join(ways, on="group")
    )
    so_far, beyond = (
        _reached(left_for, asked["way"], asked[name])["incidence"]
        for name in ("seconds", "due_seconds")
    )
    return asked.select(
        "interval_id",
        "next_status",
        ((beyond - so_far) / asked["survival"]).alias("probability"),
    ).sort("interval_id", "next_status")


def expected_exits(ways: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """How many of some stays go where by their deadlines.

    ways: what `exits` tells; stays: rows of `forecast` that it tells of the same
    instant. A row per entity type, status and way out, in this order, the likeliest
    first. Columns: entity_type, status; next_status (null: none by then, it breaches);
    expected_count. The counts of a status add up to those of its stays that have
    comparable ones; they are not shrunk to coarser groups, as breach_probability is.
    """
    by = ["entity_type", "status"]
    told = stays.select("interval_id", *by).join(ways, on="interval_id")
    kept = told.group_by("interval_id", *by).agg(
        (1 - pl.col("probability").sum()).alias("probability"),
        pl.lit(None, pl.String).alias("next_status"),
    )
    return (
        pl.concat([told, kept.select(told.columns)])
        .group_by(*by, "next_status")
        .agg(pl.col("probability").sum().alias("expected_count"))
        .sort(*by, "expected_count", "next_status", descending=[False] * 2 + [True] * 2)
    )


def _incidence(
    ended: pl.DataFrame, ways: pl.DataFrame, known: pl.DataFrame
) -> pl.DataFrame:
    """A step function a way: the share that left by it, by then.

    ended: way, group, seconds and left_count; ways: all of them; known: the curve of
    each group.
    """
    before = pl.col("survival").shift(1).over("group").fill_null(1.0)
    left_then = pl.col("before") * pl.col("left_count") / pl.col("at_risk_count")
    rows = (
        ended.join(
            known.select("group", "seconds", "at_risk_count", before.alias("before")),
            on=["group", "seconds"],
        )
        .sort("way", "seconds")
        .select(
            pl.col("way").alias("group"),
            "seconds",
            left_then.cum_sum().over("way").alias("incidence"),
        )
    )
    starts = ways.select(pl.col("way").alias("group"), pl.lit(0.0).alias("incidence"))
    return _steps(rows, starts)


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
