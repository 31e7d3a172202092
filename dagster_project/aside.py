"""Builds beside the published one: as of an instant, and to verify what is published.

Neither is seen by readers of the published schema; what is compared or kept is what dbt
made.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed, Identifier

from dagster_project import swap, verifications
from dagster_project.builds import Build, published_cut
from dagster_project.dbt_process import dbt_cli, dbt_in_words, known_tables
from dagster_project.resources import Warehouse
from dagster_project.verify_text import difference_lines
from ingest.errors import StatusEngineError
from ingest.store.cuts import Cut
from ingest.store.database import Connection


class Difference(NamedTuple):
    """A row that only one of two builds has."""

    table: str
    # Whether it is published, or what a full build makes instead.
    is_published: bool
    row: dict[str, Any]


class Verified(NamedTuple):
    """What was compared: the cut, the rows of each table, and those that differ."""

    cut: Cut
    rows: dict[str, int]
    differences: list[Difference]

    @property
    def lines(self) -> Iterator[str]:
        """The differences as people read them."""
        grains = {table.name: table.grain for table in known_tables().compared}
        return difference_lines(self.differences, grains)

    @property
    def first_lines(self) -> str:
        """Some of them."""
        return "\n".join(islice(self.lines, verifications.FIRST))


def build_as_of(
    warehouse: Warehouse, as_of: datetime, cut: int, schema: str | None = None
) -> str:
    """Build what the tables would have said at an instant, by batches of early cuts.

    The relations of that schema stand still: their clock shows that instant. Run again,
    the same rows are made.

    Args:
        warehouse: the database and the home folder.
        as_of: transitions up to it, inclusive, are read; with a zone.
        cut: batches of this cut and all earlier ones are read.
        schema: where to; `sla_as_of_<instant>_cut_<cut>` by default.

    Returns:
        The schema.

    Raises:
        StatusEngineError: there is no such cut, the schema is there and made by
            somebody else, or the build failed.
    """
    instant = as_of.astimezone(UTC)
    schema = schema or schema_as_of(instant, cut)
    if swap.is_reserved(schema):
        msg = f"Schema {schema} is the published one's. Name another."
        raise StatusEngineError(msg)
    with warehouse.session() as connection:
        known = connection.execute("select 1 from raw.cuts where cut = %s", [cut])
        if known.fetchone() is None:
            msg = f"There is no cut {cut}. See: select * from raw.cuts."
            raise StatusEngineError(msg)
    frozen = {"frozen_as_of": instant.isoformat(), "frozen_cut": cut}
    with warehouse.building_aside(Cut(cut, instant), schema) as build:
        _run_dbt(warehouse.folder, build, frozen)
    return schema


def schema_as_of(as_of: datetime, cut: int) -> str:
    """Where a build as of an instant, with a zone, goes unless it is told."""
    instant = as_of.astimezone(UTC)
    fraction = f"{instant:%f}" if instant.microsecond else ""
    return f"sla_as_of_{instant:%Y%m%dt%H%M%S}{fraction}_cut_{cut}"


def verify(warehouse: Warehouse, sample: int | None = None) -> Verified:
    """Build the published cut in full beside what is published, and compare the rows.

    What differs is kept with the published tables (see verifications) until they are
    made anew, or a verification of all rows finds nothing.

    Args:
        warehouse: the database and the home folder.
        sample: take every so manyth entity, by its id; all by default.

    Raises:
        StatusEngineError: nothing is published yet, or the full build failed.
    """
    # What is published stays as it is meanwhile.
    with warehouse.holding_builds() as connection:
        cut = published_cut(connection)
        with warehouse.building_aside(cut, swap.VERIFIED) as build:
            _run_dbt(warehouse.folder, build, {"sample": sample} if sample else {})
        verified = _compare(connection, cut, sample)
        if verified.differences:
            verifications.record_failure(
                connection,
                cut,
                f"{rows_differ(len(verified.differences))} from a full build",
                len(verified.differences),
                verified.first_lines,
            )
        elif sample is None:
            verifications.record_equal(connection, cut)
        swap.drop(connection, swap.VERIFIED)
    return verified


def rows_differ(count: int) -> str:
    """Subject and verb."""
    return "1 row differs" if count == 1 else f"{count:,} rows differ"


def _run_dbt(home: Path, build: Build, variables: Mapping[str, Any]) -> None:
    run_aside(home / "dbt-aside", build.arguments, build.environment, variables)


def run_aside(
    target: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    variables: Mapping[str, Any],
) -> None:
    """Run dbt on what is not published.

    Args:
        target: the folder of what it writes.
        arguments: the command, and what it takes.
        environment: for its process: database, schema, cut and clock.
        variables: of the dbt project.

    Raises:
        BuildError: it failed.
    """
    given = json.dumps({"is_published": False, **variables})
    with dbt_in_words(target):
        dbt_cli().start(
            ["--quiet", *arguments, "--vars", given], environment, target_path=target
        ).wait()


def _compare(connection: Connection, cut: Cut, sample: int | None) -> Verified:
    rows: dict[str, int] = {}
    differences: list[Difference] = []
    for table, columns in ((t.name, t.columns) for t in known_tables().compared):
        # Counts of all entities say nothing about some.
        if sample and "entity_id" not in columns:
            continue
        with connection.transaction(), connection.cursor(row_factory=dict_row) as found:
            # The view shows the cut alone, at its instant.
            for name, value in (("cut", str(cut.number)), ("as_of", str(cut.as_of))):
                found.execute(
                    "select set_config(%s, %s, true)", [f"status_engine.{name}", value]
                )
            counted = SQL("select count(*) from {}").format(
                Identifier(swap.VERIFIED, table)
            )
            count = found.execute(counted).fetchone()
            rows[table] = count["count"] if count else 0
            for is_published in (True, False):
                found.execute(_only_in_one(table, is_published, sample))
                differences += [
                    Difference(table, is_published, row) for row in found.fetchall()
                ]
    return Verified(cut, rows, differences)


def _only_in_one(table: str, is_published: bool, sample: int | None) -> Composed:
    """The rows of one schema that the other has not, or has fewer of."""
    schemas_in_order = (swap.PUBLISHED, swap.VERIFIED)
    here, there = schemas_in_order if is_published else reversed(schemas_in_order)
    where = SQL(" where mod(entity_id, {}) = 0").format(sample) if sample else SQL("")
    return SQL("select * from {}{} except all select * from {}{}").format(
        Identifier(here, table), where, Identifier(there, table), where
    )
