"""`map`: a mapping file drafted, and what a delivery by it would be.

How it is guessed belongs in ingest/files/mapping_draft.py.
"""

import tempfile
from pathlib import Path

import click

from dagster_project.cli.options import AS_JSON
from dagster_project.cli.output import OUTPUT, write_new
from dagster_project.cli.previews import preview_as_json, tell_preview
from dagster_project.terminal import say, tell, tell_json
from ingest.append import known_types
from ingest.delivery import Settings
from ingest.files.mapping import load_mapping
from ingest.files.mapping_draft import Answers, Draft, draft
from ingest.files.profile import profile, sample
from ingest.preview import Preview, preview
from ingest.store import database
from ingest.store.database import Connection


@click.command(name="map")
@click.argument("file", type=click.Path(path_type=Path))
@OUTPUT
@click.option("--entity-type", help="What all its entities are, such as order.")
@click.option("--timezone", help="IANA zone of times without an offset.")
@click.option("--key", help="The column that says which entity a row is of.")
@click.option("--status", help="The column of statuses.")
@click.option("--time", help="The column of the instants of its events.")
@click.option(
    "--month-first/--day-first",
    default=None,
    help="How 03/04/2026 is meant, where both can be.",
)
@AS_JSON
def map_command(
    file: Path,
    output: Path | None,
    entity_type: str | None,
    timezone: str | None,
    key: str | None,
    status: str | None,
    time: str | None,
    month_first: bool | None,
    as_json: bool,
) -> None:
    """Draft a mapping for a FILE of history, and say what would come of it.

    It guesses from the first rows how the file is written, which columns are the
    entity's key, its status and its instants, and whether a row is an event or an
    entity. What it can't know it asks for: answer by options, or in the file. The
    mapping goes to standard output, or where -o says; nothing is written elsewhere.
    """
    with database.session() as connection:
        types = known_types(connection)
        found = sample(file)
        answers = Answers(entity_type, timezone, key, status, time, month_first)
        drafted = draft(file, found, profile(found.rows), types, answers)
        text = _text(file, drafted)
        seen = _previewed(connection, file, text)
        if any(refusal.code == "row_is_ended" for refusal in seen.rejected):
            drafted.content["accept_unended"] = True
            drafted.remarks["accept_unended"] = (
                "The last line has no line end; is it whole?"
            )
            text = _text(file, drafted)
            seen = _previewed(connection, file, text)
    if output is not None:
        write_new(output, text)
    if as_json:
        shown = {"mapping": text, "questions": drafted.questions}
        tell_json({**shown, "preview": preview_as_json(file.name, seen)})
        return
    if output is None:
        tell(text.rstrip("\n"))
    tell_preview(file.name, seen)
    if entity_type is not None and entity_type not in types:
        label = entity_type.capitalize()
        say(
            f"Add the entity type first, by a file with entity_types: [{{name: "
            f"{entity_type}, label: {label}}}]: status-engine workflows apply FILE"
        )
    if any(refusal.code.endswith("exists_once") for refusal in seen.rejected):
        say(
            "A clock change makes some local times twice: fold: earlier, or later, in "
            "the mapping says which is meant."
        )
    for question in drafted.questions:
        say(f"Still to be answered: {question}")
    named = output or "MAPPING"
    say(f"Look it over, then: status-engine ingest {file} --mapping {named}")


def _text(file: Path, drafted: Draft) -> str:
    return drafted.text(
        [f"Drafted from {file.name}; the keys of a mapping are in the README."]
    )


def _previewed(connection: Connection, file: Path, text: str) -> Preview:
    """What a delivery by a mapping would be, its entity type taken for known."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mapping.yml"
        path.write_text(text, encoding="utf-8")
        settings = Settings(load_mapping(path))
    return preview(connection, file, settings, takes_types=True)
