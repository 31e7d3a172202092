"""A file delivered once, again, in other shapes, half-way and by many at once."""

import json
import multiprocessing
import random
import string
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from nights import tries

from ingest import DeliveryResult, Mapping, Settings, SourceError, deliver
from ingest.append import append_batch, append_new
from ingest.configuration import workflows
from ingest.files import chunks
from ingest.identity import key_to_bigint
from ingest.store.database import Connection, connect

Write = Callable[[str, str | bytes], Path]
Load = Callable[[str], Mapping]

HEADER = "id,created_at,entity_type,entity_id,to_status,transition_reason"
# Longer than an index page, and too random to be compressed into one.
LONG = "".join(random.Random(1).choices(string.ascii_letters, k=20_000))
KEYED = """
source: shop
entity_type: {constant: order}
entity_id: {column: order, key: true, namespace: shop}
created_at: at
to_status: status
"""
WIDE = """
timezone: America/New_York
entity_type: {constant: order}
entity_id: order
transitions:
  - {created_at: opened, to_status: {constant: open}}
  - {created_at: closed, to_status: {constant: closed}, metadata: [note]}
"""


def _id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def _records(numbers: range) -> list[dict[str, str]]:
    return [
        {
            "id": _id(n),
            "created_at": f"2026-01-01T00:{n // 60 % 60:02d}:{n % 60:02d}Z",
            "entity_type": "order",
            "entity_id": str(n % 7),
            "to_status": f"status {n % 3}",
            "transition_reason": f'"{n}", said',
        }
        for n in numbers
    ]


def _csv(records: list[dict[str, str]]) -> str:
    rows = [pl.DataFrame(records).write_csv(include_header=False)] if records else []
    return "\n".join([HEADER, *rows])


def _jsonl(records: list[dict[str, str]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def _count(connection: Connection, table: str) -> int:
    row = connection.execute(f"select count(*) from raw.{table}").fetchone()
    assert row is not None
    return int(row[0])


def _rejects(connection: Connection, columns: str) -> list[tuple[Any, ...]]:
    return connection.execute(
        f"select {columns} from raw.rejected_transitions order by batch_id, row_number"
    ).fetchall()


def _content(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select id::text, created_at, entity_id, to_status, transition_reason"
        " from raw.status_transitions order by id"
    ).fetchall()


def test_delivery_says_what_became_of_the_file(
    connection: Connection, write: Write
) -> None:
    path = write("rows.csv", _csv(_records(range(5))) + "broken\n")
    found = deliver(connection, path)
    assert found == DeliveryResult("rows.csv", 6, found.result, is_repeated=False)
    assert found.result == (6, 5, 0, 1)


def test_same_file_twice_appends_nothing(connection: Connection, write: Write) -> None:
    path = write("rows.csv", _csv(_records(range(5))) + "broken\n")
    deliver(connection, path)
    before = {t: _count(connection, t) for t in ("batches", "rejected_transitions")}
    again = deliver(connection, path)
    assert again == DeliveryResult("rows.csv", 6, again.result, is_repeated=True)
    assert again.result == (6, 0, 5, 1)
    assert {t: _count(connection, t) for t in before} == before
    deliveries = connection.execute(
        "select file_name, source_row_count, read_count, appended_count,"
        " duplicate_count, rejected_count from raw.deliveries order by delivery_id"
    ).fetchall()
    assert deliveries == [
        ("rows.csv", 6, 6, 5, 0, 1),
        ("rows.csv", 6, 6, 0, 5, 1),
    ]


def test_same_bytes_under_another_name_are_the_same_file(
    connection: Connection, write: Write
) -> None:
    content = _csv(_records(range(5)))
    deliver(connection, write("rows.csv", content))
    assert deliver(connection, write("copy.csv", content)).is_repeated
    assert _count(connection, "files") == 1


@pytest.mark.parametrize(
    "settings", [Settings(source="till"), Settings(timezone="Asia/Tokyo")], ids=str
)
def test_same_bytes_read_otherwise_are_another_file_of_duplicates(
    connection: Connection, write: Write, settings: Settings
) -> None:
    path = write("rows.csv", _csv(_records(range(5))))
    deliver(connection, path)
    other = deliver(connection, path, settings)
    assert not other.is_repeated
    assert other.result == (5, 0, 5, 0)


@pytest.mark.parametrize("suffix", ["csv.gz", "tsv", "jsonl", "jsonl.gz", "parquet"])
def test_same_rows_in_another_format_are_duplicates(
    connection: Connection, write: Write, tmp_path: Path, suffix: str
) -> None:
    records = [{k: v for k, v in r.items() if k != "id"} for r in _records(range(9))]
    frame = pl.DataFrame(records)
    first = deliver(connection, write("rows.csv", frame.write_csv()))
    assert first.result == (9, 9, 0, 0)
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        frame.with_columns(
            pl.col("created_at").str.to_datetime("%+", time_unit="us"),
            pl.col("entity_id").cast(pl.Int64),
        ).write_parquet(path)
    elif suffix == "tsv":
        frame.write_csv(path, separator="\t")
    else:
        write(path.name, frame.write_csv() if "csv" in suffix else _jsonl(records))
    assert deliver(connection, path).result == (9, 0, 9, 0)


def test_another_split_of_the_same_rows_is_all_duplicates(
    connection: Connection, write: Write
) -> None:
    for number, span in enumerate((range(4), range(4, 9))):
        deliver(connection, write(f"part{number}.csv", _csv(_records(span))))
    before = _content(connection)
    whole = deliver(connection, write("whole.jsonl", _jsonl(_records(range(9)))))
    assert whole.result == (9, 0, 9, 0)
    assert _content(connection) == before


def test_conflicting_ids_are_rejected_within_a_file_and_across_files(
    connection: Connection, write: Write
) -> None:
    rows = _records(range(2))
    other = [{**row, "to_status": "other"} for row in rows]
    first = deliver(connection, write("a.csv", _csv([rows[0], other[0], rows[0]])))
    assert first.result == (3, 1, 1, 1)
    second = deliver(connection, write("b.csv", _csv([other[1], rows[0], other[0]])))
    assert second.result == (3, 1, 1, 1)
    assert _rejects(connection, "file_name, row_number, code") == [
        ("a.csv", 2, "id_conflict"),
        ("b.csv", 3, "id_conflict"),
    ]
    assert [row[3] for row in _content(connection)] == ["status 0", "other"]


def test_reject_keeps_the_exact_bytes_of_its_row(
    connection: Connection, write: Write
) -> None:
    originals = [
        b'?,2026-01-01T00:00:00Z,order,1,"new\r\n",\r\n',
        b",2026-01-01T00:00:00Z,order,1,\xff,\n",
        b",,\n",
        b',2026-1-1,order,1," n""ew ",\n',
        b",2026-01-01T00:00:00Z,order,1,new,al",
    ]
    path = write("rows.csv", HEADER.encode() + b"\r\n" + b"".join(originals))
    assert deliver(connection, path).result == (5, 0, 0, 5)
    assert _rejects(
        connection, "row_number, line_number, code, column_name, original"
    ) == [
        (1, 2, "id_is_uuid", "id", originals[0]),
        (2, 4, "row_is_utf8", "to_status", originals[1]),
        (3, 5, "row_is_well_formed", None, originals[2]),
        (4, 6, "created_at_is_instant", "created_at", originals[3]),
        (5, 7, "row_is_ended", None, originals[4]),
    ]
    content = path.read_bytes()
    for offset, original in _rejects(connection, "byte_offset, original"):
        assert content[offset:].startswith(original)


def test_reject_of_a_json_line_keeps_its_bytes(
    connection: Connection, write: Write
) -> None:
    line = b'{"to_status" :  "\\u006eew", "entity_id": 1.0}'
    path = write("rows.jsonl", line + b"\n")
    assert deliver(connection, path).result == (1, 0, 0, 1)
    assert _rejects(connection, "line_number, original") == [(1, line + b"\n")]


def test_values_postgresql_refuses_do_not_stop_the_file(
    connection: Connection, write: Write
) -> None:
    rows: list[dict[str, Any]] = [*_records(range(6))]
    text = _jsonl(rows[:3])
    text += _jsonl([{**rows[3], "business_context": {"n": 0}}]).replace(
        "0}", "1e999999}"
    )
    text += _jsonl(rows[4:])
    assert deliver(connection, write("rows.jsonl", text)).result == (6, 5, 0, 1)
    assert _rejects(connection, "row_number, code") == [(4, "row_is_storable")]


def test_header_without_rows_is_a_complete_delivery_of_nothing(
    connection: Connection, write: Write
) -> None:
    path = write("rows.csv", HEADER + "\n")
    assert deliver(connection, path).result == (0, 0, 0, 0)
    assert deliver(connection, path).is_repeated


def test_wrong_header_leaves_nothing_behind(
    connection: Connection, write: Write
) -> None:
    with pytest.raises(SourceError):
        deliver(connection, write("rows.csv", "a,b\n1,2\n"))
    assert [_count(connection, t) for t in ("files", "batches")] == [0, 0]


def test_unknown_zone_is_a_source_error(connection: Connection, write: Write) -> None:
    path = write("rows.csv", HEADER)
    with pytest.raises(SourceError, match="Europe/Nowhere"):
        deliver(connection, path, Settings(timezone="Europe/Nowhere"))


def test_progress_counts_the_source_rows_done(
    connection: Connection, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 4)
    path = write("rows.csv", _csv(_records(range(10))))
    seen: list[int] = []
    deliver(connection, path, progress=seen.append)
    assert seen == [4, 8, 10]
    assert _count(connection, "batches") == 3


class _PowerCut(Exception):
    """The process ends here."""


@pytest.mark.parametrize("survived", [0, 1, 2])
def test_delivery_that_died_continues_where_it_was(
    connection: Connection,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    survived: int,
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 4)
    path = write("rows.csv", _csv(_records(range(10))) + "broken\n")
    # Taking one is atomic: two batches may be written at once.
    tickets = iter(range(survived))

    def until_the_cut(append: Callable[..., Any]) -> Callable[..., Any]:
        def dying(*arguments: Any, **options: Any) -> Any:
            if next(tickets, None) is None:
                raise _PowerCut
            return append(*arguments, **options)

        return dying

    with monkeypatch.context() as patch:
        patch.setattr("ingest.delivery.append_batch", until_the_cut(append_batch))
        patch.setattr("ingest.delivery.append_new", until_the_cut(append_new))
        with pytest.raises(_PowerCut):
            deliver(connection, path)
    assert _count(connection, "batches") == survived
    assert _count(connection, "deliveries") == 0
    found = deliver(connection, path)
    assert found == DeliveryResult("rows.csv", 11, found.result, is_repeated=False)
    assert found.result == (11, 10, 0, 1)
    assert _count(connection, "batches") == 3
    assert [row[0] for row in _content(connection)] == [_id(n) for n in range(10)]


def test_of_two_rows_with_one_id_in_batches_written_at_once_the_first_stays(
    connection: Connection, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S20: the same content is a duplicate, other content a conflict."""
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 2)
    records = _records(range(12))
    records[5] = {**records[3], "to_status": "other"}
    records[8] = records[7]
    found = deliver(connection, write("rows.csv", _csv(records)))
    assert found.result == (12, 10, 1, 1)
    statuses = dict(
        connection.execute(
            "select id::text, to_status from raw.status_transitions"
        ).fetchall()
    )
    assert statuses[_id(3)] == records[3]["to_status"]
    rejected = connection.execute(
        "select row_number, code from raw.rejected_transitions"
    ).fetchall()
    assert rejected == [(6, "id_conflict")]


def test_cut_off_file_keeps_its_batches_and_the_whole_one_adds_the_rest(
    connection: Connection, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 100)
    whole = write("rows.csv.gz", _csv(_records(range(3000))))
    torn = whole.with_name("torn.csv.gz")
    torn.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(SourceError, match="Deliver it again"):
        deliver(connection, torn)
    kept = _count(connection, "status_transitions")
    assert 0 < kept < 3000
    assert _count(connection, "deliveries") == 0
    assert deliver(connection, whole).result == (3000, 3000 - kept, kept, 0)


def test_text_keys_are_findable(
    connection: Connection, write: Write, mapping: Load
) -> None:
    keys = ["A-1", "a-1", " A-1", "é", "7"]
    rows = [{"order": k, "at": "2026-01-01T00:00:00Z", "status": "new"} for k in keys]
    path = write("rows.jsonl", _jsonl([*rows, *rows]))
    found = deliver(connection, path, Settings(mapping(KEYED)))
    assert found.result == (10, 5, 5, 0)
    stored = connection.execute(
        "select entity_type, namespace, entity_key, entity_id from raw.entity_keys"
        " join raw.status_transitions using (entity_type, entity_id)"
    ).fetchall()
    assert sorted(stored) == sorted(
        ("order", "shop", key, key_to_bigint("shop", key)) for key in keys
    )


def test_two_keys_never_become_one_entity(
    connection: Connection, write: Write, mapping: Load
) -> None:
    connection.execute(
        "insert into raw.entity_keys values ('order', %s, 'shop', 'another', 0)",
        [key_to_bigint("shop", "A-1")],
    )
    rows = [
        {"order": key, "at": f"2026-01-0{day}T00:00:00Z", "status": "new"}
        for day, key in enumerate(["A-1", "A-2", "A-1", "another"], start=1)
    ]
    settings = Settings(mapping(KEYED))
    found = deliver(connection, write("rows.jsonl", _jsonl(rows)), settings)
    assert found.result == (4, 2, 0, 2)
    assert _rejects(connection, "row_number, code, column_name") == [
        (1, "entity_key_is_distinct", None),
        (3, "entity_key_is_distinct", None),
    ]


@pytest.mark.parametrize(
    ("key", "expected"),
    [("a\x00b", (2, 1, 0, 1)), (LONG, (2, 2, 0, 0))],
    ids=["NUL", "long"],
)
def test_key_with_nul_is_rejected_alone_and_a_long_one_is_kept(
    connection: Connection,
    write: Write,
    mapping: Load,
    key: str,
    expected: tuple[int, int, int, int],
) -> None:
    rows = [
        {"order": k, "at": "2026-01-01T00:00:00Z", "status": "new"} for k in ("A", key)
    ]
    path = write("rows.jsonl", _jsonl(rows))
    assert deliver(connection, path, Settings(mapping(KEYED))).result == expected
    assert _count(connection, "entity_keys") == expected[1]


def test_keyed_row_without_a_known_type_is_rejected_alone(
    connection: Connection, write: Write, mapping: Load
) -> None:
    text = KEYED.replace("{constant: order}", "kind")
    rows = [
        {"order": key, "kind": kind, "at": "2026-01-01T00:00:00Z", "status": "new"}
        for key, kind in (("A", "order"), ("B", None), ("C", "parcel"))
    ]
    path = write("rows.jsonl", _jsonl(rows))
    result = deliver(connection, path, Settings(mapping(text))).result
    assert result == (3, 1, 0, 2)
    assert _count(connection, "entity_keys") == 1


@pytest.mark.parametrize(
    "at", ["yesterday", "0001-01-01T00:00:00+01:00"], ids=["a rule", "PostgreSQL"]
)
def test_rejected_row_registers_no_key(
    connection: Connection, write: Write, mapping: Load, at: str
) -> None:
    row = {"order": "A", "at": at, "status": "new"}
    path = write("rows.jsonl", _jsonl([row]))
    assert deliver(connection, path, Settings(mapping(KEYED))).result == (1, 0, 0, 1)
    assert _count(connection, "entity_keys") == 0


def test_wide_row_makes_a_transition_a_timestamp(
    connection: Connection, write: Write, mapping: Load
) -> None:
    path = write(
        "rows.csv",
        "order,opened,closed,note\n"
        "1,2026-01-01T12:00:00,2026-01-02T12:00:00,fine\n"
        "2,2026-01-01T12:00:00,,\n"
        "3,,,\n"
        "4,2026-01-01T12:00:00,2026-03-08T02:30:00,in the gap\n"
        "5,,2026-11-01T01:30:00,in the fold\n",
    )
    found = deliver(connection, path, Settings(mapping(WIDE)))
    assert found.source_rows == 5
    assert found.result == (6, 3, 0, 3)
    assert _rejects(connection, "row_number, code, transition_count") == [
        (4, "created_at_exists_once", 2),
        (5, "created_at_exists_once", 1),
    ]
    stored = connection.execute(
        "select entity_id, to_status, metadata::text, extract(hour from created_at)"
        " from raw.status_transitions order by batch_row"
    ).fetchall()
    assert stored == [
        (1, "open", None, 17),
        (1, "closed", '{"note": "fine"}', 17),
        (2, "open", None, 17),
    ]


def _deliver_in_process(
    url: str, chunk_rows: int, paths: list[Path]
) -> list[DeliveryResult]:
    """Deliver files one after another, in a process of its own."""
    chunks.CHUNK_ROWS = chunk_rows
    with connect(url) as connection:
        return [deliver(connection, path) for path in paths]


def _deliver_at_once(
    url: str, chunk_rows: int, plans: list[list[Path]]
) -> list[list[DeliveryResult]]:
    """One process a plan, all at once."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(plans), mp_context=spawn) as pool:
        return list(pool.map(partial(_deliver_in_process, url, chunk_rows), plans))


def test_two_processes_with_the_same_file_append_it_once(
    connection: Connection, database_url: str, write: Write
) -> None:
    path = write("rows.csv", _csv(_records(range(2000))) + "broken\n" * 3)
    deliveries = _deliver_at_once(database_url, 50, [[path], [path]])
    assert [d.source_rows for (d,) in deliveries] == [2003, 2003]
    assert [d.result.read for (d,) in deliveries] == [2003, 2003]
    assert _count(connection, "status_transitions") == 2000
    assert _count(connection, "rejected_transitions") == 3
    assert _count(connection, "batches") == 41


def test_overlapping_files_in_opposite_order_do_not_deadlock(
    connection: Connection, database_url: str, write: Write
) -> None:
    records = _records(range(600))
    plans: list[list[Path]] = []
    count = tries(4, 8)
    for number in range(count):
        # Each has the rows in its own direction and from its own start.
        turned = records[number * 50 :] + records[: number * 50]
        ordered = turned if number % 2 else turned[::-1]
        ordered = [*ordered, {**ordered[-1], "id": _id(10_000 + number)}]
        path = write(f"rows{number}.csv", _csv(ordered))
        plans.append([path])
    deliveries = [
        d for plan in _deliver_at_once(database_url, 100, plans) for d in plan
    ]
    assert [d.result.read for d in deliveries] == [601] * count
    assert sum(d.result.appended for d in deliveries) == 600 + count
    assert _count(connection, "status_transitions") == 600 + count
    assert _count(connection, "rejected_transitions") == 0


@pytest.mark.parametrize(
    ("bad", "rows", "is_broken_off"),
    [(51, 100, True), (50, 100, False), (99, 99, False)],
)
def test_file_is_broken_off_when_too_many_of_its_first_rows_are_bad(
    connection: Connection, write: Write, bad: int, rows: int, is_broken_off: bool
) -> None:
    records = [
        {**record, "entity_id": "x" if n < bad else record["entity_id"]}
        for n, record in enumerate(_records(range(rows)))
    ]
    path = write("rows.csv", _csv(records))
    if not is_broken_off:
        assert deliver(connection, path).result == (rows, rows - bad, 0, bad)
        return
    for _ in range(2):
        with pytest.raises(SourceError, match=f"{bad} of {rows} rows"):
            deliver(connection, path)
    for table in (
        "batches",
        "status_transitions",
        "rejected_transitions",
        "deliveries",
    ):
        assert _count(connection, table) == 0
    assert _count(connection, "stopped_files") == 2
    generous = Settings(max_rejected_ratio=0.51)
    assert deliver(connection, path, generous).result == (rows, rows - bad, 0, bad)


def test_rows_rejected_earlier_in_a_file_count_when_it_goes_on(
    connection: Connection, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 60)
    records = [
        {**record, "entity_id": "x" if 30 <= n < 95 else record["entity_id"]}
        for n, record in enumerate(_records(range(120)))
    ]
    path = write("rows.csv", _csv(records))
    for _ in range(2):
        with pytest.raises(SourceError, match="65 of 120 rows"):
            deliver(connection, path)
        assert _count(connection, "status_transitions") == 30


def _broken_off(connection: Connection, path: Path, settings: Settings) -> str:
    with pytest.raises(SourceError) as told:
        deliver(connection, path, settings)
    assert "\n" not in str(told.value)
    return str(told.value)


def _stops(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select file_name, codes from raw.stopped_files order by stop_id"
    ).fetchall()


def test_what_broke_a_file_off_names_its_three_most_frequent_codes_with_a_sample(
    connection: Connection, write: Write
) -> None:
    wrong = [("entity_id", "A\x1b-7")] * 30 + [("created_at", "soon")] * 20
    wrong += [("entity_type", "ticket")] * 10 + [("id", "")] + [("to_status", "")] * 5
    records = _records(range(100))
    for record, (column, value) in zip(records, wrong, strict=False):
        record[column] = value
    records[60]["id"] = "x"
    said = _broken_off(connection, write("rows.csv", _csv(records)), Settings())
    assert "broken off, 66 of 100 rows would be rejected" in said
    assert (
        "Why: 30 entity_id_is_bigint (line 2: 'A\\x1b-7'), "
        "20 created_at_is_instant (line 32: 'soon'), "
        "10 entity_type_is_known (line 52: 'ticket') and 2 more. Mend the file"
    ) in said
    ((name, codes),) = _stops(connection)
    assert name == "rows.csv"
    assert codes[1:] == [
        {
            "code": code,
            "row_count": count,
            "line_number": line,
            "row_number": line - 1,
            "value": value,
        }
        for code, count, line, value in (
            ("created_at_is_instant", 20, 32, "soon"),
            ("entity_type_is_known", 10, 52, "ticket"),
            ("to_status_is_given", 5, 63, ""),
            ("id_is_uuid", 1, 62, "x"),
        )
    ]


@pytest.mark.parametrize(
    ("column", "value", "parts"),
    [
        (
            "entity_type",
            "ticket",
            (
                "Known types are order, quote, visit,",
                "a file with entity_types: [{name: ticket, label: Ticket}]: ",
            ),
        ),
        ("entity_type", "x'); --", ("{name: ticket, ",)),
        ("created_at", "2026-01-01 09:00:00", ("--timezone Europe/Amsterdam.",)),
        ("created_at", "01-02-2026 09:00", ("format: '%d-%m-%Y %H:%M'}",)),
        ("entity_id", "A-7", ("key: true",)),
        ("to_status", "", ("The new status is there and not empty.",)),
    ],
)
def test_file_whose_rows_all_have_one_defect_is_told_what_to_do_about_it(
    connection: Connection,
    write: Write,
    column: str,
    value: str,
    parts: tuple[str, ...],
) -> None:
    records = [{**record, column: value} for record in _records(range(100))]
    said = _broken_off(connection, write("rows.csv", _csv(records)), Settings())
    assert f"(line 2: '{value}')" in said
    assert [part for part in parts if part not in said] == []


def test_type_that_was_added_as_a_broken_off_file_was_told_is_taken(
    connection: Connection, write: Write
) -> None:
    records = [{**record, "entity_type": "ticket"} for record in _records(range(100))]
    path = write("rows.csv", _csv(records))
    said = _broken_off(connection, path, Settings())
    file = write("types.yml", said.split("a file with ")[1].split(": status-engine")[0])
    workflows.apply(connection, workflows.load(file))
    assert deliver(connection, path).result.appended == 100


def test_sample_of_a_wide_row_is_the_value_that_was_refused(
    connection: Connection, write: Write, mapping: Load
) -> None:
    rows = "\n".join(f"{n},2026-01-02 09:00:00,never,a note" for n in range(100))
    path = write("rows.csv", f"order,opened,closed,note\n{rows}\n")
    said = _broken_off(connection, path, Settings(mapping(WIDE)))
    assert "Why: 100 created_at_is_instant (line 2: 'never')." in said


def test_rows_without_lines_and_columns_are_shown_by_their_number(
    connection: Connection, tmp_path: Path, write: Write
) -> None:
    frame = pl.DataFrame(_records(range(100))).with_columns(entity_id=pl.lit("A-7"))
    frame.write_parquet(tmp_path / "rows.parquet")
    said = _broken_off(connection, tmp_path / "rows.parquet", Settings())
    assert "100 entity_id_is_bigint (row 1: 'A-7')" in said
    lines = f"{HEADER}\n" + "only one value\n" * 100
    said = _broken_off(connection, write("short.csv", lines), Settings())
    assert "100 row_is_well_formed (line 2: 'only one value')" in said
    assert "delimiter: ';'" in said


def test_codes_of_batches_that_are_there_count_when_a_file_goes_on(
    connection: Connection, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 60)
    records = [
        {**record, "entity_id": "x" if 30 <= n < 95 else record["entity_id"]}
        for n, record in enumerate(_records(range(120)))
    ]
    path = write("rows.csv", _csv(records))
    first, second = (_broken_off(connection, path, Settings()) for _ in range(2))
    assert "65 entity_id_is_bigint (line 32: 'x')" in first
    # Of what is in the table already, the row is shown.
    assert "65 entity_id_is_bigint (line 32: '00000000-0000-4000-8000-0" in second
