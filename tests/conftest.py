"""One embedded PostgreSQL a test process, and for every test a database of its own.

What only the tests of one room need belongs in that room's conftest.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from first_run import AS_OF, HISTORY, PARTS, Built
from nights import NIGHTLY
from psycopg.sql import SQL, Identifier

from ingest.store import cuts, database, embedded
from ingest.store.cuts import Cut

PROJECT = Path(__file__).parents[1]
FreshDatabase = Callable[..., AbstractContextManager[str]]
Dbt = Callable[..., Any]
Installation = Callable[..., AbstractContextManager[str]]
Kept = Callable[[str], AbstractContextManager[str]]

TEMPLATE = "upgraded"
# Files rather than, as by default, pages through the log: a database that is copied and
# dropped again takes 40 ms instead of 100, and there are some two thousand.
COPY = "create database {n} template {t} strategy file_copy"
OLDEST = Path("/usr/lib/postgresql/15/bin")
# A test's data need not outlive the machine; syncing it would double the run time. What
# PostgreSQL is told by a setting, Dagster's SQLite, some 25 ms an event, is told by a
# folder in memory, where it has room: a run of all tests takes some 2 GB.
IN_MEMORY = Path("/dev/shm")  # noqa: S108
ROOM = 6 * 2**30
UNSAFE_AND_FAST = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")


class Build(Protocol):
    """Pin a cut of a database, then build it; the cut is what was built."""

    def __call__(
        self, url: str, as_of: datetime, *arguments: str, full_refresh: bool = False
    ) -> Cut: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Another PostgreSQL than the embedded one: see make oldest."""
    parser.addoption("--postgresql", type=Path, metavar="BIN", help="its bin folder")


def pytest_configure(config: pytest.Config) -> None:
    """Temporary folders in memory; what is nightly; named exceptions of warnings."""
    if "TMPDIR" not in os.environ and _has_room(IN_MEMORY):
        os.environ["TMPDIR"] = str(IN_MEMORY)
        # It may have been asked for already.
        tempfile.tempdir = None
    config.addinivalue_line("markers", "nightly: of `make nightly` alone")
    config.addinivalue_line("markers", "first_build: what it builds, was never built")
    for message in (
        # Of other packages.
        "sqlglotrs is deprecated",
        # Called by dagster-dbt 0.29.
        "AssetExecutionContext.op is deprecated",
        # Imported by apprise 2.3.
        "'imghdr' is deprecated",
    ):
        config.addinivalue_line(
            "filterwarnings", f"ignore:{message}:DeprecationWarning"
        )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """By day, tests of the night are not among the tests."""
    if NIGHTLY:
        return
    left = [item for item in items if item.get_closest_marker("nightly")]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)


def _has_room(folder: Path) -> bool:
    """Whether it is there, takes programs, and has room; 64 MB in many a container."""
    if not folder.is_dir():
        return False
    found = os.statvfs(folder)
    takes_programs = not found.f_flag & os.ST_NOEXEC
    return takes_programs and found.f_bavail * found.f_frsize >= ROOM


def _named(server: str, name: str) -> str:
    """The URL of another database of the same server."""
    path, _, query = server.partition("?")
    return f"{path.rpartition('/')[0]}/{name}?{query}"


def _run(server: str, statement: str, **names: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            SQL(statement).format(**{k: Identifier(v) for k, v in names.items()})
        )


@pytest.fixture(scope="session")
def public_folder() -> Iterator[Path]:
    """A short folder that other OS users can pass through, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="se-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server_url(public_folder: Path, pytestconfig: pytest.Config) -> Iterator[str]:
    """The server of this test process; database postgres, its owner's rights."""
    home = public_folder / "home"
    binaries = pytestconfig.getoption("--postgresql")
    server = _named(embedded.start(home, binaries), "postgres")
    for setting in UNSAFE_AND_FAST:
        _run(server, f"alter system set {setting}")
    _run(server, "select pg_reload_conf()")
    yield server
    embedded.stop(home, delete=True)


@pytest.fixture
def oldest_url(public_folder: Path) -> Iterator[str]:
    """An empty database of the oldest PostgreSQL that is supported, from Debian."""
    if not OLDEST.exists():
        pytest.skip("PostgreSQL 15 is not installed")
    home = public_folder / "oldest"
    yield embedded.start(home, OLDEST)
    embedded.stop(home, delete=True)


@pytest.fixture(scope="session")
def template_database(server_url: str) -> str:
    """The name of a database with schema raw at its newest step, and no rows."""
    _run(server_url, "create database {name}", name=TEMPLATE)
    with database.connect(_named(server_url, TEMPLATE)) as connection:
        database.upgrade(connection)
    return TEMPLATE


@pytest.fixture(scope="session")
def fresh_database(server_url: str, template_database: str) -> FreshDatabase:
    """Make databases: upgraded ones, or as another template is; dropped at the end.

    Names come again as soon as they are free: for another name, dbt would parse anew.
    So what is there to be copied has names of another kind.
    """
    taken: set[str] = set()

    @contextmanager
    def make(template: str = template_database, kind: str = "test") -> Iterator[str]:
        names = (f"{kind}_{number}" for number in count())
        name = next(n for n in names if n not in taken)
        taken.add(name)
        _run(server_url, COPY, n=name, t=template)
        yield _named(server_url, name)
        _run(server_url, "drop database {n} with (force)", n=name)
        taken.remove(name)

    return make


@pytest.fixture
def empty_database_url(fresh_database: FreshDatabase) -> Iterator[str]:
    """The URL of a new database without schema raw, dropped at the end."""
    with fresh_database("template1") as url:
        yield url


@pytest.fixture
def database_url(
    request: pytest.FixtureRequest, fresh_database: FreshDatabase
) -> Iterator[str]:
    """The URL of a new, upgraded database, dropped at the end.

    Where the test builds, schema sla was built over no rows. The first build of all,
    five times as long as one that adds a test's few rows, is the subject of those that
    are marked `first_build`.
    """
    builds = "build" in request.fixturenames
    is_first = request.node.get_closest_marker("first_build") is not None
    is_built = builds and not is_first
    template = (request.getfixturevalue("built_empty"),) if is_built else ()
    with fresh_database(*template) as url:
        yield url


@pytest.fixture
def env_database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test's database as the one that every command uses."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    for name in database.environment(database_url):
        monkeypatch.delenv(name, raising=False)
    return database_url


@pytest.fixture
def connection(database_url: str) -> Iterator[database.Connection]:
    """A connection to the test's database, in autocommit."""
    with database.connect(database_url) as connection:
        yield connection


@pytest.fixture(scope="session")
def dbt(tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    """Run a dbt command in this process; the project is parsed once a test process.

    Its sessions are what an environment says: see `session_environment`.
    """
    from dbt.cli.main import dbtRunner

    folder = str(tmp_path_factory.mktemp("dbt"))
    where = (
        "--project-dir",
        str(PROJECT / "dbt"),
        "--profiles-dir",
        str(PROJECT / "dbt"),
    )
    # dbt never closes its log file, and renders some 1,300 lines a build for a terminal
    # that shows none of them.
    quiet = ("--log-level", "none", "--log-level-file", "none", "--no-write-json")
    options = (*where, "--target-path", folder, *quiet)
    parsed = dbtRunner().invoke(["parse", *options])
    assert parsed.success, parsed.exception

    def run(environment: Mapping[str, str], *arguments: str) -> Any:
        _name_schema(
            parsed.result,
            environment["PGDATABASE"],
            environment["STATUS_ENGINE_SCHEMA"],
        )
        runner = dbtRunner(manifest=parsed.result)
        # It looks at all that called it, with their source: in a thread that is little.
        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
            for name, value in environment.items():
                patch.setenv(name, value)
            return pool.submit(runner.invoke, [*arguments, *options]).result()

    return run


def _name_schema(manifest: Any, database_name: str, schema: str) -> None:
    """A parsed project holds the names of its database and schema; each has its own."""
    for node in (*manifest.nodes.values(), *manifest.sources.values()):
        node.database = database_name
        if node.resource_type == "model":
            node.schema = schema + ("_staging" if node.config.schema else "")
        if node.relation_name:
            name = getattr(node, "alias", None) or node.identifier
            node.relation_name = f'"{database_name}"."{node.schema}"."{name}"'


@pytest.fixture(scope="session")
def build(dbt: Dbt) -> Build:
    """Build a database at a new cut; by default the models alone, without tests.

    Views that are there stay as they are: dbt is not asked to pass over each, which
    takes longer than all else that a build in part does for a few rows.
    """
    from dagster_project.resources import Warehouse

    in_part = ("run", "--exclude", "config.materialized:standing_view")

    def pin_and_build(
        url: str, as_of: datetime, *arguments: str, full_refresh: bool = False
    ) -> Cut:
        with database.connect(url) as connection:
            cut = cuts.pin(connection, uuid.uuid4().hex, as_of)
        warehouse = Warehouse(database_url=url)
        with warehouse.building(cut, full_refresh=full_refresh) as building:
            given = arguments or (("run",) if building.is_full else in_part)
            whole = ["--full-refresh"] if building.is_full else []
            result = dbt(building.environment, *given, *whole)
            assert result.success, result.exception or "\n".join(
                f"{r.node.name}: {r.message}"
                for r in result.result
                if r.status not in ("success", "pass")
            )
        return cut

    return pin_and_build


@pytest.fixture(scope="session")
def build_tested(build: Build) -> Build:
    """Build the models alone, and take the cut for tested: it may be published.

    Some 200 tests of dbt take longer than the build of a test's few rows.
    """

    def build_and_believe(
        url: str, as_of: datetime, *arguments: str, full_refresh: bool = False
    ) -> Cut:
        cut = build(url, as_of, *arguments, full_refresh=full_refresh)
        with database.connect(url) as connection:
            tested = "insert into sla.tested_cuts (cut) values (%s)"
            connection.execute(tested, [cut.number])
        return cut

    return build_and_believe


@pytest.fixture(scope="session")
def built_empty_url(fresh_database: FreshDatabase, build: Build) -> Iterator[str]:
    """The URL of a database with schema sla, and no rows; to be copied."""
    with fresh_database(kind="kept") as url:
        build(url, datetime(2026, 1, 1, tzinfo=UTC))
        yield url


@pytest.fixture(scope="session")
def built_empty(built_empty_url: str) -> str:
    """Its name."""
    return database.environment(built_empty_url)["PGDATABASE"]


@pytest.fixture(scope="session")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What dbt read of the project, by the name of the database, for other homes."""
    return tmp_path_factory.mktemp("parsed")


def _copy_parsed(source: Path, home: Path) -> None:
    for file in source.glob("dbt-*/partial_parse.msgpack"):
        copy = home / file.relative_to(source)
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(file, copy)


def _keep_engines(patch: pytest.MonkeyPatch) -> None:
    """Of Dagster's SQLite files, each with its connections' compiled statements.

    The library makes an engine for each of some 800 connections of a run, to compile
    every statement anew: a third of what a run takes in this process.
    """
    from dagster._core.storage.event_log.sqlite import sqlite_event_log

    make = sqlite_event_log.create_engine

    @lru_cache(maxsize=8)
    def engine(address: str, poolclass: type, timeout: int) -> Any:
        return make(address, poolclass=poolclass, connect_args={"timeout": timeout})

    def kept(address: str, poolclass: type, connect_args: dict[str, int]) -> Any:
        return engine(address, poolclass, **connect_args)

    patch.setattr(sqlite_event_log, "create_engine", kept)


@pytest.fixture(scope="session")
def installation(fresh_database: FreshDatabase, parsed: Path) -> Installation:
    """Name a new database and a home folder to this process, for a while.

    Files of ChargeCars's workflows that are named lie in the home folder; a template
    is the URL of a database to be copied.
    """

    @contextmanager
    def make(home: Path, *workflow_files: str, template: str = "") -> Iterator[str]:
        if workflow_files:
            (home / "workflows").mkdir(parents=True)
        for name in workflow_files:
            shutil.copy(database.PROJECT / "workflows" / name, home / "workflows")
        copied = [database.environment(template)["PGDATABASE"]] if template else []
        # By a name that is free again for the next: for another, dbt would parse anew.
        fresh = fresh_database(*copied, kind="installed")
        with fresh as url, pytest.MonkeyPatch.context() as patch:
            _keep_engines(patch)
            for name in database.environment(url):
                patch.delenv(name, raising=False)
            patch.setenv("DATABASE_URL", url)
            patch.setenv("STATUS_ENGINE_HOME", str(home))
            # Named by the command line to its own process.
            patch.setenv("DAGSTER_HOME", str(home / "dagster"))
            patch.setenv("PATH", os.environ["PATH"])
            kept = parsed / database.environment(url)["PGDATABASE"]
            _copy_parsed(kept, home)
            yield url
            _copy_parsed(home, kept)

    return make


@pytest.fixture(scope="session")
def kept(fresh_database: FreshDatabase) -> Kept:
    """Keep a copy of a database, to be copied; the URL of that, which no test has."""

    @contextmanager
    def keep(url: str) -> Iterator[str]:
        name = database.environment(url)["PGDATABASE"]
        with fresh_database(name, "kept") as copy:
            yield copy

    return keep


@pytest.fixture(scope="session")
def first_run(
    installation: Installation, kept: Kept, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Built]:
    """What a run leaves, made once; not to be changed."""
    # Once Dagster is asked for, and not by every test.
    from dagster_project.resources import Warehouse
    from dagster_project.run import run

    home = tmp_path_factory.mktemp("first_run")
    with ExitStack() as until_the_end:
        with installation(home, "order.yml", "office_nl.yml") as url:
            (home / "inbox").mkdir()
            (home / "inbox" / "history.csv").write_text(HISTORY)
            run(Warehouse(), PARTS, as_of=AS_OF)
            copy = until_the_end.enter_context(kept(url))
        yield Built(copy, home)


@pytest.fixture(scope="session")
def check_conservation() -> Callable[[database.Connection], None]:
    """S20, from the tables alone: read = appended + duplicate + rejected."""
    return _check_conservation


def _check_conservation(connection: database.Connection) -> None:
    """Every ledger row, and every first delivery, says what the tables hold."""
    wrong = connection.execute(
        """
        with counted as (
            select
                batch_id,
                (
                    select count(*)
                    from (
                        select 'transitions' as kind, batch_id
                        from raw.status_transitions
                        union all
                        select 'audit_logs', batch_id from raw.audit_entries
                    ) as appended
                    where (appended.kind, appended.batch_id)
                        = (batches.kind, batches.batch_id)
                ) as appended_count,
                (
                    select coalesce(sum(transition_count), 0)
                    from raw.rejected_transitions
                    where rejected_transitions.batch_id = batches.batch_id
                ) as rejected_count
            from raw.batches
            where kind <> 'configuration'
        )

        select batches.*
        from raw.batches
        join counted using (batch_id)
        where
            batches.appended_count <> counted.appended_count
            or batches.rejected_count <> counted.rejected_count
            or batches.duplicate_count < 0
            or batches.read_count
            <> batches.appended_count + batches.duplicate_count + batches.rejected_count
        """
    ).fetchall()
    assert wrong == []
    orphans = connection.execute(
        "select id from (select id, batch_id from raw.status_transitions"
        " union all select id, batch_id from raw.audit_entries) as appended"
        " left join raw.batches using (batch_id) where batches.batch_id is null"
    ).fetchall()
    assert orphans == []
    replayed = connection.execute(
        """
        select batches.*
        from raw.batches
        join (
            select
                batch_id,
                count(*) as row_count,
                sum(appended_count) as appended_count,
                sum(duplicate_count) as duplicate_count
            from raw.resolved_rejects
            group by batch_id
        ) as resolved using (batch_id)
        where
            (source_row_count, batches.appended_count, batches.duplicate_count)
            <> (row_count, resolved.appended_count, resolved.duplicate_count)
            or rejected_count <> 0
        """
    ).fetchall()
    assert replayed == []
    deliveries = connection.execute(
        """
        select file_id, bool_and(
            deliveries.source_row_count = ledger.source_row_count
            and deliveries.read_count = ledger.read_count
            and deliveries.rejected_count = ledger.rejected_count
        )
        from raw.deliveries
        join (
            select
                file_id,
                sum(source_row_count) as source_row_count,
                sum(read_count) as read_count,
                sum(rejected_count) as rejected_count
            from raw.batches
            group by file_id
        ) as ledger using (file_id)
        group by file_id
        """
    ).fetchall()
    assert all(is_equal for _, is_equal in deliveries)
