"""Homes of other releases are upgraded, and end as if they had been made by this one.

`dumps` holds what releases made of `history`: schema raw, of some also what they built.
Each migration adds one, made by its release: see dump.py.
"""

import gzip
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from nights import NIGHTLY
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from dagster_project import swap
from dagster_project.aside import verify
from dagster_project.dbt_process import known_tables
from dagster_project.resources import Warehouse
from ingest import deliver
from ingest.errors import StatusEngineError
from ingest.store import cuts, database, migrations
from ingest.store.cuts import Cut
from ingest.store.database import Connection

FreshDatabase = Callable[..., AbstractContextManager[str]]
Dbt = Callable[..., Any]

DUMPS = sorted(Path(__file__).parent.glob("dumps/*.sql.gz"))
BUILT = [path for path in DUMPS if path.name.startswith("built")]
# Each is built upon three times: by day the oldest and the newest.
BUILT_UPON = BUILT if NIGHTLY else [BUILT[0], BUILT[-1]]
AS_OF = datetime(2026, 12, 1, tzinfo=UTC)
LATER = """\
created_at,entity_type,entity_id,to_status
2026-03-02T09:00:00Z,order,8,new
2026-03-01T08:00:00Z,order,3,new
"""

# All that schema raw is, in words.
CATALOG = """
with relations as (
    select oid, oid::regclass::text as name, relkind from pg_class
    where relnamespace = 'raw'::regnamespace
),

columns as (
    select
        name, attname, attrelid, attnum,
        row_number() over (partition by attrelid order by attnum) as place,
        concat_ws(
            ' ', format_type(atttypid, atttypmod), attnotnull, attidentity,
            attgenerated, pg_get_expr(adbin, adrelid)
        ) as made
    from pg_attribute
    inner join relations on attrelid = oid and relkind in ('r', 'v', 'c')
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attnum > 0 and not attisdropped
)

select 'relation' as kind, name, relkind::text as made from relations
union all
select 'column', concat_ws(' ', name, place, attname), made from columns
union all
select 'comment', name || '.' || attname, col_description(attrelid, attnum)
from columns
union all
select 'comment', name, obj_description(oid, 'pg_class') from relations
union all
select 'view', name, pg_get_viewdef(oid) from relations where relkind = 'v'
union all
select 'index', name, pg_get_indexdef(oid) from relations where relkind = 'i'
union all
select 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
from pg_constraint
where connamespace = 'raw'::regnamespace
union all
select 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid)
from pg_trigger
where tgrelid in (select oid from relations) and not tgisinternal
union all
select 'function', oid::regprocedure::text, pg_get_functiondef(oid)
from pg_proc
where pronamespace = 'raw'::regnamespace
union all
select 'comment', oid::regprocedure::text, obj_description(oid, 'pg_proc')
from pg_proc
where pronamespace = 'raw'::regnamespace
order by 1, 2, 3
"""


def _named(name: str) -> Path:
    return next(path for path in DUMPS if path.name == f"{name}.sql.gz")


def _restore(url: str, dump: Path) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(gzip.decompress(dump.read_bytes()))


def _tables(connection: Connection) -> list[str]:
    found = connection.execute(
        "select tablename::text from pg_tables where schemaname = 'raw' "
        "and tablename <> 'schema_version' order by 1"
    )
    return [name for (name,) in found]


def _rows(connection: Connection, columns: dict[str, list[str]]) -> dict[str, Any]:
    """The rows of tables of schema raw, of these columns."""
    return {
        table: sorted(
            connection.execute(
                SQL("select {} from {}").format(
                    SQL(", ").join(
                        SQL("{}::text").format(Identifier(name)) for name in names
                    ),
                    Identifier("raw", table),
                )
            ).fetchall(),
            key=str,
        )
        for table, names in columns.items()
    }


def _columns(connection: Connection) -> dict[str, list[str]]:
    return {
        table: [
            name
            for (name,) in connection.execute(
                "select attname::text from pg_attribute where attnum > 0 "
                "and not attisdropped and attrelid = ('raw.' || %s)::regclass",
                [table],
            )
        ]
        for table in _tables(connection)
    }


@pytest.fixture
def fresh_connection(fresh_database: FreshDatabase) -> Iterator[Connection]:
    """To a database that this release made alone."""
    with fresh_database() as url, database.connect(url) as connection:
        yield connection


def test_each_step_has_a_dump() -> None:
    steps = {path.name.split("-")[1] for path in DUMPS}
    assert migrations.newest_step() in steps


@pytest.mark.parametrize("dump", DUMPS, ids=lambda path: path.name.split(".")[0])
def test_an_upgraded_schema_raw_is_that_of_a_new_database_with_the_rows_it_had(
    empty_database_url: str, fresh_connection: Connection, dump: Path
) -> None:
    _restore(empty_database_url, dump)
    with database.connect(empty_database_url) as connection:
        columns = _columns(connection)
        before = _rows(connection, columns)
        assert len(before["status_transitions"]) >= 19
        database.upgrade(connection)
        assert _rows(connection, columns) == before
        made = connection.execute(CATALOG).fetchall()
        assert made == fresh_connection.execute(CATALOG).fetchall()
        version = connection.execute("table raw.schema_version").fetchall()
    assert version == [(migrations.newest_step(), migrations.digests())]


def test_an_entity_type_that_is_refused_today_stays_and_keeps_no_upgrade_back(
    empty_database_url: str,
) -> None:
    _restore(empty_database_url, _named("raw-0001-10a9e71"))
    odd = "insert into raw.entity_types values (%s, 12)"
    with database.connect(empty_database_url) as connection:
        connection.execute(odd, ["Work Order"])
        database.upgrade(connection)
        kept = "select position from raw.entity_types where entity_type = 'Work Order'"
        assert connection.execute(kept).fetchall() == [(12,)]
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(odd, ["Work Orders"])


def _build(dbt: Dbt, url: str, cut: Cut) -> bool:
    """All models as a run builds them; whether it was a full build."""
    building = Warehouse(database_url=url).building(cut, is_whole=True)
    with building as build:
        whole = ["--full-refresh"] if build.is_full else []
        result = dbt(build.environment, "run", *whole)
        assert result.success, result.exception or [
            (r.node.name, r.message) for r in result.result if r.status != "success"
        ]
    return build.is_full


def _pin(connection: Connection) -> Cut:
    return cuts.pin(connection, uuid.uuid4().hex, AS_OF)


def _told(connection: Connection, cut: Cut) -> dict[str, Any]:
    """The rows of each table, and what the schemas hold."""
    with connection.transaction():
        for name, value in (("cut", str(cut.number)), ("as_of", str(cut.as_of))):
            connection.execute(
                "select set_config(%s, %s, true)", [f"status_engine.{name}", value]
            )
        told: dict[str, Any] = {
            table: sorted(
                connection.execute(f"select * from sla.{table}".encode()), key=str
            )
            for table in (table.name for table in known_tables().compared)
        }
    told["made"] = connection.execute(
        """
        select relname, relkind from pg_class
        where
            relnamespace in ('sla'::regnamespace, 'sla_staging'::regnamespace)
            -- Rows of an incremental build, and what large rows are kept in.
            and relname !~ '_changes$'
            and relkind in ('r', 'v', 'i')
        union all
        select conname, contype from pg_constraint
        where connamespace in ('sla'::regnamespace, 'sla_staging'::regnamespace)
        order by 1, 2
        """
    ).fetchall()
    return told


@pytest.mark.parametrize("dump", BUILT_UPON, ids=lambda path: path.name.split(".")[0])
def test_the_next_run_makes_of_what_another_release_built_what_a_new_home_has(
    fresh_database: FreshDatabase,
    empty_database_url: str,
    dbt: Dbt,
    tmp_path: Path,
    dump: Path,
) -> None:
    """The first build is full, unasked; the second one is in part."""
    _restore(empty_database_url, dump)
    with database.session(empty_database_url) as connection:
        is_by_these = swap.models_of(connection) is not None
        assert _build(dbt, empty_database_url, _pin(connection)) or is_by_these
        (tmp_path / "later.csv").write_text(LATER)
        deliver(connection, tmp_path / "later.csv")
        cut = _pin(connection)
        assert not _build(dbt, empty_database_url, cut)
        told = _told(connection, cut)
        left = "select nspname from pg_namespace where nspname ~ '^sla_(next|old)'"
        assert connection.execute(left).fetchall() == []
    name = str(conninfo_to_dict(empty_database_url)["dbname"])
    with fresh_database(name) as url, database.session(url) as connection:
        connection.execute("drop schema sla, sla_staging cascade")
        assert _build(dbt, url, cut)
        assert _told(connection, cut) == told


def test_what_reads_before_the_first_build_says_what_to_run(
    empty_database_url: str, tmp_path: Path
) -> None:
    from dagster_project.explain import as_of, explain
    from dagster_project.publish import publish

    _restore(empty_database_url, _named("built-0001-c4ffaad"))
    warehouse = Warehouse(database_url=empty_database_url, home=str(tmp_path))
    sentence = f"^{swap.OF_OTHERS}$"
    with pytest.raises(StatusEngineError, match=sentence):
        verify(warehouse)
    with database.session(empty_database_url) as connection:
        with pytest.raises(StatusEngineError, match=sentence):
            publish(connection, tmp_path)
        with pytest.raises(StatusEngineError, match=sentence):
            as_of(connection, "order", 1)
        with pytest.raises(StatusEngineError, match=sentence):
            explain(connection, "order", 1)
        # A part of the models can't be made by others than the rest.
        with (
            pytest.raises(StatusEngineError, match=sentence),
            warehouse.building(_pin(connection)),
        ):
            pass


def test_restatements_of_another_release_are_kept(
    empty_database_url: str, dbt: Dbt
) -> None:
    _restore(empty_database_url, _named("built-0006-e62b49a"))
    kept = "select restatement_id, old_value from sla.restatements where cut = 1"
    with database.session(empty_database_url) as connection:
        connection.execute(
            "insert into sla.restatements (restatement_id, previous_cut, cut, "
            "restated_at, figure, entity_type, status, old_value, batch_id) values "
            "(gen_random_uuid(), 1, 1, now(), 'met_count', 'order', 'new', '7', 1)"
        )
        connection.execute("alter table sla.restatements drop column batch_id")
        before = connection.execute(kept).fetchall()
        assert _build(dbt, empty_database_url, _pin(connection))
        assert connection.execute(kept).fetchall() == before
        assert len(before) == 1
