"""A home folder and a database, as every command of the project finds them."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from first_run import AS_OF, HISTORY, PARTS, Built

from ingest.store import database

FreshDatabase = Callable[..., AbstractContextManager[str]]
Installation = Callable[..., AbstractContextManager[str]]
Kept = Callable[[str], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What dbt read of the project, by the name of the database, for other homes."""
    return tmp_path_factory.mktemp("parsed")


def _copy_parsed(source: Path, home: Path) -> None:
    for file in source.glob("dbt-*/partial_parse.msgpack"):
        copy = home / file.relative_to(source)
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(file, copy)


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
        with fresh_database(*copied) as url, pytest.MonkeyPatch.context() as patch:
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


@pytest.fixture(scope="module")
def built(first_run: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The same with a home folder of the module's own."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(first_run.home, home, symlinks=True, dirs_exist_ok=True)
    return first_run._replace(home=home)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def installed_url(installation: Installation, home: Path) -> Iterator[str]:
    """The database of an installation in `home`."""
    with installation(home) as url:
        yield url
