"""One live transition: its values checked, then raw.record_transition called.

How a transition is judged and appended belongs in migrations/versions/0003_record.sql;
what bulk ingestion appends unjudged belongs in append.py.
"""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, Literal, NamedTuple

import polars as pl
import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import args_row

from ingest.errors import (
    ApprovalError,
    ConflictError,
    IllegalTransitionError,
    MalformedTransitionError,
    RefusedError,
)
from ingest.identity import content_uuid
from ingest.json_text import canonical_json
from ingest.kinds import TRANSITIONS
from ingest.store.database import Connection
from ingest.transition import (
    CODES,
    COLUMNS,
    JSON_COLUMNS,
    LONGEST_STATUS,
    TIMES,
    TYPE_PATTERN,
    UUID_PATTERN,
    column_of,
)
from ingest.validation import validate


class Unset(Enum):
    """Says that no status was given, where None says that there is none yet."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class Recorded(NamedTuple):
    """The row, and what its stay is under (S9, S10).

    workflow_*, step_id, sla_deadline and deadline_source are what
    sla.status_intervals has for the stay that it opened, or continued by a
    self-transition; all null where no workflow binds the entity. Instants in UTC.
    """

    id: uuid.UUID
    created_at: datetime
    from_status: str | None
    to_status: str
    batch_id: int
    workflow_id: uuid.UUID | None
    workflow_name: str | None
    step_id: uuid.UUID | None
    sla_deadline: datetime | None
    deadline_source: Literal["explicit", "workflow"] | None


# What raw.refuse raises.
REFUSED = "SE001"
KINDS: dict[str, type[RefusedError]] = {
    "unknown_status": IllegalTransitionError,
    "illegal_transition": IllegalTransitionError,
    "left_final": IllegalTransitionError,
    "unknown_user": ApprovalError,
    "missing_approval": ApprovalError,
    "wrong_role": ApprovalError,
    "expected_status": ConflictError,
    "concurrent_writer": ConflictError,
    "created_at_is_earlier": ConflictError,
    "id_conflict": ConflictError,
    "isolation_level": RefusedError,
}
# What an entity comes from is not the caller's to say.
UNSAID = ("from_status", "source_order")
STORED = tuple(column for column in COLUMNS if column not in UNSAID)
CALL = "select * from raw.record_transition({})".format(
    ", ".join(
        f"{name} => %({name})s"
        for name in (*STORED, "expected_status", "is_first", "source")
    )
)

UUIDS = ("id", "triggered_by_user_id")
REQUIRED = {"entity_type", "entity_id", "to_status"}
# Texts that `validate` is sure to pass, at a thousandth of its time (10 ms a row); all
# others it decides. Lone surrogates and NUL are in none of them.
_TEXT = r"[^\x00\ud800-\udfff]"
_INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00"
SURE: dict[str, re.Pattern[str]] = {
    "id": re.compile(UUID_PATTERN),
    "created_at": re.compile(_INSTANT),
    "entity_type": re.compile(TYPE_PATTERN),
    "entity_id": re.compile(r"0|[1-9][0-9]{0,17}"),
    "to_status": re.compile(f"{_TEXT}{{1,{LONGEST_STATUS}}}"),
    "transition_reason": re.compile(f"{_TEXT}*"),
    "triggered_by_user_id": re.compile(UUID_PATTERN),
    "triggered_by_system": re.compile(f"{_TEXT}*"),
    "sla_deadline": re.compile(_INSTANT),
    "is_milestone": re.compile("true|false"),
}


def record(
    connection: Connection,
    *,
    entity_type: str,
    entity_id: int,
    to_status: str,
    expected_status: str | Unset | None = UNSET,
    created_at: datetime | None = None,
    transition_reason: str | None = None,
    business_context: Mapping[str, Any] | str | None = None,
    triggered_by_user_id: uuid.UUID | str | None = None,
    triggered_by_system: str | None = None,
    sla_deadline: datetime | None = None,
    is_milestone: bool | None = None,
    metadata: Mapping[str, Any] | str | None = None,
    id: uuid.UUID | str | None = None,
    source: str = "record",
) -> Recorded:
    """Record that an entity goes to a status now; safe to call twice with the same id.

    It waits for other recordings of this entity only; bulk ingestion is not waited for.

    Args:
        connection: outside a transaction, where this is one of its own, in autocommit
            of one round trip; or in one that is read committed: the row is then the
            caller's to commit, and after a refusal the transaction goes on as if it
            had not been tried. The entity is held to its end.
        entity_type: one of raw.entity_types.
        entity_id: 0 to 2^63-1.
        to_status: where it goes; the status it is in becomes from_status.
        expected_status: the status that the entity must be in, None for none yet.
        created_at: when, with a zone; the database's clock by default. Not before the
            entity's last transition, at most MAX_FUTURE ahead.
        transition_reason: why, in words.
        business_context: a JSON object; as text it keeps the digits of its numbers.
        triggered_by_user_id: who did it; approves it, unless the context names another.
        triggered_by_system: what did it.
        sla_deadline: goes before the workflow's hours (S10), with a zone.
        is_milestone: kept as it is.
        metadata: as business_context; nothing is derived from it.
        id: of the transition. Without it, a given created_at makes it follow from the
            content, as in a file; else it is random.
        source: the caller's name, kept in the ledger.

    Returns:
        The row as it is stored; the one from before, where it was recorded already.

    Raises:
        MalformedTransitionError: a value breaks a rule of a transition.
        IllegalTransitionError: the workflow in force does not allow it (S19).
        ApprovalError: a user is unknown, or no user with the step's role approved.
        ConflictError: the entity is not in expected_status, or moved on since the call
            began, or has a later transition, or the id has other content.
        RefusedError: the transaction is not read committed.
            In every case nothing is written.
    """
    given = locals()
    texts = {c: _text(c, given[c]) for c in STORED if given[c] is not None}
    values = dict.fromkeys(STORED) | _well_formed(texts)
    call = {
        **values,
        "expected_status": None if expected_status is UNSET else expected_status,
        "is_first": expected_status is None,
        "source": source,
    }
    with _refusals(values), _transaction(connection):
        cursor = connection.cursor(row_factory=args_row(_recorded))
        recorded = cursor.execute(CALL, call, prepare=True).fetchone()
    assert recorded is not None
    return recorded


def _transaction(connection: Connection) -> AbstractContextManager[object]:
    """A savepoint in the caller's; none where the statement is one by itself."""
    is_idle = connection.info.transaction_status == TransactionStatus.IDLE
    if is_idle and connection.autocommit:
        return nullcontext()
    return connection.transaction()


@contextmanager
def _refusals(values: Mapping[str, Any]) -> Iterator[None]:
    """What the database says against a call, as the error that it is."""
    try:
        yield
    except (psycopg.DataError, psycopg.IntegrityError, UnicodeEncodeError) as error:
        reason = str(error).partition("\n")[0]
        msg = f"Refused (row_is_storable): PostgreSQL can't store it: {reason}."
        raise MalformedTransitionError("row_is_storable", msg) from error
    except psycopg.DatabaseError as error:
        if error.sqlstate != REFUSED:
            raise
        code, sentence = error.diag.constraint_name, error.diag.message_primary
        assert code is not None
        if code not in KINDS:
            raise _malformed(code, values) from error
        raise KINDS[code](code, sentence or code) from error


def _recorded(*values: Any) -> Recorded:
    """Of a row; instants in UTC, whatever the session's zone."""
    return Recorded._make(
        v.astimezone(UTC) if isinstance(v, datetime) else v for v in values
    )


def _well_formed(texts: Mapping[str, str]) -> dict[str, str]:
    """The texts that are stored, of those that are given.

    Raises:
        MalformedTransitionError: `validate` refuses them.
    """
    sure = {c: _surely_sound(c, text) for c, text in texts.items()}
    found = {c: text for c, text in sure.items() if text is not None}
    if len(found) < len(texts) or not found.keys() >= REQUIRED:
        return _validated(texts)
    if "created_at" in found and "id" not in found:
        columns = TRANSITIONS.content
        found["id"] = content_uuid(_content(c, found.get(c)) for c in columns)
    return found


def _surely_sound(column: str, text: str) -> str | None:
    """The text that is stored, where that is plain to see."""
    if column in JSON_COLUMNS:
        return canonical_json(text)
    if not SURE[column].fullmatch(text):
        return None
    return text.lower() if column in UUIDS else text


def _content(column: str, text: str | None) -> str | None:
    return text and text.removesuffix("+00:00") if column in TIMES else text


def _validated(texts: Mapping[str, str]) -> dict[str, str]:
    """What the one validator makes of a row.

    Raises:
        MalformedTransitionError: it refuses the row.
    """
    row = {"row_number": 1, "created_at": "1970-01-01T00:00:00Z", **texts}
    schema = {"row_number": pl.Int64, **dict.fromkeys(COLUMNS, pl.String)}
    try:
        frame = pl.DataFrame([row], schema=schema)
    except UnicodeEncodeError as error:
        raise _malformed("row_is_utf8", texts) from error
    # Whether the type is known, the database says.
    good, defects = validate(frame, entity_types=[texts.get("entity_type", "")])
    if defects.height:
        raise _malformed(defects["code"][0], texts)
    stored = good.row(0, named=True)
    # An id that follows from the content needs the instant, too.
    names = {*texts, "id"} if "created_at" in texts else texts
    return {c: _text(c, stored[c]) for c in names}


def _text(column: str, value: Any) -> str:
    """The text that `validate` reads.

    Raises:
        MalformedTransitionError: it has none: an instant before year 1 or after 9999
            in UTC, or an object that JSON can't say.
    """
    try:
        if isinstance(value, datetime):
            in_utc = value.astimezone(UTC) if value.tzinfo else value
            return in_utc.isoformat(timespec="microseconds")
        if isinstance(value, Mapping):
            return json.dumps(dict(value), ensure_ascii=False)
    except OverflowError as error:
        raise _malformed(f"{column}_is_instant", {}) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise _malformed(f"{column}_is_json_object", {}) from error
    return str(value).lower() if isinstance(value, bool) else str(value)


def _malformed(code: str, texts: Mapping[str, Any]) -> MalformedTransitionError:
    column = column_of(code)
    value = f"{column} {texts.get(column)!r}: " if column and column in texts else ""
    return MalformedTransitionError(code, f"Refused ({code}): {value}{CODES[code]}")
