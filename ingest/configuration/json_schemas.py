"""The JSON Schema of each kind of configuration file: its keys, what they take.

The checks read them as well: run as a module, this writes each to <kind>.schema.json
beside it. What a schema can't say is checked where a kind is.
"""

import json
from pathlib import Path
from typing import Any

from ingest.configuration.calendars import (
    FIRST_YEAR,
    LAST_YEAR,
    WEEKDAYS,
    WINDOW_PATTERN,
)
from ingest.configuration.schema_checks import NAME, Schema, key, list_of, mapping_of
from ingest.transition import LONGEST_STATUS, TYPE_PATTERN, UUID_PATTERN

# A century; within it microseconds are exact.
LONGEST_HOURS = 1_000_000
DATE_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
# What a calendar file may leave out.
CALENDAR_DEFAULTS: dict[str, Any] = {
    "holidays": None,
    "closed_dates": [],
    "special_dates": {},
    "covers": [FIRST_YEAR, LAST_YEAR],
}
# What stands for all other statuses of a workflow.
ANY = "any"
# What a channel of alerts may leave out.
CHANNEL_DEFAULTS: dict[str, Any] = {
    "entity_types": [],
    "business_entities": [],
    "roles": [],
    "stages": [],
    "calendar": None,
    "digest_above": 5,
    "pipeline_alerts": False,
    "is_active": True,
}
# What a target may leave out.
TARGET_DEFAULTS: dict[str, Any] = {
    "workflow": None,
    "status": None,
    "business_entity": None,
    "notify": [],
}
# The stages that every stay with a deadline has.
AT_RISK, BREACHED = "at_risk", "breached"
_FLAG = {"type": "boolean"}
_STATUS = {**NAME, "maxLength": LONGEST_STATUS}
_OBJECT = {"type": "object"}
_UUID = {
    "type": "string",
    # As they are stored: in lower case.
    "pattern": UUID_PATTERN.replace("A-F", ""),
    "examples": ["729ed482-9c14-4980-99f6-7aa66bbbbdb6"],
}
_DATE = {"type": "string", "pattern": DATE_PATTERN, "examples": ["2026-12-24"]}
_WINDOWS = list_of(
    {"type": "string", "pattern": WINDOW_PATTERN, "examples": ["09:00-17:00"]}
)
_HOURS = {"type": "number", "minimum": 0, "maximum": LONGEST_HOURS}
_CONTEXT_KEY = key(
    {**NAME, "examples": ["order_id"]},
    "The key of the business context that names the parent, by its id or its text key.",
)
_REACHED = list_of(_STATUS, minItems=1)
RULE = mapping_of(
    {
        "to": key(_STATUS, "Where it goes: a status that may follow this one (S19)."),
        "append": key(
            _FLAG,
            "Whether the move is made; false proposes it to people and makes none.",
        ),
        "after_hours": key(
            _HOURS,
            "Hours from entering the status on, with at most six decimals.",
        ),
        "clock": key(
            {"type": "string", "enum": ["business", "elapsed"]},
            "Which hours: business time of the workflow's calendar, the default, or "
            "elapsed time.",
        ),
        "when_context": key(
            {"type": "object", "minProperties": 1},
            "What the entity's business context contains: of each of its keys the last "
            "value that its transitions told.",
        ),
        "when_children": key(
            mapping_of(
                {
                    "entity_type": key(NAME, "Their type."),
                    "context_key": _CONTEXT_KEY,
                    "all": key(
                        _REACHED,
                        "There is one at least, and each has reached one of these "
                        "statuses, be it there still or not.",
                    ),
                    "any": key(_REACHED, "One at least has reached one of these."),
                },
                optional=("all", "any"),
            ),
            "What its children have reached; either all or any.",
        ),
        "when_parent": key(
            mapping_of(
                {
                    "entity_type": key(NAME, "Its type."),
                    "context_key": _CONTEXT_KEY,
                    "reached": key(
                        _REACHED,
                        "Statuses of which it has reached one, be it there still or "
                        "not.",
                    ),
                }
            ),
            "What its parent has reached.",
        ),
    },
    optional=(
        "after_hours",
        "clock",
        "when_context",
        "when_children",
        "when_parent",
    ),
)
_STAGE_NAME = {
    "type": "string",
    "pattern": "^[a-z][a-z0-9_]*$",
    "maxLength": 63,
    "examples": ["escalated"],
}
_STAGE = mapping_of(
    {
        "name": key(_STAGE_NAME, "Its name; not at_risk or breached, which all have."),
        "hours_before": key(
            _HOURS, "Hours of business time before the deadline; or hours_after."
        ),
        "hours_after": key(
            _HOURS, "Hours of business time after the deadline; or hours_before."
        ),
        "notify": key(
            list_of(NAME), "The roles that are told; those of the step by default."
        ),
    },
    optional=("hours_before", "hours_after", "notify"),
)
_NOTIFICATIONS = {
    "at_risk_hours": key(
        _HOURS,
        "Hours of business time before its deadline from which a stay is at risk.",
        or_null=True,
    ),
    "notify": key(list_of(NAME), "The roles that alerts about it are for."),
    "stages": key(
        list_of(_STAGE), "Further alerts, at other times before or after the deadline."
    ),
}
STEP = mapping_of(
    {
        "status_name": key(_STATUS, "The status, as transitions name it."),
        "status_label": key(NAME, "The status, as people read it."),
        "status_color": key(
            {
                "type": "string",
                "pattern": "^#[0-9a-fA-F]{6}$",
                "examples": ["#2563eb"],
            },
            "Its colour, in quotes: a bare # begins a comment in YAML.",
        ),
        "step_order": key(
            {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
            "Its place; the lowest is the first status.",
        ),
        "allowed_transitions": key(
            {
                **list_of(_STATUS),
                "type": ["string", "array"],
                "pattern": f"^{ANY}$",
                "examples": [ANY],
            },
            "Statuses of this workflow that may follow it (S19): a list, or the text "
            "any for all of them.",
        ),
        "sla_hours": key(
            {"type": "number", "minimum": 0, "maximum": LONGEST_HOURS},
            "Hours from entering the status to its deadline, in the calendar's "
            "business time, with at most six decimals; null for no SLA (S10).",
            or_null=True,
        ),
        "requires_approval": key(_FLAG, "Whether a user with a role must approve it."),
        "approval_role": key(
            NAME, "The role that approves; null where none must.", or_null=True
        ),
        "auto_transition_conditions": key(
            mapping_of(
                {
                    "rules": key(
                        list_of(RULE),
                        "The conditions of a rule hold together; the first rule that "
                        "holds decides.",
                    )
                },
                optional=("rules",),
            ),
            "By which rules it is moved on without anybody; {} for none.",
        ),
        "notification_settings": key(
            mapping_of(_NOTIFICATIONS, optional=tuple(_NOTIFICATIONS)),
            "Whom alerts about it go to, and when.",
        ),
        "is_final": key(_FLAG, "Whether its clock stands still for good (S14)."),
        "is_waiting": key(
            _FLAG,
            "Whether others are waited for in it, a customer or a supplier; false by "
            "default. It stops no clock; entity_journeys tells it from touch time.",
        ),
    },
    optional=("is_waiting",),
)
WORKFLOW = mapping_of(
    {
        "entity_type": key(NAME, "A name in raw.entity_types."),
        "workflow_name": key(NAME, "Its name among those of its entity type."),
        "business_entity": key(
            NAME,
            "The name of the business entity that it is for; null for all (S8).",
            or_null=True,
        ),
        "is_default": key(
            _FLAG, "Whether it wins among equally specific ones (S8); one may."
        ),
        "is_active": key(
            _FLAG, "Whether it binds new entities; false retires it (S7)."
        ),
        "conditions": key(
            _OBJECT, "What the business context of a first transition contains (S8)."
        ),
        "calendar": key(
            NAME,
            "The calendar in whose business time hours count; null for elapsed time.",
            or_null=True,
        ),
        "steps": key(list_of(STEP, minItems=1), "Its statuses."),
    }
)
CALENDAR = mapping_of(
    {
        "calendar_name": key(
            {"type": "string", "pattern": "^[^/]+$", "examples": ["office_nl"]},
            "The name by which workflow files know it, without a slash.",
        ),
        "timezone": key(
            {**NAME, "examples": ["Europe/Amsterdam"]},
            "The IANA zone in which its hours and dates are meant (S12).",
        ),
        "windows": key(
            mapping_of(
                {
                    day: key(
                        _WINDOWS,
                        "Opening hours; past midnight they belong to the day they open "
                        "on. Left out, it is closed.",
                    )
                    for day in WEEKDAYS
                },
                optional=WEEKDAYS,
            ),
            "Opening hours by weekday; they may touch, not overlap (S12).",
        ),
        "holidays": key(
            mapping_of(
                {
                    "country": key(
                        {**NAME, "examples": ["NL"]}, "ISO 3166 code of the country."
                    ),
                    "subdivision": key(
                        NAME, "Code of its province or state.", or_null=True
                    ),
                },
                optional=("subdivision",),
            ),
            "Whose public holidays are closed; null for none, the default.",
            or_null=True,
        ),
        "closed_dates": key(list_of(_DATE), "Further closed dates; none by default."),
        "special_dates": key(
            {
                "type": "object",
                "propertyNames": _DATE,
                "additionalProperties": _WINDOWS,
            },
            "Dates with hours of their own, instead of their weekday's or a holiday's.",
        ),
        "covers": key(
            {
                "type": "array",
                "items": {"type": "integer", "minimum": 1900, "maximum": 2200},
                "minItems": 2,
                "maxItems": 2,
            },
            f"First and last year; [{FIRST_YEAR}, {LAST_YEAR}] by default.",
        ),
    },
    optional=tuple(CALENDAR_DEFAULTS),
)
ENTITY_TYPES = mapping_of(
    {
        "entity_types": key(
            list_of(
                mapping_of(
                    {
                        "name": key(
                            {
                                "type": "string",
                                "pattern": TYPE_PATTERN,
                                "maxLength": 63,
                                "examples": ["incident"],
                            },
                            "As transitions and the other files name it.",
                        ),
                        "label": key(NAME, "The name for people."),
                    }
                )
            ),
            "Kinds of entities, beside those that every database has.",
        )
    }
)
BUSINESS_ENTITIES = mapping_of(
    {
        "business_entities": key(
            list_of(
                mapping_of(
                    {
                        "id": key(
                            _UUID, "As business_context.business_entity_id names it."
                        ),
                        "name": key(NAME, "As the other files name it."),
                    }
                )
            ),
            "The parties that a workflow or a transition can name.",
        )
    }
)
USER_ACCOUNTS = mapping_of(
    {
        "user_accounts": key(
            list_of(
                mapping_of(
                    {
                        "id": key(_UUID, "As triggered_by_user_id names them."),
                        "name": key(NAME, "Their name."),
                        "roles": key(list_of(NAME), "What they may approve as (S19)."),
                        "business_entity": key(
                            NAME, "Whom they work for; null for none.", or_null=True
                        ),
                        "is_active": key(_FLAG, "Whether their roles count."),
                    }
                )
            ),
            "Who triggers and approves transitions.",
        )
    }
)
ALERT_CHANNELS = mapping_of(
    {
        "alert_channels": key(
            list_of(
                mapping_of(
                    {
                        "name": key(NAME, "Its name, by which deliveries know it."),
                        "address_variable": key(
                            {
                                "type": "string",
                                "pattern": "^[A-Z_][A-Z0-9_]*$",
                                "examples": ["ALERTS_PLANNING"],
                            },
                            "The environment variable that holds its address, as "
                            "Apprise writes addresses.",
                        ),
                        "entity_types": key(
                            list_of(NAME), "Only alerts of these; all by default."
                        ),
                        "business_entities": key(
                            list_of(NAME),
                            "Only alerts of entities of these, by name; all by "
                            "default.",
                        ),
                        "roles": key(
                            list_of(NAME),
                            "Only alerts that are for one of these, by notify of the "
                            "step; all by default.",
                        ),
                        "stages": key(
                            list_of(_STAGE_NAME), "Only these stages; all by default."
                        ),
                        "calendar": key(
                            NAME,
                            "It is silent outside this calendar's windows; null for "
                            "never, the default.",
                            or_null=True,
                        ),
                        "digest_above": key(
                            {"type": "integer", "minimum": 0, "maximum": 1000},
                            "More alerts than these at once are one message; 5 by "
                            "default.",
                        ),
                        "pipeline_alerts": key(
                            _FLAG,
                            "Whether it gets what befalls the pipeline; false by "
                            "default.",
                        ),
                        "is_active": key(
                            _FLAG, "Whether it gets anything; true by default."
                        ),
                    },
                    optional=tuple(CHANNEL_DEFAULTS),
                )
            ),
            "Where alerts go.",
        )
    }
)
TARGETS = mapping_of(
    {
        "targets": key(
            list_of(
                mapping_of(
                    {
                        "name": key(
                            NAME, "Its name; with another effective_from it changes."
                        ),
                        "entity_type": key(NAME, "Of which stays: of these entities."),
                        "workflow": key(
                            NAME,
                            "Only under the workflow of this name; null for all, the "
                            "default.",
                            or_null=True,
                        ),
                        "status": key(
                            _STATUS,
                            "Only in this status; null for all, the default.",
                            or_null=True,
                        ),
                        "business_entity": key(
                            NAME,
                            "Only of entities of this one, by name; null for all, the "
                            "default.",
                            or_null=True,
                        ),
                        "at_least": key(
                            {
                                "type": "number",
                                "minimum": 1,
                                "maximum": 100,
                                "examples": [95],
                            },
                            "Compliance (S21) in percent, with at most four decimals; "
                            "null ends the target.",
                            or_null=True,
                        ),
                        "effective_from": key(
                            _DATE,
                            "The UTC day from which on it holds, for stays that are "
                            "decided from then on.",
                        ),
                        "notify": key(
                            list_of(NAME), "The roles that its signals are for."
                        ),
                    },
                    optional=tuple(TARGET_DEFAULTS),
                )
            ),
            "Shares of deadlines that are to be met.",
        )
    }
)
KINDS: dict[str, Schema] = {
    "workflow": WORKFLOW,
    "calendar": CALENDAR,
    "entity_types": ENTITY_TYPES,
    "business_entities": BUSINESS_ENTITIES,
    "user_accounts": USER_ACCOUNTS,
    "alert_channels": ALERT_CHANNELS,
    "targets": TARGETS,
}


def json_schema(kind: str) -> Schema:
    """The published JSON Schema of a kind of file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.replace("_", " ").capitalize(),
        **KINDS[kind],
    }


if __name__ == "__main__":
    for _kind in KINDS:
        _path = Path(__file__).with_name(f"{_kind}.schema.json")
        _path.write_text(json.dumps(json_schema(_kind), indent=2) + "\n")
