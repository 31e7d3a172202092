"""What is built, and whether all of it anew: what dbt is told, and what it may not do.

The tables' schemas are changed in swap.py, dbt's process is in dbt_process.py, and who
waits for whom is in resources.py.
"""

from collections.abc import Mapping
from typing import LiteralString, NamedTuple

from dagster_project import dbt_process, swap, unchanged
from ingest.errors import StatusEngineError
from ingest.store import database
from ingest.store.cuts import Cut

BUILD_AND_TEST = ("build", "--exclude-resource-type", "unit_test")
# A build sorts and hashes much, on all cores, and finds the few rows that a cut touched
# by indexes; compiling its queries takes longer than running them.
PLANNING = {
    "work_mem": "128MB",
    "maintenance_work_mem": "512MB",
    "random_page_cost": "1.1",
    "parallel_tuple_cost": "0.01",
    "jit": "off",
}
_PUBLISHED_CUT: LiteralString = """
select cuts.cut, cuts.as_of
from raw.cuts
where cuts.cut = (select min(cut) from sla.built_cuts)
"""
# Tests without a build judge all rows.
TEST = ("test", "--exclude-resource-type", "unit_test")


class Judgement(NamedTuple):
    """What holds builds off, which cut's tables are judged, and dbt's environment."""

    connection: database.Connection
    cut: Cut
    environment: Mapping[str, str]


# Transitions: a build in part takes 1.6 times as long where all is new, 24 s instead of
# 15 for 500,000. Fewer take few seconds, and a swap is not nothing.
WORTH_ANEW = 100_000
_NEW: LiteralString = """
select
    coalesce(sum(appended_count) filter (where cut > built), 0),
    coalesce(sum(appended_count) filter (where cut <= built), 0)
from raw.batches
cross join (select min(cut) as built from sla.built_cuts) as built_cuts
where kind = 'transitions' and cut <= %s
"""


class Build(NamedTuple):
    """What dbt is asked for: the schema it builds, whether all of it anew, and why.

    The reason is in words, where nobody asked for all of it. The environment is for
    dbt's process alone.
    """

    schema: str
    is_full: bool
    environment: Mapping[str, str]
    why: str = ""

    @property
    def arguments(self) -> list[str]:
        """Dbt's arguments: unit tests test code, so they run in make test."""
        if self.is_full:
            return [*BUILD_AND_TEST, "--full-refresh"]
        # What only a reading of everything can show is tested with full builds.
        return [*BUILD_AND_TEST, "--exclude", "tag:whole"]


def why_anew(connection: database.Connection, cut: Cut, is_whole: bool) -> str:
    """Why all is to be built, though nobody may have asked for it; empty if not."""
    by_others = "by these models for the first time: all is built"
    if not swap.exists(connection, swap.PUBLISHED):
        return by_others
    if unchanged.is_of_these_models(connection, dbt_process.DBT):
        is_sooner_anew = is_whole and _is_mostly_new(connection, cut)
        return "most of it is new: all is built" if is_sooner_anew else ""
    if not is_whole:
        raise StatusEngineError(swap.OF_OTHERS)
    return by_others


def _is_mostly_new(connection: database.Connection, cut: Cut) -> bool:
    """Whether all is built sooner anew than in part, and can be swapped in."""
    row = connection.execute(_NEW, [cut.number]).fetchone()
    assert row is not None
    new, known = row
    if new < WORTH_ANEW or new < known:
        return False
    try:
        require_swap(connection)
    except StatusEngineError:
        return False
    return True


def require_swap(connection: database.Connection) -> None:
    """See that what is built anew can be published.

    Raises:
        StatusEngineError: somebody else's schema or reader is in the way.
    """
    for schema in (swap.PUBLISHED, swap.OLD):
        swap.require_own(connection, schema)
    swap.require_following(connection)
    if not swap.drop_old(connection):
        msg = (
            "Somebody still reads what the last full refresh replaced, in "
            f"schema {swap.OLD}. Run it again when that query has ended."
        )
        raise StatusEngineError(msg)


def published_cut(connection: database.Connection) -> Cut:
    """What is published, if these models made it.

    Raises:
        StatusEngineError: nothing is built, or by other models.
    """
    if not swap.exists(connection, swap.PUBLISHED):
        msg = "Nothing is built yet. Run: status-engine build."
        raise StatusEngineError(msg)
    if not unchanged.is_of_these_models(connection, dbt_process.DBT):
        raise StatusEngineError(swap.OF_OTHERS)
    row = connection.execute(_PUBLISHED_CUT).fetchone()
    assert row is not None
    return Cut(*row)


def refuse_older_cut(connection: database.Connection, cut: Cut) -> None:
    """While this run waited, another may have built a later cut, which holds ours."""
    if not swap.exists(connection, swap.PUBLISHED):
        return
    row = connection.execute("select max(cut) from sla.built_cuts").fetchone()
    if row is not None and (row[0] or 0) > cut.number:
        msg = (
            f"Cut {row[0]} is built already and holds cut {cut.number}; nothing to do."
        )
        raise StatusEngineError(msg)


def session_environment(
    url: str, schema: str, cut: Cut, builder: database.Connection
) -> dict[str, str]:
    """What names the database, schema, cut (S17) and clock (S15) to a process of dbt.

    Args:
        url: the database.
        schema: what dbt builds.
        cut: what its sessions read, and the instant that is now for them.
        builder: the connection that holds the lock of builds.
    """
    names = database.environment(url)
    settings = {
        "status_engine.cut": cut.number,
        "status_engine.as_of": cut.as_of.isoformat(),
        "status_engine.builder": builder.info.backend_pid,
        **PLANNING,
    }
    names["PGOPTIONS"] = " ".join(
        (
            names.get("PGOPTIONS", ""),
            database.session_options(builder),
            database.options(settings),
        )
    )
    # It would go before PGOPTIONS.
    names["PGCLIENTENCODING"] = database.RELIED_ON["client_encoding"]
    names["STATUS_ENGINE_SCHEMA"] = schema
    return names
