"""Signals of targets: which stand by the days that are over, and when they began.

A target's error budget that burns too fast, and a break in the chart of its compliance.
How much burns is told in dbt (target_compliance), when a chart is broken in
analytics/charts.py; here is which of it is worth an alert, and what was seen of it.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any, LiteralString, NamedTuple

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from dagster_project.swap import PUBLISHED, exists, no_swap
from ingest.identity import NAMESPACE
from ingest.store.database import Connection
from ingest.store.locks import Lock, holding

Row = dict[str, Any]
_DAYS: LiteralString = """
select compliance.*, targets.roles, targets.effective_from
from sla.target_compliance as compliance
inner join sla.targets
    on
        compliance.target_name = targets.target_name
        and compliance.through_on >= targets.effective_from
        and compliance.through_on < coalesce(targets.effective_until, 'infinity')
order by compliance.target_name, compliance.through_on, compliance.window_days
"""
_KNOWN: LiteralString = """
select distinct on (signal_id) *
from raw.target_signals
order by signal_id, event_id desc
"""
_APPEND: LiteralString = """
insert into raw.target_signals (
    signal_id, target_name, rule, is_standing, observed_at, through_on, entity_type,
    business_entity_id, roles, title, said
)
values (
    %(signal_id)s, %(target_name)s, %(rule)s, %(is_standing)s, %(observed_at)s,
    %(through_on)s, %(entity_type)s, %(business_entity_id)s, %(roles)s, %(title)s,
    %(said)s
)
"""


class BurnRule(NamedTuple):
    """Burning faster than `rate` in the long window and still in the short one."""

    name: str
    long_days: int
    short_days: int
    rate: float


# As the Site Reliability Workbook (Google, 2018), chapter 5, over whole days: half of
# the budget of 28 days is gone in a week, or all of it in 28 days; the short window
# ends a signal soon after.
BURN_RULES = (BurnRule("burn_7d", 7, 1, 2), BurnRule("burn_28d", 28, 7, 1))
# One signal, whichever of its rules are broken: one event breaks several at once.
CHART = "chart"
CHART_WORDS = {
    "beyond_limits": "a day is beyond the limits of its chart",
    "run": "eight days in a row are on one side of its mean",
    "two_of_three": "two of three days are beyond two sigma, on one side of its mean",
}


class Signal(NamedTuple):
    """A rule that a target breaks, by its days up to and with through_on."""

    target_name: str
    rule: str
    through_on: date
    entity_type: str
    business_entity_id: str | None
    roles: list[str]
    title: str
    said: str

    @property
    def signal_id(self) -> uuid.UUID:
        """The same whenever it stands."""
        text = "\x00".join(("target_signals", self.target_name, self.rule))
        return uuid.uuid5(NAMESPACE, text)


def observe_signals(connection: Connection, as_of: datetime) -> int:
    """Append which signals began and which ended since the last look; how many.

    Args:
        connection: open, outside a transaction; this is one transaction on it.
        as_of: what the clock shows; days that are over by then count (S15).

    Raises:
        StatusEngineError: the tables are of other models.
    """
    if not exists(connection, PUBLISHED) or not _any_target(connection):
        return 0
    # Before the transaction: its snapshot must see what the last holder appended.
    with holding(connection, Lock.SIGNALS), no_swap(connection):
        connection.execute(
            "select set_config('status_engine.as_of', %s, true)", [as_of.isoformat()]
        )
        with connection.cursor(row_factory=dict_row) as cursor:
            days = cursor.execute(_DAYS).fetchall()
            known = cursor.execute(_KNOWN).fetchall()
            last_day = as_of.astimezone(UTC).date() - timedelta(days=1)
            events = list(_events(standing(days, last_day), known, last_day))
            for event in events:
                values = {**event, "roles": Jsonb(event["roles"])}
                cursor.execute(_APPEND, {**values, "observed_at": as_of})
    return len(events)


def _any_target(connection: Connection) -> bool:
    row = connection.execute("select exists (select from raw.targets)").fetchone()
    return row is not None and bool(row[0])


def _events(
    found: Iterable[Signal], known: Iterable[Row], last_day: date
) -> Iterator[Row]:
    """What differs from what was seen last: a beginning or an end each."""
    stood = {row["signal_id"]: row for row in known if row["is_standing"]}
    stands = {signal.signal_id: signal for signal in found}
    for signal_id, signal in stands.items():
        if signal_id not in stood:
            own = {"signal_id": signal_id, "is_standing": True}
            yield {**signal._asdict(), **own}
    for signal_id, row in stood.items():
        if signal_id not in stands:
            said = f"It was seen first by the days up to {row['through_on']}."
            own = {"is_standing": False, "through_on": last_day, "said": said}
            yield {**row, **own}


def standing(days: Sequence[Row], last_day: date) -> list[Signal]:
    """Signals that stand by the rows of target_compliance, in the order of targets.

    Args:
        days: with roles and effective_from of the version in force on through_on; of
            each target in the order of through_on.
        last_day: the last that is over; a target that is not in force on it has none.
    """
    found: list[Signal] = []
    for _, rows in groupby(days, key=lambda row: row["target_name"]):
        own = list(rows)
        now = {r["window_days"]: r for r in own if r["through_on"] == last_day}
        if now:
            found += [*_burning(now), *_charted(own, now[1])]
    return found


def _signal(row: Row, rule: str, title: str, said: Sequence[str]) -> Signal:
    scope = [row["workflow_name"], row["status"]]
    of = " / ".join([row["entity_type"], *(part for part in scope if part)])
    asked = f"Target: compliance of at least {_percent(row['at_least_ratio'])}, {of}"
    return Signal(
        row["target_name"],
        rule,
        row["through_on"],
        row["entity_type"],
        row["business_entity_id"],
        row["roles"],
        f"{row['target_name']}: {title}",
        "\n".join([asked, *said]),
    )


def _burning(now: dict[int, Row]) -> Iterator[Signal]:
    """By both windows, and in the long one by more than chance."""
    for rule in BURN_RULES:
        long, short = now[rule.long_days], now[rule.short_days]
        rates = long["burn_rate"] or 0, short["burn_rate"] or 0
        if min(rates) > rule.rate and _is_certain(long, rule.rate):
            yield _signal(
                long,
                rule.name,
                _burns(rates[0]),
                [_window(long), _window(short)],
            )


def _is_certain(row: Row, rate: float) -> bool:
    """Whether even the lower end of the exact interval burns so fast."""
    # scipy takes a second to load, and few installations have a target.
    from analytics.proportions import exact_interval

    least = exact_interval(row["breached_count"], row["due_count"]).low
    return bool(least * row["due_count"] > rate * row["allowed_count"])


def _window(row: Row) -> str:
    days = row["window_days"]
    return (
        f"{days} day{'s' if days > 1 else ''} up to {row['through_on']}: "
        f"{row['breached_count']:,} of {row['due_count']:,} breached, "
        f"{row['allowed_count']:,.1f} allowed"
    )


def _burns(rate: float) -> str:
    if rate == float("inf"):
        return "it leaves nothing to breaches, and there are some"
    return f"its error budget burns {rate:,.1f} times as fast as it comes"


def _charted(rows: Sequence[Row], now: Row) -> Iterator[Signal]:
    """Of the chart of its compliance by day; a version of the target restates it."""
    import polars as pl

    from analytics.charts import p_chart, signals

    of_days = [r for r in rows if r["window_days"] == 1 and r["due_count"]]
    if not of_days:
        return
    points = pl.DataFrame(
        {
            "date": [row["through_on"] for row in of_days],
            "met_count": [row["met_count"] for row in of_days],
            "due_count": [row["due_count"] for row in of_days],
        }
    )
    baselines = sorted({row["effective_from"] for row in of_days})
    chart = p_chart(points, baselines)
    last = chart.row(-1, named=True)
    way = "better" if last["ratio"] > last["centre"] else "worse"
    broken = signals(chart).filter(pl.col("ends_on").is_null()).to_dicts()
    if broken:
        yield _signal(
            now,
            CHART,
            f"its compliance is {way} than it was",
            [
                *(f"Since {b['begins_on']} {CHART_WORDS[b['rule']]}" for b in broken),
                f"{last['date']}: {_percent(last['ratio'])} of {last['due_count']:,}; "
                f"the mean since {last['baseline']} is {_percent(last['centre'])}, its "
                f"limits {_percent(last['lower'])} and {_percent(last['upper'])}",
            ],
        )


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.4f}".rstrip("0").rstrip(".") + " %"
