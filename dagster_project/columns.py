"""Columns as the UI shows them: type, meaning, and what they are made of.

Which columns a column is made of is found in lineage.py; what it means stands in YAML.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import LiteralString

import dagster as dg

from dagster_project.lineage import Column
from dagster_project.tables import Table
from ingest.store.database import Connection

# Names of columns that a description has room for.
NAMED = 5
_COLUMNS: LiteralString = """
select
    c.relname,
    a.attname,
    format_type(a.atttypid, a.atttypmod),
    coalesce(col_description(c.oid, a.attnum), ''),
    not a.attnotnull
from pg_attribute as a
inner join pg_class as c on a.attrelid = c.oid
where
    c.relnamespace = 'raw'::regnamespace and c.relname = any(%s)
    and a.attnum > 0 and not a.attisdropped
order by c.relname, a.attnum
"""


def schemas_of_raw(
    connection: Connection, tables: Sequence[Table]
) -> dict[str, dg.TableSchema]:
    """The columns of tables of schema raw, by table, as the database has them."""
    columns: dict[str, list[dg.TableColumn]] = {table.name: [] for table in tables}
    for table, name, kind, description, is_nullable in connection.execute(
        _COLUMNS, [list(columns)]
    ):
        constraints = dg.TableColumnConstraints(nullable=is_nullable)
        columns[table].append(
            dg.TableColumn(name, kind, description or None, constraints)
        )
    return {table: dg.TableSchema(found) for table, found in columns.items()}


def schema_of_files(table: Table, types: Mapping[str, str]) -> dg.TableSchema:
    """The columns of a published table; types, of its files, by those of its YAML."""
    return dg.TableSchema(
        [
            dg.TableColumn(name, types[table.types[name]], description)
            for name, description in table.columns.items()
        ]
    )


def telling_origin(
    schema: dg.TableSchema, made_of: Mapping[str, Iterable[Column]]
) -> dg.TableSchema:
    """The same columns, each with those that it is made of: the UI shows no lineage."""
    columns = []
    for column in schema.columns:
        origin = [".".join(c) for c in made_of.get(column.name, ())]
        others = len(origin) - NAMED
        named = ", ".join(origin[:NAMED]) + (f" and {others} more" * (others > 0))
        description = f"{column.description or ''} From: {named}.".strip()
        told = dg.TableColumn(
            column.name, column.type, description, column.constraints, column.tags
        )
        columns.append(told if origin else column)
    return dg.TableSchema(columns, schema.constraints)


def lineage_of(made_of: Mapping[str, Iterable[Column]]) -> dg.TableColumnLineage:
    """The same for what reads Dagster's metadata."""
    return dg.TableColumnLineage(
        {
            name: [
                dg.TableColumnDep(dg.AssetKey([c.layer, c.table]), c.name)
                for c in origin
            ]
            for name, origin in made_of.items()
        }
    )
