"""One batch in one transaction: append() as a library, and what it refuses."""

import random
import string
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from ingest import SourceError, append
from ingest.append import NO_KEYS, Batch, append_batch, explain
from ingest.files.chunks import RowOrigins, SourceRow
from ingest.store.database import Connection
from ingest.transition import COLUMNS
from ingest.validation import validate

AT = "2026-01-01T00:00:00Z"
ID = "00000000-0000-4000-8000-00000000000{}"
# Longer than an index page, and too random to be compressed into one.
LONG = "".join(random.Random(1).choices(string.ascii_letters, k=20_000))


def _row(**changes: Any) -> dict[str, Any]:
    row = {"created_at": AT, "entity_type": "order", "entity_id": "1"}
    return {**row, "to_status": "new", **changes}


def _frame(*rows: dict[str, Any]) -> pl.DataFrame:
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame(list(rows), schema=dict.fromkeys(names, pl.String))


def _stored(connection: Connection, columns: str) -> list[tuple[Any, ...]]:
    return connection.execute(
        f"select {columns} from raw.status_transitions order by batch_id, batch_row"
    ).fetchall()


def _rejected(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select row_number, code, transition_count from raw.rejected_transitions"
        " order by batch_id, row_number"
    ).fetchall()


def test_frame_is_appended_as_one_batch(connection: Connection) -> None:
    frame = _frame(_row(), _row(to_status="paid"), _row(to_status=None))
    assert append(connection, frame, source="shop") == (3, 2, 0, 1)
    assert _stored(connection, "to_status, batch_row") == [("new", 1), ("paid", 2)]
    assert _rejected(connection) == [(3, "to_status_is_given", 1)]
    ledger = connection.execute(
        "select kind, source, file_id, source_row_count, read_count, appended_count,"
        " duplicate_count, rejected_count, cut from raw.batches"
    ).fetchall()
    assert ledger == [("transitions", "shop", None, 3, 3, 2, 0, 1, None)]


def test_every_column_is_stored_as_it_came(connection: Connection) -> None:
    row = {
        "id": ID.format(1),
        "created_at": "2026-01-01T00:00:00.000001+01:00",
        "entity_type": "order",
        "entity_id": str(2**63 - 1),
        "from_status": "",
        "to_status": 'a "b", \\. \\N',
        "transition_reason": "line\n\\.\r\nline",
        "business_context": '{"n": 1.50, "t": "\\"\\\\"}',
        "triggered_by_user_id": ID.format(2),
        "triggered_by_system": " ",
        "sla_deadline": "9999-12-31T23:59:59.999999Z",
        "is_milestone": "false",
        "metadata": "{}",
        "source_order": str(-(2**63)),
    }
    assert append(connection, _frame(row)).appended == 1
    texts = ", ".join(f"{column}::text" for column in COLUMNS)
    (stored,) = _stored(connection, texts)
    assert dict(zip(COLUMNS, stored, strict=True)) == row | {
        "created_at": "2025-12-31 23:00:00.000001+00",
        "sla_deadline": "9999-12-31 23:59:59.999999+00",
    }


def test_typed_frame_and_its_text_are_the_same_rows(connection: Connection) -> None:
    texts = _frame(
        _row(is_milestone="true", business_context='{"a":1}', sla_deadline=AT)
    )
    typed = pl.DataFrame(
        {
            "created_at": [datetime(2026, 1, 1, tzinfo=UTC)],
            "entity_type": ["order"],
            "entity_id": [1],
            "to_status": ["new"],
            "is_milestone": [True],
            "business_context": [{"a": 1}],
            "sla_deadline": [datetime(2026, 1, 1, tzinfo=UTC)],
        }
    )
    assert append(connection, texts) == (1, 1, 0, 0)
    assert append(connection, typed) == (1, 0, 1, 0)


def test_second_append_is_all_duplicates(connection: Connection) -> None:
    frame = _frame(_row(), _row(entity_id="2"))
    assert append(connection, frame) == (2, 2, 0, 0)
    before = _stored(connection, "*")
    assert append(connection, frame) == (2, 0, 2, 0)
    assert _stored(connection, "*") == before


def test_empty_frame_is_a_batch_of_nothing(connection: Connection) -> None:
    assert append(connection, _frame(_row()).clear()) == (0, 0, 0, 0)
    assert _stored(connection, "*") == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        pytest.param({"colour": "red"}, "colour", id="unknown"),
        pytest.param({"row_number": "1"}, "row_number", id="unknown and ours"),
    ],
)
def test_unknown_column_writes_nothing(
    connection: Connection, changes: dict[str, str], name: str
) -> None:
    with pytest.raises(SourceError, match=name):
        append(connection, _frame(_row(**changes)))
    assert connection.execute("select * from raw.batches").fetchall() == []


@pytest.mark.parametrize(
    "name", ["created_at", "entity_type", "entity_id", "to_status"]
)
def test_missing_column_writes_nothing(connection: Connection, name: str) -> None:
    with pytest.raises(SourceError, match=name):
        append(connection, _frame(_row()).drop(name))
    assert connection.execute("select * from raw.batches").fetchall() == []


@pytest.mark.parametrize(
    "value", [pytest.param([1, 2], id="list"), pytest.param(b"\xff", id="bytes")]
)
def test_column_of_a_type_that_is_no_text_is_a_source_error(
    connection: Connection, value: object
) -> None:
    frame = _frame(_row()).with_columns(pl.Series("metadata", [value]))
    with pytest.raises(SourceError, match="metadata"):
        append(connection, frame)


def test_same_id_and_content_in_a_batch_is_a_duplicate(connection: Connection) -> None:
    row = _row(id=ID.format(1))
    assert append(connection, _frame(row, row, row)) == (3, 1, 2, 0)
    assert _stored(connection, "batch_row") == [(1,)]


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": "2026-01-01T00:00:00.000001Z"},
        {"entity_type": "quote"},
        {"entity_id": "2"},
        {"from_status": ""},
        {"to_status": "paid"},
        {"transition_reason": "other"},
        {"business_context": '{"a": 1.0}'},
        {"business_context": None},
        {"triggered_by_user_id": ID.format(9)},
        {"triggered_by_system": "shop"},
        {"sla_deadline": AT},
        {"is_milestone": "false"},
        {"metadata": "{}"},
    ],
    ids=str,
)
@pytest.mark.parametrize("is_split", [False, True], ids=["one batch", "two batches"])
def test_same_id_and_other_content_is_a_conflict(
    connection: Connection, changes: dict[str, str | None], is_split: bool
) -> None:
    first = _row(id=ID.format(1), business_context='{"a": 1.00}')
    second = {**first, **changes}
    if is_split:
        assert append(connection, _frame(first)) == (1, 1, 0, 0)
        assert append(connection, _frame(second)) == (1, 0, 0, 1)
        assert _rejected(connection) == [(1, "id_conflict", 1)]
    else:
        assert append(connection, _frame(first, second)) == (2, 1, 0, 1)
        assert _rejected(connection) == [(2, "id_conflict", 1)]
    assert _stored(connection, "id::text, to_status, from_status, entity_id") == [
        (first["id"], "new", None, 1)
    ]


def test_conflict_names_the_source_row_and_keeps_it(connection: Connection) -> None:
    bad = _row(id="x")
    frame = _frame(bad, _row(id=ID.format(1)), _row(id=ID.format(1), to_status="paid"))
    assert append(connection, frame) == (3, 1, 0, 2)
    assert _rejected(connection) == [(1, "id_is_uuid", 1), (3, "id_conflict", 1)]
    row = connection.execute(
        "select column_name, message, original from raw.rejected_transitions"
        " where code = 'id_conflict'"
    ).fetchone()
    assert row is not None
    assert row[0] is None
    assert "S20" in row[1]
    assert b'"to_status":"paid"' in row[2]


def test_ids_are_compared_without_regard_to_their_case(connection: Connection) -> None:
    lower = "abcdefab-cdef-4bcd-8fab-cdefabcdefab"
    frame = _frame(_row(id=lower), _row(id=lower.upper()))
    assert append(connection, frame) == (2, 1, 1, 0)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"business_context": '{"a": 1e999999}'}, id="number too large"),
        pytest.param({"created_at": "0001-01-01T00:00:00+01:00"}, id="year 0"),
        pytest.param({"sla_deadline": "9999-12-31T23:59:59-01:00"}, id="deadline"),
    ],
)
@pytest.mark.parametrize("place", [0, 3, 6])
def test_row_that_postgresql_can_not_store_is_rejected_alone(
    connection: Connection, changes: dict[str, str], place: int
) -> None:
    rows = [_row(entity_id=str(n)) for n in range(7)]
    rows[place] |= changes
    assert append(connection, _frame(*rows)) == (7, 6, 0, 1)
    assert _rejected(connection) == [(place + 1, "row_is_storable", 1)]
    kept = [(n,) for n in range(7) if n != place]
    assert _stored(connection, "entity_id") == kept


def test_row_from_ahead_of_the_server_is_rejected_and_one_within_reach_is_not(
    connection: Connection,
) -> None:
    (clock,) = connection.execute("select clock_timestamp()").fetchone() or (None,)
    ahead = [clock + timedelta(hours=hours) for hours in (1, 3)]
    frame = _frame(*(_row(created_at=instant.isoformat()) for instant in ahead))
    assert append(connection, frame, max_future=timedelta(hours=2)) == (2, 1, 0, 1)
    assert _rejected(connection) == [(2, "created_at_is_not_ahead", 1)]
    assert append(connection, frame.head(1)) == (1, 0, 0, 1)


def test_status_too_long_for_an_index_is_rejected_alone(
    connection: Connection,
) -> None:
    assert append(connection, _frame(_row(to_status=LONG), _row())) == (2, 1, 0, 1)
    assert _rejected(connection) == [(1, "to_status_is_short", 1)]


def test_long_reason_is_stored_whole(connection: Connection) -> None:
    assert append(connection, _frame(_row(transition_reason=LONG))).appended == 1
    assert _stored(connection, "transition_reason") == [(LONG,)]


def _wide_batch(*rows: dict[str, Any]) -> Batch:
    """A batch whose transitions all come from source row 1."""
    texts = _frame(*[{**dict.fromkeys(COLUMNS), **row} for row in rows])
    texts = texts.with_columns(row_number=pl.lit(1, pl.Int64))
    valid = validate(texts, entity_types=["order"])
    origins = RowOrigins([SourceRow(2, 10, b"the source row", [])], 1)
    rejects = explain(valid.defects, origins)
    return Batch(valid.good, rejects, origins, NO_KEYS, "wide", 1)


def test_unstorable_transition_takes_its_whole_source_row_along(
    connection: Connection,
) -> None:
    batch = _wide_batch(_row(), _row(metadata='{"a":1e999999}'), _row(entity_id="2"))
    assert append_batch(connection, batch) == (3, 0, 0, 3)
    assert _rejected(connection) == [(1, "row_is_storable", 3)]
    assert _stored(connection, "*") == []


def test_transitions_are_in_the_order_of_their_source(connection: Connection) -> None:
    rows = [_row(entity_id=str(n), created_at=_minute(-n)) for n in range(50)]
    append(connection, _frame(*rows))
    assert _stored(connection, "entity_id, batch_row") == [
        (n, n + 1) for n in range(50)
    ]


def _minute(number: int) -> str:
    return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)).isoformat()


def test_failed_batch_leaves_nothing_behind(connection: Connection) -> None:
    batch = _wide_batch(_row())
    with pytest.raises(Exception, match="batches_file_id_fkey"):
        append_batch(connection, batch._replace(file_id=404, file_batch=0))
    assert _stored(connection, "*") == []
    assert append_batch(connection, batch) == (1, 1, 0, 0)


def test_type_added_by_a_deployment_is_known(connection: Connection) -> None:
    row = _row(entity_type="parcel")
    assert append(connection, _frame(row)) == (1, 0, 0, 1)
    connection.execute("insert into raw.entity_types values ('parcel', 12)")
    assert append(connection, _frame(row)) == (1, 1, 0, 0)
