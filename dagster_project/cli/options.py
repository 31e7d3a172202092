"""Options and exit codes that several commands share."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from ingest.append import MAX_FUTURE
from ingest.kinds import KINDS

REJECTED = 3
LARGEST_ID = 2**63 - 1


EXIT_CODES = """
\b
Exit codes:
  0  everything accounted for, nothing rejected
  1  refused before the first commit, or stopped between batches: run it again
  2  wrong usage
  3  some rows were rejected, the rest is appended
"""


ENCODING = click.option(
    "--encoding", help="Of a text file, such as cp1252; UTF-8 by default."
)


ACCEPT_UNENDED = click.option(
    "--accept-unended",
    is_flag=True,
    help="Take a last line of CSV without a line end for a whole one.",
)


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


MAPPING = click.option(
    "--mapping", type=click.Path(path_type=Path), help="YAML: which columns mean what."
)


KIND = click.option(
    "--kind",
    "row_kind",
    type=click.Choice(list(KINDS)),
    help="What the rows are, where no mapping says it; transitions by default. Of "
    "audit_logs the columns are id, created_at, table, record, action, user, changes.",
)


MAX_FUTURE_SECONDS = click.option(
    "--max-future",
    type=click.IntRange(min=0),
    default=MAX_FUTURE // timedelta(seconds=1),
    show_default=True,
    help="Seconds that created_at may be ahead of the server's clock.",
)


class Entity(click.ParamType[int | str]):
    """An entity within its type: its id, or the text that its source knows it by."""

    name = "entity"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        """A number is an id; any other text is a key."""
        if not re.fullmatch(r"[0-9]+", value):
            return str(value)
        # Python reads no number of thousands of digits.
        digits = value.lstrip("0") or "0"
        if len(digits) > len(str(LARGEST_ID)) or int(digits) > LARGEST_ID:
            self.fail(f"{value} is no id; the largest is {LARGEST_ID}", param, ctx)
        return int(digits)


class Instant(click.ParamType[datetime]):
    """An ISO 8601 instant with an offset."""

    name = "instant"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        """Parse it; a time without an offset means different instants to people."""
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is no instant such as 2026-03-07T12:00:00+01:00", param, ctx
            )
        if instant.tzinfo is None:
            self.fail(
                f"{value!r} has no offset; add one, as in 2026-03-07T12:00:00Z",
                param,
                ctx,
            )
        try:
            return instant.astimezone(UTC)
        except OverflowError:
            self.fail(f"{value!r} is not within years 1 to 9999 in UTC", param, ctx)


class Since(Instant):
    """An ISO 8601 instant with an offset, or a date: its midnight in UTC."""

    name = "date"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        """A date as days of the published tables are, in UTC."""
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            value = f"{value}T00:00:00Z"
        return super().convert(value, param, ctx)
