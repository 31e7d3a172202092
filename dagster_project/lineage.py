"""Which columns a column is made of, read from the SQL that dbt compiled.

It is read once a version of the models, after a full build, and kept in the home
folder. What a column means is said in its model's YAML.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlglot import exp, parse_one
from sqlglot.lineage import Node, lineage

from dagster_project import unchanged
from ingest.store.database import Connection
from ingest.store.on_disk import make_folder, write_whole

DIALECT = "postgres"
FOLDER = "lineage"
# The folder of models that are functions.
FUNCTIONS = "functions"
# Of all relations that a build reads and makes, in the schemas that it names.
_COLUMNS = """
select n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
from pg_attribute as a
inner join pg_class as c on a.attrelid = c.oid
inner join pg_namespace as n on c.relnamespace = n.oid
where
    n.nspname = any(%s) and a.attnum > 0 and not a.attisdropped
    and c.relkind in ('r', 'v', 'p')
order by 1, 2, a.attnum
"""


class Column(NamedTuple):
    """A column of a relation, by the asset's key."""

    layer: str
    table: str
    name: str


# By model and column, those that it is made of.
Lineage = dict[str, dict[str, list[Column]]]
Schemas = dict[str, dict[str, dict[str, str]]]


class Model(msgspec.Struct):
    """A node of the manifest: its layer comes after the project, and its file."""

    name: str
    resource_type: str
    fqn: list[str]
    original_file_path: str


class _Manifest(msgspec.Struct):
    nodes: dict[str, Model]


def kept(home: Path, project: Path) -> Lineage:
    """What was read of these models; nothing before they were built in full."""
    try:
        return msgspec.json.decode(_file(home, project).read_bytes(), type=Lineage)
    except (OSError, msgspec.MsgspecError):
        return {}


def keep(connection: Connection, home: Path, project: Path, schema: str) -> None:
    """Read what a full build compiled, once it is published; kept from then on.

    Args:
        connection: open.
        home: the folder in which it is kept, and dbt's.
        project: of dbt.
        schema: as which dbt built it.
    """
    file = _file(home, project)
    if file.exists():
        return
    target = home / f"dbt-{schema}"
    content = (target / "manifest.json").read_bytes()
    manifest = msgspec.json.decode(content, type=_Manifest)
    models = [
        n
        for n in manifest.nodes.values()
        # What a function returns is a column of no relation.
        if n.resource_type == "model" and FUNCTIONS not in n.fqn
    ]
    (compiled,) = (target / "compiled").iterdir()
    known = columns(connection, "raw", "sla", "sla_staging")
    known |= {schema: known["sla"], f"{schema}_staging": known["sla_staging"]}
    found = read(compiled, models, schema, known)
    # Nor does a disk that is full: then nothing is shown.
    with suppress(OSError):
        make_folder(file.parent)
        for other in file.parent.iterdir():
            other.unlink()
        write_whole(file, msgspec.json.encode(found).decode())


def _file(home: Path, project: Path) -> Path:
    return home / FOLDER / f"{unchanged.models(project)}.json"


def columns(connection: Connection, *schemas: str) -> Schemas:
    """The columns and types of all relations of these schemas."""
    found: Schemas = {}
    for schema, table, name, kind in connection.execute(_COLUMNS, [list(schemas)]):
        found.setdefault(schema, {}).setdefault(table, {})[name] = kind
    return found


def read(
    compiled: Path, models: Sequence[Model], schema: str, known: Schemas
) -> Lineage:
    """What each column of each model is made of.

    Args:
        compiled: the folder of what dbt compiled, with the models' files below it.
        models: all of the project.
        schema: what dbt built.
        known: columns of the relations that are read.

    Returns:
        By model; one whose SQL can't be followed is left out.
    """
    layers = {(schema, m.name): m.fqn[1] for m in models}
    layers |= {(f"{schema}_staging", m.name): m.fqn[1] for m in models}
    found: Lineage = {}
    for model in models:
        # Of some there is none that can be read; and what a parser makes of the others,
        # which is shown and no more, ends no build.
        with suppress(Exception):
            sql = (compiled / model.original_file_path).read_text(encoding="utf-8")
            made_of = dict(_of_model(sql, known, layers))
            found[model.name] = {name: cs for name, cs in made_of.items() if cs}
    return found


def _of_model(
    sql: str, known: Schemas, layers: Mapping[tuple[str, str], str]
) -> Iterator[tuple[str, list[Column]]]:
    query = parse_one(sql, dialect=DIALECT)
    for table in query.find_all(exp.Table):
        table.set("catalog", None)
    nodes = lineage(
        None,
        query,
        schema=known,
        dialect=DIALECT,
        trim_selects=False,
        copy=False,
        # Of columns that functions make, the types are not known.
        allow_partial_qualification=True,
    )
    for name, node in nodes.items():
        yield name, sorted(set(_leaves(node, layers)))


def _leaves(root: Node, layers: Mapping[tuple[str, str], str]) -> Iterator[Column]:
    """Columns of other relations; branches meet again, and are followed once."""
    waiting, seen = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        new = [below for below in node.downstream if id(below) not in seen]
        seen.update(map(id, new))
        waiting += new
        table = node.expression
        if not isinstance(table, exp.Table):
            continue
        layer = "raw" if table.db == "raw" else layers.get((table.db, table.name))
        if layer:
            yield Column(layer, table.name, exp.to_column(node.name).name)
