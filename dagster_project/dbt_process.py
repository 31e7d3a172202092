"""Dbt as a process: how it is started, heard and ended, and why it failed.

What it is asked to build belongs in builds.py.
"""

import fcntl
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from dagster_dbt import DbtCliInvocation, DbtCliResource, DbtProject
from dagster_dbt.compat import DBT_PYTHON_VERSION
from dagster_dbt.errors import DagsterDbtCliRuntimeError

from dagster_project import dbt_program, unchanged
from dagster_project.dbt_program import handed_over
from dagster_project.tables import Tables, tables
from ingest.errors import StatusEngineError
from ingest.store import database

DBT = database.PROJECT / "dbt"
FAILED = ("error", "fail", "runtime error")
# Dbt tells the kind of error and the file before a reason, the macros after it.
AROUND_REASON = re.compile(r"^\w+ Error in \w+ \S+ \(\S+\) | > in macro .*$")


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
        by names that mean nothing to it, until that process is there.
        """
        lent = handed_over(environment)
        with _STARTING:
            os.environ.update(lent)
            try:
                return self.cli(arguments, **options)
            finally:
                for name in lent:
                    del os.environ[name]

    @cached_property
    def _cli_version(self) -> Any:
        return DBT_PYTHON_VERSION

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> Any:  # noqa: ARG002
        return None


def dbt_cli() -> Dbt:
    """Dbt beside this Python."""
    return Dbt(
        project_dir=str(DBT),
        dbt_executable=sys.executable,
        global_config_flags=["-m", dbt_program.__name__],
    )


def _is_outdated(manifest: Path) -> bool:
    try:
        msgspec.json.decode(manifest.read_bytes(), type=dict)
        written = manifest.stat().st_mtime
    except (OSError, msgspec.DecodeError):
        return True
    return any(path.stat().st_mtime > written for path in unchanged.sources(DBT))
