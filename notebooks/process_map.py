"""A process map: the directly-follows graph of a scope, drawn by Mermaid.

Which moves there are is counted in `analytics.flow`. Names come from data, so each
letter that Mermaid might read is written as its number.
"""

import re
from typing import Any, NamedTuple

import polars as pl
from page import counted, duration

# Shades by the share of time spent in a status; dark text is readable on each.
SHADES = ("#f3f7fa", "#dbe8f1", "#b9d3e5", "#f3d9a4", "#eeb27c")
WIDEST = 9
# Labels on one line each, ranks close together: a long process fits a screen or two.
LAYOUT = (
    '%%{init: {"flowchart": {"wrappingWidth": 400, "rankSpacing": 34, '
    '"nodeSpacing": 40, "padding": 6}}}%%'
)


class Drawn(NamedTuple):
    """The map's text, how many of its moves are drawn, and the share that they are."""

    mermaid: str
    drawn: int
    ratio: float


def draw(
    moves: pl.DataFrame, statuses: pl.DataFrame, lasting: pl.DataFrame, ratio: float
) -> Drawn:
    """The most frequent moves, until a share of all is reached, and their statuses.

    Args:
        moves: of `flow.directly_follows`, the most frequent first.
        statuses: of `flow.statuses`.
        lasting: of `survival.quantiles` by status, for the time in each.
        ratio: in (0, 1]; 1 draws every move.
    """
    total = int(moves["move_count"].sum())
    before = moves["move_count"].cum_sum() - moves["move_count"]
    shown = moves.filter(before < ratio * total)
    names = {status: f"s{place}" for place, status in enumerate(statuses["status"])}
    medians = dict(lasting.select("status", "p50").iter_rows())
    kept = set(shown["from_status"]) | set(shown["to_status"])
    lines = [LAYOUT, "flowchart TD"]
    for row in statuses.iter_rows(named=True):
        if not kept or row["status"] in kept:
            lines += _node(names[row["status"]], row, medians.get(row["status"]))
    largest = shown["move_count"].max() or 1
    for place, row in enumerate(shown.iter_rows(named=True)):
        width = 1 + (WIDEST - 1) * row["move_count"] / largest
        label = _safe(f"{row['move_count']:,} · {duration(row['p50_seconds'])}")
        lines += [
            f'{names[row["from_status"]]} -->|"{label}"| {names[row["to_status"]]}',
            f"linkStyle {place} stroke:#7b8790,stroke-width:{width:.1f}px",
        ]
    drawn = int(shown["move_count"].sum())
    return Drawn("\n".join(lines), shown.height, drawn / total if total else 0.0)


def _node(name: str, row: dict[str, Any], median: int | None) -> list[str]:
    """A status with its stays and how long they last; final ones have round ends."""
    time = (
        "too few left to tell" if median is None else f"half left in {duration(median)}"
    )
    told = "" if row["is_final"] else f"<br/>{time}"
    label = f"{_safe(str(row['label']))}<br/>{counted(row['stay_count'], 'stay')}{told}"
    shape = f'(["{label}"])' if row["is_final"] else f'["{label}"]'
    shade = SHADES[0] if row["is_final"] else _shade(median)
    style = f"style {name} fill:{shade},stroke:#7b8790,color:#1c2730"
    return [f"{name}{shape}", style]


def _shade(median: int | None) -> str:
    """By how long half of the stays last: an hour, a day, three, a week and more."""
    if median is None:
        return SHADES[-1]
    limits = (3_600, 86_400, 3 * 86_400, 7 * 86_400)
    return SHADES[sum(median >= limit for limit in limits)]


def _safe(text: str) -> str:
    return re.sub(r"[^\w ,.·-]", lambda found: f"#{ord(found[0])};", text)
