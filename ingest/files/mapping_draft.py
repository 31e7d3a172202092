"""A mapping file drafted for a table that nobody has described: guesses, and why.

What a sample looks like belongs in profile.py, what a mapping may say in
mapping_schema.py.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from ingest.errors import SourceError
from ingest.files.layout import Layout
from ingest.files.profile import Column, Sample, Times

# Words in the names of columns, those that say most first.
KEY_WORDS = (
    "case:concept:name",
    "entity id",
    "case id",
    "caseid",
    "ticket",
    "order",
    "incident",
    "request",
    "issue",
    "sr number",
    "case",
    "id",
    "key",
    "number",
)
KEY_ENDS = ("id", "key", "number", "no", "nr", "name")
# What is keyed by the way.
NO_KEY_WORDS = ("customer", "user", "product", "resource", "parent", "type", "title")
STATUS_WORDS = (
    "to status",
    "new status",
    "status",
    "state",
    "concept:name",
    "activity",
    "stage",
    "phase",
    "step",
    "event",
    "action",
)
TIME_WORDS = (
    "created at",
    "time:timestamp",
    "timestamp",
    "changed at",
    "change date",
    "occurred",
    "event time",
    "complete",
    "date",
    "time",
    "at",
)
DEADLINE_WORDS = ("sla deadline", "deadline", "due", "target", "estimated", "promised")
FROM_WORDS = ("from status", "old status", "previous status", "prior status")
EVENT_WORDS = ("event id", "concept:instance", "transition id", "history id", "log id")
ORDER_WORDS = ("source order", "sequence", "seq", "position", "version", "activity nr")
REASON_WORDS = ("transition reason", "reason", "comment", "note")
# Of the values of a column of statuses, distinct ones at most so many.
MOST_STATUSES = 200
MOST_MEMBERS = 40


@dataclass(frozen=True)
class Answers:
    """What only a person knows; None where a guess is good enough.

    entity_type: of all rows; timezone: of times without an offset; key, status, time:
    columns; month_first: whether 3/4 is the fourth of March.
    """

    entity_type: str | None = None
    timezone: str | None = None
    key: str | None = None
    status: str | None = None
    time: str | None = None
    month_first: bool | None = None


@dataclass(frozen=True)
class Draft:
    """A mapping's content, what was guessed of each key, and what is left to answer."""

    content: dict[str, Any]
    remarks: dict[str, str]
    questions: list[str]

    def text(self, heading: Iterable[str]) -> str:
        """The mapping file, with the remarks as comments."""
        lines = [f"# {line}" for line in heading]
        lines += [f"# Still to be answered: {question}" for question in self.questions]
        for key, value in self.content.items():
            if key in self.remarks:
                lines.append(f"# {self.remarks[key]}")
            spelled = yaml.safe_dump(
                {key: value}, sort_keys=False, allow_unicode=True, width=100
            )
            lines.append(spelled.rstrip("\n"))
        return "\n".join(lines) + "\n"


def draft(
    path: Path,
    sample: Sample,
    columns: Sequence[Column],
    known_types: Sequence[str],
    answers: Answers,
) -> Draft:
    """A mapping for a file, as well as it can be guessed.

    Raises:
        SourceError: it has no column of instants, of keys or of statuses, one that was
            named is not there, or nobody said what its entities are.
    """
    return _Drafter(path, sample, columns, known_types, answers).draft()


class _Drafter:
    def __init__(
        self,
        path: Path,
        sample: Sample,
        columns: Sequence[Column],
        known_types: Sequence[str],
        answers: Answers,
    ) -> None:
        self._path, self._rows, self._layout = path, sample.rows, sample.layout
        self._nulls = sample.nulls
        self._columns = [column for column in columns if column.value_count]
        self._known_types, self._answers = known_types, answers
        self._content: dict[str, Any] = {}
        self._remarks: dict[str, str] = {}
        self._questions: list[str] = []
        self._used: set[str] = set()

    def draft(self) -> Draft:
        source = re.sub(r"\W+", "_", self._path.name.partition(".")[0]).strip("_")
        self._say("source", source.lower() or "source", "The source, in the ledger.")
        self._say_layout(self._layout)
        times = [column for column in self._columns if column.times]
        deadline = self._named(DEADLINE_WORDS, times)
        times = [column for column in times if column is not deadline]
        self._say_entity(source.lower() or "source")
        status = self._status()
        if status is None:
            self._say_wide(times, deadline)
        else:
            self._say_long(status, times, deadline)
        self._say_zone([c for c in (*times, deadline) if c and c.name in self._used])
        self._say_rest()
        return Draft(self._content, self._remarks, self._questions)

    def _say(self, key: str, value: Any, remark: str = "") -> None:
        self._content[key] = value
        if remark:
            self._remarks[key] = remark

    def _say_layout(self, layout: Layout) -> None:
        if layout.delimiter:
            self._say("delimiter", layout.delimiter)
        if layout.encoding:
            remark = "It is no UTF-8; look whether accented letters come out right."
            self._say("encoding", layout.encoding, remark)
        if self._nulls:
            self._say("nulls", list(self._nulls), "These stand for no value.")

    def _say_entity(self, source: str) -> None:
        types = self._types()
        if types is not None:
            self._use(types)
        key = self._asked(self._answers.key) or self._key()
        entity_type = self._answers.entity_type or self._entity_type(key)
        if entity_type is None and types is None:
            msg = (
                f"{self._path}: say what its entities are, as in --entity-type order; "
                f"known are {', '.join(self._known_types)}, and a new one is a file, "
                "as the README has it."
            )
            raise SourceError(msg)
        told: Any = {"constant": entity_type}
        if types is not None and self._answers.entity_type is None:
            told = types.name
        self._say("entity_type", told, "What the entities are.")
        field: dict[str, Any] = {"column": key.name}
        if not key.is_bigint:
            field |= {"key": True, "namespace": source}
        self._use(key)
        self._say(
            "entity_id",
            field,
            f"{key.distinct_count:,} different ones in {self._rows.height:,} rows, "
            f"such as {key.examples[0]!r}.",
        )

    def _asked(self, name: str | None) -> Column | None:
        if name is None:
            return None
        for column in self._columns:
            if column.name == name:
                return column
        Layout((name,), (name,), is_open=True).check(
            [column.name for column in self._columns], str(self._path)
        )
        raise AssertionError

    def _types(self) -> Column | None:
        """The column of the entities' types, if they are all known."""
        for column in self._columns:
            if _words(column.name) == "entity type":
                values = set(self._rows[column.name].drop_nulls())
                return column if values <= set(self._known_types) else None
        return None

    def _key(self) -> Column:
        rows = self._rows.height
        fit = [
            c
            for c in self._columns
            if c.value_count == rows and c.times is None and c.name not in self._used
        ]
        fit = [
            c for c in fit if self._named((*NO_KEY_WORDS, *EVENT_WORDS), [c]) is None
        ]
        by_end = [c for c in fit if _words(c.name).endswith(KEY_ENDS)]
        found = self._named(KEY_WORDS, by_end) or self._named(KEY_WORDS, fit)
        if found is None:
            msg = (
                f"{self._path}: no column looks like the key of an entity. Name it, as "
                "in --key ticket_id."
            )
            raise SourceError(msg)
        return found

    def _entity_type(self, key: Column) -> str | None:
        words = " ".join((_words(key.name), _words(self._path.name)))
        found = [name for name in self._known_types if name.replace("_", " ") in words]
        return max(found, key=len, default=None)

    def _status(self) -> Column | None:
        """The column of statuses; None where a row is an entity, not an event."""
        asked = self._asked(self._answers.status)
        if asked is not None:
            return asked
        entity = self._content["entity_id"]["column"]
        key = next(c for c in self._columns if c.name == entity)
        is_wide = key.distinct_count == self._rows.height
        is_wide = is_wide and sum(1 for c in self._columns if c.times) > 1
        if is_wide and self._answers.time is None:
            return None
        fit = [
            c
            for c in self._columns
            if c.times is None
            and c.name not in self._used
            and 1 < c.distinct_count <= MOST_STATUSES
            and c.value_count == self._rows.height
            and not c.is_whole
            and self._named(FROM_WORDS, [c]) is None
        ]
        found = self._named(STATUS_WORDS, fit)
        if found is None:
            msg = (
                f"{self._path}: no column looks like the status of an entity. Name it, "
                "as in --status state."
            )
            raise SourceError(msg)
        return found

    def _say_long(
        self, status: Column, times: list[Column], deadline: Column | None
    ) -> None:
        time = self._asked(self._answers.time) or self._time(times)
        self._use(status)
        self._say_time("created_at", time)
        self._say(
            "to_status",
            status.name,
            f"{status.distinct_count:,} different ones, such as "
            f"{', '.join(map(repr, status.examples))}.",
        )
        if deadline is not None:
            self._say_time("sla_deadline", deadline)
        for key, words in (
            ("from_status", FROM_WORDS),
            ("transition_reason", REASON_WORDS),
        ):
            found = self._free(words)
            if found is not None:
                self._use(found)
                self._say(key, found.name)
        self._say_events(time)

    def _say_events(self, time: Column) -> None:
        """What tells events apart, and what orders those of one instant."""
        event = self._free(EVENT_WORDS)
        if event is not None and event.distinct_count == self._rows.height:
            self._use(event)
            self._say("identity", [event.name], "Each event has one of its own.")
        order = self._free(ORDER_WORDS)
        if order is not None and order.is_whole:
            ties = self._rows.select(self._content["entity_id"]["column"], time.name)
            count = ties.height - ties.n_unique()
            self._use(order)
            self._say(
                "order", [order.name], f"{count:,} events share entity and instant."
            )

    def _time(self, times: list[Column]) -> Column:
        full = [c for c in times if c.value_count == self._rows.height] or times
        found = self._named(TIME_WORDS, full) or next(iter(full), None)
        if found is None:
            msg = (
                f"{self._path}: no column holds instants in a format that is known. "
                "Name it, as in --time changed, and its format in the mapping."
            )
            raise SourceError(msg)
        return found

    def _say_time(self, key: str, column: Column) -> None:
        field, remark = self._timed(column)
        self._use(column)
        self._say(key, field, remark)

    def _timed(self, column: Column) -> tuple[Any, str]:
        """The field of a column of instants, and a remark on it."""
        times = column.times or Times((None,), has_offset=False)
        given = times.formats[0]
        swapped = [f for f in times.formats if _is_swapped(f, given)]
        if swapped:
            is_month_first = self._answers.month_first
            if is_month_first is None:
                self._questions.append(
                    f"whether {column.examples[0]!r} in {column.name!r} has the day or "
                    "the month first: --day-first or --month-first"
                )
            both = (given, *swapped)
            given = next(f for f in both if _has_month_first(f) == bool(is_month_first))
        remark = f"Such as {column.examples[0]!r}."
        if given is None:
            return column.name, remark
        return {"column": column.name, "format": given}, remark

    def _say_wide(self, times: list[Column], deadline: Column | None) -> None:
        """One row an entity: each column of instants is a transition."""
        # Those that all have come first, the others in their order.
        entries = []
        for column in sorted(times, key=self._begins):
            field, _ = self._timed(column)
            self._use(column)
            entries.append(
                {"created_at": field, "to_status": {"constant": _status_of(column)}}
            )
        if not entries:
            msg = f"{self._path}: no column holds instants in a format that is known."
            raise SourceError(msg)
        if deadline is not None:
            field, _ = self._timed(deadline)
            self._use(deadline)
            for entry in entries[:-1] or entries:
                entry["sla_deadline"] = field
        self._say(
            "transitions",
            entries,
            "A row is an entity, so each column of instants is a transition.",
        )

    def _begins(self, column: Column) -> tuple[int, float]:
        """Where a column of instants usually stands among the others of its row."""
        names = [c.name for c in self._columns if c.times]
        texts = self._rows.select(names)
        # Texts of one format compare as instants do.
        ranks = texts.select(
            pl.sum_horizontal(
                (pl.col(column.name) > pl.col(other)).fill_null(value=False)
                for other in names
                if other != column.name
            ).mean()
        ).item()
        return -column.value_count // max(1, self._rows.height), float(ranks or 0)

    def _say_zone(self, columns: list[Column]) -> None:
        local = [c.name for c in columns if c.times and not c.times.has_offset]
        if not local:
            return
        if self._answers.timezone is not None:
            self._say("timezone", self._answers.timezone, "Of times without an offset.")
            return
        self._questions.append(
            f"in which zone {', '.join(map(repr, local))} are meant, as in --timezone "
            "Europe/Amsterdam"
        )

    def _say_rest(self) -> None:
        rest = [c for c in self._columns if c.name not in self._used]
        few = [c.name for c in rest if c.distinct_count <= MOST_STATUSES]
        others = [c.name for c in rest if c.distinct_count > MOST_STATUSES]
        for key, names, remark in (
            (
                "business_context",
                few,
                "By what work is grouped; leave out the rest.",
            ),
            ("metadata", others, "What else is to be kept."),
        ):
            if names:
                self._say(key, names[:MOST_MEMBERS], remark)

    def _free(self, words: Sequence[str]) -> Column | None:
        free = [c for c in self._columns if c.name not in self._used]
        return self._named(words, [c for c in free if c.times is None])

    def _use(self, column: Column) -> None:
        self._used.add(column.name)

    @staticmethod
    def _named(words: Sequence[str], columns: Iterable[Column]) -> Column | None:
        """The column whose name holds the word that says most."""
        found = [
            (place, len(column.name), column)
            for column in columns
            for place, word in enumerate(words)
            if re.search(rf"(^|[^a-z]){re.escape(word)}($|[^a-z])", _words(column.name))
        ]
        return min(found, key=lambda item: item[:2])[2] if found else None


def _words(name: str) -> str:
    """A name as words in lower case: camel case and underscores apart."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.sub(r"[_\s.+-]+", " ", apart).strip().lower()


def _status_of(column: Column) -> str:
    """The status that a column of instants is named for."""
    words = _words(column.name).split()
    dull = {"at", "date", "time", "timestamp", "dt", "on", "order", "datetime"}
    return "_".join(w for w in words if w not in dull) or "_".join(words)


def _has_month_first(given: str | None) -> bool:
    return given is not None and given.startswith("%m")


def _is_swapped(given: str | None, other: str | None) -> bool:
    """Whether two formats differ in which of day and month comes first."""
    if given is None or other is None or given == other:
        return False
    apart = re.sub("%[md]", "%x", given)
    return apart == re.sub("%[md]", "%x", other)
