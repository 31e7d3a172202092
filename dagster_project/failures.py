"""What a failed test of dbt found, for the person who is to mend it.

How many rows, the first of them, the query that finds them all, and what to do. What a
test judged is said in judged.py, what it is for in its own file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import psycopg

from ingest.store.cuts import Cut
from ingest.store.database import Connection

# Keys of a check's metadata: where its query is, and what to do.
QUERY_FILE = "query_file"
TO_DO = "what_to_do"
FIRST = 10
LETTERS = 60
# Dbt has just run it; whoever wants all of its rows has the query.
PATIENCE = "30s"
_REBUILD = (
    "Launch job `full_refresh`: it builds all anew beside what is published. If this "
    "check fails there too, the rows below say which entities it is about: "
    "`status-engine explain TYPE ID` tells how each came to be. Until it passes, "
    "what is published stays as it was."
)
_CONFIGURATION = (
    "What was applied contradicts itself: mend the file that the rows below name, hold "
    "it against `status-engine workflows check`, apply it, and launch job "
    "`status_engine`. Until it passes, what is published stays as it was."
)
_LEDGER = (
    "Rows are missing in schema `raw`, or were put there by hand; no build mends that. "
    "Compare the batches below with the last back-up, restore what is missing, and "
    "launch job `full_refresh`. Until it passes, what is published stays as it was."
)


class Query(NamedTuple):
    """A test's SQL as dbt compiled it, and what its sessions read: see builds."""

    sql: str
    cut: Cut

    @property
    def to_paste(self) -> str:
        """A command for a terminal; nothing in it is read by a shell."""
        return (
            "status-engine psql <<'SQL'\n"
            f"set status_engine.cut = '{self.cut.number}';\n"
            f"set status_engine.as_of = '{self.cut.as_of.isoformat()}';\n"
            f"{self.sql.strip()};\nSQL"
        )


def to_do(node: Mapping[str, Any]) -> str:
    """What mends a failure of a test, by what it reads, from its node of the manifest.

    Tests of what was derived read tables of schema sla; the others read what came in.
    """
    read = node["depends_on"]["nodes"]
    models = {name.rpartition(".")[2] for name in read if name.startswith("model.")}
    if any(not name.startswith("stg_") for name in models):
        return _REBUILD
    return _LEDGER if models & {"stg_batches", "stg_transitions"} else _CONFIGURATION


def query_file(node: Mapping[str, Any]) -> str:
    """Where dbt writes a test's SQL, below the folder of what it compiled."""
    file, path = Path(node["original_file_path"]), Path(node["path"])
    return str(file if file.name == path.name else file / path.name)


def described(
    connection: Connection,
    failed: dg.AssetCheckResult,
    spec: dg.AssetCheckSpec,
    target: Path,
    cut: Cut,
) -> dg.AssetCheckResult:
    """The result of a failed test, with what a person needs.

    What to do and the first rows are its description, which the UI shows at once;
    markdown of metadata it shows when asked.

    Args:
        connection: open, outside a transaction.
        failed: as dbt has it.
        spec: the check, with what its metadata says of it.
        target: the folder of dbt's run.
        cut: what was judged.
    """
    told = {**failed.metadata}
    said = [spec.metadata[TO_DO]]
    for file in (target / "compiled").glob(f"*/{spec.metadata[QUERY_FILE]}"):
        query = Query(file.read_text(encoding="utf-8"), cut)
        rows = _first_rows(connection, query)
        said.append(rows)
        told["first_rows"] = dg.MetadataValue.md(rows)
        told["query"] = dg.MetadataValue.md(f"```\n{query.to_paste}\n```")
    return failed._replace(metadata=told, description="\n\n".join(said))


def _first_rows(connection: Connection, query: Query) -> str:
    """A table in markdown, or why there is none."""
    try:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(
                "select set_config('status_engine.cut', %s, true), "
                "set_config('status_engine.as_of', %s, true), "
                "set_config('statement_timeout', %s, true)",
                [str(query.cut.number), query.cut.as_of.isoformat(), PATIENCE],
            )
            cursor.execute(
                # Dbt's own SQL, of this project's files.
                f"select * from ({query.sql}) as found limit {FIRST}".encode()
            )
            names = [column.name for column in cursor.description or ()]
            return in_markdown(names, cursor.fetchall())
    except psycopg.Error as error:
        return f"They could not be read here, paste the query: {_cell(error)}"


def in_markdown(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; what is in a cell is text, whatever it looks like."""
    cells = [[_cell(value) for value in row] for row in (names, *rows)]
    lines = [cells[0], ["---"] * len(names), *cells[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    short = text if len(text) <= LETTERS else f"{text[:LETTERS]}…"
    plain = "".join(c if c.isprintable() else " " for c in short)
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+!|~&$" else c for c in plain)
