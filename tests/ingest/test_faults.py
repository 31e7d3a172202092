"""Processes that are killed at each step, and eight at once: one result (S5, S20)."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nights import NIGHTLY, tries

from ingest import deliver
from ingest.files import chunks
from ingest.store.database import Connection, connect

Write = Callable[[str, str | bytes], Path]

CHUNK_ROWS = 5
# Runs a delivery that dies by SIGKILL right after the second call of a function.
DYING = """
import importlib, os, signal, sys
from pathlib import Path
from ingest import delivery
from ingest.files import chunks
from ingest.store import database

module, name, url, rows, *paths = sys.argv[1:]
chunks.CHUNK_ROWS = int(rows)
if name:
    place = importlib.import_module(module)
    real, calls = getattr(place, name), []

    def dying(*arguments, **options):
        result = real(*arguments, **options)
        calls.append(name)
        if len(calls) == 2 or name in ("_register", "_record"):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(place, name, dying)
with database.session(url) as connection:
    for path in paths:
        delivery.deliver(connection, Path(path))
"""
STEPS = [
    ("ingest.delivery", "_register"),
    ("ingest.append", "_insert_staged"),
    ("ingest.append", "_write_ledger"),
    ("ingest.delivery", "append_batch"),
    ("ingest.delivery", "_record"),
]
if NIGHTLY:
    STEPS += [
        ("ingest.append", "_stage"),
        ("ingest.append", "_copy_new"),
        ("ingest.append", "_write_rejects"),
        ("ingest.delivery", "append_new"),
    ]


def _line(number: int) -> str:
    context = f'"{{""n"":{number}}}"'
    return (
        f"00000000-0000-4000-8000-{number:012},2026-01-01T00:00:00Z,order,{number},"
        f"new,{context}"
    )


def _csv(numbers: list[int]) -> str:
    header = "id,created_at,entity_type,entity_id,to_status,business_context"
    return "\n".join([header, *map(_line, numbers), ""])


def _start(url: str, module: str, name: str, *paths: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DYING, module, name, url, str(CHUNK_ROWS), *paths],
        stderr=subprocess.PIPE,
        text=True,
    )


def _tables(connection: Connection) -> dict[str, list[Any]]:
    """All that a delivery leaves, but for numbers from sequences and the clock."""
    queries = {
        "transitions": "select t.id, entity_id, business_context, file_batch, batch_row"
        " from raw.status_transitions as t join raw.batches using (batch_id)",
        "rejects": "select row_number, line_number, code, original"
        " from raw.rejected_transitions",
        "ledger": "select file_batch, source_row_count, read_count, appended_count,"
        " duplicate_count, rejected_count from raw.batches",
        "deliveries": "select source_row_count, read_count, appended_count,"
        " duplicate_count, rejected_count from raw.deliveries",
    }
    return {
        k: sorted(connection.execute(q).fetchall(), key=repr)
        for k, q in queries.items()
    }


@pytest.fixture
def faulty(write: Write) -> Path:
    """Five batches: new rows, repeated ones, and bytes that are no row."""
    lines = _csv([*range(12), 3, *range(12, 18), 9, 18, 19]).splitlines()
    lines.insert(7, "broken")
    lines.insert(17, 'broken,"too"!')
    return write("rows.csv", "\n".join([*lines, ""]))


@pytest.fixture
def expected(
    fresh_database: Any, faulty: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[Any]]:
    """The tables after a delivery that nothing disturbed."""
    monkeypatch.setattr(chunks, "CHUNK_ROWS", CHUNK_ROWS)
    with fresh_database() as url, connect(url) as connection:
        deliver(connection, faulty)
        return _tables(connection)


@pytest.mark.parametrize(("module", "name"), STEPS)
def test_process_killed_at_a_step_and_run_again_ends_as_if_undisturbed(
    connection: Connection,
    database_url: str,
    faulty: Path,
    expected: dict[str, list[Any]],
    module: str,
    name: str,
) -> None:
    killed = _start(database_url, module, name, faulty)
    assert (killed.wait(), killed.communicate()[1]) == (-signal.SIGKILL, "")
    assert len(_tables(connection)["ledger"]) < len(expected["ledger"]) or (
        name == "_record"
    )
    assert deliver(connection, faulty).result.appended == 20
    assert _tables(connection) == expected


def test_processes_with_the_same_file_end_as_one(
    connection: Connection,
    database_url: str,
    faulty: Path,
    expected: dict[str, list[Any]],
) -> None:
    count = tries(4, 8)
    running = [_start(database_url, "", "", faulty) for _ in range(count)]
    assert [(p.wait(), p.communicate()[1]) for p in running] == [(0, "")] * count
    found = _tables(connection)
    (first, *others) = sorted(found.pop("deliveries"), key=lambda row: -row[2])
    assert [first] == expected.pop("deliveries")
    nothing_new = (first[0], first[1], 0, first[1] - first[4], first[4])
    assert others == [nothing_new] * (count - 1)
    assert found == expected


def test_processes_with_overlapping_files_in_any_order_append_each_row_once(
    connection: Connection, database_url: str, write: Write
) -> None:
    chance = random.Random(5)
    paths = []
    count = tries(4, 8)
    for number in range(count):
        numbers = chance.sample(range(300), 200)
        paths.append(write(f"rows-{number}.csv", _csv(numbers)))
    running = [
        _start(database_url, "", "", *chance.sample(paths, 3), *paths)
        for _ in range(count)
    ]
    assert [(p.wait(), p.communicate()[1]) for p in running] == [(0, "")] * count
    stored = connection.execute(
        "select entity_id from raw.status_transitions order by 1"
    ).fetchall()
    assert [n for (n,) in stored] == sorted(
        {int(line.split(",")[3]) for p in paths for line in p.read_text().split()[1:]}
    )
    counts = connection.execute(
        "select sum(read_count), count(*) filter (where appended_count > 0) > 0"
        " from raw.batches"
    ).fetchone()
    assert counts == (count * 200, True)
