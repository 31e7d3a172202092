"""Entries of audit_logs: their rules, how files come in, and what is refused."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ingest import Mapping, Settings, SourceError, append, deliver, load_mapping
from ingest.append import AppendResult
from ingest.audit_entry import MAPPING
from ingest.files.mapping import own_mapping, restore_mapping
from ingest.identity import NAMESPACE, key_to_bigint, key_to_uuid
from ingest.instants import LocalTimes
from ingest.kinds import AUDIT_LOGS, CODES, column_of
from ingest.preview import preview
from ingest.rejects import Selection, count_rejects, replay
from ingest.store.database import Connection
from ingest.validation import Validated, validate

Write = Callable[[str, str | bytes], Path]
Load = Callable[[str], Mapping]

OWN = Settings(own_mapping("audit_logs"))
USER = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
GOOD: dict[str, str | None] = {
    "id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "created_at": "2026-03-01T09:30:00.123456+01:00",
    "entity_type": "order",
    "entity_id": "42",
    "action": "update",
    "triggered_by_user_id": USER.upper(),
    "changes": '{"status": ["new", "paid"], "a": 1.50}',
}
NEW_YORK = {"times": LocalTimes("America/New_York")}
LATEST = {"latest": datetime(2026, 3, 1, 8, 30, tzinfo=UTC)}
# rule: the change to GOOD that breaks it alone, and how the row is read.
BROKEN: list[tuple[str, dict[str, str | None], dict[str, Any]]] = [
    ("id_is_uuid", {"id": "42"}, {}),
    ("created_at_is_given", {"created_at": None}, {}),
    ("created_at_is_instant", {"created_at": "yesterday"}, {}),
    ("created_at_has_offset", {"created_at": "2026-01-01T00:00:00"}, {}),
    ("created_at_exists_once", {"created_at": "2026-11-01T01:30:00"}, NEW_YORK),
    ("created_at_is_not_ahead", {}, LATEST),
    ("entity_type_is_known", {"entity_type": "sessions"}, {}),
    ("entity_type_is_known", {"entity_type": None}, {}),
    ("entity_id_is_bigint", {"entity_id": "A7"}, {}),
    ("entity_id_is_bigint", {"entity_id": None}, {}),
    ("action_is_given", {"action": None}, {}),
    ("action_is_given", {"action": ""}, {}),
    ("triggered_by_user_id_is_uuid", {"triggered_by_user_id": "anna"}, {}),
    ("changes_is_json_object", {"changes": "[1]"}, {}),
    ("changes_is_json_object", {"changes": '{"a": 1, "a": 2}'}, {}),
    ("text_has_no_nul", {"action": "a\0"}, {}),
]
COLUMNS = "id, created_at, table, record, action, user, changes".replace(" ", "")
ENTRIES = [
    {
        "id": f"00000000-0000-4000-8000-{n:012d}",
        "created_at": f"2026-03-01T09:00:0{n}Z",
        "table": "order",
        "record": n,
        "action": ("insert", "update")[n % 2],
        "user": USER if n % 2 else None,
        "changes": {"status": ["new", f"a, {n}"]} if n else None,
    }
    for n in range(4)
]


def _validate(*rows: dict[str, str | None], **options: Any) -> Validated:
    schema = {"row_number": pl.Int64, **dict.fromkeys(AUDIT_LOGS.columns, pl.String)}
    numbered = [{"row_number": n, **row} for n, row in enumerate(rows, start=1)]
    texts = pl.DataFrame(numbered, schema=schema)
    return validate(texts, entity_types=["order"], kind=AUDIT_LOGS, **options)


def _csv(entries: list[dict[str, Any]]) -> str:
    frame = pl.DataFrame(
        [
            {**e, "changes": json.dumps(e["changes"]) if e["changes"] else None}
            for e in entries
        ],
        infer_schema_length=None,
    )
    return frame.write_csv()


def _all(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode()).fetchall()


def _entries(connection: Connection) -> list[tuple[Any, ...]]:
    return _all(
        connection,
        "select entity_id, created_at, action, triggered_by_user_id::text,"
        " changes::text from raw.audit_entries order by entity_id, created_at, action",
    )


def test_every_rule_has_a_row_that_breaks_it() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(AUDIT_LOGS.rules)


@pytest.mark.parametrize(
    ("rule", "changes", "options"),
    [pytest.param(*case, id=f"{case[0]}-{n}") for n, case in enumerate(BROKEN)],
)
def test_row_that_breaks_one_rule_is_rejected_for_it(
    rule: str, changes: dict[str, str | None], options: dict[str, Any]
) -> None:
    valid = _validate(GOOD | changes, **options)
    assert valid.good.is_empty()
    assert valid.defects["code"].to_list() == [rule]


def test_the_first_of_several_broken_rules_is_told() -> None:
    bad = dict.fromkeys(GOOD, "x")
    assert _validate(bad).defects["code"].to_list() == ["id_is_uuid"]
    del bad["id"]
    assert _validate(bad).defects["code"].to_list() == ["created_at_is_instant"]


def test_a_good_row_is_typed_and_its_json_spelled_one_way() -> None:
    (row,) = _validate(GOOD).good.iter_rows(named=True)
    assert row == {
        "row_number": 1,
        "id": GOOD["id"],
        "created_at": datetime(2026, 3, 1, 8, 30, 0, 123456, tzinfo=UTC),
        "entity_type": "order",
        "entity_id": 42,
        "action": "update",
        "triggered_by_user_id": USER,
        "changes": '{"a":1.50,"status":["new","paid"]}',
    }


def test_an_id_follows_from_the_whole_content_and_is_no_transitions() -> None:
    bare = GOOD | {"id": None}
    others = [
        bare | {name: value}
        for name, value in (
            ("created_at", "2026-03-01T09:30:00.123457+01:00"),
            ("entity_id", "43"),
            ("action", "delete"),
            ("triggered_by_user_id", None),
            ("changes", None),
        )
    ]
    ids = _validate(bare, *others).good["id"].to_list()
    assert len(set(ids)) == len(ids)
    assert _validate(bare).good["id"].to_list() == ids[:1]
    # The same for ever, on every machine.
    named = (
        "audit\x00=2026-03-01T08:30:00.123456\x00=order\x00=42\x00=update\x00="
        f"{USER}\x00=" + '{"a":1.50,"status":["new","paid"]}'
    )
    assert ids[0] == str(uuid.uuid5(NAMESPACE, named))


def test_every_code_names_a_column_of_its_kind_or_the_whole_row() -> None:
    assert column_of("changes_is_json_object") == "changes"
    assert column_of("action_is_given") == "action"
    assert set(AUDIT_LOGS.rules) < set(CODES)


@pytest.mark.parametrize("shape", ["csv", "csv.gz", "jsonl", "parquet"])
def test_a_file_of_the_platforms_own_columns_comes_in_and_once(
    connection: Connection, write: Write, shape: str
) -> None:
    if shape.startswith("csv"):
        path = write(f"audit.{shape}", _csv(ENTRIES))
    elif shape == "jsonl":
        path = write("audit.jsonl", "".join(json.dumps(e) + "\n" for e in ENTRIES))
    else:
        path = write("audit.parquet", b"")
        pl.read_csv(_csv(ENTRIES).encode()).write_parquet(path)
    first = deliver(connection, path, OWN)
    assert first.result == AppendResult(4, 4, 0, 0)
    assert _entries(connection) == [
        (
            n,
            datetime(2026, 3, 1, 9, 0, n, tzinfo=UTC),
            ("insert", "update")[n % 2],
            USER if n % 2 else None,
            f'{{"status": ["new", "a, {n}"]}}' if n else None,
        )
        for n in range(4)
    ]
    again = deliver(connection, path, OWN)
    assert (again.result, again.is_repeated) == (AppendResult(4, 0, 4, 0), True)
    kinds = "select kind, appended_count, batch_row, id::text from raw.batches"
    assert _all(
        connection, f"{kinds} join raw.audit_entries using (batch_id) order by id"
    ) == [("audit_logs", 4, n + 1, e["id"]) for n, e in enumerate(ENTRIES)]
    assert _all(connection, "table raw.status_transitions") == []


def test_rows_that_were_there_before_or_say_otherwise_are_told_apart(
    connection: Connection, write: Write
) -> None:
    deliver(connection, write("a.csv", _csv(ENTRIES[:2])), OWN)
    other = ENTRIES[0] | {"action": "delete"}
    twice = [ENTRIES[3], ENTRIES[3] | {"record": 9}]
    # PostgreSQL takes 1.0 and 1.00 for equal, S20 does not.
    path = write("b.csv", _csv([other, ENTRIES[1], ENTRIES[2], *twice]))
    assert deliver(connection, path, OWN).result == AppendResult(5, 2, 1, 2)
    (group,) = count_rejects(connection, Selection(file_name="b.csv"))
    assert (group.code, group.row_count) == ("id_conflict", 2)
    kept = [(n, ("insert", "update")[n % 2]) for n in range(4)]
    assert [(row[0], row[2]) for row in _entries(connection)] == kept


def test_changes_are_compared_as_text(connection: Connection, write: Write) -> None:
    numbers = [ENTRIES[0] | {"changes": {"n": n}} for n in (1, 2)]
    one, two = (_csv([entry]) for entry in numbers)
    assert deliver(connection, write("a.csv", one), OWN).result.appended == 1
    spelled = one.replace('""n"": 1', '""n"": 1.0')
    assert spelled != one
    for text in (spelled, two):
        assert deliver(connection, write("b.csv", text), OWN).result.rejected == 1


def test_what_is_refused_is_kept_and_replayed_once_it_is_mended(
    connection: Connection, write: Write
) -> None:
    sessions = ENTRIES[0] | {"table": "sessions"}
    bad = ENTRIES[1] | {"record": "A7"}
    late = ENTRIES[2] | {"created_at": "2999-01-01T00:00:00Z"}
    path = write("audit.csv", _csv([sessions, bad, late, ENTRIES[3]]))
    assert deliver(connection, path, OWN).result == AppendResult(4, 1, 0, 3)
    codes = _all(
        connection,
        "select code, column_name, transition_count from raw.rejected_transitions"
        " order by row_number",
    )
    assert codes == [
        ("entity_type_is_known", "entity_type", 1),
        ("entity_id_is_bigint", "entity_id", 1),
        ("created_at_is_not_ahead", "created_at", 1),
    ]
    connection.execute("insert into raw.entity_types values ('sessions', 99)")
    trial = replay(connection, dry_run=True)
    assert (trial.selected, trial.resolved) == (3, 1)
    assert len(_entries(connection)) == 1
    replayed = replay(connection)
    assert replayed.result == AppendResult(1, 1, 0, 0)
    assert replayed.open_codes.total() == 2
    outcomes = "select outcome, appended_count from raw.resolved_rejects"
    assert _all(connection, outcomes) == [("appended", 1)]
    assert {row[0] for row in _entries(connection)} == {0, 3}


def test_a_replay_takes_no_mapping_of_another_kind(
    connection: Connection, write: Write, mapping: Load
) -> None:
    path = write("audit.csv", _csv([ENTRIES[0] | {"table": "sessions"}, ENTRIES[1]]))
    deliver(connection, path, OWN)
    bad = {"created_at": ["x"], "entity_type": ["order"], "entity_id": [1]}
    append(connection, pl.DataFrame({**bad, "to_status": ["new"]}))
    transitions = mapping(
        "entity_type: {constant: order}\nentity_id: record\ncreated_at: created_at\n"
        "to_status: action\n"
    )
    with pytest.raises(SourceError, match=r"^audit\.csv: its rows are audit entries"):
        replay(connection, Selection(file_name="audit.csv"), mapping=transitions)
    with pytest.raises(SourceError, match=r"^library: its rows are transitions"):
        replay(connection, Selection(code="created_at_is_instant"), mapping=OWN.mapping)
    assert _all(connection, "table raw.status_transitions") == []
    assert len(_entries(connection)) == 1


LOG = """\
nr;when;what;tabel;sleutel;wie;veld;waarde
1;01-03-2026 10:00;U;orders;A7;anna;status;paid
2;01-03-2026 10:00;U;orders;A7;anna;status;paid
3;01-03-2026 10:01;U;sessions;B1;;status;x
4;29-03-2026 02:30;D;orders;A8;-;;
"""
MAPPED = """
kind: audit_logs
source: erp
delimiter: ';'
timezone: Europe/Amsterdam
gap: forward
nulls: ['', '-']
where: [{column: tabel, is_not: sessions}]
identity: [nr]
entity_type: {column: tabel, values: {orders: order}}
entity_id: {column: sleutel, key: true, namespace: erp}
created_at: {column: when, format: '%d-%m-%Y %H:%M'}
action: {column: what, values: {U: update, D: delete}}
triggered_by_user_id: {column: wie, key: true}
changes: {field: veld, to: waarde}
"""


def test_a_mapping_says_all_that_it_says_of_transitions(
    connection: Connection, write: Write, mapping: Load
) -> None:
    settings = Settings(mapping(MAPPED))
    path = write("log.csv", LOG)
    found = deliver(connection, path, settings)
    assert found.result == AppendResult(3, 3, 0, 0)
    assert (found.skipped_rows, found.equal) == (1, 0)
    first, second = key_to_bigint("erp", "A7"), key_to_bigint("erp", "A8")
    at, moved = (
        datetime(2026, 3, day, hour, tzinfo=UTC) for day, hour in ((1, 9), (29, 1))
    )
    anna = key_to_uuid("anna")
    status = '{"to": "paid", "field": "status"}'
    assert sorted(_entries(connection)) == sorted(
        [
            (first, at, "update", anna, status),
            (first, at, "update", anna, status),
            (
                second,
                moved + timedelta(minutes=30),
                "delete",
                None,
                '{"to": null, "field": null}',
            ),
        ]
    )
    keys = "select entity_type, entity_id, entity_key from raw.entity_keys order by 3"
    assert _all(connection, keys) == [("order", first, "A7"), ("order", second, "A8")]
    # The same events, delivered otherwise.
    path = write("again.csv", LOG.replace("3;01-03-2026", "3;02-03-2026"))
    assert deliver(connection, path, settings).result == AppendResult(3, 0, 3, 0)
    assert settings.mapping is not None
    assert restore_mapping(settings.mapping.content) == settings.mapping


def test_events_of_two_kinds_are_never_of_one_id(mapping: Load) -> None:
    transition = mapping(
        "entity_type: {constant: order}\nentity_id: nr\ncreated_at: when\n"
        "to_status: what\nidentity: [nr]\n"
    )
    entry = mapping(
        "kind: audit_logs\nentity_type: {constant: order}\nentity_id: nr\n"
        "created_at: when\naction: what\nidentity: [nr]\n"
    )
    rows = pl.DataFrame(
        {"row_number": [1], "nr": ["7"], "when": ["2026-01-01Z"], "what": ["new"]}
    )
    one, other = (m.apply(rows).texts["id"].item() for m in (transition, entry))
    assert one != other


def test_the_own_mapping_is_a_mapping_file(write: Write) -> None:
    path = write("own.yml", json.dumps(MAPPING))
    assert load_mapping(path) == own_mapping("audit_logs")
    assert own_mapping("transitions") is own_mapping(None) is None


BASE = """
kind: audit_logs
entity_type: {constant: order}
entity_id: record
created_at: created_at
action: action
"""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BASE.replace("action: action\n", ""), "key 'action' is missing"),
        (f"{BASE}to_status: x\n", "line 7: 'to_status' is no key of a mapping of aud"),
        (f"{BASE}order: [x]\n", "line 7: 'order' is no key of a mapping of audit"),
        (f"{BASE}transitions: [{{}}]\n", "'transitions' is no key of a mapping of aud"),
        (
            BASE.replace("kind: audit_logs\n", ""),
            "'action' is no key of a mapping of t",
        ),
        (BASE.replace("audit_logs", "sessions"), "line 2: 'kind' must be one of "),
        (f"{BASE}changes: 5\n", "line 7: 'changes' must be a non-empty text of "),
        (f"{BASE}changes: ''\n", "line 7: 'changes' must be a non-empty text of "),
        (
            "entity_type: {constant: order}\nentity_id: a\n"
            "transitions: [{created_at: b, to_status: c, changes: d}]\n",
            "line 3: 'changes' is no key of a mapping of transitions",
        ),
    ],
)
def test_a_key_that_is_not_of_the_kind_is_refused(
    write: Write, text: str, sentence: str
) -> None:
    with pytest.raises(SourceError) as caught:
        load_mapping(write("bad.yml", text))
    assert sentence in str(caught.value)


def test_a_json_column_of_transitions_may_be_one_column_too(mapping: Load) -> None:
    made = mapping(
        "entity_type: {constant: order}\nentity_id: a\ncreated_at: b\nto_status: c\n"
        "metadata: d\n"
    )
    rows = pl.DataFrame(
        {"row_number": [1, 2], **dict.fromkeys("abc", "1"), "d": ['{"x": 1}', None]}
    )
    assert made.apply(rows).texts["metadata"].to_list() == ['{"x": 1}', None]


def test_a_preview_counts_what_would_come(connection: Connection, write: Write) -> None:
    bad = ENTRIES[3] | {"table": "sessions"}
    path = write("audit.csv", _csv([*ENTRIES[:3], ENTRIES[2], bad]))
    found = preview(connection, path, OWN)
    assert (found.kind, found.transitions, found.repeated) == ("audit_logs", 4, 1)
    assert found.statuses == {"insert": 3, "update": 1}
    assert [refusal.code for refusal in found.rejected] == ["entity_type_is_known"]
    assert preview(connection, write("none.csv", f"{COLUMNS}\n"), OWN).statuses == {}


def test_a_row_that_postgresql_refuses_is_found(
    connection: Connection, write: Write
) -> None:
    huge = ENTRIES[1] | {"changes": {"n": 0}}
    text = _csv([ENTRIES[0], huge, ENTRIES[2]]).replace('""n"": 0', '""n"": 1e999999')
    path = write("audit.csv", text)
    assert deliver(connection, path, OWN).result == AppendResult(3, 2, 0, 1)
    codes = _all(connection, "select code, row_number from raw.rejected_transitions")
    assert codes == [("row_is_storable", 2)]
