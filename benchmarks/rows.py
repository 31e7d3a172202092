"""Simulated transitions as files, n rows in the order of time, as exports have them."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from xml.sax.saxutils import quoteattr

import polars as pl

from simulator.company import read_company
from simulator.files import HistoryFile
from simulator.simulation import SimulatedRow, Simulation

WORKFLOWS = Path(__file__).parent.parent / "workflows"
END = datetime(2026, 6, 1, tzinfo=UTC)
SEED = 11


def transitions(count: int) -> Iterator[SimulatedRow]:
    """`count` rows, one entity after another; about five rows an entity."""
    end = int(END.timestamp()) * 1_000_000
    simulation = Simulation(random.Random(SEED), read_company(WORKFLOWS), end)
    return islice(chain.from_iterable(simulation.histories(count)), count)


def write_csv(path: Path, count: int) -> Path:
    """CSV of `count` rows in the order of time; kept as it is where it is there."""
    if not path.exists():
        scratch = path.with_suffix(".unsorted")
        file = HistoryFile(scratch, random.Random(SEED), (), count)
        for row in transitions(count):
            file.write(row)
        file.close()
        rows = pl.read_csv(scratch, infer_schema=False).sort("created_at", "id")
        rows.write_csv(path)
        scratch.unlink()
    return path


def write_parquet(path: Path, csv: Path) -> Path:
    """The same rows, typed as a warehouse would export them."""
    rows = pl.read_csv(csv, infer_schema=False).with_columns(
        pl.col("created_at", "sla_deadline").str.to_datetime(
            "%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", time_zone="UTC"
        ),
        pl.col("entity_id").cast(pl.Int64),
        is_milestone=pl.col("is_milestone") == "true",
    )
    rows.write_parquet(path)
    return path


def write_xes(path: Path, csv: Path) -> Path:
    """The same rows as events of a log, in the order of the file, without traces."""
    with path.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="UTF-8"?>\n<log>\n')
        for row in pl.read_csv(csv, infer_schema=False).iter_rows(named=True):
            texts = (
                f"<string key={quoteattr(key)} value={quoteattr(text)}/>"
                for key, text in row.items()
                if text is not None
            )
            file.write(f"<event>{''.join(texts)}</event>\n")
        file.write("</log>\n")
    return path


def write_json_lines(path: Path, csv: Path) -> Path:
    """The same rows as objects, their contexts nested."""
    nested = ("business_context", "metadata")
    with path.open("w", encoding="utf-8") as file:
        for row in pl.read_csv(csv, infer_schema=False).iter_rows(named=True):
            plain = {k: v for k, v in row.items() if k not in nested}
            plain["entity_id"] = int(row["entity_id"])
            plain["is_milestone"] = row["is_milestone"] == "true"
            line = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
            context, metadata = (row[name] or "null" for name in nested)
            file.write(
                f'{line[:-1]},"business_context":{context},"metadata":{metadata}}}\n'
            )
    return path
