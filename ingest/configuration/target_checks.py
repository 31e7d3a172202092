"""What is wrong in files of targets, each by itself and beside workflows.

Their schema is in json_schemas.py; how well a target is kept is told in dbt, and which
signals there are in dagster_project/alerts.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date

from ingest.configuration.json_schemas import TARGETS
from ingest.configuration.schema_checks import schema_defects
from ingest.configuration.yaml_files import Located

DECIMALS = 4
# Statuses by the entity type and the name of the workflow that has them.
Steps = Mapping[tuple[str, str], frozenset[str]]


def target_defects(content: Located) -> list[str]:
    """What is wrong in a file of targets, with file and line."""
    return list(schema_defects(content, TARGETS)) or [
        defect for target in content["targets"] for defect in _own_defects(target)
    ]


def _own_defects(target: Located) -> Iterator[str]:
    day, share = target["effective_from"], target["at_least"]
    try:
        date.fromisoformat(day)
    except ValueError:
        yield f"{target.at('effective_from')}: {day} is no date of the calendar."
    if share is not None and share != round(share, DECIMALS):
        yield f"{target.at('at_least')}: {share} has more than four decimals."


def steps_named(files: Iterable[Located], known: Steps | None = None) -> Steps:
    """Statuses that files of workflows name, with defects or not; other files none."""
    named = dict(known or {})
    for content in files:
        steps = content.get("steps")
        if isinstance(steps, list):
            key = str(content.get("entity_type")), str(content.get("workflow_name"))
            statuses = {
                str(step.get("status_name")) for step in steps if isinstance(step, dict)
            }
            named[key] = named.get(key, frozenset()) | statuses
    return named


def scope_defects(target: Located, steps: Steps) -> Iterator[str]:
    """Its workflow or status, where its entity type has none of that name."""
    kind, name, status = target["entity_type"], target["workflow"], target["status"]
    names = sorted(workflow for of, workflow in steps if of == kind)
    if name is not None and name not in names:
        yield (
            f"{target.at('workflow')}: {kind!r} has no workflow {name!r}; it has "
            f"{', '.join(names) or 'none'}."
        )
        return
    found = {
        known
        for (of, workflow), statuses in steps.items()
        if of == kind and name in (None, workflow)
        for known in statuses
    }
    if status is not None and status not in found:
        yield (
            f"{target.at('status')}: {kind!r} has no status {status!r} there; it has "
            f"{', '.join(sorted(found)) or 'none'}."
        )
