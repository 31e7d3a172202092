"""What an entry of the platform's audit_logs is: its columns, and the rules of a row.

How one is told beside a transition is decided in dbt.
"""

import dataframely as dy
import polars as pl

from ingest.transition import Event, rules_of, text_is_whole

COLUMNS = (
    "id",
    "created_at",
    "entity_type",
    "entity_id",
    "action",
    "triggered_by_user_id",
    "changes",
)
REQUIRED = ("created_at", "entity_type", "entity_id", "action")
TIMES = ("created_at",)
JSON_COLUMNS = ("changes",)
# As the platform names them: the mapping of a file that comes without one.
MAPPING = {
    "kind": "audit_logs",
    "id": "id",
    "created_at": "created_at",
    "entity_type": "table",
    "entity_id": "record",
    "action": "action",
    "triggered_by_user_id": "user",
    "changes": "changes",
}


class AuditEntry(Event):
    """The rules of an audit entry: those of any event, and its own."""

    action = dy.String(nullable=True)
    changes = dy.String(nullable=True)
    changes_is_object = dy.Bool()

    @dy.rule()
    def action_is_given(cls) -> pl.Expr:
        """The action is there and not empty."""
        return pl.col("action").is_not_null() & (pl.col("action") != "")

    @dy.rule()
    def changes_is_json_object(cls) -> pl.Expr:
        """The changes are a JSON object without repeated keys or NUL."""
        return pl.col("changes_is_object")

    @dy.rule()
    def text_has_no_nul(cls) -> pl.Expr:
        """No text holds a NUL character, which PostgreSQL can't store."""
        return text_is_whole("action")


RULES = rules_of(AuditEntry, COLUMNS)
