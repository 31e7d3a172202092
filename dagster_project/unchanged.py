"""Builds of a cut that holds nothing new: the tables stand, their cut advances.

Rows depend on transitions and configuration alone (S5), and what tells the time is a
view (S15). So where nothing came since the last tested build, and neither its files nor
what it made have changed, dbt would read everything to change nothing.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import LiteralString

from dagster_project import swap, verifications
from ingest.store.cuts import Cut
from ingest.store.database import Connection

# What builds made, in words: another index, view or column is another fingerprint.
_MADE: LiteralString = """
with relations as (
    select c.oid, c.oid::regclass::text as name, c.relkind
    from pg_class as c
    inner join pg_namespace as n on c.relnamespace = n.oid
    where n.nspname in ('sla', 'sla_staging') and c.relkind in ('r', 'v')
),

made as (
    select concat_ws(
        ' ', name, relkind, attnum, attname, format_type(atttypid, atttypmod),
        attnotnull
    ) as part
    from relations
    inner join pg_attribute on attrelid = oid and attnum > 0 and not attisdropped
    union all
    select concat_ws(' ', name, pg_get_viewdef(oid)) from relations where relkind = 'v'
    union all
    select concat_ws(' ', name, pg_get_indexdef(indexrelid), indisvalid)
    from relations
    inner join pg_index on indrelid = oid
    union all
    select concat_ws(' ', name, conname, pg_get_constraintdef(c.oid), convalidated)
    from relations
    inner join pg_constraint as c on conrelid = relations.oid
    union all
    select pg_get_functiondef(p.oid)
    from pg_proc as p
    inner join pg_namespace as n on p.pronamespace = n.oid
    where n.nspname in ('sla', 'sla_staging') and p.prokind in ('f', 'p')
)

select string_agg(part, chr(10) order by part collate "C") from made
"""
# The one cut that is built and tested, where nothing came between it and another.
_STANDS: LiteralString = """
select 1
from (select min(cut) as oldest, max(cut) as newest from sla.built_cuts) as built
inner join sla.tested_cuts as tested on built.newest = tested.cut
cross join sla_staging.fingerprint as known
where
    known.fingerprint = %(fingerprint)s
    and built.oldest = built.newest
    and built.newest <= %(cut)s
    and not exists (
        select 1 from raw.batches
        where cut > built.newest and cut <= %(cut)s
    )
"""
FOLDERS = ("models", "macros", "tests")


def sources(project: Path) -> list[Path]:
    """The files of a dbt project, and the folders that they are in."""
    folders = [project / name for name in FOLDERS]
    files = sorted(path for folder in folders for path in folder.rglob("*"))
    return [project / "dbt_project.yml", project / "profiles.yml", *files]


def models(project: Path) -> str:
    """SHA-256 of the files that say what builds make; other ones may make all anew."""
    tests = project / "tests"
    return _digest(project, [p for p in sources(project) if tests not in p.parents])


def is_of_these_models(connection: Connection, project: Path) -> bool:
    """Whether the published schema was made by the files of this project."""
    return swap.models_of(connection) == models(project)


def remember(connection: Connection, project: Path) -> None:
    """Note what the published build was made by and made, once it is complete."""
    with connection.transaction():
        connection.execute("delete from sla_staging.fingerprint")
        connection.execute(
            "insert into sla_staging.fingerprint values (%s)",
            [_fingerprint(connection, project)],
        )


def advance(connection: Connection, project: Path, cut: Cut) -> bool:
    """Make the tables those of a cut, if it holds nothing that they don't.

    Args:
        connection: open, holding the lock of builds.
        project: the folder of the dbt project.
        cut: pinned.

    Returns:
        Whether they are; otherwise nothing has changed, and a build is needed.

    Raises:
        VerificationError: they are known to be wrong, and no build would mend them.
    """
    with connection.transaction():
        if not swap.is_there(connection, "sla_staging", "fingerprint"):
            return False
        # Files that were changed during a build are in its fingerprint.
        if not is_of_these_models(connection, project):
            return False
        known = {"fingerprint": _fingerprint(connection, project), "cut": cut.number}
        if connection.execute(_STANDS, known).fetchone() is None:
            return False
        verifications.require_none(connection)
        connection.execute("update sla.built_cuts set cut = %s", [cut.number])
        connection.execute(
            "insert into sla.tested_cuts values (%s) on conflict do nothing",
            [cut.number],
        )
    return True


def _digest(project: Path, paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            digest.update(f"{path.relative_to(project)}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _fingerprint(connection: Connection, project: Path) -> str:
    """SHA-256 of the project's files and of what is in the published schemas."""
    digest = hashlib.sha256(_digest(project, sources(project)).encode())
    # So that all is named in full.
    connection.execute("set local search_path = ''")
    row = connection.execute(_MADE).fetchone()
    assert row is not None
    digest.update((row[0] or "").encode())
    return digest.hexdigest()
