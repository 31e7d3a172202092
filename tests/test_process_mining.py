"""Journeys, flow and variants of a real log, against what pm4py makes of its stays."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pm4py
import pytest

from ingest import Settings, deliver, load_mapping
from ingest.configuration import workflows
from ingest.store.cuts import Cut
from ingest.store.database import Connection

PROJECT = Path(__file__).parents[1]
LOG = PROJECT.parent / "shared" / "data" / "helpdesk_italian.csv.gz"
KEYS = {
    "activity_key": "status",
    "timestamp_key": "entered_at",
    "case_id_key": "entity_id",
}

pytestmark = pytest.mark.skipif(not LOG.exists(), reason="the real data is not here")


def _rows(connection: Connection, query: str) -> list[Any]:
    return connection.execute(query.encode()).fetchall()


def test_flow_variants_and_throughput_times_are_those_of_pm4py(
    connection: Connection, database_url: str, build: Callable[..., Cut]
) -> None:
    files = workflows.load(PROJECT / "examples" / "helpdesk")
    workflows.apply(connection, files, at=datetime(1990, 1, 1, tzinfo=UTC))
    mapping = load_mapping(PROJECT / "examples" / "helpdesk.yml")
    deliver(connection, LOG, Settings(mapping))
    build(database_url, datetime(2013, 6, 1, tzinfo=UTC))
    stays = pd.DataFrame(
        _rows(
            connection,
            "select entity_id::text, status, entered_at from sla.status_intervals"
            " order by entity_id, stay_number",
        ),
        columns=["entity_id", "status", "entered_at"],
    )

    edges, starts, _ = pm4py.discover_dfg(stays, **KEYS)
    flow = _rows(
        connection,
        "select from_status, to_status, sum(transition_count)::bigint"
        " from sla.status_flow group by from_status, to_status",
    )
    assert {(one, other): n for one, other, n in flow if one} == edges
    assert {other: n for one, other, n in flow if one is None} == starts

    variants = pm4py.get_variants(stays, **KEYS)
    ours = _rows(connection, "select variant, entity_count from sla.process_variants")
    assert len(ours) == len(variants) > 100
    assert dict(ours) == {" → ".join(way): count for way, count in variants.items()}

    ended = _rows(
        connection,
        "select entity_id::text, elapsed_seconds from sla.entity_journeys"
        " where ended_at is not null",
    )
    closed = stays[stays["entity_id"].isin([entity for entity, _ in ended])]
    durations = pm4py.get_all_case_durations(closed, **KEYS)
    assert len(ended) > 4_000
    assert Counter(seconds for _, seconds in ended) == Counter(map(int, durations))
