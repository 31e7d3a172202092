"""A home folder and a database, as every command of the project finds them."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from first_run import Built

Installation = Callable[..., AbstractContextManager[str]]


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


@pytest.fixture
def first_run_url(
    installation: Installation, home: Path, first_run: Built
) -> Iterator[str]:
    """The same, with the few transitions of a first run, built and published."""
    with installation(home, template=first_run.url) as url:
        yield url


@pytest.fixture
def built_url(
    installation: Installation, home: Path, built_empty_url: str
) -> Iterator[str]:
    """The same, with schema sla built over no rows."""
    with installation(home, template=built_empty_url) as url:
        yield url
