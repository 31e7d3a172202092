"""What a what-if found, for people: tables, one JSON object, a picture.

How it is found belongs in what_if.py.
"""

import html
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dagster_project.terminal import shown
from dagster_project.what_if import Compliance, Flip, Group, Stage, WhatIf, is_flip

_WIDTH, _LEFT, _ROW = 640, 200, 34
# Columns of a file or a pipe, which have no width of their own to wrap lines by.
_WIDE = 200


def as_dictionary(found: WhatIf) -> dict[str, Any]:
    """All of it, for JSON."""
    return {
        "cut": found.cut.number,
        "as_of": found.cut.as_of,
        "since": found.since,
        "changed": found.proposal.changed,
        "entity_types": found.proposal.entity_types,
        "stays": found.stays,
        "moved_deadlines": found.moved_deadlines,
        "flip_count": found.flip_count,
        "groups": [_group(group) for group in found.groups],
        "changes": [change._asdict() for change in found.changes if is_flip(change)],
        "alerts": [stage._asdict() for stage in found.alerts],
        "flips": [flip._asdict() for flip in found.flips],
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        **group._asdict(),
        "before": _compliance(group.before),
        "after": _compliance(group.after),
    }


def _compliance(compliance: Compliance) -> dict[str, Any]:
    return {
        **compliance._asdict(),
        "due": compliance.due,
        "ratio": compliance.ratio,
        "interval": compliance.interval,
    }


def tell_what_if(found: WhatIf) -> None:
    """Print it on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _WIDE
    if not found.proposal.changed:
        console.print("Nothing differs from what is in force: nothing flips.")
        return
    names = ", ".join(map(shown, found.proposal.changed))
    since = "the beginning" if found.since is None else _instant(found.since)
    console.print(
        Text(
            f"Supposed since {since}: {names}.\n"
            f"Of cut {found.cut.number}, as of {_instant(found.cut.as_of)} UTC, "
            f"{found.stays:,} stays were judged again: {found.moved_deadlines:,} have "
            f"another deadline, {found.flip_count:,} flip."
        )
    )
    _print(console, "Compliance, with its exact 95 % interval", _groups(found.groups))
    flips = [c for c in found.changes if is_flip(c)]
    rows = [(c.before, c.after, f"{c.stays:,}") for c in flips]
    _print(console, "Stays that flip", [("before", "after", "stays"), *rows])
    _print(console, "", _flips(found.flips))
    if found.flip_count > len(found.flips):
        console.print(f"All {found.flip_count:,} with --json.")
    _print(console, "Alerts", _stages(found.alerts))


def _print(console: Console, title: str, lines: Iterable[Sequence[str]]) -> None:
    """A table of a line of names and others; nothing without others."""
    names, *rows = lines
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, name in enumerate(names):
        is_number = all(row[place][:1] in "0123456789+-" for row in rows)
        table.add_column(name, justify="right" if is_number else "left")
    for row in rows:
        # As text: data is no markup.
        table.add_row(*(Text(shown(cell)) for cell in row))
    console.print(f"\n[bold]{title}[/bold]" if title else "")
    console.print(table)


def _groups(groups: Sequence[Group]) -> Iterator[Sequence[str]]:
    yield ("group", "of", "due", "before", "interval", "due", "after", "interval")
    for group in groups:
        named = group.by in ("workflow", "status", "business entity")
        name = (group.name or "none") if named else ""
        yield (
            " ".join(part for part in (group.entity_type, name) if part) or "all",
            group.by,
            *_cells(group.before),
            *_cells(group.after),
        )


def _cells(compliance: Compliance) -> tuple[str, str, str]:
    if compliance.ratio is None or compliance.interval is None:
        return "0", "-", "-"
    low, high = compliance.interval
    return f"{compliance.due:,}", f"{compliance.ratio:.1%}", f"{low:.1%} to {high:.1%}"


def _flips(flips: Sequence[Flip]) -> Iterator[Sequence[str]]:
    yield (
        "entity", "status", "entered (UTC)", "before", "deadline", "after", "deadline"
    )  # fmt: skip
    for flip in flips:
        yield (
            f"{flip.entity_type} {flip.entity_id}",
            flip.status,
            _instant(flip.entered_at),
            flip.before,
            _instant(flip.deadline_before),
            flip.after,
            _instant(flip.deadline_after),
        )


def _stages(stages: Sequence[Stage]) -> Iterator[Sequence[str]]:
    yield ("stage", "due now", "after", "due later", "after", "stays ever", "after")
    for stage in stages:
        name, *counts = stage
        yield (str(name), *("-" if c is None else f"{c:,}" for c in counts))


def _instant(instant: datetime | None) -> str:
    return "-" if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def draw(found: WhatIf) -> str:
    """SVG: of each entity type its compliance before and after, with intervals."""
    groups = [g for g in found.groups if g.by == "entity type"]
    height = 60 + _ROW * len(groups)
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' "
        f"width='{_WIDTH}' height='{height}' font-family='sans-serif' font-size='12'>",
        "<rect width='100%' height='100%' fill='white'/>",
        "<text x='8' y='18'>Compliance, with its exact 95 % interval: "
        "<tspan fill='gray'>before</tspan>, <tspan fill='teal'>after</tspan></text>",
    ]
    for tenth in range(0, 11, 2):
        x = _across(tenth / 10)
        lines.append(
            f"<path d='M{x} 28V{height - 20}' stroke='lightgray'/>"
            f"<text x='{x}' y='{height - 6}' text-anchor='middle'>{tenth * 10} %</text>"
        )
    for place, group in enumerate(groups):
        y = 46 + _ROW * place
        name = html.escape(shown(group.entity_type)[:28])
        lines.append(f"<text x='8' y='{y + 4}'>{name}</text>")
        lines += _mark(group.before, y - 6, "gray")
        lines += _mark(group.after, y + 6, "teal")
    return "\n".join([*lines, "</svg>\n"])


def _across(ratio: float) -> float:
    return round(_LEFT + ratio * (_WIDTH - _LEFT - 30), 1)


def _mark(compliance: Compliance, y: int, color: str) -> Iterator[str]:
    if compliance.ratio is None or compliance.interval is None:
        return
    low, high = map(_across, compliance.interval)
    x = _across(compliance.ratio)
    yield (
        f"<path d='M{low} {y}H{high}' stroke='{color}' stroke-width='2'/>"
        f"<circle cx='{x}' cy='{y}' r='4' fill='{color}'>"
        f"<title>{compliance.ratio:.1%} of {compliance.due:,}</title></circle>"
    )
