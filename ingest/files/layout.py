"""Which columns of a file are looked for, held against its header.

What becomes of their values belongs in chunks.py and mapping.py.
"""

from difflib import SequenceMatcher
from typing import NamedTuple

from ingest.errors import SourceError
from ingest.transition import COLUMNS, REQUIRED

# Of a header, as many of its columns are told, and as much of each.
NAMED_COLUMNS = 5
SHOWN_COLUMNS = 20
LONGEST_NAME = 100
DELIMITERS = (";", "\t", "|", ",")


class Layout(NamedTuple):
    """Which columns a reader looks for.

    columns: those handed on, missing ones as null; required: those that must be there;
    is_open: whether others may be there too; accepts_unended: whether a last line of
    delimited text is whole without a line end; encoding: of text, UTF-8 where None.
    """

    columns: tuple[str, ...] = COLUMNS
    required: tuple[str, ...] = REQUIRED
    is_open: bool = False
    delimiter: str | None = None
    encoding: str | None = None
    accepts_unended: bool = False

    def check(
        self, found: list[str], name: str, where: str = "line 1: the header"
    ) -> None:
        """Hold the header of the file `name`, or what else it is, against the layout.

        Raises:
            SourceError: a column is missing, unknown or there twice.
        """
        missing = [c for c in self.required if c not in found]
        unknown = [] if self.is_open else [c for c in found if c not in self.columns]
        repeated = sorted(
            {c for c in found if found.count(c) > 1 and c in self.columns}
        )
        hint = "" if self.is_open else " Another table comes in with --mapping FILE."
        for words, columns in (
            ("has no column", missing),
            ("has an unknown column", unknown),
            ("has more than one column", repeated),
        ):
            if columns:
                names = _named(columns, NAMED_COLUMNS)
                # What is there a person compares with what was meant.
                there = f"; it has {_there(_nearest(found, columns[0]))}"
                there = "" if columns is repeated else there
                msg = f"{name}, {where} {words} {names}{there}."
                raise SourceError(f"{msg}{self._suspicion(found)}{hint}")

    def _suspicion(self, found: list[str]) -> str:
        """Where the header is one column: by what it may be several."""
        marks = [m for m in DELIMITERS if len(found) == 1 and m in found[0]]
        if not marks:
            return ""
        mark = max(marks, key=found[0].count)
        spelled = '"\\t"' if mark == "\t" else f"'{mark}'"
        return (
            " That is one column; where it is several, say in a mapping what is "
            f"between them, as in delimiter: {spelled}."
        )


def _nearest(found: list[str], meant: str) -> list[str]:
    """The columns that are there, those like the one that was meant first."""
    return sorted(
        found,
        key=lambda name: (
            -SequenceMatcher(
                None, meant[:LONGEST_NAME].lower(), name[:LONGEST_NAME].lower()
            ).ratio()
        ),
    )


def _there(found: list[str]) -> str:
    rest = len(found) - SHOWN_COLUMNS
    more = f" and {rest} more" if rest > 0 else ""
    return f"{_named(found, SHOWN_COLUMNS)}{more}" if found else "none"


def _named(columns: list[str], most: int) -> str:
    shown = (c if len(c) <= LONGEST_NAME else f"{c[:LONGEST_NAME]}…" for c in columns)
    return ", ".join(repr(name) for name, _ in zip(shown, range(most), strict=False))
