"""Deadlines in business time: beside none, beside the usual join, beside Python.

Run by `make bench`, or alone: `python -m benchmarks.deadlines [--quick]`.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import uuid
from contextlib import ExitStack
from datetime import time
from functools import partial
from pathlib import Path
from typing import Any

import businesstimedelta
import yaml

from benchmarks import rows
from benchmarks.report import Figure, at_least, at_most, report, seconds
from benchmarks.server import fresh_database, server
from dagster_project.resources import Warehouse
from ingest import deliver
from ingest.configuration import workflows
from ingest.store import cuts, database
from ingest.store.database import PROJECT, Connection

INTERVALS = 1_000_000
ROUNDS = 3
# Of those that take longer: a rate is measured.
JOINED_ROWS = 20_000
PYTHON_ROWS = 2_000
ZONES = (
    "Europe/Amsterdam",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "UTC",
)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
COVERS = (2020, 2029)
COUNTRIES = ("AT", "BE", "CA", "CH", "DE", "DK", "ES", "FR", "GB", "IT", "JP", "NL")
# Applied at once, each of the 111 years that are usual.
CALENDARS = 20

# The pattern of the best-known dbt package for SLAs: weeks ahead of each interval times
# the weekly windows, minus holidays; a running total finds the window that decides. Its
# horizon is 52 weeks.
WEEKS = """
create table joined as
with weekly as (
    select
        c.calendar_name,
        array_position(
            array[
                'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday',
                'sunday'
            ],
            day.key
        ) - 1 as weekday,
        split_part(hours, '-', 1)::time as opens,
        split_part(hours, '-', 2)::time as closes
    from raw.calendars as c
    cross join jsonb_each(c.windows) as day
    cross join jsonb_array_elements_text(day.value) as hours
),

spread as (
    select
        i.interval_id,
        i.sla_hours,
        greatest(
            (week + weekly.weekday * interval '1 day' + weekly.opens)
            at time zone c.timezone,
            i.entered_at
        ) as opens_at,
        (week + weekly.weekday * interval '1 day' + weekly.closes)
        at time zone c.timezone as closes_at
    from sample as i
    inner join raw.calendars as c on i.calendar_id = c.id
    cross join lateral generate_series(
        date_trunc('week', i.entered_at at time zone c.timezone),
        date_trunc('week', i.entered_at at time zone c.timezone) + interval '52 weeks',
        interval '1 week'
    ) as week
    inner join weekly on c.calendar_name = weekly.calendar_name
    where
        (week + weekly.weekday * interval '1 day' + weekly.closes)
        at time zone c.timezone > i.entered_at
        and not c.closed_dates ? (week + weekly.weekday * interval '1 day')::date::text
),

summed as (
    select
        *,
        sum(closes_at - opens_at) over (
            partition by interval_id order by opens_at
        ) as open_time
    from spread
)

select distinct on (interval_id)
    interval_id,
    closes_at - (open_time - sla_hours * interval '1 hour') as sla_deadline
from summed
where open_time >= sla_hours * interval '1 hour'
order by interval_id, opens_at
"""


def calendar(number: int, zone: str) -> dict[str, Any]:
    """A calendar of ten years, with lunch and the holidays of ten years."""
    return {
        "calendar_name": f"calendar_{number}",
        "timezone": zone,
        "windows": {day: ["08:00-12:00", "12:30-17:00"] for day in DAYS},
        "holidays": {"country": "NL", "subdivision": None},
        "covers": list(COVERS),
    }


def applied(connection: Connection, folder: Path) -> tuple[float, float]:
    """Seconds to apply so many calendars, and to apply them again."""
    folder.mkdir()
    for number in range(CALENDARS):
        content = calendar(number, ZONES[number % len(ZONES)])
        del content["covers"]
        content["holidays"]["country"] = COUNTRIES[number % len(COUNTRIES)]
        (folder / f"{number}.yml").write_text(yaml.safe_dump(content))
    work = partial(workflows.apply, connection, workflows.load(folder))
    return seconds(work), seconds(work)


def configure(connection: Connection, folder: Path, *, has_calendars: bool) -> None:
    """The workflows of the simulation, each under one of the calendars or none."""
    folder.mkdir()
    for number, zone in enumerate(ZONES):
        text = yaml.safe_dump(calendar(number, zone))
        (folder / f"calendar_{number}.yml").write_text(text)
    for number, path in enumerate(sorted(rows.WORKFLOWS.glob("*.yml"))):
        content = yaml.safe_load(path.read_text())
        if "calendar_name" in content:
            continue
        if "steps" in content:
            name = f"calendar_{number % len(ZONES)}"
            content["calendar"] = name if has_calendars else None
        (folder / path.name).write_text(yaml.safe_dump(content, sort_keys=False))
    workflows.apply(connection, workflows.load(folder))


def build(url: str, target: Path) -> float:
    """Derive all intervals anew; the seconds of SQL that it took, as dbt has them."""
    with database.connect(url) as connection:
        cut = cuts.pin(connection, uuid.uuid4().hex, rows.END)
    warehouse = Warehouse(database_url=url)
    with warehouse.building(cut, full_refresh=True) as building:
        subprocess.run(
            [
                str(Path(sys.executable).parent / "dbt"),
                *("--quiet", "run", "--full-refresh"),
                *("--project-dir", str(PROJECT / "dbt")),
                *("--profiles-dir", str(PROJECT / "dbt")),
                *("--target-path", str(target)),
            ],
            env={**os.environ, **building.environment},
            check=True,
        )
    results = json.loads((target / "run_results.json").read_text())["results"]
    (taken,) = (
        result["execution_time"]
        for result in results
        if result["unique_id"].endswith(".status_intervals")
    )
    return float(taken)


def joined(connection: Connection, count: int) -> tuple[float, int, int]:
    """The usual join over so many intervals: seconds, deadlines, those like ours."""
    connection.execute("set search_path = public")
    connection.execute(
        """
        create table sample as
        select interval_id, entered_at, sla_hours, calendar_id, sla_deadline
        from sla.status_intervals
        where deadline_source = 'workflow' and calendar_id is not null and sla_hours > 0
        order by interval_id
        limit %s
        """,
        [count],
    )
    connection.execute("analyze sample")
    taken = seconds(partial(connection.execute, WEEKS))
    row = connection.execute(
        "select count(*), count(*) filter (where joined.sla_deadline = s.sla_deadline)"
        " from joined join sample as s using (interval_id)"
    ).fetchone()
    assert row is not None
    return taken, *row


def python_rate(connection: Connection) -> float:
    """Deadlines a second of a Python library, a row at a time."""
    rules = [
        businesstimedelta.WorkDayRule(
            start_time=time(*opens), end_time=time(*closes), working_days=range(5)
        )
        for opens, closes in (((8, 0), (12, 0)), ((12, 30), (17, 0)))
    ]
    found = connection.execute(
        "select entered_at, sla_hours::float from sample limit %s", [PYTHON_ROWS]
    ).fetchall()
    open_hours = businesstimedelta.Rules(rules)
    hours_of = partial(businesstimedelta.BusinessTimeDelta, open_hours)

    def add() -> None:
        for entered_at, hours in found:
            entered_at + hours_of(hours=hours)

    return len(found) / seconds(add)


def main(arguments: list[str]) -> int:
    """Measure, print, write results/deadlines.json."""
    scale = 10 if "--quick" in arguments else 1
    count, sampled = INTERVALS // scale, JOINED_ROWS // scale
    with tempfile.TemporaryDirectory() as name, server() as server_url:
        folder = Path(name)
        with (
            fresh_database(server_url, "calendars") as url,
            database.session(url) as connection,
        ):
            first, again = applied(connection, folder / "calendars")
        csv = rows.write_csv(folder / "rows.csv", count)
        taken: dict[bool, list[float]] = {True: [], False: []}
        with ExitStack() as stack:
            urls = {
                has_calendars: stack.enter_context(
                    fresh_database(server_url, f"deadlines_{has_calendars}".lower())
                )
                for has_calendars in taken
            }
            for has_calendars, url in urls.items():
                with database.session(url) as connection:
                    place = folder / f"workflows_{has_calendars}"
                    configure(connection, place, has_calendars=has_calendars)
                    deliver(connection, csv)
                    connection.execute("vacuum analyze")
            for _ in range(ROUNDS):
                for has_calendars, url in urls.items():
                    taken[has_calendars].append(build(url, folder / "target"))
            with database.session(urls[True]) as connection:
                row = connection.execute(
                    "select count(*), count(*) filter (where calendar_id is not null)"
                    " from sla.status_intervals"
                ).fetchone()
                assert row is not None
                by_join, deadlines, equal = joined(connection, sampled)
                rate = python_rate(connection)
    own, without = (statistics.median(taken[key]) for key in (True, False))
    return report(
        "deadlines",
        [
            Figure(f"{CALENDARS} calendars of 111 years, applied", first, "s"),
            Figure("the same again", again, "s"),
            Figure("intervals", row[0], "rows"),
            Figure("of those, under one of 7 calendars of 10 years", row[1], "rows"),
            Figure("build with calendars", own, "s"),
            Figure("the same build without", without, "s"),
            at_most("with : without", own / without, 2, "ratio"),
            Figure(f"weeks x windows join, {sampled:,} intervals", by_join, "s"),
            Figure("of those, deadlines within its horizon", deadlines, "rows"),
            Figure("of those, equal to ours", equal, "rows"),
            at_least(
                "that join, by interval : this build",
                by_join / sampled / (own / row[0]),
                10,
            ),
            Figure("businesstimedelta, without zones or holidays", rate, "rows/s"),
            Figure("this build", row[0] / own, "rows/s"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
