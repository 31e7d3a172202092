"""What breaks a file off: too many rows refused, and in words which, and what to do.

How a row comes to be refused belongs in transition.py, sources.py and append.py.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ingest.errors import SourceError
from ingest.kinds import CODES
from ingest.names import printable
from ingest.transition import TYPE_PATTERN, Reject

MAX_REJECTED_RATIO = 0.5
BREAKER_ROWS = 100
# Of the most frequent codes, so many are in the sentence.
NAMED_CODES = 3
LONGEST_VALUE = 60
# Where all refused rows have one code, the cause is one.
REMEDIES = {
    "created_at_is_given": "Name the column of the instant: created_at, or a mapping.",
    "created_at_is_instant": "Name how it is written in a mapping, as in "
    "created_at: {column: created_at, format: '%d-%m-%Y %H:%M'}.",
    "created_at_has_offset": "Name the zone of local times, as in "
    "--timezone Europe/Amsterdam.",
    "entity_id_is_bigint": "Text becomes an id in a mapping, as in "
    "entity_id: {column: entity_id, key: true, namespace: shop}.",
    "sla_deadline_is_instant": "Name how it is written in a mapping, as in "
    "sla_deadline: {column: sla_deadline, format: '%d-%m-%Y %H:%M'}.",
    "sla_deadline_has_offset": "Name the zone of local times, as in "
    "--timezone Europe/Amsterdam.",
    "row_is_utf8": "Name its encoding, as in --encoding cp1252.",
    "row_is_well_formed": "Name its delimiter in a mapping, as in delimiter: ';'.",
}
OTHERWISE = "Mend the file or its mapping, or allow more: --max-rejected-ratio."


class Refusal(NamedTuple):
    """Rows refused for one reason: how many, and of the first its place and value."""

    code: str
    row_count: int
    line_number: int | None
    row_number: int
    value: str

    def __str__(self) -> str:
        """In words, such as: 3 id_is_uuid (line 2: 'x')."""
        place = self.line_number or self.row_number
        where = "row" if self.line_number is None else "line"
        return f"{self.row_count:,} {self.code} ({where} {place}: '{self.value}')"


class BrokenOffError(SourceError):
    """Too many rows of a file are rejected; nothing more of it is written.

    refusals: the most frequent first.
    """

    def __init__(self, message: str, refusals: Sequence[Refusal]) -> None:
        super().__init__(message)
        self.refusals = refusals


class Breaker:
    """Rows and refusals of a file so far, held against the ratio allowed."""

    def __init__(self, path: Path, ratio: float, types: Sequence[str]) -> None:
        self.path, self._ratio, self._types = path, ratio, types
        self.rows = 0
        self._refusals: dict[str, Refusal] = {}

    @property
    def rejected(self) -> int:
        """Rows refused so far."""
        return sum(refusal.row_count for refusal in self._refusals.values())

    @property
    def refusals(self) -> list[Refusal]:
        """The most frequent first."""
        found = self._refusals.values()
        return sorted(found, key=lambda refusal: (-refusal.row_count, refusal.code))

    @property
    def codes(self) -> str:
        """The refusals as JSON."""
        return json.dumps([refusal._asdict() for refusal in self.refusals])

    def count(self, rows: int, refusals: Iterable[Refusal]) -> None:
        """Take in a batch.

        Raises:
            BrokenOffError: too many of all rows so far are rejected.
        """
        self.rows += rows
        for refusal in refusals:
            known = self._refusals.get(refusal.code, refusal._replace(row_count=0))
            row_count = known.row_count + refusal.row_count
            self._refusals[refusal.code] = known._replace(row_count=row_count)
        if self.rows >= BREAKER_ROWS and self.rejected > self._ratio * self.rows:
            raise BrokenOffError(self._sentence(), self.refusals)

    def _sentence(self) -> str:
        refusals = self.refusals
        named = ", ".join(map(str, refusals[:NAMED_CODES]))
        rest = len(refusals) - NAMED_CODES
        more = f" and {rest} more" if rest > 0 else ""
        only = refusals[0] if len(refusals) == 1 else None
        remedy = self._remedy(only) if only else ""
        return (
            f"{self.path}: broken off, {self.rejected:,} of {self.rows:,} rows would "
            f"be rejected; nothing of their batch is written. "
            f"Why: {named}{more}. {remedy}{OTHERWISE}"
        )

    def _remedy(self, only: Refusal) -> str:
        if only.code != "entity_type_is_known":
            return f"{REMEDIES.get(only.code, CODES[only.code])} "
        # So that what is pasted into a terminal is a name and nothing else.
        new = only.value if re.fullmatch(TYPE_PATTERN, only.value) else "ticket"
        file = f"entity_types: [{{name: {new}, label: {new.capitalize()}}}]"
        return (
            f"Known types are {', '.join(self._types)}: name one in a mapping, as in "
            f"entity_type: {{constant: order}}, or add yours by a file with {file}: "
            "status-engine workflows apply FILE. "
        )


def refusals_of(
    rejects: Iterable[Reject], values: Mapping[int, str | None]
) -> list[Refusal]:
    """The rejects of a batch by code.

    Args:
        rejects: in the order of their rows, for each code.
        values: by row number what was refused of it; of others the row is shown.
    """
    found: dict[str, Refusal] = {}
    for reject in rejects:
        known = found.get(reject.code)
        if known is None:
            value = values.get(reject.row_number, reject.original)
            first = reject.line_number, reject.row_number, cut(value)
            known = Refusal(reject.code, 0, *first)
        found[reject.code] = known._replace(row_count=known.row_count + 1)
    return list(found.values())


def cut(value: str | bytes | None) -> str:
    """The beginning of a value, without what a terminal obeys or JSON can't hold."""
    given = value.encode() if isinstance(value, str) else value or b""
    text = printable(given.rstrip(b"\r\n"))
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
