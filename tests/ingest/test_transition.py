"""The rules of a row, and identities that never vary."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from ingest.identity import key_to_bigint, key_to_uuid
from ingest.instants import Fold, Gap, LocalTimes, parse_time
from ingest.transition import CODES, COLUMNS, RULES, column_of
from ingest.validation import Validated, validate

GOOD: dict[str, str | None] = {
    "id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "created_at": "2026-03-01T09:30:00.123456+01:00",
    "entity_type": "order",
    "entity_id": "42",
    "from_status": "new",
    "to_status": "paid",
    "transition_reason": "paid in full",
    "business_context": '{"b": 1.50, "a": [true, null]}',
    "triggered_by_user_id": "7C9E6679-7425-40DE-944B-E07FC1F90AE7",
    "triggered_by_system": "billing",
    "sla_deadline": "2026-03-02 00:00:00Z",
    "is_milestone": "t",
    "metadata": "{}",
    "source_order": "-7",
}
NEW_YORK = {"times": LocalTimes("America/New_York")}

SAO_PAULO = {"times": LocalTimes("America/Sao_Paulo")}

# rule: the change to GOOD that breaks it alone, and how the row is read.
BROKEN: list[tuple[str, dict[str, str | None], dict[str, Any]]] = [
    ("id_is_uuid", {"id": "42"}, {}),
    ("id_is_uuid", {"id": ""}, {}),
    ("id_is_uuid", {"id": "0f8fad5bd9cb469fa16570867728950e"}, {}),
    ("id_is_uuid", {"id": "0f8fad5b-d9cb-469f-a165-70867728950e\n"}, {}),
    ("created_at_is_given", {"created_at": None}, {}),
    ("created_at_is_instant", {"created_at": ""}, {}),
    ("created_at_is_instant", {"created_at": "yesterday"}, {}),
    ("created_at_is_instant", {"created_at": "2026-02-29T00:00:00Z"}, {}),
    ("created_at_is_instant", {"created_at": "2026-01-01T24:00:00Z"}, {}),
    ("created_at_is_instant", {"created_at": "2026-01-01T00:00:60Z"}, {}),
    ("created_at_is_instant", {"created_at": "2026-01-01T00:00:00.1234567Z"}, {}),
    ("created_at_is_instant", {"created_at": "2026-01-01Z"}, {}),
    ("created_at_is_instant", {"created_at": "2026-01"}, {}),
    ("created_at_is_instant", {"created_at": "2026-01-01T"}, {}),
    ("created_at_is_instant", {"created_at": "2026-01-01T10"}, {}),
    ("created_at_is_instant", {"created_at": "2026-01-01T10:00[CEST]"}, {}),
    ("created_at_is_instant", {"created_at": "2026-01-01T10:00[CEST]"}, NEW_YORK),
    ("created_at_is_instant", {"created_at": "2026-01-01T10:00[Factory]"}, {}),
    ("created_at_is_instant", {"created_at": "2026-01-01[Asia/Tokyo]"}, {}),
    ("created_at_is_instant", {"created_at": "0000-01-01T00:00:00Z"}, {}),
    ("created_at_is_instant", {"created_at": " 2026-01-01T00:00:00Z"}, {}),
    ("created_at_is_instant", {"created_at": "2026-01-01T00:00:00+16:00"}, {}),
    ("created_at_has_offset", {"created_at": "2026-01-01T00:00:00"}, {}),
    ("created_at_has_offset", {"created_at": "2026-01-01"}, {}),
    ("created_at_exists_once", {"created_at": "2018-11-04"}, SAO_PAULO),
    (
        "created_at_exists_once",
        {"created_at": "2026-03-29T02:30[Europe/Paris]"},
        NEW_YORK,
    ),
    ("created_at_exists_once", {"created_at": "2026-03-08T02:30:00"}, NEW_YORK),
    ("created_at_exists_once", {"created_at": "2026-11-01T01:30:00"}, NEW_YORK),
    ("entity_type_is_known", {"entity_type": "parcel"}, {}),
    ("entity_type_is_known", {"entity_type": None}, {}),
    ("entity_type_is_known", {"entity_type": "Order"}, {}),
    ("entity_id_is_bigint", {"entity_id": None}, {}),
    ("entity_id_is_bigint", {"entity_id": "-1"}, {}),
    ("entity_id_is_bigint", {"entity_id": "01"}, {}),
    ("entity_id_is_bigint", {"entity_id": "1.0"}, {}),
    ("entity_id_is_bigint", {"entity_id": "+1"}, {}),
    ("entity_id_is_bigint", {"entity_id": " 1"}, {}),
    ("entity_id_is_bigint", {"entity_id": "9223372036854775808"}, {}),
    ("to_status_is_given", {"to_status": None}, {}),
    ("to_status_is_given", {"to_status": ""}, {}),
    (
        "created_at_is_not_ahead",
        {"created_at": "2026-11-01T00:00:00.000001Z"},
        {"latest": datetime(2026, 11, 1, tzinfo=UTC)},
    ),
    ("to_status_is_short", {"to_status": "é" * 256}, {}),
    ("business_context_is_json_object", {"business_context": "[]"}, {}),
    ("business_context_is_json_object", {"business_context": ""}, {}),
    ("triggered_by_user_id_is_uuid", {"triggered_by_user_id": "Ann"}, {}),
    ("sla_deadline_is_instant", {"sla_deadline": "soon"}, {}),
    ("sla_deadline_has_offset", {"sla_deadline": "2026-01-01T00:00:00"}, {}),
    ("sla_deadline_exists_once", {"sla_deadline": "2026-03-08T02:00:00"}, NEW_YORK),
    ("sla_deadline_exists_once", {"sla_deadline": "2026-11-01 01:00:00"}, NEW_YORK),
    ("is_milestone_is_boolean", {"is_milestone": "yes"}, {}),
    ("is_milestone_is_boolean", {"is_milestone": "1"}, {}),
    ("metadata_is_json_object", {"metadata": "null"}, {}),
    ("source_order_is_whole", {"source_order": "1.0"}, {}),
    ("source_order_is_whole", {"source_order": ""}, {}),
    ("source_order_is_whole", {"source_order": "+1"}, {}),
    ("source_order_is_whole", {"source_order": str(2**63 - 1)}, {}),
    ("source_order_is_whole", {"source_order": str(-(2**63) - 1)}, {}),
    ("text_has_no_nul", {"from_status": "a\x00b"}, {}),
    ("text_has_no_nul", {"to_status": "a\x00b"}, {}),
    ("text_has_no_nul", {"transition_reason": "\x00"}, {}),
    ("text_has_no_nul", {"triggered_by_system": "\x00"}, {}),
]


def _validate(*rows: dict[str, str | None], **options: Any) -> Validated:
    texts = pl.DataFrame(
        [{"row_number": n, **row} for n, row in enumerate(rows, start=1)],
        schema={"row_number": pl.Int64, **dict.fromkeys(COLUMNS, pl.String)},
    )
    return validate(texts, entity_types=["order"], **options)


def _id(**changes: str | None) -> str:
    """The identity of GOOD with these changes, delivered without an id."""
    good = _validate({**GOOD, "id": None, **changes}).good
    return str(good["id"].item())


def test_good_row_is_parsed_exactly() -> None:
    valid = _validate(GOOD)
    assert valid.defects.is_empty()
    assert valid.good.to_dicts() == [
        {
            "row_number": 1,
            "id": "0f8fad5b-d9cb-469f-a165-70867728950e",
            "created_at": datetime(2026, 3, 1, 8, 30, 0, 123456, tzinfo=UTC),
            "entity_type": "order",
            "entity_id": 42,
            "from_status": "new",
            "to_status": "paid",
            "transition_reason": "paid in full",
            "business_context": '{"a":[true,null],"b":1.50}',
            "triggered_by_user_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
            "triggered_by_system": "billing",
            "sla_deadline": datetime(2026, 3, 2, tzinfo=UTC),
            "is_milestone": True,
            "metadata": "{}",
            "source_order": -7,
        }
    ]


def test_row_of_nothing_but_the_required_is_good() -> None:
    needed = ("created_at", "entity_type", "entity_id", "to_status")
    (row,) = _validate({k: GOOD[k] for k in needed}).good.to_dicts()
    absent = [k for k in COLUMNS if k not in needed and k != "id"]
    assert [row[k] for k in absent] == [None] * len(absent)
    assert UUID(row["id"]).version == 5


def test_every_rule_has_a_row_that_breaks_it() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


@pytest.mark.parametrize(
    ("rule", "changes", "options"),
    [pytest.param(*case, id=f"{case[0]}-{n}") for n, case in enumerate(BROKEN)],
)
def test_row_that_breaks_one_rule_is_rejected_for_it(
    rule: str, changes: dict[str, str | None], options: dict[str, Any]
) -> None:
    valid = _validate(GOOD, {**GOOD, **changes}, **options)
    assert valid.good["row_number"].to_list() == [1]
    assert valid.defects.to_dicts() == [
        {"row_number": 2, "code": rule, "transition_count": 1}
    ]


def test_first_broken_rule_is_the_one_reported() -> None:
    valid = _validate({**GOOD, "id": "?", "created_at": None, "entity_id": "-"})
    assert valid.defects["code"].to_list() == ["id_is_uuid"]


def test_transitions_of_one_row_stand_or_fall_together() -> None:
    texts = pl.DataFrame(
        [
            {"row_number": n, **GOOD, "created_at": at}
            for n, at in [
                (1, "2026-01-01T00:00:00Z"),
                (1, "broken"),
                (2, "2026-01-02T00:00:00Z"),
                (1, "2026-01-03T00:00:00"),
            ]
        ],
        schema={"row_number": pl.Int64, **dict.fromkeys(COLUMNS, pl.String)},
    )
    valid = validate(texts, entity_types=["order"])
    assert valid.good["row_number"].to_list() == [2]
    assert valid.defects.rows() == [(1, "created_at_is_instant", 3)]


def test_every_code_names_a_column_of_the_row_or_the_whole_row() -> None:
    whole = {
        "text_has_no_nul",
        "row_is_utf8",
        "row_is_well_formed",
        "row_is_ended",
        "entity_key_is_distinct",
        "id_conflict",
        "row_is_storable",
    }
    named = {code: column_of(code) for code in CODES}
    assert {code for code, column in named.items() if column is None} == whole
    assert all(code.startswith(c) and c in COLUMNS for code, c in named.items() if c)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01 00:00:00+00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T09:05Z", datetime(2026, 1, 1, 9, 5, tzinfo=UTC)),
        ("2026-01-01 09:05+01:00", datetime(2026, 1, 1, 8, 5, tzinfo=UTC)),
        ("2026-07-01T09:05[Europe/Paris]", datetime(2026, 7, 1, 7, 5, tzinfo=UTC)),
        ("2026-07-01T09:05:00[EST]", datetime(2026, 7, 1, 14, 5, tzinfo=UTC)),
        (
            "2026-10-25T02:30:00+02:00[Europe/Paris]",
            datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        ),
        ("2026-01-01T00:00:00.5-0330", datetime(2026, 1, 1, 3, 30, 0, 500000, UTC)),
        ("2026-01-01T00:00:00+05:45", datetime(2025, 12, 31, 18, 15, tzinfo=UTC)),
        ("2026-01-01T00:00:00.000001Z", datetime(2026, 1, 1, 0, 0, 0, 1, UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC)),
        (
            "1969-12-31T23:59:59.999999Z",
            datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
        ),
    ],
)
def test_instant_is_read_to_the_microsecond(text: str, expected: datetime) -> None:
    assert _validate({**GOOD, "created_at": text}).good["created_at"].item() == expected


def test_date_is_midnight_of_the_named_zone() -> None:
    rows = [{**GOOD, "created_at": text} for text in ("2026-07-01", "2026-07-01T00:00")]
    found = _validate(*rows, **NEW_YORK).good["created_at"].to_list()
    assert found == [datetime(2026, 7, 1, 4, tzinfo=UTC)] * 2


@pytest.mark.parametrize("fold", ["earlier", "later", "reject"])
@pytest.mark.parametrize("gap", ["forward", "reject"])
@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "Iran"])
@pytest.mark.parametrize("is_named", [False, True], ids=["of the file", "of the row"])
def test_fold_and_gap_are_as_asked_for_around_every_change(
    fold: Fold, gap: Gap, zone: str, is_named: bool
) -> None:
    # A year of half-hours; in Iran clocks changed at midnight.
    begin = datetime(2021, 1, 1)  # noqa: DTZ001
    local = [begin + timedelta(minutes=30) * n for n in range(365 * 48)]
    mark = f"[{zone}]" if is_named else ""
    texts = pl.DataFrame({"at_text": [f"{time.isoformat()}{mark}" for time in local]})
    times = LocalTimes(None if is_named else zone, fold, gap)
    found = parse_time(texts, "at", times)
    assert found["at"].to_list() == [
        _meant(t, ZoneInfo(zone), fold, gap) for t in local
    ]
    assert found["at_is_placed"].all()


def _meant(local: datetime, zone: ZoneInfo, fold: str, gap: str) -> datetime | None:
    """The instant of a local time, by the two readings that PEP 495 gives it."""
    first, second = (local.replace(tzinfo=zone, fold=n).astimezone(UTC) for n in (0, 1))
    if first == second:
        return first
    if first.astimezone(zone).replace(tzinfo=None) == local:
        return {"earlier": first, "later": second, "reject": None}[fold]
    return first if gap == "forward" else None


def test_local_time_becomes_an_instant_of_the_named_zone() -> None:
    texts = ["2026-03-08T01:59:59", "2026-03-08T03:00:00", "2026-07-01T12:00:00Z"]
    rows = [{**GOOD, "created_at": text} for text in texts]
    assert _validate(*rows, **NEW_YORK).good["created_at"].to_list() == [
        datetime(2026, 3, 8, 6, 59, 59, tzinfo=UTC),
        datetime(2026, 3, 8, 7, tzinfo=UTC),
        datetime(2026, 7, 1, 12, tzinfo=UTC),
    ]


def test_row_without_an_id_gets_the_same_one_everywhere() -> None:
    assert _id() == "4abc770e-e0df-5d75-b876-63506e3b2f86"
    assert _validate(GOOD, {**GOOD, "id": None}).good["id"].to_list() == [
        GOOD["id"],
        _id(),
    ]


@pytest.mark.parametrize(
    "column", ["from_status", "transition_reason", "triggered_by_system"]
)
def test_null_and_the_empty_text_are_different_rows(column: str) -> None:
    assert _id(**{column: None}) != _id(**{column: ""})


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": "2026-03-01T09:30:00.123457+01:00"},
        {"entity_id": "43"},
        {"from_status": "draft"},
        {"to_status": "new"},
        {"transition_reason": "paid"},
        {"business_context": '{"a":[true,null],"b":1.5}'},
        {"triggered_by_user_id": "7c9e6679-7425-40de-944b-e07fc1f90ae8"},
        {"triggered_by_system": "shop"},
        {"sla_deadline": None},
        {"is_milestone": "f"},
        {"is_milestone": None},
        {"metadata": None},
    ],
    ids=str,
)
def test_any_other_content_is_another_row(changes: dict[str, str | None]) -> None:
    assert _id(**changes) != _id()


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": "2026-03-01T08:30:00.123456Z"},
        {"created_at": "2026-03-01 03:30:00.123456-05"},
        {"sla_deadline": "2026-03-02T05:30:00.000+0530"},
        {"business_context": '{"a":[true,null],"b":1.50}'},
        {"triggered_by_user_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"},
        {"is_milestone": "true"},
        {"metadata": " { } "},
    ],
    ids=str,
)
def test_another_spelling_is_the_same_row(changes: dict[str, str | None]) -> None:
    assert _id(**changes) == _id()


def test_values_do_not_flow_into_their_neighbours() -> None:
    left = {"from_status": "a=", "to_status": "b"}
    right = {"from_status": "a", "to_status": "=b"}
    assert _id(**left) != _id(**right)
    moved = {"transition_reason": None, "triggered_by_system": "x"}
    back = {"transition_reason": "x", "triggered_by_system": None}
    assert _id(**moved) != _id(**back)


def test_key_has_one_bigint_beyond_the_plain_ids() -> None:
    assert key_to_bigint("shop", "A-1") == 8157819018911257032
    keys = [("shop", "A-1"), ("shop", "A-2"), ("till", "A-1"), ("shopA", "-1")]
    ids = {key_to_bigint(*key) for key in keys}
    assert len(ids) == len(keys)
    assert all(2**62 <= i < 2**63 for i in ids)


def test_user_key_has_one_uuid() -> None:
    assert key_to_uuid("Ann") == key_to_uuid("Ann") != key_to_uuid("ann")
    assert UUID(key_to_uuid("Ann")).version == 5
