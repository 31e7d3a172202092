"""The workflows, customers and colleagues of a folder of workflow files.

What they do belongs in simulation.py.
"""

from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from ingest.configuration import workflows as workflow_files
from simulator.habits import CUSTOMER_SHARES, HABITS
from simulator.hours import HOUR, BusinessTime

Json = dict[str, Any]


class SimulatedStep(NamedTuple):
    """One status of a workflow, with the habits around it.

    sla: in microseconds, of business time where there is one.
    """

    name: str
    key: str
    sla: int | None
    is_final: bool
    approval_role: str | None
    actor: str
    allowed: tuple[str, ...]
    weights: tuple[float, ...]
    forbidden: tuple[str, ...]
    business_time: BusinessTime | None

    def sla_ends(self, at: int, share: float = 1) -> int | None:
        """When a share of the SLA of a stay that began at an instant has passed."""
        if self.sla is None:
            return None
        amount = int(self.sla * share)
        business_time = self.business_time
        return business_time.ends(at, amount) if business_time else at + amount


class Workflow(NamedTuple):
    """One workflow file; rank orders the candidates of a binding (S8)."""

    entity_type: str
    business_entity_id: str | None
    conditions: Json
    rank: tuple[bool, int, bool]
    first: str
    steps: dict[str, SimulatedStep]


class Company(NamedTuple):
    """The workflows by entity type, who works here, and for whom."""

    workflows: dict[str, list[Workflow]]
    customers: dict[str, int]
    users: tuple[str, ...]
    by_role: dict[str, tuple[str, ...]]


def read_company(folder: Path) -> Company:
    """Read the workflows, calendars, business entities and users of a folder.

    Raises:
        WorkflowError: what stands there is not sound.
    """
    files = workflow_files.load(folder)
    ids = {entry["name"]: entry["id"] for entry in files.business_entities}
    times = {calendar.name: BusinessTime(calendar) for calendar in files.calendars}
    workflows: dict[str, list[Workflow]] = {name: [] for name in HABITS}
    for file in files.workflows:
        if file["entity_type"] in workflows and file["is_active"]:
            found = _workflow(file, ids, times.get(file["calendar"]))
            workflows[file["entity_type"]].append(found)
    for several in workflows.values():
        several.sort(key=lambda workflow: workflow.rank, reverse=True)
    users = [user for user in files.user_accounts if user["is_active"]]
    roles = sorted({role for user in users for role in user["roles"]})
    return Company(
        workflows,
        dict(zip(ids.values(), CUSTOMER_SHARES, strict=False)),
        tuple(user["id"] for user in users),
        {r: tuple(u["id"] for u in users if r in u["roles"]) for r in roles},
    )


def _workflow(
    file: Json, ids: dict[str, str], business_time: BusinessTime | None
) -> Workflow:
    steps = sorted(file["steps"], key=lambda step: int(step["step_order"]))
    unfinished = [step["status_name"] for step in steps if not step["is_final"]]
    owner = file["business_entity"]
    return Workflow(
        file["entity_type"],
        ids[owner] if owner else None,
        file["conditions"],
        (owner is not None, len(file["conditions"]), file["is_default"]),
        steps[0]["status_name"],
        {
            step["status_name"]: _step(
                file["entity_type"], step, unfinished, business_time
            )
            for step in steps
        },
    )


def _step(
    entity_type: str,
    step: Json,
    unfinished: list[str],
    business_time: BusinessTime | None,
) -> SimulatedStep:
    name = step["status_name"]
    allowed = tuple(step["allowed_transitions"])
    actor, tendencies = HABITS[entity_type].get(name, ("operations_manager", {}))
    weights = [tendencies.get(status, 0.0) for status in allowed]
    if not any(weights):
        weights = [1.0] * len(allowed)
    hours = step["sla_hours"]
    return SimulatedStep(
        name=name,
        key=f"{entity_type}.{name}",
        sla=None if hours is None else round(hours * HOUR),
        is_final=step["is_final"],
        approval_role=step["approval_role"],
        actor=actor,
        allowed=allowed,
        weights=tuple(accumulate(weights)),
        forbidden=tuple(s for s in unfinished if s not in allowed and s != name),
        business_time=business_time,
    )
