"""Builds and current statuses: beside plain SQL, plain tables, and dbt alone.

Run alone: `python -m benchmarks.serving [--quick]`. All of it at two sizes, each in a
database of its own on one server.

What a scheduled run takes is measured by `dagster job execute`, in a process of its own
with the job's executor: as the daemon's launcher, it starts Python, loads the
definitions and runs the job, publishing included.
"""

import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, takewhile
from multiprocessing import get_context
from pathlib import Path
from typing import Any, LiteralString, NamedTuple

import dagster as dg
import duckdb
import polars as pl

from benchmarks import rows
from benchmarks.live import PATH
from benchmarks.report import Figure, at_least, at_most, medians, report, seconds
from benchmarks.server import fresh_database, server
from dagster_project.builds import PLANNING
from dagster_project.resources import Warehouse
from dagster_project.run import dagster_home
from dagster_project.schedules import run_config
from ingest import append, deliver, record
from ingest.configuration import workflows
from ingest.store import cuts, database, embedded
from ingest.store.database import PROJECT, Connection
from simulator.simulation import SPAN

SIZES = (500_000, 5_000_000)
# Transitions that come after the full build: some, and many more.
SOME, MANY = 10_000, 100_000
LATE_SHARE = 0.2
# Late rows are from before; the months up to then are long closed.
CLOSED = rows.END - timedelta(days=60)
HOT_ROWS = 100_000
HOT_ID = 10**12
ROUNDS = 5
RUNS = 3
LOOKUP_SECONDS = 5
QUERIES = 21
# Two that record one by one, two that append batches of so many rows.
WRITERS, BATCH = 4, 20
NEW_IDS = 10**9
# Commands that Dagster records as runs.
RECORDED = ("status-engine build", "scheduled run")
DEFINITIONS = "dagster_project.definitions"
FULL = "full build, all SQL and tests"
INCREMENTAL = "incremental build, all SQL and tests"

# Shorter than this can't be had: the same stays and the latest rows, without deadlines.
INTERVALS = """
create table peer_intervals as
with ordered as (
    select *, lag(to_status) over (
        partition by entity_type, entity_id order by created_at, batch_id, batch_row
    ) as previous_status
    from (
        select entity_type, entity_id, to_status, created_at, batch_id, batch_row
        from {rows}
    ) as transitions
)

select
    entity_type, entity_id, to_status as status, created_at as entered_at,
    lead(created_at) over (
        partition by entity_type, entity_id order by created_at, batch_id, batch_row
    ) as left_at
from ordered
where previous_status is distinct from to_status
"""
LATEST = """
create table peer_latest as
select distinct on (entity_type, entity_id)
    entity_type, entity_id, to_status, created_at, id
from {rows}
order by entity_type, entity_id, created_at desc, batch_id desc, batch_row desc
"""
COMPARED = """
with ours as (
    select entity_type, entity_id, status, entered_at, left_at from sla.status_intervals
)

select
    (select count(*) from ours),
    (select count(*) from (table ours except all table peer_intervals) as more)
    + (select count(*) from (table peer_intervals except all table ours) as less)
"""
EXPORT = """
copy (
    select
        id, created_at at time zone 'UTC' as created_at, entity_type, entity_id,
        to_status, batch_id, batch_row
    from raw.status_transitions
) to stdout (format csv, header)
"""
VIEW = "sla.entity_current_status"
PLAIN = """
create table public.plain_status as select * from sla.entity_current_status;
alter table public.plain_status add primary key (entity_type, entity_id);
analyze public.plain_status;
"""
LAST_IDS = """
select entity_type, max(entity_id) from public.plain_status where entity_id < %s
group by entity_type
"""
WORST: LiteralString = """
select entity_type, entity_id, current_status, status_since, sla_deadline
from sla.entity_current_status where is_overdue order by sla_deadline limit 100
"""
WORST_BARE: LiteralString = """
select entity_type, entity_id, status, entered_at, sla_deadline
from sla.status_intervals where left_at is null and sla_deadline < now()
order by sla_deadline limit 100
"""
ACTIVE = """
select active_time / 1000 from pg_stat_database where datname = current_database()
"""
LAST_TRANSITION = """
select last_transition_id from sla.entity_current_status
where entity_type = 'order' and entity_id = %s
"""


class Files(NamedTuple):
    """What is delivered: before the full build, and after it, first some, then many."""

    history: Path
    hot: Path
    some: Path
    many: Path


class Built(NamedTuple):
    """Seconds: of dbt in all, of PostgreSQL, and of each node as dbt tells it."""

    wall: float
    sql: float
    nodes: dict[str, float]


def write_files(folder: Path, size: int, scale: int) -> Files:
    """One history in the order of time, cut in three, some of it held back as late."""
    folder.mkdir()
    files = Files(*(folder / f"{name}.csv" for name in Files._fields))
    some, many = SOME // scale, MANY // scale
    csv = rows.write_csv(folder / "all.csv", size + some + many)
    everything = numbered(pl.read_csv(csv, infer_schema=False)).with_row_index("row")
    # Not the first of an entity, so that every id up to the last one is there.
    early = everything.filter(
        pl.col("created_at") < CLOSED.isoformat(), pl.col("from_status").is_not_null()
    )
    late = early.sample(int(some * LATE_SHARE), seed=rows.SEED)
    rest = everything.join(late, on="row", how="anti", maintain_order="left")
    hot = hot_rows(HOT_ROWS // scale + 1)
    rest.head(size).drop("row").write_csv(files.history)
    hot.head(-1).write_csv(files.hot)
    on_time = some - late.height - 1
    following = pl.concat([rest.slice(size, on_time), late]).drop("row")
    pl.concat([following, hot.tail(1)], how="diagonal").write_csv(files.some)
    rest.slice(size + on_time, many).drop("row").write_csv(files.many)
    csv.unlink()
    return files


def numbered(history: pl.DataFrame) -> pl.DataFrame:
    """Ids of each type from 1 on, as its entities begin; the order of rows stays."""
    key = ["entity_type", "entity_id"]
    entities = history.select(key).unique(keep="first", maintain_order=True)
    number = pl.int_range(1, pl.len() + 1).over("entity_type").alias("number")
    joined = history.join(entities.with_columns(number), on=key, maintain_order="left")
    return joined.with_columns(entity_id="number").drop("number")


def hot_rows(number: int) -> pl.DataFrame:
    """Transitions of one order, a minute apart, to and fro between two statuses."""
    begin = rows.END - timedelta(microseconds=SPAN)
    instants = [begin + timedelta(minutes=n) for n in range(number)]
    # Other ids than those of the simulation.
    rng = random.Random(rows.SEED + 1)
    return pl.DataFrame(
        {
            "id": [str(uuid.UUID(int=rng.getrandbits(128))) for _ in instants],
            "created_at": [instant.isoformat() for instant in instants],
            "entity_type": "order",
            "entity_id": HOT_ID,
            "to_status": [PATH[n if n < 2 else 2 + n % 2] for n in range(number)],
        }
    )


def load(url: str, *paths: Path) -> None:
    """Deliver files of which nothing is rejected."""
    with database.session(url) as connection:
        for path in paths:
            result = deliver(connection, path).result
            assert result.read == result.appended, result


def build(
    url: str, home: Path, *, full_refresh: bool = False, is_whole: bool = False
) -> Built:
    """Pin a cut and run dbt on it as the project does, without Dagster.

    Only where it is said to be whole, it may be all anew though nobody asks for it.
    """
    with database.connect(url) as connection:
        cut = cuts.pin(connection, uuid.uuid4().hex)
    warehouse = Warehouse(database_url=url, home=str(home))
    with warehouse.building(
        cut, full_refresh=full_refresh, is_whole=is_whole
    ) as building:
        target = home / f"bare-{building.schema}"
        command = [
            *(program("dbt"), "--quiet", *building.arguments),
            *("--project-dir", str(PROJECT / "dbt")),
            *("--profiles-dir", str(PROJECT / "dbt")),
            *("--target-path", str(target), "--log-path", str(target)),
        ]
        before = sql_seconds(url)
        environment = {**os.environ, **building.environment}
        wall = seconds(partial(subprocess.run, command, check=True, env=environment))
        # Its sessions have ended, and with that told their time.
        sql = sql_seconds(url) - before
    results = json.loads((target / "run_results.json").read_text())["results"]
    return Built(wall, sql, {r["unique_id"]: r["execution_time"] for r in results})


def sql_seconds(url: str) -> float:
    """How long sessions of the database have been executing statements, in all."""
    with database.connect(url) as connection:
        row = connection.execute(ACTIVE).fetchone()
    assert row is not None
    return float(row[0])


def program(name: str) -> str:
    """A program of this environment."""
    return str(Path(sys.executable).parent / name)


def needed_for_current_status(target: Path) -> set[str]:
    """entity_current_status and all it reads; built_cuts, without what it waits for."""
    parents = json.loads((target / "manifest.json").read_text())["parent_map"]
    found: set[str] = set()
    waiting = ["model.status_engine.entity_current_status"]
    while waiting:
        node = waiting.pop()
        found.add(node)
        if not node.endswith(".built_cuts"):
            waiting += set(parents[node]) - found
    return found


def full_build(url: str, home: Path) -> list[Figure]:
    """All tables from the first transition on, then the peers."""
    with database.connect(url) as connection:
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")
        _, sql, nodes = build(url, home, full_refresh=True)
        connection.execute("checkpoint")
        for name, value in PLANNING.items():
            connection.execute("select set_config(%s, %s, false)", [name, value])
        # Names of the peer's tables are the same in PostgreSQL and in DuckDB.
        connection.execute("set search_path = public")
        by_hand = seconds(partial(make_peer, connection, "raw.status_transitions"))
        row = connection.execute(COMPARED).fetchone()
        assert row is not None
        connection.execute("drop table peer_intervals, peer_latest")
        by_duckdb = duckdb_seconds(connection, home)
    needed = needed_for_current_status(home / "bare-sla_next")
    own = sum(taken for node, taken in nodes.items() if node in needed)
    return [
        Figure("intervals", row[0], "rows"),
        Figure("full build of intervals and current status", own, "s"),
        Figure("hand-written SQL, without deadlines", by_hand, "s"),
        at_most("that build : hand-written SQL", own / by_hand, 2.5, "ratio"),
        at_most("intervals that differ from its", row[1], 0, "rows"),
        Figure("DuckDB from Parquet, without deadlines", by_duckdb, "s"),
        Figure(FULL, sql, "s"),
    ]


def after_a_tiny_build(server_url: str, files: Files, home: Path) -> list[Figure]:
    """The history by the next build, where the first one met two rows."""
    home.mkdir()
    two = home / "two.csv"
    pl.read_csv(files.hot, infer_schema=False).head(2).write_csv(two)
    with fresh_database(server_url) as url:
        with database.session(url) as connection:
            workflows.apply(connection, workflows.load(rows.WORKFLOWS))
        load(url, two)
        build(url, home)
        load(url, files.history)
        grown = build(url, home, is_whole=True).sql
        full = build(url, home, full_refresh=True).sql
    return [
        Figure("all of it after a build of two rows, SQL and tests", grown, "s"),
        Figure("the same anew", full, "s"),
        at_most("after two rows : anew", grown / full, 1.2, "ratio"),
    ]


def make_peer(connection: Any, source: str) -> None:
    """The tables of the shortest SQL, by PostgreSQL or DuckDB."""
    for query in (INTERVALS, LATEST):
        connection.execute(query.format(rows=source))


def duckdb_seconds(connection: Connection, folder: Path) -> float:
    """DuckDB making these tables in a file, from the same rows in Parquet."""
    csv, parquet = folder / "rows.csv", folder / "rows.parquet"
    with csv.open("wb") as file, connection.cursor().copy(EXPORT) as exported:
        for block in exported:
            file.write(block)
    with duckdb.connect(str(folder / "peer.duckdb")) as peer:
        peer.execute(f"copy (from read_csv('{csv}')) to '{parquet}'")
        return seconds(partial(make_peer, peer, f"'{parquet}'"))


def serving(url: str, files: Files, home: Path, scale: int) -> list[Figure]:
    """Look-ups, the worst overdue, a build; leaves MANY transitions unbuilt."""
    some, many = SOME // scale, MANY // scale
    with database.connect(url) as connection:
        connection.execute(PLAIN)
    figures = lookups(url, home, "none unbuilt", scale)
    built = worst(url)
    load(url, files.some)
    figures += lookups(url, home, f"{some:,} unbuilt", scale)
    unbuilt = worst(url)["own"]
    incremental = build(url, home).sql
    load(url, files.many)
    figures += lookups(url, home, f"{many:,} unbuilt", scale)
    own, bare = built["own"], built["bare"]
    return [
        Figure(INCREMENTAL, incremental, "s"),
        *figures,
        at_most("none unbuilt: 100 worst overdue", own, 20, "ms"),
        Figure("none unbuilt: bare index scan of these", bare, "ms"),
        at_most("none unbuilt: 100 worst : bare scan", own / bare, 5, "ratio"),
        at_most(f"{some:,} unbuilt: 100 worst overdue", unbuilt, 500, "ms"),
    ]


def lookups(url: str, folder: Path, state: str, scale: int) -> list[Figure]:
    """The view beside the plain table, by random ids of all types, in turn."""
    taken: dict[str, list[float]] = {VIEW: [], "public.plain_status": []}
    ids = last_ids(url)
    for _ in range(ROUNDS):
        for table, rates in taken.items():
            rates.append(lookup_rate(url, folder, table, ids, scale))
    own, plain = (statistics.median(rates) for rates in taken.values())
    return [
        Figure(f"{state}: look-ups", own, "1/s"),
        Figure(f"{state}: look-ups in a plain table", plain, "1/s"),
        at_least(f"{state}: look-ups : plain", own / plain, 0.3),
    ]


def last_ids(url: str) -> dict[str, int]:
    """The last id of each type of entity; the first is 1, and none is missing."""
    with database.connect(url) as connection:
        return dict(connection.execute(LAST_IDS, [HOT_ID]).fetchall())


def lookup_rate(
    url: str, folder: Path, table: str, ids: dict[str, int], scale: int
) -> float:
    """Look-ups a second of pgbench; a type is asked for as often as it has entities."""
    scripts = []
    for entity_type, last_id in ids.items():
        script = folder / f"{table}.{entity_type}.sql"
        script.write_text(
            f"\\set id random(1, {last_id})\n"
            f"select * from {table}"
            f" where entity_type = '{entity_type}' and entity_id = :id;\n"
        )
        scripts.append(f"--file={script}@{last_id}")
    options = ["--no-vacuum", "--protocol=prepared", "--client=4", "--jobs=2"]
    length = f"--time={max(1, LOOKUP_SECONDS // scale)}"
    command = [str(embedded.client("pgbench")), *options, length, *scripts, url]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    return float(found[1])


def worst(url: str) -> dict[str, float]:
    """Milliseconds until the 100 worst overdue are there: ours, and a bare scan."""
    with database.connect(url) as connection:

        def ask(query: LiteralString) -> object:
            return connection.execute(query, prepare=True).fetchall()

        taken = medians(QUERIES, own=partial(ask, WORST), bare=partial(ask, WORST_BARE))
    return {name: 1000 * each for name, each in taken.items()}


def staleness(url: str, home: Path) -> list[Figure]:
    """Writers at full speed, each looking for what it committed, while a build runs."""
    last_id = last_ids(url)["order"]
    spawn = get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(WRITERS, spawn) as pool:
        ready, is_over = manager.Barrier(WRITERS + 1), manager.Event()
        writers = [
            pool.submit(write_and_look, url, number, last_id, ready, is_over)
            for number in range(WRITERS)
        ]
        ready.wait()
        try:
            build(url, home)
        finally:
            is_over.set()
        answers = [writer.result() for writer in writers]
    times = [taken for _, each in answers for taken in each]
    missed = sum(missed for missed, _ in answers)
    median = 1000 * statistics.median(times)
    return [
        Figure("transitions looked for, during a build", len(times), "rows"),
        at_most("of those, missed by the next query", missed, 0, "rows"),
        Figure(f"that query, beside {WRITERS} writers and a build", median, "ms"),
    ]


def write_and_look(
    url: str, number: int, last_id: int, ready: Any, is_over: Any
) -> tuple[int, list[float]]:
    """Transitions that another connection missed, and the seconds of its queries."""
    missed, times = 0, []
    with database.connect(url) as writer, database.connect(url) as reader:
        batches = (
            appended(writer, range(number + 1, last_id, WRITERS), number)
            if number % 2
            else recorded(writer, NEW_IDS * (number + 1))
        )
        ready.wait()
        for committed in takewhile(lambda _: not is_over.is_set(), batches):
            for entity_id, transition_id in committed.items():
                began = time.perf_counter()
                row = reader.execute(LAST_TRANSITION, [entity_id], prepare=True)
                missed += row.fetchone() != (transition_id,)
                times.append(time.perf_counter() - began)
    return missed, times


def recorded(connection: Connection, first_id: int) -> Iterator[dict[int, uuid.UUID]]:
    """New orders one after another, each led along PATH; a commit each step."""
    for entity_id in count(first_id):
        for status in PATH:
            made = record(
                connection,
                entity_type="order",
                entity_id=entity_id,
                to_status=status,
                triggered_by_system="bench",
            )
            yield {entity_id: made.id}


def appended(
    connection: Connection, ids: range, seed: int
) -> Iterator[dict[int, uuid.UUID]]:
    """Batches of transitions of existing orders; a commit each."""
    rng = random.Random(f"batches {seed}")
    while True:
        batch = {n: uuid.UUID(int=rng.getrandbits(128)) for n in rng.sample(ids, BATCH)}
        transitions = pl.DataFrame(
            {
                "id": [str(transition_id) for transition_id in batch.values()],
                "created_at": datetime.now(UTC),
                "entity_type": "order",
                "entity_id": list(batch),
                "to_status": rng.choice(PATH),
            }
        )
        assert append(connection, transitions).appended == BATCH
        yield batch


def nothing_new(url: str, home: Path, scale: int) -> list[Figure]:
    """Builds without anything new, by dbt, by the command and by the scheduled job."""
    environment = {**os.environ, "DATABASE_URL": url, "STATUS_ENGINE_HOME": str(home)}
    environment["DAGSTER_HOME"] = str(dagster_home(home))
    config = home / "run.json"
    config.write_text(json.dumps(run_config(datetime.now(UTC))))
    job = ["job", "execute", "-m", DEFINITIONS, "-j", "status_engine"]
    commands = {
        "status-engine build": [program("status-engine"), "build"],
        "scheduled run": [program("dagster"), *job, "-c", str(config)],
        "loading": [
            sys.executable,
            "-c",
            f"from {DEFINITIONS} import *; definitions()",
        ],
    }
    timed: dict[str, Callable[[], float]] = {
        "dbt alone": lambda: build(url, home).wall,
        **{
            name: partial(seconds, partial(run, command, environment))
            for name, command in commands.items()
        },
    }
    taken: dict[str, list[float]] = {name: [] for name in timed}
    steps: dict[str, dict[str, float]] = {}
    # The first round parses the files, and builds what the writers left.
    for _ in range(1 + max(1, RUNS // scale)):
        for name, once in timed.items():
            taken[name].append(once())
            if name in RECORDED:
                steps[name] = steps_of_last_run()
    bare, own, scheduled, loading = (statistics.median(t[1:]) for t in taken.values())
    return [
        Figure("nothing new: dbt alone", bare, "s"),
        Figure("nothing new: status-engine build", own, "s"),
        at_most("status-engine build : dbt alone", own / bare, 1.5, "ratio"),
        Figure("nothing new: scheduled run", scheduled, "s"),
        at_most("scheduled run : dbt alone", scheduled / bare, 2, "ratio"),
        Figure("Python and Dagster's definitions, alone", loading, "s"),
        *(
            Figure(f"{name}, its last, step {step}", taken, "s")
            for name in RECORDED
            for step, taken in steps[name].items()
            if taken >= 0.5
        ),
        *one_new(url, {n: timed[n] for n in ("dbt alone", *RECORDED)}, scale),
    ]


def one_new(
    url: str, timed: dict[str, Callable[[], float]], scale: int
) -> list[Figure]:
    """The same with one new transition each time, for the record."""
    taken: dict[str, list[float]] = {name: [] for name in timed}
    with database.connect(url) as connection:
        transitions = recorded(connection, NEW_IDS * (WRITERS + 1))
        for _ in range(max(1, RUNS // scale)):
            for name, once in timed.items():
                next(transitions)
                taken[name].append(once())
    return [
        Figure(f"one new transition: {name}", statistics.median(times), "s")
        for name, times in taken.items()
    ]


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command to its end in the project's folder, silently."""
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def steps_of_last_run() -> dict[str, float]:
    """Seconds of each step of the newest run of Dagster's instance."""
    with dg.DagsterInstance.get() as instance:
        (newest,) = instance.get_runs(limit=1)
        steps = instance.get_run_step_stats(newest.run_id)
    return {s.step_key: (s.end_time or 0) - (s.start_time or 0) for s in steps}


def measure(server_url: str, folder: Path, size: int, scale: int) -> list[Figure]:
    """Everything at one size; at the smaller one, also after a tiny build."""
    files = write_files(folder / f"{size}", size, scale)
    tiny = folder / f"tiny_{size}"
    is_small = size == min(SIZES) // scale
    grown = after_a_tiny_build(server_url, files, tiny) if is_small else []
    home = folder / f"home_{size}"
    home.mkdir()
    with fresh_database(server_url) as url:
        with database.session(url) as connection:
            workflows.apply(connection, workflows.load(rows.WORKFLOWS))
        load(url, files.history, files.hot)
        return [
            *grown,
            *full_build(url, home),
            *serving(url, files, home, scale),
            *staleness(url, home),
            *nothing_new(url, home, scale),
        ]


def main(arguments: list[str]) -> int:
    """Measure, print, write results/serving.json."""
    scale = 10 if "--quick" in arguments else 1
    with tempfile.TemporaryDirectory() as name, server() as server_url:
        measured = {
            size // scale: measure(server_url, Path(name), size // scale, scale)
            for size in SIZES
        }
    figures = [
        figure._replace(figure=f"{size:,}, {figure.figure}")
        for size, found in measured.items()
        for figure in found
    ]
    small, large = ({f.figure: f.value for f in found} for found in measured.values())
    share = large[INCREMENTAL] / large[FULL]
    growth = large[INCREMENTAL] / small[INCREMENTAL]
    of_sizes = " : ".join(f"{size:,}" for size in reversed(measured))
    figures += [
        at_most(f"{max(measured):,}, incremental : full build", share, 0.03, "ratio"),
        at_most(f"incremental build, {of_sizes}", growth, 1.5, "ratio"),
    ]
    return report("serving", figures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
