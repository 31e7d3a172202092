"""What is wrong in workflow files, each by itself and beside the others.

Their schema is in json_schemas.py; which workflow binds an entity dbt decides (S8).
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from collections.abc import Mapping as Members
from decimal import Decimal
from itertools import combinations
from typing import Any

from ingest.configuration.json_schemas import ANY, AT_RISK, BREACHED, WORKFLOW
from ingest.configuration.rule_checks import rule_defects
from ingest.configuration.schema_checks import schema_defects
from ingest.configuration.yaml_files import Located

DECIMALS = 6
# What `any` may stand for in a workflow, in moves; of 1,000 statuses it is a million.
MOST_MOVES = 1_000_000
Rank = tuple[str, str | None, bool, int | None]


def workflow_defects(workflow: Located) -> list[str]:
    """What is wrong in a workflow file, with file and line."""
    defects = list(schema_defects(workflow, WORKFLOW)) or list(_multiplied(workflow))
    if defects:
        return defects
    spelled = spelled_out(workflow)
    return [
        *(defect for step in spelled["steps"] for defect in _step_defects(step)),
        *_graph_defects(spelled),
        *rule_defects(spelled["steps"], _are_compatible, DECIMALS),
    ]


def spelled_out(workflow: Located) -> Located:
    """A workflow with `any` as a list: of all its other statuses, in their order.

    Not of the status itself: to stay in one is always legal (S19).
    """
    steps: Sequence[Located] = workflow["steps"]
    ordered = sorted(steps, key=lambda step: int(step["step_order"]))
    names = list(dict.fromkeys(step["status_name"] for step in ordered))
    spelled = [_spelled_step(step, names) for step in steps]
    return workflow.of({**workflow, "steps": spelled})


def _spelled_step(step: Located, names: list[str]) -> Located:
    if step["allowed_transitions"] != ANY:
        return step
    others = [name for name in names if name != step["status_name"]]
    return step.of({**step, "allowed_transitions": others})


def _multiplied(workflow: Located) -> Iterator[str]:
    """More moves than a version of a workflow should hold."""
    steps: Sequence[Located] = workflow["steps"]
    open_ways = [step for step in steps if step["allowed_transitions"] == ANY]
    count = len(open_ways) * len(steps)
    if count > MOST_MOVES:
        where = open_ways[0].at("allowed_transitions")
        yield (
            f"{where}: 'any' stands for {count:,} moves in this workflow, and may for "
            f"{MOST_MOVES:,}; list those that are meant."
        )


def workflow_warnings(workflow: Located) -> Iterator[str]:
    """What is allowed, and hardly meant."""
    steps: Sequence[Located] = workflow["steps"]
    ways_back: dict[str, list[str]] = defaultdict(list)
    for step in steps:
        for target in step["allowed_transitions"]:
            ways_back[target].append(step["status_name"])
    final = [step["status_name"] for step in steps if step["is_final"]]
    ending = _reached(ways_back, final)
    ways = {step["status_name"]: step["allowed_transitions"] for step in steps}
    first = min(steps, key=lambda step: int(step["step_order"]))["status_name"]
    reached = _reached(ways, [first])
    for step in steps:
        name = step["status_name"]
        if name not in reached:
            yield (
                f"{step.at()}: {name!r} can't be reached from the first, {first!r}: "
                "only entities that begin after that are ever there."
            )
        if step["sla_hours"] is None and not step["is_final"]:
            yield f"{step.at()}: {name!r} sets no deadline: it has no sla_hours."
        if final and name not in ending:
            yield f"{step.at()}: from {name!r} no final status can be reached."
    if not final:
        yield (
            f"{workflow.at('steps')}: no step is final: an entity stays open in its "
            "last status, and overdue once that one's deadline has passed (S14)."
        )


def repeated(items: list[Located], keys: tuple[str, ...]) -> Iterator[str]:
    """Definitions that claim the identity of an earlier one."""
    seen: dict[str, Located] = {}
    for item in items:
        identity = [item[key] for key in keys]
        first = seen.setdefault(json.dumps(identity), item)
        if first is not item:
            shown = ", ".join(str(value) for value in identity if value is not None)
            where, other = item.at(keys[0]), first.at(keys[0])
            yield f"{where}: {shown} is defined twice; the other is at {other}."


def unknown_calendars(
    workflows: list[Located], known: Collection[str]
) -> Iterator[str]:
    """Calendars that workflows name and no file beside them defines."""
    for workflow in workflows:
        name = workflow["calendar"]
        if name is not None and name not in known:
            yield (
                f"{workflow.at('calendar')}: no file beside it defines calendar "
                f"{name!r}; defined are {', '.join(sorted(known)) or 'none'}."
            )


def rivals(workflows: list[Located]) -> Iterator[str]:
    """Pairs between which S8 would decide by name alone."""
    ranks: dict[Rank, list[Located]] = defaultdict(list)
    for workflow in workflows:
        if workflow["is_active"]:
            ranks[_rank(workflow)].append(workflow)
    pairs = (pair for equals in ranks.values() for pair in combinations(equals, 2))
    for one, other in pairs:
        if _name(one) == _name(other):
            continue
        if one["is_default"]:
            yield (
                f"{other.at('is_default')}: {_name(other)} is a default, as "
                f"{_name(one)} is at {one.at('is_default')}; one of them may be (S8)."
            )
        elif _are_compatible(one["conditions"], other["conditions"]):
            yield (
                f"{other.at('conditions')}: {_name(other)} and {_name(one)} (at "
                f"{one.at('conditions')}) can match the same transition and are "
                "equally specific, so that their names would decide (S8). Give one "
                "of them another condition, or make it the default."
            )


def _rank(workflow: Located) -> Rank:
    """What S8 asks before the name, apart from which conditions there are."""
    is_default = workflow["is_default"]
    # Of defaults there may be one, however specific they are.
    leaves = None if is_default else _leaves(workflow["conditions"])
    return workflow["entity_type"], workflow["business_entity"], is_default, leaves


def _name(workflow: Located) -> str:
    return f"{workflow['entity_type']}/{workflow['workflow_name']}"


def _leaves(value: Any) -> int:
    """How many values that hold no others there are in a JSON value (S8)."""
    if isinstance(value, dict):
        return sum(map(_leaves, value.values()))
    return sum(map(_leaves, value)) if isinstance(value, list) else 1


def _are_compatible(one: Any, other: Any) -> bool:
    """Whether some JSON value contains both, as PostgreSQL's @> has it."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_are_compatible(one[k], other[k]) for k in one.keys() & other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return True
    # In Python 1 equals true, and in JSON it does not.
    return bool(one == other and isinstance(one, bool) == isinstance(other, bool))


def _step_defects(step: Located) -> Iterator[str]:
    name, hours = step["status_name"], step["sla_hours"]
    if hours is not None and _decimals(hours) > DECIMALS:
        yield f"{step.at('sla_hours')}: {hours} has more than six decimals."
    if step["is_final"] and hours is not None:
        yield f"{step.at('sla_hours')}: {name!r} is final and can't have an SLA (S10)."
    if step["is_final"] and step.get("is_waiting"):
        yield f"{step.at('is_waiting')}: {name!r} is final, and nobody is waited for."
    if not step["is_final"] and set(step["allowed_transitions"]) <= {name}:
        where = step.at("allowed_transitions")
        yield f"{where}: {name!r} is not final and has no way out."
    if step["requires_approval"] != (step["approval_role"] is not None):
        yield (
            f"{step.at('approval_role')}: a role is needed where an approval is "
            "required, and only there."
        )
    yield from _stage_defects(step["notification_settings"].get("stages", []))


def _stage_defects(stages: Sequence[Located]) -> Iterator[str]:
    """Stages that are there already, or have no time of their own."""
    seen = {AT_RISK, BREACHED}
    for stage in stages:
        name = stage["name"]
        if name in seen:
            yield f"{stage.at('name')}: stage {name!r} is there more than once."
        seen.add(name)
        if ("hours_before" in stage) == ("hours_after" in stage):
            yield (
                f"{stage.at()}: stage {name!r} needs hours_before or hours_after, and "
                "not both."
            )
        for key in ("hours_before", "hours_after"):
            if key in stage and _decimals(stage[key]) > DECIMALS:
                yield f"{stage.at(key)}: {stage[key]} has more than six decimals."


def _decimals(hours: float) -> int:
    exponent = Decimal(str(hours)).normalize().as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _graph_defects(workflow: Located) -> Iterator[str]:
    steps: Sequence[Located] = workflow["steps"]
    ways = {step["status_name"]: step["allowed_transitions"] for step in steps}
    for key in ("status_name", "step_order"):
        yield from _repeated_steps(steps, key)
    for step in steps:
        for target in step["allowed_transitions"]:
            if target not in ways:
                yield f"{step.at('allowed_transitions')}: {target!r} is no step here."


def _repeated_steps(steps: Sequence[Located], key: str) -> Iterator[str]:
    """Steps that share a name or a place with an earlier one."""
    seen: set[Any] = set()
    for step in steps:
        if step[key] in seen:
            yield f"{step.at(key)}: {key} {step[key]!r} is there more than once."
        seen.add(step[key])


def _reached(ways: Members[str, Sequence[str]], starts: Iterable[str]) -> set[str]:
    """The statuses that can follow some, after any number of moves; and themselves."""
    reached: set[str] = set()
    ahead = list(starts)
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead += ways.get(name, [])
    return reached
