"""How far a follower of transitions has come: a cut, and what it saw beyond it.

Batches commit out of order and late, so neither a number nor a time says what is new;
membership does (S17). What is read from a position belongs in watch.py.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ingest.errors import StatusEngineError

LARGEST = 2**63 - 1
LONGEST_SHOWN = 60
_NUMBER = r"[0-9]{1,18}"
_RANGE = f"{_NUMBER}(?:-{_NUMBER})?"
_FORM = re.compile(
    f"(?P<cut>{_NUMBER})(?::(?P<seen>{_RANGE}(?:,{_RANGE})*))?"
    rf"(?:\+(?P<batch>{_NUMBER})\.(?P<row>{_NUMBER}))?"
)


class Gap(NamedTuple):
    """Numbers between two others, both exclusive."""

    after: int
    before: int


class Numbers:
    """A set of whole numbers from 0, kept as ranges: batches are mostly in a row."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for number in numbers:
            self.add(number)

    def add(self, number: int) -> None:
        """Add one; the last range grows at once, which is the usual case."""
        place = bisect_right(self._firsts, number)
        if place and number <= self._lasts[place - 1]:
            return
        follows = place > 0 and self._lasts[place - 1] == number - 1
        leads = place < len(self._firsts) and self._firsts[place] == number + 1
        if follows and leads:
            self._lasts[place - 1] = self._lasts.pop(place)
            del self._firsts[place]
        elif follows:
            self._lasts[place - 1] = number
        elif leads:
            self._firsts[place] = number
        else:
            self._firsts.insert(place, number)
            self._lasts.insert(place, number)

    def add_behind(self, first: int, last: int) -> None:
        """Add a range behind all others, in one step however long it is.

        Raises:
            ValueError: it is not behind them.
        """
        if last < first or (self._lasts and first <= self._lasts[-1]):
            raise ValueError(first)
        self._firsts.append(first)
        self._lasts.append(last)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """First and last of each range, in their order."""
        return zip(self._firsts, self._lasts, strict=True)

    def gaps(self) -> list[Gap]:
        """All numbers that are not in it; never empty."""
        afters, befores = [-1, *self._lasts], [*self._firsts, LARGEST]
        return [Gap(*pair) for pair in zip(afters, befores, strict=True)]

    def __str__(self) -> str:
        return ",".join(
            str(first) if first == last else f"{first}-{last}"
            for first, last in self.ranges()
        )


class Position:
    """All batches of cuts up to `cut`, those in `seen`, and of `begun` some rows.

    As text `12:4711-4790,4792+4795.17`: cut 12, batches 4711 to 4790 and 4792 that are
    in no cut up to it, and batch 4795 up to its row 17. `0` is before everything.
    """

    def __init__(
        self, cut: int, seen: Numbers, begun: tuple[int, int] | None = None
    ) -> None:
        self.cut, self.seen, self.begun = cut, seen, begun

    def complete(self, batch_id: int) -> None:
        """All rows of a batch are seen."""
        self.seen.add(batch_id)
        self.begun = None

    def __str__(self) -> str:
        seen = str(self.seen)
        begun = f"+{self.begun[0]}.{self.begun[1]}" if self.begun else ""
        return f"{self.cut}{':' if seen else ''}{seen}{begun}"


def parse_position(text: str) -> Position:
    """The position that a text says.

    Raises:
        StatusEngineError: it says none.
    """
    found = _FORM.fullmatch(text)
    seen = Numbers()
    try:
        if found is None:
            raise ValueError(text)
        for part in filter(None, (found["seen"] or "").split(",")):
            first, _, last = part.partition("-")
            seen.add_behind(int(first), int(last or first))
    except ValueError as error:
        shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
        msg = (
            f"{shown!r} is no position: take that of the last whole line, or 0 for "
            "everything."
        )
        raise StatusEngineError(msg) from error
    begun = (int(found["batch"]), int(found["row"])) if found["batch"] else None
    return Position(int(found["cut"]), seen, begun)
