"""The tables that dbt makes, as its manifest tells of them: one list for all who ask.

What a table is, is said once, in its model's YAML: its description, and in its `meta`

    grain         the columns that tell its rows apart
    change        of a stored one, how a build changes it: replace (rows of touched
                  entities), add (counts), append, whole; see the macros of builds
    sums          what `add` adds
    reads_clock   whether its rows tell the time (S15)
    is_by_entity  of a view, whether its rows change with their entity, of which builds
                  tell, with its audit entries and with configuration, and with nothing
                  else but the clock
    ages          of one that reads the clock as well, the columns that change with it,
                  and how DuckDB tells them from the others and `as_of`
    is_published  whether it is written to the files
    is_compared   whether a verification holds it against a full build

and of a table of schema raw, `filled_by`: the asset that fills it.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec


class Table(NamedTuple):
    """A relation of schema sla or raw; its columns by name, with what they mean.

    types: of columns that have one in YAML, as they are written there.
    """

    name: str
    layer: str
    description: str
    columns: dict[str, str]
    grain: tuple[str, ...]
    change: str
    reads_clock: bool
    is_by_entity: bool
    ages: dict[str, str]
    is_published: bool
    is_compared: bool
    filled_by: str
    types: dict[str, str]

    @property
    def is_logged(self) -> bool:
        """Whether builds tell which entities' rows they changed."""
        return self.change == "replace"

    @property
    def is_counted(self) -> bool:
        """Whether a build counts its rows; of views of all entities that is slow."""
        is_told_by_files = self.is_by_entity and not self.ages
        return bool(self.change) or (self.is_published and not is_told_by_files)


class Tables(NamedTuple):
    """Those of the derived schema, and those of schema raw, by name."""

    derived: tuple[Table, ...]
    raw: tuple[Table, ...]

    @property
    def published(self) -> tuple[Table, ...]:
        """Those that are written to the files."""
        return tuple(table for table in self.derived if table.is_published)

    @property
    def compared(self) -> tuple[Table, ...]:
        """Those that a verification compares."""
        return tuple(table for table in self.derived if table.is_compared)

    def filled_by(self, asset: str) -> tuple[Table, ...]:
        """Those of schema raw that an asset fills."""
        return tuple(table for table in self.raw if table.filled_by == asset)


def tables(manifest: Path) -> Tables:
    """The tables of a dbt project, by its manifest."""
    return _read(manifest, manifest.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read(manifest: Path, _: int) -> Tables:
    content = msgspec.json.decode(manifest.read_bytes(), type=_Manifest)
    models = (n for n in content.nodes.values() if n.resource_type == "model")
    return Tables(
        tuple(sorted(_table(node) for node in models if node.fqn[1] == "sla")),
        tuple(sorted(_table(node) for node in content.sources.values())),
    )


class _Node(msgspec.Struct):
    name: str
    resource_type: str
    fqn: list[str]
    config: dict[str, Any]
    description: str = ""
    columns: dict[str, dict[str, Any]] = {}


class _Manifest(msgspec.Struct):
    nodes: dict[str, _Node]
    sources: dict[str, _Node]


def _table(node: _Node) -> Table:
    meta = node.config.get("meta") or {}
    return Table(
        node.name,
        "raw" if node.resource_type == "source" else node.fqn[1],
        node.description,
        {name: said["description"] for name, said in node.columns.items()},
        tuple(meta.get("grain", ())),
        meta.get("change", ""),
        meta.get("reads_clock", False),
        meta.get("is_by_entity", False),
        meta.get("ages", {}),
        meta.get("is_published", False),
        meta.get("is_compared", False),
        meta.get("filled_by", ""),
        {name: said.get("data_type") or "" for name, said in node.columns.items()},
    )
