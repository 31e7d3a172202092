"""Builds: readers see one cut whole (S17), what fails leaves no trace."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import histories
import psycopg
import pytest
from facts import (
    BUILT,
    append_rows,
    apply,
    assert_as_oracle,
    at,
    published,
    step,
    workflow,
)
from nights import NIGHTLY
from oracle import Row

from dagster_project.dbt_process import DBT
from dagster_project.resources import Warehouse
from ingest.errors import StatusEngineError
from ingest.store import cuts, database
from ingest.store.cuts import Cut
from ingest.store.database import Connection

Build = Callable[..., Cut]
FreshDatabase = Callable[..., AbstractContextManager[str]]
ALL = (*BUILT, "entity_current_status")
STANDARD = workflow(
    "order",
    "standard",
    [
        step("new", 1, ["sent"], sla_hours=24),
        step("sent", 2, ["done"]),
        step("done", 3, []),
    ],
    is_default=True,
)
RELATIONS = (
    "audit_trail",
    "business_entities",
    "calendars",
    "entities",
    "entity_current_status",
    "entity_journeys",
    "entity_keys",
    "handovers",
    "milestones",
    "open_work",
    "order_status_history",
    "process_variants",
    "restatements",
    "sla_daily_counts",
    "sla_performance",
    "status_as_of",
    "status_flow",
    "status_intervals",
    "users",
    "workflow_candidates",
    "workflow_steps",
    "workflow_violations",
    "workflows",
    "workload",
    "workload_changes",
)
MAY_BE_EMPTY = (
    "business_entities",
    "calendars",
    "entity_keys",
    "handovers",
    "milestones",
    "restatements",
    "users",
)
# In one statement, so of one snapshot: all that a cut says together.
TOGETHER = """
select
    (select count(*) from sla.status_intervals) as stays,
    (select sum(interval_count) from sla.sla_daily_counts) as counted,
    (select sum(interval_count) from sla.sla_performance) as performed,
    (select sum(stay_count) from sla.entity_journeys) as journeyed,
    (select sum(transition_count) from sla.status_flow) as flowed,
    (select count(distinct cut) from sla.built_cuts) as cuts
"""


@pytest.fixture(scope="module")
def built(
    fresh_database: FreshDatabase,
    built_empty: str,
    build: Build,
    tmp_path_factory: Any,
) -> Iterator[str]:
    """The name of a database with two new orders, built, to be copied."""
    with fresh_database(built_empty) as url:
        with database.connect(url) as connection:
            apply(connection, tmp_path_factory.mktemp("files"), at(0), STANDARD)
            append_rows(connection, [_order(1, 1), _order(2, 1)])
            name = connection.info.dbname
        build(url, at(5))
        yield name


@pytest.fixture
def database_url(
    request: pytest.FixtureRequest, fresh_database: FreshDatabase, database_url: str
) -> Iterator[str]:
    """A database of the test's own; a copy of `built` where the test uses that."""
    if "built" not in request.fixturenames:
        yield database_url
        return
    with fresh_database(request.getfixturevalue("built")) as url:
        yield url


def _order(number: int, day: float, status: str = "new", **given: Any) -> Row:
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {day} {status}")),
        "created_at": at(day),
        "entity_type": "order",
        "entity_id": number,
        "to_status": status,
        **given,
    }


@contextmanager
def _polling(url: str) -> Iterator[list[Any]]:
    """Read every relation, again and again, while something else happens."""
    seen: list[Any] = []
    is_over = threading.Event()

    def poll() -> None:
        with psycopg.connect(url, autocommit=True) as reader:
            while not is_over.is_set():
                try:
                    stays, *others = reader.execute(TOGETHER).fetchone() or ()
                    seen.append([*others] == [stays] * 4 + [1] or (stays, others))
                    for name in RELATIONS:
                        query = f"select count(*) from sla.{name}"
                        (count,) = reader.execute(query).fetchone() or (None,)
                        seen.append(bool(count) or name in MAY_BE_EMPTY or name)
                except psycopg.Error as error:
                    seen.append(error)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def test_a_reader_meets_no_error_no_empty_table_and_no_two_cuts(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    history = histories.make(6)
    first, second, _ = history.configurations
    apply(connection, tmp_path / "1", *_told(first))
    append_rows(connection, history.batches[0])
    build(database_url, at(20))
    with _polling(database_url) as seen:
        append_rows(connection, history.batches[1])
        # The views among them, as a run asks for.
        build(database_url, at(20), "run")
        apply(connection, tmp_path / "2", *_told(second))
        append_rows(connection, history.batches[2])
        build(database_url, at(20), full_refresh=True)
    assert [found for found in seen if found is not True] == []
    assert len(seen) > 100
    assert_as_oracle(connection, at(20), ALL)


def _told(configuration: tuple[Any, list[Row]]) -> tuple[Any, ...]:
    instant, contents = configuration
    return instant, *contents


@pytest.mark.usefixtures("built")
def test_a_full_refresh_keeps_what_others_made_of_its_relations(
    database_url: str, connection: Connection, build: Build
) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    for statement in (
        f"create role {role}",
        f"grant usage on schema sla to {role}",
        f"grant select on sla.entity_current_status to {role}",
        f"grant select (entity_id) on sla.status_intervals to {role}",
        f"alter default privileges in schema sla grant select on tables to {role}",
        "create schema analyst",
        "create view analyst.mine with (security_barrier = true) as"
        " select entity_id, current_status from sla.entity_current_status",
        "create view analyst.of_mine as select count(*) from analyst.mine",
        "alter table sla.workflow_violations enable row level security",
        f"create policy own on sla.workflow_violations for select to {role}"
        " using (entity_id = 1)",
        "create function analyst.told() returns trigger language plpgsql"
        " as 'begin return null; end'",
        "create trigger told after insert on sla.restatements"
        " for each statement execute function analyst.told()",
        "create trigger off after insert on sla.restatements"
        " for each statement execute function analyst.told()",
        "alter table sla.restatements disable trigger off",
        "alter table sla.workflow_violations force row level security",
        "create rule told as on insert to sla.restatements do also notify restated",
        "create rule off as on insert to sla.restatements do instead nothing",
        "alter table sla.restatements disable rule off",
        "alter table sla.status_intervals"
        " add constraint has_status check (status <> ''),"
        " add constraint of_first unique (first_transition_id, visit),"
        " set (fillfactor = 90)",
        "alter view sla.milestones set (security_barrier = true)",
        # What comes to new tables by default was not granted on these.
        f"alter default privileges grant select on tables to {role}",
        f"alter default privileges grant usage on schemas to {role}",
        "create index by_status on sla.status_intervals (status) where left_at is null",
        "create statistics sla.of_types on entity_type, status"
        " from sla.status_intervals",
        "revoke execute on function sla_staging.live_status from public",
        f"grant execute on function sla_staging.live_status to {role}",
        "create function analyst.count_all() returns bigint begin atomic"
        " select count(*) from sla.entity_current_status; end",
        "create view analyst.counted as select analyst.count_all() as number",
    ):
        connection.execute(statement)
    before = _made(connection)
    append_rows(connection, [_order(3, 2)])
    build(database_url, at(5), full_refresh=True)
    assert _made(connection) == before
    assert connection.execute("table analyst.of_mine").fetchone() == (3,)
    append_rows(connection, [_order(4, 2)])
    assert connection.execute("table analyst.of_mine").fetchone() == (4,)
    assert connection.execute("table analyst.counted").fetchone() == (4,)
    left = "select nspname from pg_namespace where nspname ~ '^sla' order by 1"
    assert connection.execute(left).fetchall() == [("sla",), ("sla_staging",)]

    connection.execute("drop schema analyst cascade")
    connection.execute(f"drop owned by {role}")
    connection.execute(f"drop role {role}")


@pytest.mark.usefixtures("built")
def test_what_can_not_follow_a_full_refresh_stops_it(
    database_url: str, connection: Connection, build: Build
) -> None:
    connection.execute("create schema analyst")
    connection.execute("create view analyst.stays as table sla.status_intervals")
    append_rows(connection, [_order(1, 2, "sent")])
    for create, drop, sentence in (
        (
            "materialized view analyst.old as select * from sla.restatements",
            "materialized view analyst.old",
            "Materialized view analyst.old depends on schema sla and can't be kept.",
        ),
        (
            "table analyst.notes"
            " (stay uuid references sla.status_intervals (interval_id), note text)",
            "table analyst.notes",
            "Constraint notes_stay_fkey on table analyst.notes depends on",
        ),
        (
            "table analyst.kept (stay sla.status_intervals)",
            "table analyst.kept",
            "Table analyst.kept depends on",
        ),
        (
            "publication stays for table sla.status_intervals",
            "publication stays",
            "Publication of table sla.status_intervals in publication stays",
        ),
        (
            "function analyst.stays() returns setof sla.status_intervals"
            " language sql as 'select * from sla.status_intervals'",
            "function analyst.stays",
            "Function analyst.stays() depends on",
        ),
        (
            "function analyst.label(stay sla.status_intervals) returns text"
            " language sql as 'select stay.status'",
            "function analyst.label",
            "Function analyst.label(sla.status_intervals) depends on",
        ),
        (
            "rule gone as on delete to analyst.stays do instead"
            " delete from sla.status_intervals where entity_id = old.entity_id",
            "rule gone on analyst.stays",
            "Rule gone on view analyst.stays depends on",
        ),
        (
            "temporary view of_a_session as select * from sla.restatements",
            "view of_a_session",
            "of_a_session depends on",
        ),
        (
            "table sla.child () inherits (sla.built_cuts)",
            "table sla.child",
            "In schema sla or its staging, table sla.child can't be kept.",
        ),
        (
            "view sla.mine as select * from sla.entity_current_status",
            "view sla.mine",
            "In schema sla or its staging, view sla.mine can't be kept.",
        ),
        (
            "table sla_staging.notes (note text)",
            "table sla_staging.notes",
            "In schema sla or its staging, table sla_staging.notes can't be kept.",
        ),
        (
            "function sla.status_intervals(text) returns text"
            " language sql as 'select $1'",
            "function sla.status_intervals",
            "In schema sla or its staging, function sla.status_intervals(text)",
        ),
        (
            "function sla.business_deadline(text) returns text"
            " language sql as 'select $1'",
            "function sla.business_deadline(text)",
            "In schema sla or its staging, function sla.business_deadline(text)",
        ),
    ):
        connection.execute(f"create {create}".encode())
        with pytest.raises(StatusEngineError, match=re.escape(sentence)):
            build(database_url, at(5), full_refresh=True)
        assert len(published(connection, "status_intervals", at(5))) == 2
        connection.execute(f"drop {drop}".encode())
    build(database_url, at(5), full_refresh=True)
    assert len(published(connection, "status_intervals", at(5))) == 3


@pytest.mark.first_build
@pytest.mark.parametrize("schema", ["sla", "sla_next", "sla_old_staging"])
def test_a_schema_of_somebody_else_is_not_built_over(
    database_url: str, connection: Connection, build: Build, schema: str
) -> None:
    connection.execute(f"create schema {schema}")
    connection.execute(f"create table {schema}.precious (number integer)")
    with pytest.raises(StatusEngineError, match=f"{schema}.* was made by no build"):
        build(database_url, at(5))
    assert connection.execute(f"table {schema}.precious").fetchall() == []


@pytest.mark.usefixtures("built")
def test_who_may_read_the_published_schema_reads_it_whatever_waits(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """S16. As analysts are granted it: this schema and no other."""
    role = f"analyst_{uuid.uuid4().hex[:8]}"
    connection.execute(f"create role {role}")
    connection.execute(f"grant usage on schema sla to {role}")
    connection.execute(f"grant select on all tables in schema sla to {role}")

    def statuses() -> list[Any]:
        with psycopg.connect(database_url, autocommit=True) as reader:
            reader.execute(f"set role {role}")
            for name in RELATIONS:
                reader.execute(f"select count(*) from sla.{name}")
            return reader.execute(
                "select current_status, workflow_id is null"
                " from sla.entity_current_status order by entity_id"
            ).fetchall()

    assert statuses() == [("new", False), ("new", False)]
    append_rows(connection, [_order(1, 2, "sent")])
    assert statuses() == [("sent", False), ("new", False)]
    retired = {**STANDARD, "is_active": False}
    apply(connection, tmp_path, at(0.5), retired)
    assert statuses() == [("sent", True), ("new", True)]
    build(database_url, at(5), full_refresh=True)
    assert statuses() == [("sent", True), ("new", True)]
    connection.execute(f"drop owned by {role}")
    connection.execute(f"drop role {role}")


def _made(connection: Connection) -> list[Any]:
    return connection.execute(
        """
        select 'grant', relname, grantee::regrole::text, privilege_type
        from pg_class cross join aclexplode(relacl)
        where
            relnamespace in ('sla'::regnamespace, 'sla_staging'::regnamespace)
            and grantee <> relowner
        union all
        select 'options', relname, reloptions::text, '' from pg_class
        where relnamespace = 'sla'::regnamespace and reloptions is not null
        union all
        select 'constraint', conname, pg_get_constraintdef(oid), '' from pg_constraint
        where connamespace = 'sla'::regnamespace
        union all
        select 'column', attrelid::regclass::text, attname, attacl::text
        from pg_attribute
        where attacl is not null and attrelid::regclass::text ~ '^sla'
        union all
        select 'schema', nspname, grantee::regrole::text, privilege_type
        from pg_namespace cross join aclexplode(nspacl)
        where nspname ~ '^sla' and grantee <> nspowner
        union all
        select 'default', defaclacl::text, '', '' from pg_default_acl
        where defaclnamespace = 'sla'::regnamespace
        union all
        select 'policy', policyname, tablename, qual from pg_policies
        union all
        select 'forced', relname, relforcerowsecurity::text, ''
        from pg_class where relnamespace = 'sla'::regnamespace and relrowsecurity
        union all
        select 'function', proname, proacl::text, '' from pg_proc
        where pronamespace in ('analyst'::regnamespace, 'sla_staging'::regnamespace)
        union all
        select 'rule', rulename, pg_get_ruledef(pg_rewrite.oid), ev_enabled::text
        from pg_rewrite where ev_class::regclass::text ~ '^sla[.]'
        and rulename <> '_RETURN'
        union all
        select 'index', indexname, tablename, indexdef from pg_indexes
        where schemaname = 'sla'
        union all
        select 'statistics', stxname, stxrelid::regclass::text, ''
        from pg_statistic_ext
        union all
        select 'trigger', tgname, tgrelid::regclass::text, tgenabled::text
        from pg_trigger where tgrelid::regclass::text ~ '^sla[.]'
        union all
        select 'view', viewname, definition, reloptions::text
        from pg_views
        inner join pg_class on relname = viewname
        where schemaname = 'analyst'
        order by 1, 2, 3
        """
    ).fetchall()


@pytest.mark.usefixtures("built")
def test_a_long_query_holds_up_no_full_refresh_and_no_writer(
    database_url: str, connection: Connection, build: Build
) -> None:
    with database.connect(database_url) as analyst:
        with analyst.transaction(), analyst.cursor("long") as long:
            long.execute("select entity_id from sla.status_intervals")
            read = long.fetchmany(1)
            append_rows(connection, [_order(99, 2)])
            build(database_url, at(5), full_refresh=True)
            assert len(published(connection, "status_intervals", at(5))) == 3
            read += long.fetchall()
            # What it reads is there until it ends.
            with pytest.raises(StatusEngineError, match="Somebody still reads"):
                build(database_url, at(5), full_refresh=True)
        assert len(read) == 2
    build(database_url, at(5), full_refresh=True)
    assert_as_oracle(connection, at(5), ALL)


def _dbt_command(*arguments: str) -> list[str]:
    program = Path(sys.executable).parent / "dbt"
    folders = ("--project-dir", str(DBT), "--profiles-dir", str(DBT))
    return [str(program), *arguments, *folders, "--log-level-file", "none"]


SLEEPING = {
    "built_cuts": "create trigger slow before insert on sla.built_cuts"
    " for each statement execute function public.sleep()",
}
KILLED_IN = ["sla_daily_counts", "built_cuts"]
if NIGHTLY:
    KILLED_IN += [
        "status_intervals",
        "touched_entities",
        "workflow_versions",
        "calendar_versions",
        "workflow_violations",
        "restatements",
    ]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of dbt processes; what one of them parsed, the next need not."""
    return tmp_path_factory.mktemp("target")


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("model", KILLED_IN)
def test_a_build_that_was_killed_in_a_model_leaves_the_cut_before(
    database_url: str, connection: Connection, build: Build, target: Path, model: str
) -> None:
    before = {name: published(connection, name, at(5)) for name in BUILT}
    _put_to_sleep_in(connection, model)
    append_rows(connection, [_order(1, 2, "sent"), _order(3, 2)])
    cut = cuts.pin(connection, uuid.uuid4().hex, at(5))
    with Warehouse(database_url=database_url).building(cut) as building:
        log = target / "log"
        with log.open("wb") as file:
            running = subprocess.Popen(
                _dbt_command(*building.arguments, "--target-path", str(target)),
                env={**os.environ, **building.environment},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        sleeping = (
            "select pid from pg_stat_activity where wait_event = 'PgSleep'"
            " and datname = current_database()"
        )
        found: Any = None
        while found is None and running.poll() is None:
            found = connection.execute(sleeping).fetchone()
            time.sleep(0.05)
        assert found is not None, log.read_text()
        assert {name: published(connection, name, at(5)) for name in BUILT} == before
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        connection.execute("select pg_terminate_backend(%s)", found)
    assert {name: published(connection, name, at(5)) for name in BUILT} == before
    assert_as_oracle(connection, at(5), ["entity_current_status"])
    connection.execute("drop event trigger if exists slow")
    connection.execute("drop function public.sleep cascade")
    build(database_url, at(5))
    assert_as_oracle(connection, at(5), ALL)


def _put_to_sleep_in(connection: Connection, model: str) -> None:
    """A statement of the model sleeps, within its transaction."""
    is_trigger = model in SLEEPING
    connection.execute(
        f"""
        create function public.sleep()
        returns {"trigger" if is_trigger else "event_trigger"} language plpgsql as $$
        begin
            if current_query() like '%model.status_engine.{model}"%' then
                perform pg_sleep(60);
            end if;
            {"return null;" if is_trigger else ""}
        end
        $$
        """
    )
    connection.execute(
        SLEEPING.get(model)
        or "create event trigger slow on ddl_command_end"
        " when tag in ('CREATE TABLE AS') execute function public.sleep()"
    )


@pytest.mark.usefixtures("built")
def test_dbt_whose_builder_was_killed_changes_nothing(
    database_url: str, connection: Connection, dbt: Any
) -> None:
    append_rows(connection, [_order(3, 1)])
    cut = cuts.pin(connection, uuid.uuid4().hex, at(5))
    builder = "select pid from pg_locks where locktype = 'advisory' and granted limit 1"
    with Warehouse(database_url=database_url).building(cut) as building:
        found = connection.execute(builder).fetchone()
        assert found is not None
        connection.execute("select pg_terminate_backend(%s)", found)
        while connection.execute(builder).fetchone() is not None:
            time.sleep(0.01)
        result = dbt(building.environment, "run")
    messages = [r.message or "" for r in result.result if r.status == "error"]
    assert messages
    assert all("process that began this build has ended" in text for text in messages)
    assert len(published(connection, "status_intervals", at(5))) == 2


HARMS = [
    (
        "drop index sla.status_intervals_open",
        "Table status_intervals lacks its key status_intervals_open.",
    ),
    (
        "alter table sla.workflow_violations drop constraint workflow_violations_pkey",
        "Table workflow_violations lacks its key workflow_violations_pkey.",
    ),
    (
        "alter table sla.status_intervals add column note text",
        "Table status_intervals has other columns than its model.",
    ),
]


def test_what_only_a_full_refresh_mends_asks_for_it(
    database_url: str,
    connection: Connection,
    built: str,
    fresh_database: FreshDatabase,
    build: Build,
) -> None:
    for harm, sentence in HARMS:
        with fresh_database(built) as url, database.connect(url) as harmed:
            harmed.execute(harm.encode())
            append_rows(harmed, [_order(1, 2, "sent")])
            with pytest.raises(AssertionError) as told:
                build(url, at(5))
        assert f"{sentence} Run status-engine build --full-refresh." in str(told.value)
        connection.execute(harm.encode())
    # One mends them all.
    append_rows(connection, [_order(1, 2, "sent")])
    build(database_url, at(5), full_refresh=True)
    build(database_url, at(5))
    assert_as_oracle(connection, at(5), ALL)


def test_keys_are_kept_by_the_database(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    apply(connection, tmp_path, at(0), STANDARD)
    append_rows(connection, [_order(1, 1), _order(1, 2, "sent")])
    build(database_url, at(5))
    for change in (
        "insert into sla.status_intervals select * from sla.status_intervals",
        # Two open stays of one entity (S4).
        "update sla.status_intervals set left_at = null",
        "insert into sla.sla_daily_counts select * from sla.sla_daily_counts",
    ):
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(change)
    for change in (
        "update sla.status_intervals set entered_at = null",
        "update sla.status_intervals set verdict = 'late'",
    ):
        with pytest.raises(psycopg.errors.IntegrityError):
            connection.execute(change)


def test_rows_that_did_not_change_stay_where_they_are(
    database_url: str, connection: Connection, build: Build, tmp_path: Path
) -> None:
    """Of an entity with many stays, a new transition writes two rows."""
    apply(connection, tmp_path, at(0), STANDARD)
    statuses = ("new", "sent")
    append_rows(
        connection, [_order(1, 1 + n / 100, statuses[n % 2]) for n in range(100)]
    )
    build(database_url, at(5))
    places = "select ctid, xmin, entity_id, entered_at from sla.status_intervals"
    before = set(connection.execute(places).fetchall())
    append_rows(connection, [_order(1, 3, "new")])
    build(database_url, at(5))
    after = set(connection.execute(places).fetchall())
    assert (len(before), len(after), len(after - before)) == (100, 101, 2)
