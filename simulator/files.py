"""The files that sources would deliver, with what goes wrong on the way to them.

Which transitions there are is decided in simulation.py.
"""

import gzip
import io
import json
import random
from abc import ABC, abstractmethod
from collections import deque
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from simulator.company import Json, read_company
from simulator.hours import DAY, EPOCH, microseconds
from simulator.simulation import SimulatedRow, Simulation, random_uuid

RECENT = 7 * DAY
# Shares of transitions, or of entities where it says so.
LATE = 0.01
REPEATED = 0.005
# A defect puts a text into a column of a copied row, or leaves the column out (None).
Defect = tuple[str, str | None]
CUT_OFF: Defect = ("", None)
CSV_DEFECTS: tuple[Defect, ...] = (
    ("created_at", "2026-13-45T09:00:00+00:00"),
    ("entity_type", "charging_pole"),
    ("entity_id", "A-1042"),
    ("business_context", '"{""priority"": "'),
    CUT_OFF,
)
JSONL_DEFECTS: tuple[Defect, ...] = (
    ("to_status", None),
    ("created_at", "yesterday"),
    CUT_OFF,
)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class DemoFiles(NamedTuple):
    """What was written; transitions counts every row, repeated and malformed too."""

    paths: tuple[Path, ...]
    transitions: int
    malformed: int


def write_demo(
    directory: Path, *, workflows: Path, entities: int, seed: int, end: datetime
) -> DemoFiles:
    """Write the source files of a simulated company, the same bytes for the same input.

    Args:
        directory: made if missing; receives 01_history.csv, 02_recent.jsonl.gz and
            03_late.parquet, each replaced if it exists.
        workflows: the folder of workflow files, business entities and user accounts.
        entities: entities over all types; 4,000 make about 20,000 transitions.
        seed: of the only source of chance.
        end: aware; the last instant. The first transition is at most 120 days before.

    Returns:
        The three paths, and the rows in them: all, and those that are malformed.

    Raises:
        ValueError: end is naive, or no workflow binds a type. Files may be left behind.
    """
    if end.tzinfo is None:
        raise ValueError("end has no time zone; give an aware datetime.")
    rng = random.Random(seed)
    simulation = Simulation(rng, read_company(workflows), microseconds(end))
    directory.mkdir(parents=True, exist_ok=True)
    with DefectiveFiles(directory, rng, simulation.end, entities) as delivery:
        for rows in simulation.histories(entities):
            delivery.take(rows)
    return delivery.files()


class SourceFile(ABC):
    """A file that rows are written to one by one."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows, self.malformed = path, 0, 0

    def write(self, row: SimulatedRow) -> None:
        """Write a row."""
        self._put(row)
        self.rows += 1

    @abstractmethod
    def _put(self, row: SimulatedRow) -> None:
        """Write one row in the file's format."""


class TextFile(SourceFile):
    """A file that can hold what is no row: with a defect here and there."""

    def __init__(
        self, path: Path, rng: random.Random, defects: tuple[Defect, ...], within: int
    ) -> None:
        """Spreads the defects at random over the first rows, within so many."""
        super().__init__(path)
        self._rng = rng
        places = sorted(rng.randint(1, max(1, within)) for _ in defects)
        self._defects = deque(zip(places, defects, strict=True))
        self._last: SimulatedRow | None = None

    def write(self, row: SimulatedRow) -> None:
        """Write a row, and the defects that come after it."""
        super().write(row)
        self._last = row
        while self._defects and self._defects[0][0] <= self.rows:
            self._spoil(row)

    def close(self) -> None:
        """Write the defects that are still due, if there is a row to copy."""
        while self._defects and self._last is not None:
            self._spoil(self._last)

    def _spoil(self, row: SimulatedRow) -> None:
        _, defect = self._defects.popleft()
        self._put_spoiled(row._replace(id=random_uuid(self._rng)), defect)
        self.rows += 1
        self.malformed += 1

    @abstractmethod
    def _put_spoiled(self, row: SimulatedRow, defect: Defect) -> None:
        """Write one row with a defect."""


class HistoryFile(TextFile):
    """CSV: null is an empty field, JSON is its text."""

    def __init__(
        self, path: Path, rng: random.Random, defects: tuple[Defect, ...], within: int
    ) -> None:
        super().__init__(path, rng, defects, within)
        self._file = path.open("w", encoding="utf-8", newline="")
        self._file.write(",".join(SimulatedRow._fields) + "\n")

    def close(self) -> None:
        """Write the defects that are still due, then the rest of the file."""
        super().close()
        self._file.close()

    def _put(self, row: SimulatedRow) -> None:
        self._file.write(",".join(_csv_fields(row)) + "\n")

    def _put_spoiled(self, row: SimulatedRow, defect: Defect) -> None:
        column, text = defect
        fields = _csv_fields(row)
        if defect == CUT_OFF:
            fields = fields[:6]
        else:
            fields[SimulatedRow._fields.index(column)] = text or ""
        self._file.write(",".join(fields) + "\n")


class RecentFile(TextFile):
    """JSON Lines in gzip, without a time in its header so that the bytes repeat."""

    def __init__(
        self, path: Path, rng: random.Random, defects: tuple[Defect, ...], within: int
    ) -> None:
        super().__init__(path, rng, defects, within)
        self._raw = path.open("wb")
        packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=self._raw, mtime=0)
        self._file = io.TextIOWrapper(packed, encoding="utf-8", newline="\n")

    def close(self) -> None:
        """Write the defects that are still due, then the end of the archive."""
        super().close()
        self._file.close()
        self._raw.close()

    def _put(self, row: SimulatedRow) -> None:
        self._file.write(_encode(_document(row)) + "\n")

    def _put_spoiled(self, row: SimulatedRow, defect: Defect) -> None:
        column, text = defect
        document = _document(row)
        if text is None:
            document.pop(column, None)
        else:
            document[column] = text
        line = _encode(document)
        self._file.write((line[: len(line) // 2] if defect == CUT_OFF else line) + "\n")


class LateFile(SourceFile):
    """Parquet with typed columns, one row group after another."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = pq.ParquetWriter(path, LATE_COLUMNS)
        self._rows: list[tuple[Any, ...]] = []

    def close(self) -> None:
        """Write the last row group and the end of the file."""
        self._flush()
        self._file.close()

    def _put(self, row: SimulatedRow) -> None:
        self._rows.append(
            (*row[:7], _json(row.business_context), *row[8:12], _json(row.metadata))
        )
        if len(self._rows) >= LATE_ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(LATE_COLUMNS)
        self._file.write_table(pa.table(columns, schema=LATE_COLUMNS))
        self._rows.clear()


LATE_ROW_GROUP = 50_000
LATE_TYPES = {
    "created_at": pa.timestamp("us", "UTC"),
    "entity_id": pa.int64(),
    "sla_deadline": pa.timestamp("us", "UTC"),
    "is_milestone": pa.bool_(),
}
LATE_COLUMNS = pa.schema(
    [(name, LATE_TYPES.get(name, pa.string())) for name in SimulatedRow._fields]
)


def _csv_fields(row: SimulatedRow) -> list[str]:
    return [
        row.id,
        _text(row.created_at),
        row.entity_type,
        str(row.entity_id),
        row.from_status or "",
        row.to_status,
        _quoted(row.transition_reason),
        _quoted(_json(row.business_context)),
        row.triggered_by_user_id or "",
        row.triggered_by_system or "",
        "" if row.sla_deadline is None else _text(row.sla_deadline),
        "true" if row.is_milestone else "false",
        _quoted(_json(row.metadata)),
    ]


def _quoted(text: str | None) -> str:
    if text is None:
        return ""
    if '"' in text or "," in text:
        return '"' + text.replace('"', '""') + '"'
    return text


def _json(value: Json | None) -> str | None:
    return None if value is None else _encode(value)


def _document(row: SimulatedRow) -> Json:
    document = row._asdict()
    document["created_at"] = _text(row.created_at)
    if row.sla_deadline is not None:
        document["sla_deadline"] = _text(row.sla_deadline)
    return document


def _text(at: int) -> str:
    return (EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds")


class DefectiveFiles:
    """The three files, open for rows, with the defects that deliveries have."""

    def __init__(
        self, directory: Path, rng: random.Random, end: int, entities: int
    ) -> None:
        self._rng = rng
        self._recent_from = end - RECENT
        self.history = HistoryFile(
            directory / "01_history.csv", rng, CSV_DEFECTS, entities * 3
        )
        self.recent = RecentFile(
            directory / "02_recent.jsonl.gz", rng, JSONL_DEFECTS, entities // 5
        )
        self.late = LateFile(directory / "03_late.parquet")

    def take(self, rows: list[SimulatedRow]) -> None:
        """Write the rows of one entity, some late, then the repeated ones again."""
        rng = self._rng
        again: list[tuple[SourceFile, SimulatedRow]] = []
        for row in rows:
            file: SourceFile = self.history
            if row.created_at >= self._recent_from:
                file = self.recent
            elif rng.random() < LATE:
                file = self.late
            file.write(row)
            if rng.random() < REPEATED:
                other = self.late if file is self.recent else self.recent
                again.append((file if rng.random() < 0.6 else other, row))
        for file, row in again:
            file.write(row)

    def files(self) -> DemoFiles:
        """What was written."""
        files: tuple[SourceFile, ...] = (self.history, self.recent, self.late)
        return DemoFiles(
            tuple(file.path for file in files),
            sum(file.rows for file in files),
            sum(file.malformed for file in files),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.history.close()
        self.recent.close()
        self.late.close()
