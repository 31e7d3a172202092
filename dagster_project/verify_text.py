"""Rows that differ between what is published and a full build, in words.

Which rows differ is found in aside.py.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster_project.aside import Difference

Row = dict[str, Any]
# What people call a row by.
NAMES = (
    "entered_on",
    "entity_type",
    "entity_id",
    "workflow_name",
    "status",
    "violation",
    "entered_at",
    "created_at",
)


def difference_lines(
    differences: Iterable["Difference"], grains: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """A line a row, then one for each column in which its two sides differ.

    Args:
        differences: rows of one side.
        grains: of each table, the columns that tell that two rows are one.
    """
    sides: dict[tuple[str, ...], tuple[list[Row], list[Row]]]
    sides = defaultdict(lambda: ([], []))
    for table, is_published, row in differences:
        key = [str(row[name]) for name in grains[table]]
        sides[table, *key][0 if is_published else 1].append(row)
    for (table, *_), rows in sorted(sides.items()):
        for published, built in zip_longest(*rows):
            yield from _lines(table, published, built)


def _lines(table: str, published: Row | None, built: Row | None) -> Iterator[str]:
    row = published or built or {}
    title = f"{table}: {_title(row)}"
    if published is None or built is None:
        where = "in a full build" if published is None else "published"
        yield f"{title}: only {where}"
        return
    yield title
    differing = [name for name in published if published[name] != built.get(name)]
    width = max((len(name) for name in differing), default=0)
    for name in differing:
        one, other = shown(published[name]), shown(built.get(name))
        yield f"  {name:{width}}  published {one}, full build {other}"


def _title(row: Row) -> str:
    return " ".join(shown(row[n]) for n in NAMES if row.get(n) is not None)


def shown(value: object) -> str:
    """A value of a row as people read it."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC).replace(tzinfo=None)} UTC"
    return "nothing" if value is None else str(value)
