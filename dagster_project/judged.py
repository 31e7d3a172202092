"""What the checks of dbt have judged, in words: everything, or what came since a cut.

A check of a part looks like any other; so each result says it in its metadata.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus,
)

from dagster_project import swap, verifications
from ingest.store.database import Connection

# Of evaluations of a check, those that judged.
EVALUATED = {
    AssetCheckExecutionRecordStatus.SUCCEEDED,
    AssetCheckExecutionRecordStatus.FAILED,
}
# The key of metadata: of a check what it judges in a build, of a result what it did.
JUDGES = "judges"
JUDGED = "judged"
EVERYTHING = "everything"
_LAST_TESTED = """
select coalesce(max(tested.cut), max(built.cut), 0)
from (select min(cut) as cut from sla.built_cuts) as built
left join sla.tested_cuts as tested on built.cut >= tested.cut
"""
# What was built last did bring something.
_LAST_BATCHES = "select coalesce(max(cut), 0) from raw.batches where cut <= %s"


class Part(StrEnum):
    """What a test judges in a build that is not full."""

    EVERYTHING = EVERYTHING
    ENTITIES = "entities touched since the last tested cut"
    BATCHES = "batches since the last tested cut"
    NOTHING = "nothing; everything in full builds"


# By the macros that restrict a test, and its models, to what a build touched.
_RESTRICTING = {
    "only_touched": Part.ENTITIES,
    "fresh": Part.ENTITIES,
    "previous_cut": Part.BATCHES,
}


def part_of(node: Mapping[str, Any]) -> Part:
    """What a test judges in a build, by its node of dbt's manifest."""
    if "whole" in node["tags"]:
        return Part.NOTHING
    macros = {name.rpartition(".")[2] for name in node["depends_on"]["macros"]}
    found = {part for name, part in _RESTRICTING.items() if name in macros}
    return min(found, default=Part.EVERYTHING, key=list(Part).index)


class Ground(NamedTuple):
    """The cut last tested when a build begins, and the last equal to a full build.

    None where none was.
    """

    tested_cut: int
    equal_cut: int | None

    @classmethod
    def of(cls, connection: Connection) -> "Ground":
        """Of the published tables; of none before the first build."""
        if not swap.exists(connection, swap.PUBLISHED):
            return cls(0, None)
        row = connection.execute(_LAST_TESTED).fetchone()
        return cls(row[0] if row else 0, verifications.equal_cut(connection))

    def judged(self, part: str, *, is_full: bool) -> str:
        """What a test of a build has judged; nothing where there is nothing to say."""
        if is_full or part == Part.EVERYTHING:
            return EVERYTHING
        if part != Part.NOTHING:
            return part.replace("the last tested cut", f"cut {self.tested_cut}")
        if self.equal_cut is None:
            return ""
        return f"everything as of cut {self.equal_cut}, in full; not what came since"

    def stands(self, part: str, last_batches: int) -> str:
        """The same where nothing came since a cut."""
        if part != Part.NOTHING:
            return f"as of cut {last_batches}: nothing came since"
        if self.is_equal(last_batches):
            return f"everything as of cut {self.equal_cut}: nothing came since"
        return self.judged(part, is_full=False)

    def is_equal(self, last_batches: int) -> bool:
        """Whether the tables still are what a full build makes."""
        return self.equal_cut is not None and self.equal_cut >= last_batches


def last_batches(connection: Connection, cut: int) -> int:
    """The last cut up to this one that holds a batch."""
    row = connection.execute(_LAST_BATCHES, [cut]).fetchone()
    return row[0] if row else 0
