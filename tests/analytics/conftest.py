"""Published files made by hand: the tables as a run publishes them, any rows in them.

The columns are those of a file that was really published, so that they can't drift.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from first_run import Built
from published_rows import Publish, write_file

from analytics.published import DATABASE, Publication, open_publication


@pytest.fixture(scope="session")
def published_file(first_run: Built) -> Path:
    """A file that a run published."""
    return first_run.home / DATABASE


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
