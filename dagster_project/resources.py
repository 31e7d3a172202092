"""What assets are given: the database, the home folder, dbt. No SLA logic."""

import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject
from dagster_dbt.compat import DBT_PYTHON_VERSION

from dagster_project import schemas, unchanged
from dagster_project.dead_runs import process_tag
from ingest import database
from ingest.cuts import Cut
from ingest.errors import StatusEngineError
from ingest.locks import Lock, holding

DBT = database.PROJECT / "dbt"
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


class Build(NamedTuple):
    """What dbt is asked for: the schema it builds, and whether all of it anew."""

    schema: str
    is_full: bool

    @property
    def arguments(self) -> list[str]:
        """Dbt's arguments: unit tests test code, so they run in make test."""
        if self.is_full:
            return [*BUILD_AND_TEST, "--full-refresh"]
        # What only a reading of everything can show is tested with full builds.
        return [*BUILD_AND_TEST, "--exclude", "tag:whole"]


class Named(NamedTuple):
    """What the command line names of this machine; no run configuration may.

    Files to deliver before the inbox is emptied, and the folder of workflow files;
    without one, `workflows` in the home is applied, if it is there.
    """

    paths: Sequence[Path] = ()
    workflows: Path | None = None


# With its type argument it would be another class at run time.
class Warehouse(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The database and the home folder; empty means what the environment says."""

    database_url: str = ""
    home: str = ""

    @property
    def url(self) -> str:
        """The connection string; starts the embedded server where it is in use."""
        return self.database_url or database.url()

    @property
    def folder(self) -> Path:
        """The home folder, absolute."""
        return Path(self.home) if self.home else database.home()

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Note on the run which process executes it; see dead_runs."""
        if context.run and context.instance:
            context.instance.add_run_tags(context.run.run_id, process_tag(os.getpid()))

    def session(self) -> AbstractContextManager[database.Connection]:
        """A connection to the upgraded database."""
        return database.session(self.url)

    @contextmanager
    def holding_builds(self) -> Iterator[database.Connection]:
        """A session while no other build is at work; waits for one that is."""
        with self.session() as connection, holding(connection, Lock.BUILD):
            yield connection

    @contextmanager
    def building(
        self, cut: Cut, *, full_refresh: bool = False, is_whole: bool = False
    ) -> Iterator[Build]:
        """One build at a time; inside, dbt's sessions read the cut at its instant.

        A full build goes into a schema of its own; without an error, it is published in
        the place of what there was. The first build is always full.

        Args:
            cut: what is built.
            full_refresh: whether all of it is built anew.
            is_whole: whether all models and tests are run; a later cut with nothing new
                then needs no build.

        Raises:
            StatusEngineError: a later cut is built already, a schema is somebody
                else's, or the swap can't be made.
        """
        with self.holding_builds() as connection:
            _refuse_older_cut(connection, cut)
            if not (full_refresh or not schemas.exists(connection, schemas.PUBLISHED)):
                build = Build(schemas.PUBLISHED, is_full=False)
                with session_environment(self.url, cut, build, connection):
                    yield build
                if is_whole:
                    unchanged.remember(connection, DBT)
                return
            build = Build(schemas.NEXT, is_full=True)
            for schema in (schemas.PUBLISHED, schemas.NEXT, schemas.OLD):
                schemas.require_own(connection, schema)
            # Now rather than after the build.
            schemas.require_following(connection)
            schemas.drop(connection, schemas.NEXT)
            if not schemas.drop_old(connection):
                msg = (
                    "Somebody still reads what the last full refresh replaced, in "
                    f"schema {schemas.OLD}. Run it again when that query has ended."
                )
                raise StatusEngineError(msg)
            with session_environment(self.url, cut, build, connection):
                yield build
            schemas.swap(connection)
            if is_whole:
                unchanged.remember(connection, DBT)
            schemas.drop_old(connection)

    def advance(self, cut: Cut) -> bool:
        """Make the built tables those of a cut that holds nothing new, if it does.

        Returns:
            Whether they are; otherwise a build is needed.
        """
        with self.holding_builds() as connection:
            return unchanged.advance(connection, DBT, cut)

    @contextmanager
    def building_aside(self, cut: Cut, schema: str) -> Iterator[Build]:
        """A full build that is not published, into a schema that is made anew.

        Raises:
            StatusEngineError: the schema is somebody else's, or in use.
        """
        with self.session() as connection:
            connection.execute("select pg_advisory_lock(hashtext(%s))", [schema])
            schemas.require_own(connection, schema)
            schemas.drop(connection, schema)
            build = Build(schema, is_full=True)
            with session_environment(self.url, cut, build, connection):
                yield build


def _refuse_older_cut(connection: database.Connection, cut: Cut) -> None:
    """While this run waited, another may have built a later cut, which holds ours."""
    if not schemas.exists(connection, schemas.PUBLISHED):
        return
    row = connection.execute("select max(cut) from sla.built_cuts").fetchone()
    if row is not None and (row[0] or 0) > cut.number:
        msg = (
            f"Cut {row[0]} is built already and holds cut {cut.number}; nothing to do."
        )
        raise StatusEngineError(msg)


@contextmanager
def session_environment(
    url: str, cut: Cut, build: Build, builder: database.Connection
) -> Iterator[None]:
    """Name the database, schema, cut (S17) and clock (S15) of a build to subprocesses.

    Args:
        url: the database.
        cut: what the sessions read, and the instant that is now for them.
        build: the schema that dbt builds.
        builder: the connection that holds the lock of builds.
    """
    names = database.environment(url)
    settings = {
        "status_engine.cut": cut.number,
        "status_engine.as_of": cut.as_of.isoformat(),
        "status_engine.builder": builder.info.backend_pid,
        **PLANNING,
    }
    options = " ".join(f"-c {key}={value}" for key, value in settings.items())
    names["PGOPTIONS"] = f"{names.get('PGOPTIONS', '')} {options}".strip()
    names["STATUS_ENGINE_SCHEMA"] = build.schema
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def dbt_project() -> DbtProject:
    """The dbt project with a manifest that is not older than its files."""
    project = DbtProject(DBT)
    with (DBT / "dbt_project.yml").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_outdated(project.manifest_path):
            # dbt is started by name.
            os.environ["PATH"] = f"{_bin()}{os.pathsep}{os.environ.get('PATH', '')}"
            project.preparer.prepare(project)
    return project


class Dbt(DbtCliResource):
    """Dbt of this environment, whatever PATH says.

    Without what costs each run seconds: a process that prints dbt's version, which is
    that of the package, and an adapter for metadata that nobody asks for.
    """

    @cached_property
    def _cli_version(self) -> Any:
        return DBT_PYTHON_VERSION

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> Any:  # noqa: ARG002
        return None


def dbt_cli() -> Dbt:
    """Dbt beside this Python."""
    return Dbt(project_dir=str(DBT), dbt_executable=str(_bin() / "dbt"))


def _bin() -> Path:
    return Path(sys.executable).parent


def _is_outdated(manifest: Path) -> bool:
    if not manifest.exists():
        return True
    written = manifest.stat().st_mtime
    return any(path.stat().st_mtime > written for path in unchanged.sources(DBT))
