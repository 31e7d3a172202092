"""Pictures for the UI, drawn here: how deadlines are kept, what is overdue or forecast.

They are small enough for the UI to show at once. It shows markdown of up to 1,000
characters in place, and an image only by an address or by its data; so a picture is
its own data, and no network or file is asked for it. Figures come from the published
file.
"""

import html
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import LiteralString, NamedTuple
from urllib.parse import quote

import duckdb

# Of markdown that the UI shows without being asked; a picture is ASCII.
SHOWN_AT_ONCE = 1_000
WEEKS = 26
TYPES = 8
LETTERS = 17
# For the dates of the first and the last week beside each other.
ROOM = 150
# What a browser reads unescaped in the data of an image, between < and > of markdown; a
# # would end it.
KEPT = " =:/'.,-()"
_COMPLIANCE: LiteralString = """
select
    date_trunc('week', entered_on)::date,
    sum(met_count)::double / sum(due_count)
from sla_performance
group by all
having sum(due_count) > 0
order by 1 desc
limit ?
"""
_OVERDUE: LiteralString = """
select
    entity_type,
    count(*) filter (where is_overdue),
    count(*)
from entity_current_status
where sla_deadline is not null
group by all
order by 2 desc, 1
"""


class Overdue(NamedTuple):
    """Entities of a type that have a deadline: those that are beyond it, and all."""

    entity_type: str
    overdue: int
    entities: int


class Calibrated(NamedTuple):
    """Forecasts of like probability: its mean, the share that came, its interval."""

    said: float
    came: float
    low: float
    high: float


class Standing(NamedTuple):
    """How things stand by the published file.

    Compliance is of stays by the week in which they began (S21); weeks in which nothing
    fell due are left out. Types come with the most overdue first.
    """

    compliance: tuple[tuple[date, float], ...]
    overdue: tuple[Overdue, ...]
    compliance_ratio: float | None
    share_overdue: float | None


def standing(database: Path) -> Standing:
    """Ask the published DuckDB file."""
    with duckdb.connect(database, read_only=True) as analytics:
        weeks = analytics.execute(_COMPLIANCE, [WEEKS]).fetchall()
        types = analytics.execute(_OVERDUE).fetchall()
        ratio = analytics.execute(
            "select sum(met_count)::double / nullif(sum(due_count), 0) "
            "from sla_performance"
        ).fetchone()
    overdue = tuple(Overdue(*row) for row in types)
    entities = sum(row.entities for row in overdue)
    return Standing(
        tuple(reversed(weeks)),
        overdue,
        ratio[0] if ratio else None,
        sum(row.overdue for row in overdue) / entities if entities else None,
    )


def draw_compliance(weeks: Sequence[tuple[date, float]]) -> str:
    """Markdown: a bar a week, from 0 to 100 %, with the first and the last week."""
    if not weeks:
        return "Nothing was due yet."
    bars = "".join(f"M{8 + 12 * n} 90v-{80 * r:.0f}" for n, (_, r) in enumerate(weeks))
    width = max(12 * len(weeks), ROOM)
    last, ratio = weeks[-1]
    return _image(
        f"Compliance by week up to {last}, {ratio:.1%}",
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width + 50}' height='108' "
        "font-family='sans-serif' font-size='11' fill='gray'>"
        f"<path d='{bars}' stroke='seagreen' stroke-width='9'/>"
        f"<path d='M2 10h{width}M2 90h{width}' stroke='gray'/>"
        f"<text x='{width + 6}' y='14'>100 %</text>"
        f"<text x='{width + 6}' y='94'>0</text>"
        f"<text x='2' y='105'>{weeks[0][0]}</text>"
        f"<text x='{width}' y='105' text-anchor='end'>{last}</text></svg>",
    )


def draw_overdue(types: Sequence[Overdue]) -> str:
    """Markdown: a bar a type of entity, as long as the share that is overdue."""
    shown = [row for row in types if row.overdue][:TYPES]
    if not shown:
        return "Nothing is overdue."
    bars = "".join(
        f"M160 {12 + 16 * n}h{160 * row.overdue / row.entities:.0f}"
        for n, row in enumerate(shown)
    )
    lines = "".join(
        f"<tspan x='2' y='{16 + 16 * n}'>{_text(row.entity_type)} {row.overdue}</tspan>"
        for n, row in enumerate(shown)
    )
    picture = _image(
        "Overdue by type, of all that have a deadline",
        f"<svg xmlns='http://www.w3.org/2000/svg' width='330' "
        f"height='{16 * len(shown) + 8}' font-family='sans-serif' font-size='11' "
        f"fill='gray'><path d='M160 4v{16 * len(shown)}M320 4v{16 * len(shown)}' "
        f"stroke='gray'/><path d='{bars}' stroke='indianred' stroke-width='10'/>"
        f"<text>{lines}</text></svg>",
    )
    # Of names that take more than a letter for a letter.
    return picture if len(picture) < SHOWN_AT_ONCE else draw_overdue(shown[:-1])


def draw_calibration(bins: Sequence[Calibrated]) -> str:
    """Markdown: a dot a bin, what was said to the right, what came upwards.

    With the exact interval of what came, and the line on which a good forecast lies.
    """
    if not bins:
        return "No outcome is known yet."
    spans = "".join(
        f"M{_across(row.said)} {_up(row.low)}V{_up(row.high)}" for row in bins
    )
    dots = "".join(f"M{_across(row.said)} {_up(row.came)}h0" for row in bins)
    return _image(
        "Breached of 100 by the probability that was said",
        "<svg xmlns='http://www.w3.org/2000/svg' width='190' height='130' "
        "font-family='sans-serif' font-size='11' fill='gray'>"
        "<path d='M40 10v100h100M40 110l100-100' stroke='gray' fill='none'/>"
        f"<path d='{spans}' stroke='skyblue' stroke-width='4'/>"
        f"<path d='{dots}' stroke='navy' stroke-width='7' stroke-linecap='round'/>"
        "<text x='2' y='14'>100 %</text><text x='2' y='64'>came</text>"
        "<text x='60' y='125'>said</text><text x='120' y='125'>100 %</text></svg>",
    )


def _across(share: float) -> int:
    return round(40 + 100 * share)


def _up(share: float) -> int:
    return round(110 - 100 * share)


def _text(name: str) -> str:
    """As XML; what can't be printed could not be read as such."""
    return html.escape("".join(c for c in name if c.isprintable())[:LETTERS])


def _image(title: str, svg: str) -> str:
    return f"![{title}](<data:image/svg+xml,{quote(svg, safe=KEPT)}>)"
