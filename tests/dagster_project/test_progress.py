"""A build says every few seconds what it is at."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from commands import run
from first_run import Built

from dagster_project import progress
from ingest.store import database

TWO = """\
created_at,entity_type,entity_id,to_status
2026-01-01T00:00:00Z,order,1,new
2026-01-01T00:00:00Z,order,2,new
"""


@pytest.fixture
def url(
    installation: Callable[..., AbstractContextManager[str]], built: Built
) -> Iterator[str]:
    with installation(built.home, template=built.url) as url:
        yield url


@pytest.fixture(autouse=True)
def is_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.1)


def test_a_build_says_what_it_is_at_and_for_how_long(url: str, tmp_path: Path) -> None:
    file = tmp_path / "two.csv"
    file.write_text(TWO)
    assert run("ingest", file).code == 0
    unsaid: list[str] = []
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    with database.connect(url) as connection:
        connection.execute("set idle_in_transaction_session_timeout = '300s'")
        connection.execute("begin; lock table sla.sla_daily_counts in share mode")
        lines: list[str] = []

        def say(line: str) -> None:
            lines.append(line)
            if "building built_cuts, 1 s" in line:
                connection.execute("rollback")

        # Where no database answers, nothing is said, and the build goes on.
        with progress.telling(nowhere, unsaid.append), progress.telling(url, say):
            said = run("build")
        assert progress.at_work(connection) == ""
    assert (said.code, unsaid) == (0, [])
    assert re.search(r"^  building, \d+ s in all$", said.err, re.M)
    assert "building built_cuts, 0 s" in lines
    assert lines.index("building built_cuts, 0 s") < lines.index(
        "building built_cuts, 1 s"
    )
