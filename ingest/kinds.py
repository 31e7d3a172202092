"""The kinds of input: transitions, and entries of audit logs.

What a row of one is, and its rules, belong in transition.py and audit_entry.py.
"""

from typing import NamedTuple

import dataframely as dy

from ingest import audit_entry, transition


class Kind(NamedTuple):
    """What validation, batches and replays need to know of a kind of rows.

    name: as `raw.batches.kind` and mappings say it; noun: in words; schema, rules: what
    must hold, by the codes of rejects; table: of schema raw, with a column of each
    name; told: the column of which a preview counts values; mark: begins the texts that
    ids are made of, so that those of two kinds are never the same.
    """

    name: str
    noun: str
    columns: tuple[str, ...]
    required: tuple[str, ...]
    times: tuple[str, ...]
    json_columns: tuple[str, ...]
    schema: type[dy.Schema]
    rules: dict[str, str]
    table: str
    told: str
    mark: str = ""

    @property
    def content(self) -> tuple[str, ...]:
        """What makes a row the same as another that came without an id, too (S20)."""
        return tuple(c for c in self.columns if c not in ("id", "source_order"))


TRANSITIONS = Kind(
    "transitions",
    "transitions",
    transition.COLUMNS,
    transition.REQUIRED,
    transition.TIMES,
    transition.JSON_COLUMNS,
    transition.Transition,
    transition.RULES,
    "status_transitions",
    "to_status",
)
AUDIT_LOGS = Kind(
    "audit_logs",
    "audit entries",
    audit_entry.COLUMNS,
    audit_entry.REQUIRED,
    audit_entry.TIMES,
    audit_entry.JSON_COLUMNS,
    audit_entry.AuditEntry,
    audit_entry.RULES,
    "audit_entries",
    "action",
    mark="audit\x00",
)
KINDS = {kind.name: kind for kind in (TRANSITIONS, AUDIT_LOGS)}
# Columns and codes of any kind.
COLUMNS = tuple(dict.fromkeys((*TRANSITIONS.columns, *AUDIT_LOGS.columns)))
CODES = {**transition.CODES, **audit_entry.RULES}


def column_of(code: str) -> str | None:
    """The column that a code of any kind speaks of; None where it is the whole row."""
    return transition.column_of(code, COLUMNS)
