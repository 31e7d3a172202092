"""MetricFlow's figures are those of the tables, by the same clock."""

import csv
import socket
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from commands import assert_one_sentence, process, run
from first_run import AS_OF, Built

from ingest.store import database

# Of three stays one is met then, and the two open ones are late.
CLOCK = AS_OF + timedelta(days=30)
EXPECTED = """
select
    date_trunc('week', entered_on)::timestamp::text as metric_time__week,
    entity_type as performance__entity_type,
    sum(interval_count)::float as stays,
    sum(due_count)::float as due,
    sum(met_count)::float as met,
    sum(breached_count + overdue_count)::float as breaches,
    sum(elapsed_seconds)::float as elapsed_seconds,
    sum(met_count)::float / nullif(sum(due_count), 0) as compliance,
    sum(met_count)::float / nullif(sum(met_count + breached_count), 0)
        as closed_compliance,
    sum(elapsed_seconds)::float / nullif(sum(closed_count), 0) as mean_seconds
from sla.sla_performance
group by 1, 2
"""


def _values(row: dict[str, object]) -> list[tuple[str, object]]:
    """A row in CSV, or of a query, alike; what is empty is null."""
    names = [name for name in row if "__" not in name]
    figures = {
        name: float(str(row[name])) for name in names if row[name] not in ("", None)
    }
    return sorted({**row, **dict.fromkeys(names), **figures}.items())


def test_mf_query_says_what_sla_performance_says(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", built.url)
    monkeypatch.setenv("STATUS_ENGINE_HOME", str(built.home))
    monkeypatch.setenv("PGOPTIONS", f"-c status_engine.as_of={CLOCK.isoformat()}")
    with database.connect(built.url) as connection:
        cursor = connection.execute(EXPECTED)
        names = [column.name for column in cursor.description or ()]
        expected = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    assert {row["compliance"] for row in expected} == {0.5, 0}
    groups = [name for name in names if "__" in name]
    metrics = [name for name in names if name not in groups]
    asked = ("--metrics", ",".join(metrics), "--group-by", ",".join(groups))
    file = tmp_path / "answer.csv"
    with socket.create_server(("127.0.0.1", 0)) as index:
        # Nobody is asked for a newer version of MetricFlow; what was answered before
        # would lie in the folder for temporary files.
        port = index.getsockname()[1]
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        said = process("metrics", "query", *asked, "--csv", file)
        index.setblocking(False)
        with pytest.raises(BlockingIOError):
            index.accept()
    assert said.code == 0, said.out + said.err
    with file.open(newline="") as text:
        found = list(csv.DictReader(text))
    rows = [sorted(map(_values, side), key=str) for side in (found, expected)]
    assert rows[0] == rows[1]


def test_without_metricflow_it_says_what_to_install(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", built.url)
    monkeypatch.setitem(sys.modules, "dbt_metricflow", None)
    assert_one_sentence(
        run("metrics", "query"), "MetricFlow is not installed", "[metrics]"
    )
