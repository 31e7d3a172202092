"""A table is added by a model, its YAML file, and its name where all are changed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import commands
import duckdb
import pytest

from ingest.store import database
from ingest.store.database import PROJECT

Run = Callable[..., str]

MODEL = """\
{{ config(
    materialized="cut_table",
    keys={"first_stays_pkey": "primary key (entity_type, entity_id)"},
) }}
-- depends_on: {{ ref("touched_entities") }}
select
    entity_type,
    entity_id,
    status,
    left_at
from {{ fresh(ref("status_intervals")) }}
where entered_at = entity_created_at and visit = 1
"""
DESCRIBED = """\
models:
  - name: first_stays
    description: One row per entity, its first stay.
    config:
      contract: {enforced: true}
      meta:
        change: replace
        grain: [entity_type, entity_id]
        is_published: true
        is_compared: true
    columns:
      - name: entity_type
        data_type: text
        description: "One of raw.entity_types."
      - name: entity_id
        data_type: bigint
        description: "The entity within its type."
      - name: status
        data_type: text
        description: "The status that it's first in."
        data_tests: [not_null]
      - name: left_at
        data_type: timestamptz
        description: "When it left that, UTC; null while it is there."
"""
NAMED = '-- depends_on: {{ ref("first_stays") }}\n'
GRAPH = """
import json
from dagster_project.definitions import build_definitions
graph = build_definitions().resolve_asset_graph()
keys = [key.path for key in graph.get_all_asset_keys()]
checks = [[*key.asset_key.path, key.name] for key in graph.asset_check_keys]
print(json.dumps([keys, checks]))
"""
ROWS = (
    "created_at,entity_type,entity_id,to_status\n"
    "2026-01-01T00:00:00Z,order,1,new\n"
    "2026-01-01T00:00:00Z,order,2,new\n",
    "created_at,entity_type,entity_id,to_status\n"
    "2026-01-02T00:00:00Z,order,1,sent\n"
    "2026-01-02T00:00:00Z,quote,7,asked\n",
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project, which may be changed."""
    folder = tmp_path / "copy"
    for room in ("dbt", "ingest", "dagster_project"):
        left = shutil.ignore_patterns("target", "logs", "__pycache__")
        shutil.copytree(PROJECT / room, folder / room, ignore=left)
    models = folder / "dbt" / "models" / "sla" / "stored"
    (models / "first_stays.sql").write_text(MODEL)
    (models / "first_stays.yml").write_text(DESCRIBED)
    return folder


@pytest.fixture
def run(copy: Path) -> Run:
    """A program of the copy; what it says, on both outputs."""

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=copy,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    return run


@pytest.mark.nightly
def test_a_table_is_added_by_its_model_and_what_is_said_of_it(
    installed_url: str, home: Path, copy: Path, run: Run, tmp_path: Path
) -> None:
    def command(*words: str, code: int = 0) -> str:
        return run("-m", "dagster_project", *words, code=code)

    # Who forgets the one other place is told it.
    last = copy / "dbt" / "models" / "sla" / "stored" / "built_cuts.sql"
    assert f"must name it: {NAMED.strip()}" in command("build", code=1)
    last.write_text(NAMED + last.read_text())
    expected = (
        [("order", 1, "new", False), ("order", 2, "new", False)],
        [
            ("order", 1, "new", True),
            ("order", 2, "new", False),
            ("quote", 7, "asked", False),
        ],
    )
    for number, (rows, stays) in enumerate(zip(ROWS, expected, strict=True)):
        file = tmp_path / f"{number}.csv"
        file.write_text(rows)
        assert commands.run("ingest", file).code == 0
        said = command("run" if number else "build")
        assert f"built sla.first_stays: {len(stays)} rows" in said
        with database.connect(installed_url) as connection:
            found = connection.execute(
                "select entity_type, entity_id, status, left_at is not null "
                "from sla.first_stays order by 1, 2"
            ).fetchall()
            ledger = connection.execute(
                "select cut from sla.built_cuts where relation_name = 'first_stays'"
            ).fetchall()
            cut = connection.execute("select max(cut) from raw.cuts").fetchall()
        assert (found, ledger) == (stays, cut)
    with database.connect(installed_url) as connection:
        connection.execute(
            "update sla.first_stays set status = 'x' where status = 'asked'"
        )
    # That row alone differs, in all that is compared.
    said = command("verify", code=1)
    assert "first_stays: 3 rows compared" in said
    assert ": 2 rows differ" in said
    assert "first_stays: quote 7 x\n  status  published x, full build asked" in said
    published = home / "published" / "current"
    manifest = json.loads((published / "manifest.json").read_text())
    assert manifest["tables"]["first_stays"]["rows"] == 3
    with duckdb.connect(published / "analytics.duckdb", read_only=True) as analytics:
        stored = analytics.execute("from first_stays order by all").fetchall()
        comments = analytics.execute(
            "select comment from duckdb_columns() where table_name = 'first_stays'"
        ).fetchall()
        parquet = f"read_parquet('{published / 'first_stays.parquet'}')"
        assert stored == analytics.execute(f"from {parquet} order by all").fetchall()
    assert [row[:3] for row in stored] == [row[:3] for row in expected[1]]
    assert ("The status that it's first in.",) in comments
    keys, checks = json.loads(run("-c", GRAPH).splitlines()[-1])
    assert ["sla", "first_stays"] in keys
    assert ["published", "first_stays"] in keys
    assert ["sla", "first_stays", "not_null_first_stays_status"] in checks
