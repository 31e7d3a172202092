"""Published files made by hand: the tables as a run publishes them, any rows in them.

The columns are those of a file that was really published, so that they can't drift.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from first_run import Built
from published_rows import Publish, write_file

from analytics.published import DATABASE, Publication, open_publication
from ingest.store import database

Installation = Callable[..., AbstractContextManager[str]]
Published = Callable[..., AbstractContextManager[Publication]]


@pytest.fixture(scope="session")
def published_file(first_run: Built) -> Path:
    """A file that a run published."""
    return first_run.home / DATABASE


@pytest.fixture(scope="session")
def published(
    first_run: Built,
    installation: Installation,
    build_tested: Callable[..., object],
    tmp_path_factory: pytest.TempPathFactory,
) -> Published:
    """Run the engine over a history in CSV, as of an instant, and open what it made."""

    @contextmanager
    def run_and_open(
        history: str, as_of: datetime, targets: str = ""
    ) -> Iterator[Publication]:
        from dagster_project.publish import publish
        from dagster_project.resources import Warehouse
        from dagster_project.run import run

        home = tmp_path_factory.mktemp("published")
        files = ("order.yml", "office_nl.yml")
        with installation(home, *files, template=first_run.url) as url:
            (home / "inbox").mkdir()
            if targets:
                (home / "workflows" / "targets.yml").write_text(targets)
            (home / "inbox" / "history.csv").write_text(history)
            run(Warehouse(), ["configuration", "inbox"])
            build_tested(url, as_of)
            with database.connect(url) as connection:
                publish(connection, home)
        with open_publication(home) as opened:
            yield opened

    return run_and_open


@pytest.fixture
def publish(published_file: Path, tmp_path: Path) -> Iterator[Publish]:
    """Publish the rows that a script inserts, as of an instant, and open the file.

    What a script leaves out of a stay is null, or what it must be: see `STAYS`.
    """
    with ExitStack() as until_the_end:

        def write(script: str, as_of: str, home: Path = tmp_path) -> Publication:
            write_file(published_file, home / DATABASE, script, as_of)
            return until_the_end.enter_context(open_publication(home))

        yield write
