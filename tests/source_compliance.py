"""Compliance (S21) of the public logs by polars alone, straight from their CSV files.

Nothing of the project: each function reads a file as its publisher describes it, and
`compliance` reckons stays, deadlines, verdicts and shares from what it read.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

import polars as pl
from holidays import country_holidays

DAY = ["entered_on", "status"]
LOCAL = "%Y-%m-%d %H:%M:%S"
OFFSET = "%Y-%m-%dT%H:%M:%S%:z"
MICROSECONDS_OF_AN_HOUR = 3_600_000_000


def compliance(
    events: pl.DataFrame,
    hours: Mapping[str, float | None],
    final: Sequence[str],
    as_of: datetime,
    offices: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """A row per UTC day of entering and status: met, breached, overdue, due, ratio.

    events: entity, at, status, deadline, in the order of the source at one instant.
    hours: of the statuses that have some; in the windows of `offices` where given.
    """
    stays = _stays(events).with_columns(
        pl.col("status").replace_strict(hours, return_dtype=pl.Float64).alias("hours")
    )
    reckoned = _by_the_clock(stays) if offices is None else _in(offices, stays)
    due = pl.coalesce("deadline", reckoned)
    judged = stays.with_columns(
        pl.when(~pl.col("status").is_in(final)).then(due).alias("due_at"),
        pl.col("entered_at").dt.date().alias("entered_on"),
    )
    is_left = pl.col("left_at").is_not_null()
    is_late = pl.col("left_at") > pl.col("due_at")
    is_overdue = ~is_left & (pl.col("due_at") < as_of) & (pl.col("entered_at") <= as_of)
    counts = {
        "met_count": is_left & ~is_late,
        "breached_count": is_left & is_late,
        "overdue_count": is_overdue,
    }
    found = judged.group_by(DAY).agg(
        pl.len().cast(pl.Int64).alias("interval_count"),
        *(test.sum().cast(pl.Int64).alias(name) for name, test in counts.items()),
    )
    total = pl.sum_horizontal(*counts)
    ratio = pl.when(total > 0).then(pl.col("met_count") / total)
    return found.with_columns(ratio.alias("compliance_ratio")).sort(DAY)


def _stays(events: pl.DataFrame) -> pl.DataFrame:
    """Rows in a row with one status are one stay; its last deadline is its deadline."""
    ordered = events.sort("entity", "at", maintain_order=True).with_columns(
        pl.struct("entity", "status").rle_id().alias("run")
    )
    stays = ordered.group_by("run", maintain_order=True).agg(
        pl.col("entity", "status").first(),
        pl.col("at").first().alias("entered_at"),
        pl.col("deadline").drop_nulls().last(),
    )
    return stays.with_columns(
        pl.col("entered_at").shift(-1).over("entity").alias("left_at")
    )


def _microseconds(hours: pl.Expr) -> pl.Expr:
    return (hours * MICROSECONDS_OF_AN_HOUR).cast(pl.Int64)


def _by_the_clock(stays: pl.DataFrame) -> pl.Series:
    lasting = pl.duration(microseconds=_microseconds(pl.col("hours")))
    return stays.select((pl.col("entered_at") + lasting).alias("due"))["due"]


def _in(offices: pl.DataFrame, stays: pl.DataFrame) -> pl.Series:
    """When so many hours of the offices' windows have passed since entering."""
    lasts = pl.col("closes_at") - pl.col("opens_at")
    windows = offices.sort("opens_at").with_columns(
        (lasts.cum_sum() - lasts).dt.total_microseconds().alias("shows")
    )
    entered = stays.with_row_index().sort("entered_at")
    entered = entered.join_asof(
        windows, left_on="entered_at", right_on="opens_at", coalesce=False
    )
    inside = pl.min_horizontal("entered_at", "closes_at") - pl.col("opens_at")
    passed = pl.col("shows") + inside.dt.total_microseconds()
    reading = (passed + _microseconds(pl.col("hours"))).alias("reading")
    asked = entered.select("index", reading).drop_nulls().sort("reading")
    ends = asked.join_asof(
        windows, left_on="reading", right_on="shows", allow_exact_matches=False
    )
    rest = pl.duration(microseconds=pl.col("reading") - pl.col("shows"))
    due = ends.select("index", (pl.col("opens_at") + rest).alias("due"))
    rows = stays.with_row_index().join(due, on="index", how="left")
    return rows.sort("index")["due"]


def offices_of_italy() -> pl.DataFrame:
    """09:00 to 18:00, Monday to Friday, except on holidays; 2008 to 2020."""
    closed = list(country_holidays("IT", years=range(2008, 2021)))
    days = pl.date_range(date(2008, 1, 1), date(2020, 12, 31), eager=True).alias("day")
    open_days = days.to_frame().filter(
        pl.col("day").dt.weekday() <= 5, ~pl.col("day").is_in(closed)
    )

    def at(hour: int) -> pl.Expr:
        local = pl.col("day").cast(pl.Datetime("us")) + pl.duration(hours=hour)
        return local.dt.replace_time_zone("Europe/Rome").dt.convert_time_zone("UTC")

    return open_days.select(at(9).alias("opens_at"), at(18).alias("closes_at"))


def helpdesk(path: Path) -> pl.DataFrame:
    """A row an event. What calls itself UTC is the wall clock of Italy."""
    read = ["seriousness_2", "service_level", "service_type", "workgroup"]
    read += ["org:resource", "customer", "product"]
    rows = _read(path).select(
        pl.col("case:concept:name").alias("entity"),
        _local(
            pl.col("time:timestamp").str.head(19).str.replace("T", " "), "Europe/Rome"
        ).alias("at"),
        pl.col("concept:name").alias("status"),
        pl.lit(None, pl.Datetime("us", "UTC")).alias("deadline"),
        pl.col(read).replace("?", None),
    )
    return _once(rows)


def incidents(path: Path) -> pl.DataFrame:
    """A row an event, with its offset; a status is two columns."""
    read = ["SR Latest Impact", "Product", "Country", "Involved ST", "Resource"]
    rows = _read(path).select(
        pl.col("SR Number").alias("entity"),
        pl.col("Change Date+Time").str.to_datetime(OFFSET, time_unit="us").alias("at"),
        pl.concat_str("Status", "Sub Status", separator=" / ").alias("status"),
        pl.lit(None, pl.Datetime("us", "UTC")).alias("deadline"),
        pl.col(*read, "Involved Org line 3"),
    )
    return _once(rows)


def olist(*paths: Path) -> pl.DataFrame:
    """A row an order, a column a milestone; the estimate is due up to the delivery."""
    zone = "America/Sao_Paulo"
    rows = pl.concat([_read(path) for path in paths])
    names = {
        "order_purchase_timestamp": "purchased",
        "order_approved_at": "approved",
        "order_delivered_carrier_date": "shipped",
        "order_delivered_customer_date": "delivered",
    }
    estimate = "order_estimated_delivery_date"
    content = ["customer_id", "order_status"]
    sound = _sound(rows, [*names, estimate], zone)
    return _wide(sound, "order_id", names, {"delivered"}, estimate, content)


def boston(path: Path) -> pl.DataFrame:
    """A row a request, opened and perhaps closed; the target is the city's own."""
    names = {"open_dt": "open", "closed_dt": "closed"}
    rows = _sound(_read(path), [*names, "target_dt"], "America/New_York")
    return _wide(rows, "case_enquiry_id", names, {"closed"}, "target_dt", [])


def receipt(path: Path) -> pl.DataFrame:
    """A row an event, each with the receipt, the deadline and the end of its case."""
    names = {"case:startdate": "received", "case:enddate": "closed"}
    times = [*names, "case:deadline"]
    form = "%Y-%m-%d %H:%M:%S%.f%:z"
    rows = _read(path).with_columns(pl.col(times).str.to_datetime(form, time_unit="us"))
    content = ["case:channel", "case:department", "case:responsible"]
    return _wide(rows, "case:concept:name", names, {"closed"}, "case:deadline", content)


def _read(path: Path) -> pl.DataFrame:
    """All texts; an empty field is null."""
    return pl.read_csv(path, infer_schema=False)


def _local(text: pl.Expr, zone: str) -> pl.Expr:
    """The instant of a local time; null where it never was, or was twice."""
    local = text.str.to_datetime(LOCAL, time_unit="us")
    instant = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    return instant.dt.convert_time_zone("UTC")


def _sound(rows: pl.DataFrame, times: list[str], zone: str) -> pl.DataFrame:
    """Instants of local times; a row with a time that was not once is refused whole."""
    read = rows.with_columns(_local(pl.col(name), zone).alias(name) for name in times)
    told = pl.all_horizontal(
        read[name].is_null() == rows[name].is_null() for name in times
    )
    return read.filter(told)


def _wide(
    rows: pl.DataFrame,
    entity: str,
    names: Mapping[str, str],
    ends: set[str],
    deadline: str,
    content: list[str],
) -> pl.DataFrame:
    """An event a milestone, in the order of rows, then of milestones."""
    numbered = rows.with_row_index()
    milestones = [
        numbered.select(
            "index",
            pl.lit(place).alias("place"),
            pl.col(entity).alias("entity"),
            pl.col(column).alias("at"),
            pl.lit(status).alias("status"),
            (
                pl.lit(None, pl.Datetime("us", "UTC"))
                if status in ends
                else pl.col(deadline)
            ).alias("deadline"),
            pl.col(content),
        )
        for place, (column, status) in enumerate(names.items())
    ]
    events = pl.concat(milestones).drop_nulls("at").sort("index", "place")
    return _once(events.drop("index", "place"))


def _once(events: pl.DataFrame) -> pl.DataFrame:
    """A row that says again what another says adds nothing."""
    return events.drop_nulls("at").unique(maintain_order=True)
