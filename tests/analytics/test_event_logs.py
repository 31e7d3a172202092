"""Event logs that others read: a process-mining library finds what the tables hold."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pm4py
import polars as pl
import pytest

from analytics.event_logs import Written, write_ocel, write_xes
from analytics.published import Publication

AS_OF = datetime(2026, 3, 31, 12, tzinfo=UTC)
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
# pm4py would rather have a faster reader.
pytestmark = pytest.mark.filterwarnings("ignore:Install the optional requirement")
Published = Callable[[str, datetime], AbstractContextManager[Publication]]
STATUSES = ("new", "confirmed", "scheduled", "in_progress", "<odd> & 'status'")
# What XML escapes, what it can't hold, and what a CSV file quotes.
REASONS = (None, 'said "no" <now> & left', "two\nlines\twide", "a bell \x07", "naïve ☃")
Stays = dict[str, list[tuple[str, datetime]]]


def _history() -> pl.DataFrame:
    """Orders and their visits: returns, self-transitions, many at one instant."""
    draw = Random(8)
    rows = []
    for entity in range(1000, 1120):
        at = BEGIN + timedelta(microseconds=draw.randrange(86_400_000_000))
        for place in range(draw.randint(1, 12)):
            at += timedelta(microseconds=draw.choice((0, 0, 1, 3_600_000_001)))
            kind = "visit" if entity % 3 == 0 else "order"
            order = {"order_id": entity + 1} if kind == "visit" else {}
            rows.append(
                {
                    "created_at": at.isoformat(),
                    "entity_type": kind,
                    "entity_id": entity,
                    "to_status": draw.choice(STATUSES),
                    "source_order": place,
                    "transition_reason": draw.choice(REASONS),
                    "triggered_by_system": draw.choice((None, "crm", "field app")),
                    "business_context": json.dumps(order) if order else None,
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None)


@pytest.fixture(scope="module")
def publication(published: Published) -> Iterator[Publication]:
    with published(_history().write_csv(), AS_OF) as opened:
        yield opened


@pytest.fixture(scope="module")
def stays(publication: Publication) -> Stays:
    """By entity its statuses, as the tables' rows chain: an end is the next begin."""
    rows = publication.connection.execute(
        """
        select entity_type || ':' || entity_id, to_status, created_at, previous_status
        from audit_trail
        order by entity_type, entity_id, entity_place
        """
    ).fetchall()
    found: Stays = {}
    for name, status, at, previous in rows:
        if status != previous:
            found.setdefault(name, []).append((status, at))
    return found


def _of(stays: Stays, kind: str) -> Stays:
    return {name: rows for name, rows in stays.items() if name.startswith(f"{kind}:")}


@pytest.mark.parametrize("suffix", ["xes", "xes.gz"])
def test_pm4py_finds_in_xes_what_the_tables_hold(
    publication: Publication, stays: Stays, tmp_path: Path, suffix: str
) -> None:
    """Directly-follows graph, variants, throughput times, to the microsecond."""
    path = tmp_path / f"orders.{suffix}"
    orders = _of(stays, "order")
    written = write_xes(publication, path, "order")
    assert written == Written(sum(map(len, orders.values())), len(orders))

    log = pm4py.read_xes(str(path))
    follows, begins, ends = pm4py.discover_dfg(log)
    ways = {name: tuple(s for s, _ in rows) for name, rows in orders.items()}
    assert follows == Counter(pair for way in ways.values() for pair in pairwise(way))
    assert begins == Counter(way[0] for way in ways.values())
    assert ends == Counter(way[-1] for way in ways.values())
    variants = {way: n for way, n in pm4py.get_variants(log).items()}
    assert variants == Counter(ways.values())
    spans = [(r[-1][1] - r[0][1]).total_seconds() for r in orders.values()]
    assert sorted(pm4py.get_all_case_durations(log)) == pytest.approx(sorted(spans))


def test_texts_reach_xes_as_they_are(publication: Publication, tmp_path: Path) -> None:
    """What XML 1.0 can't hold is replaced, and seen to be."""
    path = tmp_path / "orders.xes"
    write_xes(publication, path, "order")
    log = pm4py.read_xes(str(path))
    expected = {r for r in REASONS if r} - {"a bell \x07"} | {"a bell \ufffd"}
    assert set(log["reason"].dropna()) == expected
    assert set(log["system"].dropna()) == {"crm", "field app"}


def test_pm4py_finds_in_ocel_what_the_tables_hold(
    publication: Publication, stays: Stays, tmp_path: Path
) -> None:
    path = tmp_path / "log.sqlite"
    written = write_ocel(publication, path)
    assert written.events == sum(map(len, stays.values()))
    log = pm4py.read_ocel2_sqlite(str(path))
    assert (len(log.events), len(log.objects)) == written
    # OCEL has no order but time: what happened at one instant may be read in any.
    plain = {n: r for n, r in stays.items() if len({at for _, at in r}) == len(r)}
    for kind in ("order", "visit"):
        ours = _of(plain, kind)
        flat = pm4py.ocel_flattening(log, kind)
        flat = flat[flat["case:concept:name"].isin(ours)]
        follows, _, _ = pm4py.discover_dfg(flat)
        ways = [[f"{kind}: {s}" for s, _ in rows] for rows in ours.values()]
        assert follows == Counter(pair for way in ways for pair in pairwise(way))
        assert len(follows) > 5
    visits = {int(name.partition(":")[2]) for name in _of(stays, "visit")}
    related = log.o2o[log.o2o["ocel:qualifier"] == "order_id"]
    assert set(zip(related["ocel:oid"], related["ocel:oid_2"], strict=True)) == {
        (f"visit:{n}", f"order:{n + 1}") for n in visits if n + 1 < 1120
    }


def test_ocel_is_as_its_schema_says(publication: Publication, tmp_path: Path) -> None:
    """Each type has its table, each event and object is in one, and none twice."""
    path = tmp_path / "log.sqlite"
    write_ocel(publication, path)
    # A second writing replaces the first.
    written = write_ocel(publication, path)
    with closing(sqlite3.connect(path)) as log:
        for kind, count in zip(("event", "object"), written, strict=True):
            maps = log.execute(f"select * from {kind}_map_type").fetchall()
            assert len({name for _, name in maps}) == len(maps)
            found: list[Any] = []
            for type_, name in maps:
                found += log.execute(
                    f'select t.ocel_id from "{kind}_{name}" as t'
                    f" join {kind} using (ocel_id) where ocel_type = ?",
                    [type_],
                ).fetchall()
            assert len(found) == len(set(found)) == count
        dangling = log.execute(
            "select count(*) from event_object where ocel_object_id not in"
            " (select ocel_id from object) or ocel_event_id not in"
            " (select ocel_id from event)"
        ).fetchone()
    assert dangling == (0,)


def test_a_type_without_entities_makes_a_log_without_traces(
    publication: Publication, tmp_path: Path
) -> None:
    path = tmp_path / "payments.xes"
    assert write_xes(publication, path, "payment") == Written(0, 0)
    assert path.read_text().rstrip().endswith("</log>")
