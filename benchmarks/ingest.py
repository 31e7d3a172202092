"""Ingestion against psql's copy, a trigger-maintained table and a bare INSERT.

Run by `make bench`, or alone: `python -m benchmarks.ingest [--quick]`.
"""

import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import psycopg

from benchmarks import rows
from benchmarks.live import measure_insert, measure_record
from benchmarks.report import Figure, at_least, at_most, report, seconds
from benchmarks.server import fresh_database, psql, server
from ingest.configuration import workflows
from ingest.files.content import Content
from ingest.files.layout import Layout
from ingest.files.sources import read
from ingest.store import database
from simulator.simulation import SimulatedRow

ROWS = 2_000_000
ROUNDS = 3
MEMORY_ROWS = (500_000, 2_000_000, 5_000_000)
CALLERS = (1, 8, 32)
SECONDS = 8

# The project's table with its indexes; \copy gives no batch.
PEER = """
create table peer (like raw.status_transitions including all);
alter table peer alter batch_id set default 1, alter batch_row set default 1;
"""

# How a platform caches the current status when it asks the transitions too slowly.
TRIGGER = """
create table current_status (
    entity_type text,
    entity_id bigint,
    current_status text not null,
    status_since timestamptz not null,
    sla_deadline timestamptz,
    last_transition_id uuid not null,
    primary key (entity_type, entity_id)
);
create function keep_current_status() returns trigger language plpgsql as $$
begin
    insert into current_status values (
        new.entity_type, new.entity_id, new.to_status, new.created_at,
        new.sla_deadline, new.id
    )
    on conflict (entity_type, entity_id) do update set
        current_status = excluded.current_status,
        status_since = excluded.status_since,
        sla_deadline = excluded.sla_deadline,
        last_transition_id = excluded.last_transition_id
    where excluded.status_since >= current_status.status_since;
    return null;
end
$$;
create trigger keep_current_status after insert on peer
for each row execute function keep_current_status();
"""

DELIVER = """
import re, sys
from pathlib import Path
from ingest import deliver
from ingest.store import database
with database.session(sys.argv[1]) as connection:
    result = deliver(connection, Path(sys.argv[2])).result
assert result.rejected == 0, result
# Not ru_maxrss, which begins with that of the process that started this one.
status = Path("/proc/self/status").read_text()
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) // 1024)
"""


def ingest(url: str, path: Path) -> int:
    """Deliver a file in a process of its own; its peak of memory in MiB."""
    command = [sys.executable, "-c", DELIVER, url, str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout)


def copy(url: str, path: Path) -> None:
    """Load a CSV file with psql's copy, as a user without this project does."""
    columns = ", ".join(SimulatedRow._fields)
    psql(url, f"\\copy peer ({columns}) from '{path}' (format csv, header)")


def read_alone(path: Path) -> float:
    """Rows a second of a file that are read and go nowhere."""
    rows_read = 0

    def run() -> None:
        nonlocal rows_read
        with Content(path) as content:
            rows_read = sum(chunk.row_count for chunk in read(content, Layout()))

    taken = seconds(run)
    return rows_read / taken


def bulk(server_url: str, csv: Path, others: dict[str, Path]) -> list[Figure]:
    """Rows a second of one file in every format, beside its peers."""
    count = sum(1 for _ in csv.open("rb")) - 1
    taken: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, setup in (("copy", PEER), ("trigger", PEER + TRIGGER)):
            with fresh_database(server_url) as url:
                with psycopg.connect(url) as connection:
                    connection.execute(setup)
                taken.setdefault(name, []).append(seconds(partial(copy, url, csv)))
        for name, path in {"csv": csv, **others}.items():
            with fresh_database(server_url) as url:
                again = partial(ingest, url, path)
                taken.setdefault(name, []).append(seconds(again))
                if path == csv:
                    taken.setdefault("again", []).append(seconds(again))
    rate = {name: count / statistics.median(times) for name, times in taken.items()}
    return [
        Figure("rows, the same in every figure", count, "rows"),
        Figure("psql \\copy into an identical table", rate["copy"], "rows/s"),
        Figure("ingest of CSV", rate["csv"], "rows/s"),
        at_least("ingest of CSV : \\copy", rate["csv"] / rate["copy"], 1.0),
        at_least("Parquet : CSV", rate["parquet"] / rate["csv"], 1.0),
        at_least("JSON Lines : CSV", rate["jsonl"] / rate["csv"], 0.5),
        Figure("XES : CSV", rate["xes"] / rate["csv"], "ratio"),
        Figure("reading of XES alone", read_alone(others["xes"]), "rows/s"),
        at_least("second delivery : first", rate["again"] / rate["csv"], 5),
        at_least(
            "ingest of CSV : \\copy with an upsert trigger",
            rate["csv"] / rate["trigger"],
            2,
        ),
    ]


def memory(server_url: str, folder: Path, scale: int) -> list[Figure]:
    """Peak of memory at three sizes of a file."""
    figures = []
    for count in (number // scale for number in MEMORY_ROWS):
        path = rows.write_csv(folder / f"{count}.csv", count)
        with fresh_database(server_url) as url:
            peak = ingest(url, path)
        figures.append(at_most(f"peak memory, {count:,} rows", peak, 700, "MiB"))
        path.unlink()
    return figures


def live(server_url: str, csv: Path, scale: int) -> list[Figure]:
    """One transition at a time, alone and while a file comes in."""
    figures = []
    with fresh_database(server_url) as url:
        with database.session(url) as connection:
            workflows.apply(connection, workflows.load(rows.WORKFLOWS))
        for callers in CALLERS:
            bare = measure_insert(url, callers, SECONDS / scale)
            own = measure_record(url, callers, SECONDS / scale)
            figures += [
                Figure(f"bare INSERT, {callers} callers", bare.per_second, "rows/s"),
                Figure(f"record, {callers} callers", own.per_second, "rows/s"),
                Figure(f"record, {callers} callers, p50", own.p50_ms, "ms"),
                Figure(f"record, {callers} callers, p99", own.p99_ms, "ms"),
                at_least(
                    f"record : bare INSERT, {callers} callers",
                    own.per_second / bare.per_second,
                    0.25,
                ),
            ]
        bulk = subprocess.Popen(
            [sys.executable, "-c", DELIVER, url, str(csv)], stdout=subprocess.DEVNULL
        )
        during = measure_record(url, 8, SECONDS / scale)
        assert bulk.poll() is None, "the file came in before the callers were done"
        bulk.wait()
    name = "record, 8 callers, p99 while a file comes in"
    return [*figures, at_most(name, during.p99_ms, 250, "ms")]


def main(arguments: list[str]) -> int:
    """Measure, print, write results/ingest.json."""
    scale = 10 if "--quick" in arguments else 1
    with tempfile.TemporaryDirectory() as name, server() as url:
        folder = Path(name)
        csv = rows.write_csv(folder / "rows.csv", ROWS // scale)
        others = {
            "parquet": rows.write_parquet(folder / "rows.parquet", csv),
            "jsonl": rows.write_json_lines(folder / "rows.jsonl", csv),
            "xes": rows.write_xes(folder / "rows.xes", csv),
        }
        figures = [
            *bulk(url, csv, others),
            *live(url, csv, scale),
            *memory(url, folder, scale),
        ]
    return report("ingest", figures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
