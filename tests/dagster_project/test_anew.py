"""Where most is new, all is built anew: that is sooner done."""

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest
from commands import run

from dagster_project import builds
from dagster_project.resources import Warehouse
from ingest.store import cuts, database
from ingest.store.database import Connection

Installation = Callable[..., AbstractContextManager[str]]

ANEW = "most of it is new: all is built"


def _ingest(folder: Path, first: int, number: int) -> None:
    file = folder / f"{first}.csv"
    rows = [
        f"2026-01-01T00:00:00Z,order,{n},new\n" for n in range(first, first + number)
    ]
    file.write_text("".join(["created_at,entity_type,entity_id,to_status\n", *rows]))
    assert run("ingest", file).code == 0


def _log(folder: Path, number: int) -> None:
    file = folder / "audit.csv"
    rows = [f",2026-01-01T00:00:00Z,order,{n},update,,\n" for n in range(number)]
    header = "id,created_at,table,record,action,user,changes\n"
    file.write_text("".join([header, *rows]))
    assert run("ingest", "--kind", "audit_logs", file).code == 0


def _build() -> str:
    said = run("build")
    assert said.code == 0
    return said.err


def _asked(connection: Connection, warehouse: Warehouse) -> str:
    """Why a build would build all unasked; nothing is built."""
    cut = cuts.pin(connection, uuid.uuid4().hex)
    with suppress(_Stopped), warehouse.building(cut, is_whole=True) as build:
        raise _Stopped
    assert build.is_full == bool(build.why)
    return build.why


class _Stopped(Exception):
    """What ends a build before it began."""


def test_a_build_of_which_most_is_new_builds_all(
    first_run_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays = "select count(*) from sla.status_intervals"
    warehouse = Warehouse()
    with database.connect(first_run_url) as connection:
        _ingest(tmp_path, 10, 2)
        monkeypatch.setattr(builds, "WORTH_ANEW", 2)
        assert _asked(connection, warehouse) == ""
        # No build makes anything of these.
        _log(tmp_path, 10)
        assert _asked(connection, warehouse) == ""
        _ingest(tmp_path, 20, 1)
        assert _asked(connection, warehouse) == ANEW
        monkeypatch.setattr(builds, "WORTH_ANEW", 4)
        assert _asked(connection, warehouse) == ""
        monkeypatch.setattr(builds, "WORTH_ANEW", 3)
        assert ANEW in _build()
        assert connection.execute(stays).fetchone() == (6,)
        assert "nothing new" in _build()

        # What no full refresh may replace is built in part.
        connection.execute("create schema analyst")
        connection.execute(
            "create materialized view analyst.stays as table sla.status_intervals"
        )
        _ingest(tmp_path, 30, 10)
        assert ANEW not in _build()
        assert connection.execute(stays).fetchone() == (16,)
