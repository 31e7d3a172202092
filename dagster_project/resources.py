"""What assets are given: the database, the home folder, turns at building.

What a build is belongs in builds.py, dbt in dbt_process.py.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import dagster as dg

from dagster_project import dbt_process, swap, unchanged, verifications
from dagster_project.builds import (
    Build,
    Judgement,
    published_cut,
    refuse_older_cut,
    require_swap,
    session_environment,
    why_anew,
)
from dagster_project.processes import process_tag
from ingest.store import database
from ingest.store.cuts import Cut
from ingest.store.locks import Lock, holding


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
            refuse_older_cut(connection, cut)
            why = why_anew(connection, cut, is_whole)
            if not (full_refresh or why):
                environment = session_environment(
                    self.url, swap.PUBLISHED, cut, connection
                )
                yield Build(swap.PUBLISHED, False, environment)
                if is_whole:
                    unchanged.remember(connection, dbt_process.DBT)
                return
            # Now rather than after the build.
            require_swap(connection)
            swap.make(connection, swap.NEXT)
            models = unchanged.models(dbt_process.DBT)
            environment = session_environment(self.url, swap.NEXT, cut, connection)
            yield Build(swap.NEXT, True, environment, "" if full_refresh else why)
            swap.note(connection, swap.NEXT, models)
            swap.swap(connection)
            if is_whole:
                verifications.record_equal(connection, cut)
                unchanged.remember(connection, dbt_process.DBT)
            swap.drop_old(connection)

    def advance(self, cut: Cut) -> bool:
        """Make the built tables those of a cut that holds nothing new, if it does.

        Returns:
            Whether they are; otherwise a build is needed.

        Raises:
            VerificationError: they are known to be wrong.
        """
        with self.holding_builds() as connection:
            return unchanged.advance(connection, dbt_process.DBT, cut)

    @contextmanager
    def judging(self) -> Iterator[Judgement]:
        """No build meanwhile; inside, dbt's sessions read the published cut.

        Raises:
            StatusEngineError: nothing is built, or by other models.
        """
        with self.holding_builds() as connection:
            cut = published_cut(connection)
            environment = session_environment(self.url, swap.PUBLISHED, cut, connection)
            yield Judgement(connection, cut, environment)

    @contextmanager
    def building_aside(self, cut: Cut, schema: str) -> Iterator[Build]:
        """A full build that is not published, into a schema that is made anew.

        Raises:
            StatusEngineError: the schema is somebody else's, or in use.
        """
        with self.making_aside(schema) as connection:
            yield Build(
                schema, True, session_environment(self.url, schema, cut, connection)
            )

    @contextmanager
    def making_aside(self, schema: str) -> Iterator[database.Connection]:
        """A session that has made a schema anew, empty; waits for one that makes it.

        Raises:
            StatusEngineError: the schema is somebody else's, or in use.
        """
        with self.session() as connection:
            connection.execute("select pg_advisory_lock(hashtext(%s))", [schema])
            swap.make(connection, schema)
            yield connection
