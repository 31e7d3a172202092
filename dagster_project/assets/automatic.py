"""Moves that rules of workflows make, as the asset that makes them.

It comes after the build, by the database's clock: an instant that a run was given moves
nothing. What it appends is seen at once (S16), and is in the next cut.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from dagster_project import automation
from dagster_project.assets import OWNERS, narrate
from dagster_project.resources import Warehouse

KEY = dg.AssetKey(["actions", "automatic_transitions"])
WITHIN_LIMIT = "moves_are_within_the_limit"


class AutomationConfig(dg.Config):
    """How many moves a run makes at most; the rest waits for the next."""

    limit: int = Field(
        default=automation.LIMIT,
        ge=1,
        description="How many entities a run moves at most; the rest waits for the "
        "next run.",
    )


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            KEY,
            deps=[["sla", "automatic_rules"], ["sla", "automatic_transitions"]],
            description="The moves that rules of workflow steps make without anybody, "
            "appended to raw.status_transitions one by one. What is next: "
            "sla.automatic_transitions, or status-engine automate.",
            group_name="actions",
            owners=OWNERS,
            kinds={"postgres", "python"},
        )
    ],
    check_specs=[
        dg.AssetCheckSpec(
            WITHIN_LIMIT,
            asset=KEY,
            description="No more was due than a run moves. Where that is meant, the "
            "next runs move the rest; where not, apply the workflow without its rule.",
        )
    ],
)
def automatic_transitions(
    context: dg.AssetExecutionContext, config: AutomationConfig, warehouse: Warehouse
) -> Iterator[Any]:
    """Append what rules move now, at most `limit` of it (S18)."""
    with warehouse.session() as connection:
        found = automation.outlook(connection, config.limit)
        moved = automation.make_moves(connection, found)
    for line in automation.narrate(found, moved):
        narrate(context, line)
    within = dg.AssetCheckResult(
        check_name=WITHIN_LIMIT,
        passed=not found.is_limited,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"due": found.due_count, "limit": config.limit},
    )
    yield dg.MaterializeResult(
        asset_key=KEY,
        metadata={
            "due": found.due_count,
            "appended": moved.appended,
            "refused": moved.refused.total(),
            "refused_because": dict(moved.refused),
            "proposed_only": found.obstacles.total(),
            "proposed_only_because": dict(found.obstacles),
            "limit_reached": int(found.is_limited),
            "ignored_conditions": found.unsound,
        },
        check_results=[within],
    )
