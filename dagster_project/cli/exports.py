"""Hand published histories to other tools."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dagster_project.terminal import say
from ingest.errors import StatusEngineError
from ingest.store import database
from ingest.store.on_disk import write_whole

# What reads published files is asked for by the commands that need it: other commands,
# a probe among them, start without DuckDB.
if TYPE_CHECKING:
    from analytics.event_logs import Written
    from analytics.published import Publication

XES = (".xes", ".xes.gz")
OCEL = (".sqlite",)


@click.command(name="export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--type", "entity_type", help="Of .xes: the entity type, a trace each.")
def export_command(file: Path, entity_type: str | None) -> None:
    """Write what is published as an event log for process mining.

    FILE.xes or FILE.xes.gz holds the entities of one type (XES, 1849-2016), FILE.sqlite
    all of them with their users, systems, business entities and relations (OCEL 2.0).
    An event is a stay: an entity enters a status.
    """
    is_xes = file.name.endswith(XES)
    if not is_xes and not file.name.endswith(OCEL):
        msg = f"{file} ends in none of {', '.join((*XES, *OCEL))}."
        raise click.UsageError(msg)
    if is_xes != (entity_type is not None):
        msg = "--type names what an .xes file holds; .sqlite holds all types."
        raise click.UsageError(msg)
    with _published(file) as publication:
        _require_known(publication, entity_type)
        written = _write(publication, file, entity_type)
    objects = "entities" if is_xes else "objects"
    say(
        f"{file}: cut {publication.cut}, events {written.events:,}, "
        f"{objects} {written.objects:,}"
    )


class Week(click.ParamType[date]):
    """An ISO week as 2026-W47, as the date of its Monday."""

    name = "week"

    def convert(
        self,
        value: str | date,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> date:
        """Refuse what is none, in words."""
        from analytics.report import monday_of

        if isinstance(value, date):
            return value
        try:
            return monday_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(name="report")
@click.option(
    "--week",
    "monday",
    type=Week(),
    metavar="2026-W47",
    help="Which week, in UTC; the last that is over by default.",
)
@click.option(
    "-o",
    "--output",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file, .html.",
)
def report_command(monday: date | None, file: Path) -> None:
    """Write the week's review of service levels: one page of what is published.

    Compliance with its intervals beside the week before, how late breaches were, open
    work, what is likely to breach, what stands out and what goes with breaches. The
    page asks for no other file and no network, and prints on paper.
    """
    from analytics.report import page, report

    with _published(file) as publication:
        found = report(publication, monday)
        write_whole(file, page(found))
    say(f"{file}: week {found.week}, cut {found.cut}")


@contextmanager
def _published(file: Path) -> Iterator["Publication"]:
    """What is published, for a file that is made of it; failures are sentences."""
    from analytics.published import PublicationError, open_publication

    try:
        with open_publication(database.home()) as publication:
            yield publication
    except PublicationError as error:
        raise StatusEngineError(str(error)) from error
    except OSError as error:
        msg = f"{file} can't be written: {error.strerror}."
        raise StatusEngineError(msg) from error


def _require_known(publication: "Publication", entity_type: str | None) -> None:
    known = publication.connection.execute("from entity_types").fetchall()
    names = sorted(row[0] for row in known)
    if entity_type is not None and entity_type not in names:
        msg = f"There is no entity type {entity_type!r}; there are {', '.join(names)}."
        raise StatusEngineError(msg)


def _write(
    publication: "Publication", file: Path, entity_type: str | None
) -> "Written":
    """Whole or not at all: a file that is there stays until the new one is done."""
    from analytics.event_logs import write_ocel, write_xes

    part = file.with_name(f".{file.name}.{os.getpid()}{''.join(file.suffixes)}")
    try:
        if entity_type is None:
            written = write_ocel(publication, part)
        else:
            written = write_xes(publication, part, entity_type)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return written
