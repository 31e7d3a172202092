"""A workflow file drafted from recorded transitions, for a person to read and correct.

What such a file must say is checked in workflow_checks.py; nothing here applies it.
"""

import math
from collections.abc import Iterator
from datetime import datetime
from itertools import chain, count, cycle
from typing import Any, NamedTuple

import yaml

from ingest.append import known_types
from ingest.configuration.yaml_files import MOST_BYTES
from ingest.errors import WorkflowError
from ingest.store.database import Connection

# Of the moves out of a status, and of the stays in one. A hundredth would miss what is
# taken up again now and then: of 72 rejected quotes of the demonstration, one.
RAREST_MOVE = 1 / 1_000
MOST_LEFT_OF_FINAL = 1 / 20
# More are hardly statuses: somebody wrote a text of their own each time.
MOST_STATUSES = 1_000
# All of them can be read on white, and white on them.
COLORS = (
    "#1d4ed8",
    "#0f766e",
    "#b45309",
    "#6d28d9",
    "#be185d",
    "#0e7490",
    "#4d7c0f",
    "#b91c1c",
    "#334155",
)


class ObservedStatus(NamedTuple):
    """What was recorded of one status.

    left: of its stays, those that ended. begun: of the entities, those that began in
    it. place: how manieth new status of its entity it was, on average. usual_hours: so
    long, at most, did nine of ten stays last that ended; elapsed time. moves: how often
    each status came next.
    """

    status: str
    stays: int
    left: int
    begun: int
    place: float
    usual_hours: float | None
    moves: dict[str, int]


class Observed(NamedTuple):
    """What was recorded of an entity type, and the names of its workflows.

    first_at, last_at: of its transitions.
    """

    entity_type: str
    workflow_names: set[str]
    transitions: int
    first_at: datetime
    last_at: datetime
    statuses: list[ObservedStatus]


class Draft(NamedTuple):
    """A workflow as its file says it, and the text of that file."""

    content: dict[str, Any]
    text: str


# One row per status; stays and their order as dbt has them (S2, S3).
STATUSES = """
with transitions as (
    select
        entity_id, created_at, source_order, batch_id, batch_row, to_status,
        lag(to_status) over history as status_before
    from raw.status_transitions
    where entity_type = %s
    window history as (
        partition by entity_id order by created_at, source_order, batch_id, batch_row
    )
),

stays as materialized (
    select
        entity_id,
        to_status as status,
        lead(to_status) over history as status_after,
        lead(created_at) over history - created_at as length,
        row_number() over history as number
    from transitions
    where status_before is distinct from to_status
    window history as (
        partition by entity_id order by created_at, source_order, batch_id, batch_row
    )
),

counted as (
    select
        status,
        count(*) as stays,
        count(status_after) as left_count,
        count(*) filter (where number = 1) as begun,
        percentile_disc(0.9) within group (order by length) as usual_length
    from stays
    group by status
),

first_stays as (
    select entity_id, status, min(number) as number
    from stays
    group by entity_id, status
),

numbered as (
    select
        status, row_number() over (partition by entity_id order by number) as place
    from first_stays
),

placed as (
    select status, avg(place)::double precision as place
    from numbered
    group by status
),

moves as (
    select status, status_after, count(*) as move_count
    from stays
    where status_after is not null
    group by status, status_after
),

moves_of as (
    select status, jsonb_object_agg(status_after, move_count) as moves
    from moves
    group by status
)

select
    status, stays, left_count, begun, place,
    (extract(epoch from usual_length) / 3600)::double precision,
    coalesce(moves, '{}')
from counted
join placed using (status)
left join moves_of using (status)
order by status collate "C"
"""


def draft(connection: Connection, entity_type: str) -> Draft:
    """A workflow of what was recorded for an entity type; passes the checks by itself.

    Raises:
        WorkflowError: the type is unknown, nothing is recorded for it, or more than a
            workflow file holds.
    """
    observed = observe(connection, entity_type)
    content = _content(observed)
    text = "\n".join(_lines(content, observed)) + "\n"
    if len(text.encode()) > MOST_BYTES:
        msg = (
            f"A workflow of all moves recorded for {entity_type!r} would be larger "
            f"than {MOST_BYTES >> 20} MiB. Give it fewer statuses: see `values` of a "
            "mapping file."
        )
        raise WorkflowError(msg)
    return Draft(content, text)


def observe(connection: Connection, entity_type: str) -> Observed:
    """What was recorded for an entity type, built or not.

    Raises:
        WorkflowError: the type is unknown, nothing is recorded for it, or it has more
            statuses than a workflow should.
    """
    types = known_types(connection)
    if entity_type not in types:
        msg = f"Entity type {entity_type!r} is unknown; known are {', '.join(types)}."
        raise WorkflowError(msg)
    row = connection.execute(
        """
        select count(*), min(created_at), max(created_at)
        from raw.status_transitions
        where entity_type = %s
        """,
        [entity_type],
    ).fetchone()
    assert row is not None
    transitions, first_at, last_at = row
    if not transitions:
        msg = (
            f"No transition of {entity_type!r} is recorded, so there is nothing to "
            "draft a workflow from. Ingest a history of it first."
        )
        raise WorkflowError(msg)
    found = connection.execute(STATUSES, [entity_type]).fetchall()
    if len(found) > MOST_STATUSES:
        msg = (
            f"{len(found):,} different statuses are recorded for {entity_type!r}, and "
            f"a draft takes {MOST_STATUSES:,}. If to_status is a text that people "
            "wrote, give it fewer values: see `values` of a mapping file."
        )
        raise WorkflowError(msg)
    names = connection.execute(
        "select workflow_name from raw.status_workflows where entity_type = %s",
        [entity_type],
    ).fetchall()
    return Observed(
        entity_type,
        {name for (name,) in names},
        transitions,
        first_at,
        last_at,
        [ObservedStatus._make(status) for status in found],
    )


def _content(observed: Observed) -> dict[str, Any]:
    names = observed.workflow_names
    choices = chain(("standard", "drafted"), (f"drafted_{n}" for n in count(2)))
    return {
        "entity_type": observed.entity_type,
        "workflow_name": next(name for name in choices if name not in names),
        "business_entity": None,
        # Beside another workflow it would take over what that one binds.
        "is_default": not names,
        "is_active": True,
        "conditions": {},
        "calendar": None,
        "steps": [
            {
                "status_name": status.status,
                "status_label": _label(status.status),
                "status_color": color,
                "step_order": number,
                "allowed_transitions": list(_usual_moves(status, is_final=is_final)),
                "sla_hours": None,
                "requires_approval": False,
                "approval_role": None,
                "auto_transition_conditions": {},
                "notification_settings": {},
                "is_final": is_final,
            }
            for number, color, (status, is_final) in zip(
                count(1), cycle(COLORS), _in_order(observed.statuses), strict=False
            )
        ],
    }


def _in_order(statuses: list[ObservedStatus]) -> list[tuple[ObservedStatus, bool]]:
    """Each with whether it is final: first where most begin, final ones last.

    Between them by place, which a status that entities return to does not change.
    """
    first = max(statuses, key=lambda status: (status.begun, -status.place))
    judged = [(status, _is_final(status, first)) for status in statuses]
    return sorted(
        judged,
        key=lambda pair: (pair[0] is not first, pair[1], pair[0].place, -pair[0].stays),
    )


def _is_final(status: ObservedStatus, first: ObservedStatus) -> bool:
    """Whether it is never left, or hardly ever and is not where most begin."""
    is_kept = status.left <= MOST_LEFT_OF_FINAL * status.stays
    return not status.left or (is_kept and status is not first)


def _usual_moves(status: ObservedStatus, *, is_final: bool) -> dict[str, int]:
    """Statuses that came next, the most frequent first; none after a final one.

    Without those rarer than RAREST_MOVE, if that leaves any.
    """
    ordered = sorted(status.moves.items(), key=lambda move: (-move[1], move[0]))
    usual = [move for move in ordered if move[1] > RAREST_MOVE * status.left]
    return {} if is_final else dict(usual or ordered[:1])


def _label(name: str) -> str:
    words = " ".join(name.replace("_", " ").split())
    return f"{words[0].upper()}{words[1:]}" if words else name


def _lines(content: dict[str, Any], observed: Observed) -> Iterator[str]:
    entities = sum(status.begun for status in observed.statuses)
    yield (
        f"# Drafted from {observed.transitions:,} transitions of "
        f"{entities:,} entities, {observed.first_at:%Y-%m-%d} to "
        f"{observed.last_at:%Y-%m-%d}."
    )
    yield "# What happened is no rule yet: read it, correct it, and set sla_hours."
    yield from (f"{key}: {_scalar(content[key])}" for key in content if key != "steps")
    yield "steps:"
    found = {status.status: status for status in observed.statuses}
    for step in content["steps"]:
        yield from _step_lines(step, found[step["status_name"]])


def _step_lines(step: dict[str, Any], status: ObservedStatus) -> Iterator[str]:
    comments = {"sla_hours": _usual_length(status), "is_final": _how_final(status)}
    allowed = step["allowed_transitions"]
    for key, value in step.items():
        start = "  - " if key == "status_name" else "    "
        if key == "allowed_transitions" and allowed:
            yield f"{start}{key}:{_left_out(status, allowed)}"
            yield from (
                f"      - {_scalar(name)}  # {status.moves[name]:,} times"
                for name in allowed
            )
        else:
            yield f"{start}{key}: {_scalar(value)}{comments.get(key, '')}"


def _usual_length(status: ObservedStatus) -> str:
    if status.usual_hours is None:
        return ""
    # Rounded up, so that nine of ten are within it.
    hours = math.ceil(status.usual_hours * 100) / 100
    return f"  # 9 of 10 stays lasted {hours:,g} h at most, around the clock"


def _how_final(status: ObservedStatus) -> str:
    return f"  # of {status.stays:,} stays {status.left:,} were left"


def _left_out(status: ObservedStatus, allowed: list[str]) -> str:
    rare = [times for name, times in status.moves.items() if name not in allowed]
    if not rare:
        return ""
    return f"  # without {len(rare):,} other statuses, {sum(rare):,} times in all"


def _scalar(value: Any) -> str:
    """A value as YAML has it on one line, in characters that a terminal shows."""
    is_plain = not isinstance(value, str) or value.isprintable()
    text = yaml.safe_dump(
        [value],
        default_style=None if is_plain else '"',
        default_flow_style=False,
        allow_unicode=is_plain,
        width=math.inf,
    )
    return text.removeprefix("- ").removesuffix("\n")
