"""The back-up and the restore of deploy/README.md, run as they are written there."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from first_run import AS_OF, HISTORY, NEXT, PARTS, Built

from dagster_project.dbt_process import known_tables
from dagster_project.resources import Warehouse
from dagster_project.run import run
from ingest.store import database, embedded
from ingest.store.database import PROJECT
from tests.dagster_project.test_production import with_driver

README = (PROJECT / "deploy" / "README.md").read_text(encoding="utf-8")
LATE = HISTORY.splitlines()[0] + "\n2026-03-02T08:00:00Z,order,1,scheduled\n"
# The one that tells what was published once.
EVIDENCE = "restatements"
# When the one and the other took in the same file.
WHEN_RECORDED = "recorded_at"
Rows = dict[str, list[str]]


def _script(title: str) -> str:
    section = README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    (script,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    return str(script)


def _bash(script: str, **variables: object) -> None:
    clients = embedded.client("pg_dump").parent
    done = subprocess.run(
        ["bash", "-ec", script],
        env={
            **os.environ,
            "PATH": f"{clients}:{os.environ['PATH']}",
            **{name: str(value) for name, value in variables.items()},
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _rows(url: str) -> Rows:
    """Every published table, at one instant."""
    with database.connect(url) as connection:
        at = (NEXT + timedelta(days=1)).isoformat()
        connection.execute("select set_config('status_engine.as_of', %s, false)", [at])
        return {
            table.name: [
                str(row)
                for (row,) in connection.execute(
                    f"select (to_jsonb(t) - %s::text)::text from sla.{table.name} as t "
                    "order by 1".encode(),
                    [WHEN_RECORDED],
                )
            ]
            for table in known_tables().published
        }


def _goes_on(monkeypatch: pytest.MonkeyPatch, url: str, home: Path) -> Rows:
    """A late row that changes what was published, then a build."""
    (home / "inbox" / "late.csv").write_text(LATE)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("STATUS_ENGINE_HOME", str(home))
    run(Warehouse(), PARTS, as_of=NEXT)
    return _rows(url)


def _as_in_production(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> None:
    """Dagster's records in Postgres."""
    (home / "dagster").mkdir(exist_ok=True)
    shutil.copy(PROJECT / "deploy" / "dagster.yaml", home / "dagster")
    monkeypatch.setenv("DAGSTER_DATABASE_URL", with_driver(url))


def _runs(home: Path) -> list[str]:
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        return [run.run_id for run in instance.get_runs()]


@pytest.fixture
def fresh_cluster(public_folder: Path) -> Iterator[str]:
    """The URL of a server that holds nothing."""
    home = public_folder / "restored"
    yield embedded.start(home)
    embedded.stop(home, delete=True)


def _made(server: str, name: str) -> str:
    """The URL of a new database of a server."""
    with database.connect(server) as connection:
        connection.execute(f"create database {name}".encode())
    return server.replace(f"/{embedded.DATABASE}?", f"/{name}?")


@pytest.mark.nightly
def test_a_restored_installation_goes_on_as_if_nothing_had_been(
    installation: Callable[..., AbstractContextManager[str]],
    fresh_database: Callable[..., AbstractContextManager[str]],
    built: Built,
    fresh_cluster: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home, backup = tmp_path / "home", tmp_path / "backup"
    shutil.copytree(built.home, home, symlinks=True)
    with (
        installation(home, template=built.url) as url,
        fresh_database("template1") as dagster_url,
    ):
        _as_in_production(monkeypatch, home, dagster_url)
        run(Warehouse(), PARTS, as_of=AS_OF + timedelta(days=1))
        (home / "inbox" / "waiting.csv").write_text(
            HISTORY.replace("order,1", "order,9")
        )
        _bash(
            _script("Back-up"),
            BACKUP=backup,
            STATUS_ENGINE_HOME=home,
            DATABASE_URL=url,
            DAGSTER_DATABASE_URL=with_driver(dagster_url),
        )
        runs = _runs(home)
        assert len(runs) == 1
        expected = _goes_on(monkeypatch, url, home)

        restored, history = (_made(fresh_cluster, n) for n in ("restored", "dagster"))
        restored_home = tmp_path / "restored"
        _bash(
            _script("Restore"),
            BACKUP=backup,
            STATUS_ENGINE_HOME=restored_home,
            DATABASE_URL=restored,
            DAGSTER_DATABASE_URL=with_driver(history),
        )
        assert (restored_home / "inbox" / "waiting.csv").exists()
        assert {p.name for p in (restored_home / "workflows").iterdir()} == {
            p.name for p in (home / "workflows").iterdir()
        }
        _as_in_production(monkeypatch, restored_home, history)
        assert _runs(restored_home) == runs
        found = _goes_on(monkeypatch, restored, restored_home)
        assert found == expected
        assert len(found["entities"]) == 3
        assert found[EVIDENCE]

        # Of schema raw alone all is built again, but for what was once published.
        raw, raw_home = _made(fresh_cluster, "raw_alone"), tmp_path / "raw"
        _bash(
            'psql "$DATABASE_URL" --command "create schema raw"\n'
            "pg_restore --exit-on-error --no-owner --schema raw "
            '--dbname "$DATABASE_URL" "$BACKUP/status_engine.dump"',
            BACKUP=backup,
            DATABASE_URL=raw,
        )
        shutil.copytree(restored_home / "workflows", raw_home / "workflows")
        (raw_home / "inbox").mkdir()
        archived = restored_home / "archive" / "waiting.csv"
        shutil.copy(archived, raw_home / "inbox")
        anew = _goes_on(monkeypatch, raw, raw_home)
        assert {**anew, EVIDENCE: []} == {**expected, EVIDENCE: []}
