"""What assets are given: the database, the home folder, dbt. No SLA logic."""

import fcntl
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, LiteralString, NamedTuple

import dagster as dg
import msgspec
from dagster_dbt import DbtCliInvocation, DbtCliResource, DbtProject
from dagster_dbt.compat import DBT_PYTHON_VERSION
from dagster_dbt.errors import DagsterDbtCliRuntimeError

from dagster_project import swap, unchanged, verifications
from dagster_project.dead_runs import process_tag
from dagster_project.tables import Tables, tables
from ingest.errors import StatusEngineError
from ingest.store import database
from ingest.store.cuts import Cut
from ingest.store.locks import Lock, holding

DBT = database.PROJECT / "dbt"
BUILD_AND_TEST = ("build", "--exclude-resource-type", "unit_test")
FAILED = ("error", "fail", "runtime error")
# Dbt tells the kind of error and the file before a reason, the macros after it.
AROUND_REASON = re.compile(r"^\w+ Error in \w+ \S+ \(\S+\) | > in macro .*$")
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
where cut <= %s
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
        the place of what there was. The first build is always full, and so is the first
        by the models of another release, and one of which most is new.

        Args:
            cut: what is built.
            full_refresh: whether all of it is built anew.
            is_whole: whether all models and tests are run; a later cut with nothing new
                then needs no build.

        Raises:
            StatusEngineError: a later cut is built already, a schema is somebody
                else's, the swap can't be made, or part of what another release made is
                to be built.
        """
        with self.holding_builds() as connection:
            _refuse_older_cut(connection, cut)
            why = self._why_anew(connection, cut, is_whole)
            if not (full_refresh or why):
                environment = self._environment(swap.PUBLISHED, cut, connection)
                yield Build(swap.PUBLISHED, False, environment)
                if is_whole:
                    unchanged.remember(connection, DBT)
                return
            # Now rather than after the build.
            _require_swap(connection)
            swap.make(connection, swap.NEXT)
            models = unchanged.models(DBT)
            environment = self._environment(swap.NEXT, cut, connection)
            yield Build(swap.NEXT, True, environment, "" if full_refresh else why)
            swap.note(connection, swap.NEXT, models)
            swap.swap(connection)
            if is_whole:
                verifications.record_equal(connection, cut)
                unchanged.remember(connection, DBT)
            swap.drop_old(connection)

    @staticmethod
    def _why_anew(connection: database.Connection, cut: Cut, is_whole: bool) -> str:
        """Why all is to be built, though nobody may have asked for it; empty if not."""
        by_others = "by these models for the first time: all is built"
        if not swap.exists(connection, swap.PUBLISHED):
            return by_others
        if unchanged.is_of_these_models(connection, DBT):
            is_mostly_new = is_whole and _is_mostly_new(connection, cut)
            return "most of it is new: all is built" if is_mostly_new else ""
        if not is_whole:
            raise StatusEngineError(swap.OF_OTHERS)
        return by_others

    def advance(self, cut: Cut) -> bool:
        """Make the built tables those of a cut that holds nothing new, if it does.

        Returns:
            Whether they are; otherwise a build is needed.

        Raises:
            VerificationError: they are known to be wrong.
        """
        with self.holding_builds() as connection:
            return unchanged.advance(connection, DBT, cut)

    @contextmanager
    def judging(self) -> Iterator[Judgement]:
        """No build meanwhile; inside, dbt's sessions read the published cut.

        Raises:
            StatusEngineError: nothing is built, or by other models.
        """
        with self.holding_builds() as connection:
            cut = published_cut(connection)
            environment = self._environment(swap.PUBLISHED, cut, connection)
            yield Judgement(connection, cut, environment)

    @contextmanager
    def building_aside(self, cut: Cut, schema: str) -> Iterator[Build]:
        """A full build that is not published, into a schema that is made anew.

        Raises:
            StatusEngineError: the schema is somebody else's, or in use.
        """
        with self.session() as connection:
            connection.execute("select pg_advisory_lock(hashtext(%s))", [schema])
            swap.make(connection, schema)
            yield Build(schema, True, self._environment(schema, cut, connection))

    def _environment(
        self, schema: str, cut: Cut, builder: database.Connection
    ) -> dict[str, str]:
        return session_environment(self.url, schema, cut, builder)


def _is_mostly_new(connection: database.Connection, cut: Cut) -> bool:
    """Whether all is built sooner anew than in part, and can be swapped in."""
    row = connection.execute(_NEW, [cut.number]).fetchone()
    assert row is not None
    new, known = row
    if new < WORTH_ANEW or new < known:
        return False
    try:
        _require_swap(connection)
    except StatusEngineError:
        return False
    return True


def _require_swap(connection: database.Connection) -> None:
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
    if not unchanged.is_of_these_models(connection, DBT):
        raise StatusEngineError(swap.OF_OTHERS)
    row = connection.execute(_PUBLISHED_CUT).fetchone()
    assert row is not None
    return Cut(*row)


def _refuse_older_cut(connection: database.Connection, cut: Cut) -> None:
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


def run_dbt(
    arguments: Sequence[str],
    target: Path,
    failure: str,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Run a command of dbt that builds and tests nothing.

    Args:
        arguments: the command, and what it takes.
        target: the folder of what it writes.
        failure: what to say where it fails.
        environment: for its process, beside that of this one.

    Raises:
        StatusEngineError: it did.
    """
    dbt = dbt_cli().start(
        ["--quiet", *arguments], environment, target_path=target, raise_on_error=False
    )
    if not dbt.wait().is_successful():
        msg = f"{failure}; what dbt says is in {target}/dbt.log."
        raise StatusEngineError(msg)


class BuildError(StatusEngineError):
    """Dbt did not come to its end; what a failed test or model says is named."""


@contextmanager
def dbt_in_words(target: Path) -> Iterator[None]:
    """Say what of dbt's run inside failed, and where its log is.

    Args:
        target: the folder of that run.

    Raises:
        BuildError: dbt failed.
    """
    results = target / "run_results.json"
    results.unlink(missing_ok=True)
    try:
        yield
    except DagsterDbtCliRuntimeError as error:
        failed = _failed_nodes(results) or "dbt ended before its end"
        msg = f"The build failed: {failed}. What dbt says is in {target}/dbt.log."
        raise BuildError(msg) from error


@contextmanager
def listening(dbt: DbtCliInvocation) -> Iterator[Iterator[Any]]:
    """What dbt says, for Dagster; it ends with the block, however that is left."""
    events = dbt.stream()
    try:
        yield events
    finally:
        dbt.process.terminate()
        # The library's generator can't be closed: it answers with one more event.
        with suppress(DagsterDbtCliRuntimeError):
            for _ in events:
                pass


def _failed_nodes(results: Path) -> str:
    """Models and tests that failed by name, the first with the reason."""
    try:
        found = msgspec.json.decode(results.read_bytes())["results"]
    except (OSError, msgspec.DecodeError):
        return ""
    failed = [node for node in found if node["status"] in FAILED]
    if not failed:
        return ""
    names = ", ".join(node["unique_id"].split(".")[2] for node in failed)
    reason = AROUND_REASON.sub("", " ".join((failed[0]["message"] or "").split()))
    return f"{names} ({reason.rstrip('. ')})"


def dbt_project() -> DbtProject:
    """The dbt project with a manifest that is not older than its files."""
    project = DbtProject(DBT)
    with (DBT / "dbt_project.yml").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_outdated(project.manifest_path):
            _parse(project.manifest_path)
    return project


def _parse(manifest: Path) -> None:
    """Make a manifest, and put it in the place of the one before once it is whole."""
    scratch = manifest.parent / ".parse"
    # Of a process that was killed.
    shutil.rmtree(scratch, ignore_errors=True)
    run_dbt(["parse"], scratch, "The dbt project can't be read")
    for name in ("partial_parse.msgpack", manifest.name):
        (scratch / name).replace(manifest.with_name(name))
    shutil.rmtree(scratch)


def known_tables() -> Tables:
    """The tables of the dbt project as its files are now."""
    return tables(dbt_project().manifest_path)


# One thread at a time may lend its environment.
_STARTING = threading.Lock()


class Dbt(DbtCliResource):
    """Dbt of this environment, whatever PATH says.

    Without what costs each run seconds: a process that prints dbt's version, which is
    that of the package, and an adapter for metadata that nobody asks for.
    """

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], **options: Any
    ) -> DbtCliInvocation:
        """Run dbt in a process with these in its environment, and as `cli` would.

        The library gives its process the environment of this one; so that has them too,
        until that process is there.
        """
        with _STARTING:
            before = {name: os.environ.get(name) for name in environment}
            os.environ.update(environment)
            try:
                return self.cli(arguments, **options)
            finally:
                for name, value in before.items():
                    if value is None:
                        del os.environ[name]
                    else:
                        os.environ[name] = value

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
    try:
        msgspec.json.decode(manifest.read_bytes(), type=dict)
        written = manifest.stat().st_mtime
    except (OSError, msgspec.DecodeError):
        return True
    return any(path.stat().st_mtime > written for path in unchanged.sources(DBT))
