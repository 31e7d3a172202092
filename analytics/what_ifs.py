"""Results of `status-engine what-if --json`, read again from their files.

They are judged by the engine, in its database; here they are checked and made into
frames, for who has only files.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl
from polars.datatypes import DataType, DataTypeClass

from analytics.published import PublicationError

FOLDER = Path("what-if")


class Compliance(msgspec.Struct):
    """Of a group, before or after (S21); ratio and interval are None of nothing."""

    due: int
    met: int
    ratio: float | None
    interval: tuple[float, float] | None


class Group(msgspec.Struct):
    """by: all, entity type, workflow, status or business entity."""

    by: str
    entity_type: str | None
    name: str | None
    before: Compliance
    after: Compliance


class Flip(msgspec.Struct):
    """A stay that is judged otherwise."""

    entity_type: str
    entity_id: int
    status: str
    entered_at: datetime
    before: str
    after: str
    deadline_before: datetime | None
    deadline_after: datetime | None


class Stage(msgspec.Struct):
    """Alerts of a stage: due at the clock, and those that wait."""

    stage: str
    due_before: int
    due_after: int
    waiting_before: int
    waiting_after: int


class Result(msgspec.Struct):
    """What a file says, in the words of the command."""

    cut: int
    as_of: datetime
    since: datetime | None
    changed: list[str]
    stays: int
    moved_deadlines: int
    flip_count: int
    groups: list[Group]
    alerts: list[Stage]
    flips: list[Flip]


class WhatIf(NamedTuple):
    """A result, and its parts as frames.

    groups: by, entity_type, name; due, ratio, low and high of each side, as
    before_due …; change (after minus before, null without either). flips and alerts
    have the columns of `Flip` and `Stage`.
    """

    result: Result
    groups: pl.DataFrame
    flips: pl.DataFrame
    alerts: pl.DataFrame


def results(home: Path) -> list[Path]:
    """The files of results in a home folder, the newest first."""
    found = (home / FOLDER).glob("*.json")
    return sorted(found, key=lambda path: (-path.stat().st_mtime_ns, path.name))


def read(path: Path) -> WhatIf:
    """What a file says.

    Raises:
        PublicationError: it is no result of a what-if.
    """
    try:
        result = msgspec.json.decode(path.read_bytes(), type=Result)
    except (OSError, msgspec.MsgspecError) as error:
        msg = (
            f"{path} is no result of a what-if: {error}. "
            "Run: status-engine what-if PATHS --json > FILE."
        )
        raise PublicationError(msg) from error
    return WhatIf(
        result,
        pl.DataFrame(
            [_sides(group) for group in result.groups], schema=_GROUPS, orient="row"
        ),
        _frame(result.flips, _FLIPS),
        _frame(result.alerts, _STAGES),
    )


_Schema = Mapping[str, DataTypeClass | DataType]
_INSTANT = pl.Datetime("us", "UTC")
_GROUPS = {
    "by": pl.String,
    "entity_type": pl.String,
    "name": pl.String,
    **{
        f"{side}_{name}": pl.Int64 if name == "due" else pl.Float64
        for side in ("before", "after")
        for name in ("due", "ratio", "low", "high")
    },
    "change": pl.Float64,
}
_FLIPS: _Schema = {
    "entity_type": pl.String,
    "entity_id": pl.Int64,
    "status": pl.String,
    "entered_at": _INSTANT,
    "before": pl.String,
    "after": pl.String,
    "deadline_before": _INSTANT,
    "deadline_after": _INSTANT,
}
_STAGES: _Schema = {
    "stage": pl.String,
    **dict.fromkeys(Stage.__struct_fields__[1:], pl.Int64),
}


def _sides(group: Group) -> tuple[object, ...]:
    sides: list[object] = []
    for side in (group.before, group.after):
        sides += [side.due, side.ratio, *(side.interval or (None, None))]
    before, after = group.before.ratio, group.after.ratio
    change = None if before is None or after is None else after - before
    return (group.by, group.entity_type, group.name, *sides, change)


def _frame(
    rows: Sequence[Flip] | Sequence[Stage],
    schema: _Schema,
) -> pl.DataFrame:
    values = [tuple(getattr(row, name) for name in schema) for row in rows]
    return pl.DataFrame(values, schema=dict(schema), orient="row")
