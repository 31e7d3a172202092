"""The asset that moves entities by rules; what rules are is tested in tests/dbt."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dagster as dg
from first_run import Built

from dagster_project.definitions import build_definitions
from dagster_project.resources import Warehouse
from dagster_project.run import run
from ingest.record import record
from ingest.store import database

Installation = Callable[..., AbstractContextManager[str]]
MADE = "actions/automatic_transitions"


def _orders_with_an_invoice(url: str, *numbers: int) -> None:
    """Installed, and their invoice sent: a rule of order.yml makes them invoiced."""
    with database.connect(url) as connection:
        for number in numbers:
            order: dict[str, Any] = {"entity_id": number, "to_status": "installed"}
            record(connection, entity_type="order", **order)
            record(
                connection,
                entity_type="invoice",
                entity_id=number,
                to_status="sent",
                business_context={"order_id": number},
            )


def test_a_run_moves_what_rules_move_once_and_says_so(
    installation: Installation, built: Built, tmp_path: Path
) -> None:
    with installation(tmp_path, template=built.url) as url:
        _orders_with_an_invoice(url, 11, 12)
        made, again = (run(Warehouse(), ["automate"]).metadata[MADE] for _ in range(2))
        with database.connect(url) as connection:
            now = connection.execute(
                "select current_status, count(*) from sla.entity_current_status"
                " where entity_id in (11, 12) group by 1 order by 1"
            ).fetchall()
    assert (made["due"], made["appended"], made["limit_reached"]) == (2, 2, 0)
    assert (again["due"], again["appended"], again["refused"]) == (0, 0, 0)
    assert now == [("invoiced", 2), ("sent", 2)]


def test_the_job_moves_after_the_build_and_says_where_the_limit_was_reached(
    installation: Installation, built: Built, tmp_path: Path
) -> None:
    job = build_definitions().resolve_job_def("status_engine")
    with installation(tmp_path, template=built.url) as url:
        _orders_with_an_invoice(url, 11, 12, 13)
        result = job.execute_in_process(
            asset_selection=[dg.AssetKey(MADE.split("/"))],
            run_config={"ops": {"automatic_transitions": {"config": {"limit": 2}}}},
        )
    (check,) = result.get_asset_check_evaluations()
    assert (check.passed, check.metadata["due"].value) == (False, 3)
    assert result.success
    graph = build_definitions().resolve_asset_graph()
    before = dg.AssetSelection.assets(MADE).upstream().resolve(graph)
    assert {dg.AssetKey(["raw", "cuts"]), dg.AssetKey(["sla", "built_cuts"])} <= before
