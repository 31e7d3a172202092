"""The unit tests beside the models, run by dbt itself."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from facts import at

from dagster_project.resources import Warehouse
from ingest.errors import StatusEngineError
from ingest.store import cuts, database
from ingest.store.cuts import Cut
from ingest.store.database import PROJECT


def test_every_unit_test_of_dbt_passes(
    database_url: str, dbt: Callable[..., Any], build: Callable[..., Any]
) -> None:
    # A unit test takes its columns from relations that are there.
    cut = build(database_url, at(0))
    with Warehouse(database_url=database_url).building(cut) as building:
        result = dbt(building.environment, "test", "--select", "test_type:unit")
    told = [r for r in result.result if r.node.resource_type == "unit_test"]
    assert [(r.node.name, r.message) for r in told if r.status != "pass"] == []
    assert result.success
    assert len(told) == sum(
        path.read_text().count("    model: ")
        for path in (PROJECT / "dbt" / "models").rglob("*.yml")
    )


def test_dbt_refuses_a_session_without_a_cut_in_one_sentence(
    database_url: str, dbt: Callable[..., Any]
) -> None:
    with database.connect(database_url) as connection:
        cut = cuts.pin(connection, uuid.uuid4().hex, at(0))
    results: list[Any] = []
    with pytest.raises(StatusEngineError, match="sla_next was not built to its end"):
        _build_without_a_cut(Warehouse(database_url=database_url), cut, dbt, results)
    assert [result.success for result in results] == [False, False, False]
    sentence = "This session has no cut. Run it through: status-engine build."
    assert [sentence in str(result.exception) for result in results] == [True] * 3
    with database.connect(database_url) as connection:
        schemas = "select count(*) from pg_tables where schemaname = 'sla'"
        assert connection.execute(schemas).fetchone() == (0,)


def _build_without_a_cut(
    warehouse: Warehouse, cut: Cut, dbt: Callable[..., Any], results: list[Any]
) -> None:
    with warehouse.building(cut) as building:
        without = {**building.environment, "PGOPTIONS": ""}
        results += [dbt(without, command) for command in ("run", "build", "test")]
