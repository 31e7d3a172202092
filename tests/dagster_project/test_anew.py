"""Where most is new, all is built anew: that is sooner done."""

from pathlib import Path

import pytest
from commands import run

from dagster_project import resources
from ingest.store import database

ANEW = "most of it is new: all is built"


@pytest.fixture(autouse=True)
def is_worth_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "WORTH_ANEW", 5)


def _ingest(folder: Path, first: int, number: int) -> None:
    file = folder / f"{first}.csv"
    rows = [
        f"2026-01-01T00:00:00Z,order,{n},new\n" for n in range(first, first + number)
    ]
    file.write_text("".join(["created_at,entity_type,entity_id,to_status\n", *rows]))
    assert run("ingest", file).code == 0


def _build(url: str) -> tuple[bool, int]:
    """Whether all was built anew, unasked, and the stays that are there then."""
    said = run("build")
    assert said.code == 0
    with database.connect(url) as connection:
        stays = database.row_count(connection, "sla.status_intervals")
    return ANEW in said.err, stays


def test_a_build_of_which_most_is_new_builds_all(
    installed_url: str, tmp_path: Path
) -> None:
    _ingest(tmp_path, 0, 2)
    assert _build(installed_url) == (False, 2)
    _ingest(tmp_path, 10, 4)
    assert _build(installed_url) == (False, 6)
    _ingest(tmp_path, 20, 5)
    assert _build(installed_url) == (False, 11)
    _ingest(tmp_path, 30, 11)
    assert _build(installed_url) == (True, 22)
    assert "nothing new" in run("build").err


def test_what_no_full_refresh_may_replace_is_built_in_part(
    installed_url: str, tmp_path: Path
) -> None:
    _ingest(tmp_path, 0, 2)
    assert _build(installed_url) == (False, 2)
    with database.connect(installed_url) as connection:
        connection.execute("create schema analyst")
        connection.execute(
            "create materialized view analyst.stays as table sla.status_intervals"
        )
    _ingest(tmp_path, 10, 10)
    assert _build(installed_url) == (False, 12)
