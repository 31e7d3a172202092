"""What is wrong in the rules by which a workflow moves entities on by itself.

Their schema is in json_schemas.py; whether a rule holds dbt decides.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from ingest.configuration.yaml_files import Located

CONDITIONS = ("after_hours", "when_context", "when_children", "when_parent")
# Ways along rules that are followed in search of a loop. Rules are written by hand, so
# no workflow comes near; what is left unseen is stopped by the limit of a run.
MOST_WAYS = 10_000
Fit = Callable[[Any, Any], bool]


class _Move(NamedTuple):
    """A rule that moves at once: no hours, no person."""

    rule: Located
    status: str
    to: str
    context: dict[str, Any]


def rules_of(step: Located) -> Sequence[Located]:
    """The rules of a step, in their order."""
    rules: Sequence[Located] = step["auto_transition_conditions"].get("rules", [])
    return rules


def rule_defects(
    steps: Sequence[Located], are_compatible: Fit, decimals: int
) -> Iterator[str]:
    """What is wrong in the rules of a workflow, with file and line.

    Args:
        steps: of a workflow as its schema says, with `any` spelled out.
        are_compatible: whether some JSON value contains both of two.
        decimals: that a number of hours may have.
    """
    by_name = {step["status_name"]: step for step in steps}
    for step in steps:
        for rule in rules_of(step):
            yield from _rule_defects(rule, step, by_name.get(rule["to"]), decimals)
    yield from _loops(steps, are_compatible)


def _rule_defects(
    rule: Located, step: Located, target: Located | None, decimals: int
) -> Iterator[str]:
    status, to = step["status_name"], rule["to"]
    if to == status or to not in step["allowed_transitions"]:
        yield f"{rule.at('to')}: {to!r} may not follow {status!r}."
    elif rule["append"] and target is not None and target["requires_approval"]:
        yield (
            f"{rule.at('append')}: {to!r} requires an approval, which no rule gives; "
            "with append: false it is proposed."
        )
    if not any(condition in rule for condition in CONDITIONS):
        yield f"{rule.at()}: the rule has none of {', '.join(CONDITIONS)}."
    if "clock" in rule and "after_hours" not in rule:
        yield f"{rule.at('clock')}: a clock is given, and no after_hours."
    hours = Decimal(str(rule.get("after_hours", 0)))
    if hours != round(hours, decimals):
        yield f"{rule.at('after_hours')}: {hours} has more than six decimals."
    children = rule.get("when_children", {"all": []})
    if ("all" in children) == ("any" in children):
        yield f"{children.at()}: when_children takes either all or any."


def _loops(steps: Sequence[Located], are_compatible: Fit) -> Iterator[str]:
    """Rules that would move an entity in a circle, without an hour or a person between.

    Only where what they ask of the context can be there at once: rules tell none, so
    what moved an entity once does so again.
    """
    moves: dict[str, list[_Move]] = defaultdict(list)
    for step in steps:
        for rule in rules_of(step):
            if rule["append"] and not rule.get("after_hours"):
                context = rule.get("when_context", {})
                move = _Move(rule, step["status_name"], rule["to"], context)
                moves[move.status].append(move)
    left = MOST_WAYS
    ahead = [[move] for found in moves.values() for move in found]
    while ahead and left:
        left -= 1
        way = ahead.pop()
        start, end = way[0].status, way[-1].to
        if end == start:
            names = " to ".join(repr(move.status) for move in way)
            yield (
                f"{way[0].rule.at()}: a loop of rules without hours leads from {names} "
                f"to {start!r} again; let one of them wait, or only propose."
            )
            return
        passed = {move.status for move in way}
        ahead += [
            [*way, move]
            for move in moves.get(end, ())
            if move.to == start or move.to not in passed
            if all(are_compatible(move.context, other.context) for other in way)
        ]
