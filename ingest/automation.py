"""Moves that rules of workflows make without anybody, recorded one by one.

Which entities a rule moves is derived by dbt; what is judged of a move, by `record`.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ingest.errors import ConflictError, RefusedError
from ingest.identity import content_uuid
from ingest.record import record
from ingest.store.database import Connection, server_clock

SYSTEM = "automation"
# The transition, and the one that it must follow; in the order of S2.
LAST_TWO = """
select id from raw.status_transitions
where entity_type = %s and entity_id = %s
order by created_at desc, source_order desc, batch_id desc, batch_row desc
limit 2
"""


class Move(NamedTuple):
    """An entity that a rule moves on from a stay, and what was seen of it.

    last_transition_id: of the entity, when the rule was seen to hold.
    metadata: of the rule and of what held, as it is to be kept.
    """

    entity_type: str
    entity_id: int
    status: str
    visit: int
    last_transition_id: uuid.UUID
    to_status: str
    reason: str
    metadata: Mapping[str, Any]

    @property
    def transition_id(self) -> str:
        """The same for every run that sees this stay: it is left by rule once."""
        of_stay = self.entity_type, str(self.entity_id), self.status, str(self.visit)
        return content_uuid((SYSTEM, *of_stay))


class Moved(NamedTuple):
    """How many moves were appended, and how many refused, by code."""

    appended: int
    refused: Counter[str]


def append_moves(connection: Connection, moves: Iterable[Move]) -> Moved:
    """Record each move in a transaction of its own; safe to run twice or side by side.

    Args:
        connection: open, outside a transaction, read committed.
        moves: of entities that differ.

    Returns:
        Counts of moves. What is refused is written nowhere: its entity moved on since
        (`moved_on`, or a code of `record`), or the move is not legal.
    """
    appended, refused = 0, Counter[str]()
    for move in moves:
        try:
            _append(connection, move)
        except RefusedError as error:
            refused[error.code] += 1
        else:
            appended += 1
    return Moved(appended, refused)


def _append(connection: Connection, move: Move) -> None:
    """Record a move where the entity is as it was seen, or nothing.

    Raises:
        RefusedError: it is not, or `record` refuses it.
    """
    entity = move.entity_type, move.entity_id
    with connection.transaction():
        recorded = record(
            connection,
            entity_type=move.entity_type,
            entity_id=move.entity_id,
            to_status=move.to_status,
            expected_status=move.status,
            # Given, so that the same move of another process has other content.
            created_at=server_clock(connection),
            transition_reason=move.reason,
            triggered_by_system=SYSTEM,
            metadata=move.metadata,
            id=move.transition_id,
            source=SYSTEM,
        )
        # It may have left the status and come back: that is another stay.
        last_two = connection.execute(LAST_TWO, entity).fetchall()
        if last_two != [(recorded.id,), (move.last_transition_id,)]:
            msg = f"Refused (moved_on): {entity[0]} {entity[1]} moved on meanwhile."
            raise ConflictError("moved_on", msg)
