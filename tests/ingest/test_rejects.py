"""Rejects counted, shown, and replayed once what refused them is mended."""

import json
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ingest import Mapping, Settings, SourceError, append, deliver, rejects
from ingest.append import AppendResult
from ingest.delivery import NO_MAPPING, NOTHING
from ingest.files import chunks
from ingest.files.content import Content
from ingest.names import printable
from ingest.rejects import Group, Replayed, Selection, replay
from ingest.store.database import Connection, connect

Write = Callable[[str, str | bytes], Path]
Load = Callable[[str], Mapping]

HEADER = "created_at,entity_type,entity_id,to_status,transition_reason\n"
NOTHING_OPEN: Counter[str] = Counter()
WIDE = """
timezone: Europe/Amsterdam
entity_type: {constant: order}
entity_id: {column: order, key: true, namespace: shop}
transitions:
  - {created_at: opened, to_status: {constant: open}}
  - {created_at: closed, to_status: {constant: closed}}
"""


def _row(entity_id: int | str, entity_type: str = "order", reason: str = "") -> str:
    return f"2026-01-01T00:00:00Z,{entity_type},{entity_id},new,{reason}\n"


def _allow(connection: Connection, entity_type: str) -> None:
    connection.execute("insert into raw.entity_types values (%s, 99)", [entity_type])


def _all(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    return connection.execute(query).fetchall()


def _counts(connection: Connection) -> list[int]:
    tables = (
        "status_transitions",
        "rejected_transitions",
        "resolved_rejects",
        "open_rejects",
        "batches",
        "entity_keys",
    )
    return [_all(connection, f"select count(*) from raw.{t}")[0][0] for t in tables]


def _outcomes(connection: Connection) -> list[tuple[Any, ...]]:
    return _all(
        connection,
        "select row_number, appended_count, duplicate_count, outcome"
        " from raw.resolved_rejects join raw.rejected_transitions using (rejected_id)"
        " order by rejected_id",
    )


RECORDS = [
    {
        "created_at": f"2026-01-01T00:00:0{n}.000001+01:00",
        "entity_type": "parcel",
        "entity_id": str(2**63 - 1 - n),
        "to_status": "new",
        "transition_reason": reason,
        "metadata": '{"n": 1.10}',
    }
    for n, reason in enumerate(["", None, 'a "quoted",\nline', "ünï;\tcöde\\", "NaN"])
]


def _as_json(records: list[dict[str, str | None]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def _delivered(connection: Connection, write: Write, shape: str) -> AppendResult:
    """The same records in one of many shapes."""
    frame = pl.DataFrame(RECORDS)
    if shape == "library":
        return append(connection, frame)
    if shape == "parquet":
        path = write("rows.parquet", b"")
        frame.write_parquet(path)
    elif shape.startswith("jsonl"):
        path = write(f"rows.{shape}", _as_json(RECORDS))
    else:
        mark = "\t" if shape == "tsv" else ","
        path = write(f"rows.{shape}", frame.write_csv(separator=mark))
    return deliver(connection, path).result


@pytest.mark.parametrize(
    "shape",
    [
        "csv",
        "csv.gz",
        "tsv",
        "jsonl",
        "jsonl.gz",
        "parquet",
        "library",
    ],
)
def test_replay_appends_what_the_source_would_have_made(
    connection: Connection, write: Write, shape: str
) -> None:
    assert _delivered(connection, write, shape) == (5, 0, 0, 5)
    _allow(connection, "parcel")
    found = replay(connection)
    assert found == Replayed(5, 5, AppendResult(5, 5, 0, 0), NOTHING_OPEN)
    stored = _all(
        connection,
        "select created_at, entity_id, transition_reason from raw.status_transitions"
        " order by batch_row",
    )
    assert [(entity_id, reason) for _, entity_id, reason in stored] == [
        (int(str(r["entity_id"])), r["transition_reason"]) for r in RECORDS
    ]
    # Delivered with the mended rule, the same ids come from the same content.
    path = write("again.jsonl", _as_json(RECORDS) + "\n")
    assert deliver(connection, path).result == (5, 0, 5, 0)


def test_replay_is_recorded_once_and_a_second_finds_nothing(
    connection: Connection, write: Write
) -> None:
    path = write("rows.csv", HEADER + _row(1, "parcel") + _row(2) + _row(3, "parcel"))
    deliver(connection, path, Settings(source="shop"))
    _allow(connection, "parcel")
    assert replay(connection).result == (2, 2, 0, 0)
    assert _all(
        connection,
        "select source, file_id, source_row_count, read_count, appended_count,"
        " duplicate_count, rejected_count from raw.batches order by batch_id",
    ) == [("shop", 1, 3, 3, 1, 0, 2), ("shop", None, 2, 2, 2, 0, 0)]
    assert _outcomes(connection) == [(1, 1, 0, "appended"), (3, 1, 0, "appended")]
    before = _counts(connection)
    assert replay(connection) == Replayed(0, 0, NOTHING, NOTHING_OPEN)
    assert _counts(connection) == before == [3, 2, 2, 0, 2, 0]


def test_rows_that_still_fail_are_counted_and_left_as_they_are(
    connection: Connection, write: Write
) -> None:
    path = write(
        "rows.csv",
        f"{HEADER}{_row('x')}{_row('y')}{_row(1)}one\n".encode() + b"\xff,\n",
    )
    deliver(connection, path)
    before = _counts(connection)
    codes = {"entity_id_is_bigint": 2, "row_is_well_formed": 1, "row_is_utf8": 1}
    assert replay(connection) == Replayed(4, 0, NOTHING, Counter(codes))
    assert _counts(connection) == before


def test_row_that_came_otherwise_meanwhile_is_resolved_as_a_duplicate(
    connection: Connection, write: Write
) -> None:
    deliver(connection, write("rows.csv", HEADER + _row(1, "parcel")))
    _allow(connection, "parcel")
    deliver(connection, write("more.csv", HEADER + _row(1, "parcel") + _row(2)))
    assert replay(connection).result == (1, 0, 1, 0)
    assert _outcomes(connection) == [(1, 0, 1, "duplicate")]


def test_rejects_of_equal_rows_append_one_transition(
    connection: Connection, write: Write
) -> None:
    deliver(connection, write("rows.csv", HEADER + _row(1, "parcel") * 2))
    _allow(connection, "parcel")
    assert replay(connection).result == (2, 1, 1, 0)
    assert _outcomes(connection) == [(1, 1, 0, "appended"), (2, 0, 1, "duplicate")]


def _wide(connection: Connection, write: Write, mapping: Load, rows: str) -> None:
    path = write("wide.csv", f"order,opened,closed\n{rows}")
    deliver(connection, path, Settings(mapping(WIDE)))


def test_wide_row_is_replayed_whole_or_not_at_all(
    connection: Connection, write: Write, mapping: Load
) -> None:
    _wide(
        connection,
        write,
        mapping,
        "A,2026-01-01T10h,?\n"
        "B,2026-01-01T10:00:00,2026-01-02T10:00:00\n"
        "C,2026-01-01T10:00:00,?\n"
        "D,?,?\n"
        "E,2026-01-01T10:00:00,2999-01-01T00:00:00\n",
    )
    assert _counts(connection)[:2] == [2, 4]
    nulls = mapping(f"{WIDE}nulls: ['?']\n")
    found = replay(connection, mapping=nulls)
    codes = Counter({"created_at_is_instant": 1, "created_at_is_not_ahead": 1})
    assert found == Replayed(4, 2, AppendResult(1, 1, 0, 0), codes)
    assert _outcomes(connection) == [(3, 1, 0, "appended"), (4, 0, 0, "no_transition")]
    assert _all(connection, "select entity_key from raw.entity_keys order by 1") == [
        ("B",),
        ("C",),
    ]
    later = timedelta(days=365_000)
    found = replay(connection, max_future=later)
    assert found.result == (2, 2, 0, 0)
    assert _outcomes(connection)[-1] == (5, 2, 0, "appended")


def test_replay_reads_by_the_kept_mapping_and_zone(
    connection: Connection, write: Write, mapping: Load
) -> None:
    _wide(connection, write, mapping, "A,2026-01-01T10:00:00,2026-03-29T02:30:00\n")
    gap = Counter({"created_at_exists_once": 1})
    assert replay(connection).open_codes == gap
    assert replay(connection, timezone="Asia/Tokyo").result == (2, 2, 0, 0)
    instants = "select extract(hour from created_at)::int from raw.status_transitions"
    assert _all(connection, f"{instants} order by created_at") == [(1,), (17,)]


def test_replay_reads_by_the_delimiter_of_its_file(
    connection: Connection, write: Write, mapping: Load
) -> None:
    text = "entity_type: kind\nentity_id: id\ncreated_at: at\nto_status: status\n"
    path = write("rows.csv", "kind;id;at;status\nparcel;1;2026-01-01T00:00:00Z;a,b\n")
    deliver(connection, path, Settings(mapping(f"{text}delimiter: ';'\n")))
    _allow(connection, "parcel")
    assert replay(connection, mapping=mapping(text)).resolved == 1
    assert _all(connection, "select to_status from raw.status_transitions") == [
        ("a,b",)
    ]


def test_replay_reads_by_the_encoding_of_its_file_or_the_one_named(
    connection: Connection, write: Write
) -> None:
    content = f"{HEADER}{_row(1, 'parcel', 'é')}{_row(2, 'order', 'é')}"
    deliver(
        connection,
        write("wide.csv", content.encode("utf-16")),
        Settings(encoding="utf-16"),
    )
    deliver(connection, write("latin.csv", content.encode("latin-1")))
    assert replay(connection).resolved == 0
    _allow(connection, "parcel")
    assert replay(connection, Selection(file_name="wide.csv")).result == (1, 1, 0, 0)
    assert replay(connection).open_codes == Counter({"row_is_utf8": 2})
    assert replay(connection, encoding="latin-1").result == (2, 0, 2, 0)


def test_row_that_may_be_cut_off_is_replayed_only_where_it_is_accepted(
    connection: Connection, write: Write
) -> None:
    content = HEADER + _row(1, "parcel").removesuffix("\n")
    deliver(connection, write("rows.csv", content))
    accepting = Settings(accept_unended=True, source="accepted")
    deliver(connection, write("accepted.csv", content), accepting)
    _allow(connection, "parcel")
    assert replay(connection).open_codes == Counter({"row_is_ended": 1})
    assert _outcomes(connection) == [(1, 1, 0, "appended")]
    assert replay(connection, accept_unended=True).result == (1, 0, 1, 0)


def test_zone_of_the_file_holds_where_a_mapping_names_none(
    connection: Connection, write: Write, mapping: Load
) -> None:
    text = "entity_type: {constant: order}\nentity_id: id\ncreated_at: at\n"
    bad = mapping(f"{text}to_status: empty")
    path = write("rows.csv", "id,at,empty,status\n1,2026-01-01T10:00:00,,new\n")
    deliver(connection, path, Settings(bad, timezone="Asia/Tokyo"))
    good = mapping(f"{text}to_status: status")
    assert replay(connection, mapping=good).resolved == 1
    stored = "select created_at = '2026-01-01T01:00Z' from raw.status_transitions"
    assert _all(connection, stored) == [(True,)]


def test_mapping_that_does_not_fit_the_header_is_refused(
    connection: Connection, write: Write, mapping: Load
) -> None:
    deliver(connection, write("rows.csv", HEADER + _row("x")))
    with pytest.raises(SourceError, match=r"rows\.csv, .* no column 'order'"):
        replay(connection, mapping=mapping(WIDE))
    with pytest.raises(SourceError, match="no IANA time zone"):
        replay(connection, timezone="Mars/Base")
    assert replay(connection).selected == 1


def test_conflicting_id_stays_open_and_holds_up_no_other(
    connection: Connection, write: Write
) -> None:
    same = "00000000-0000-4000-8000-000000000001"
    rows = [f"{same},{_row(1)}", f"{same},{_row(2)}", f",{_row(3, 'parcel')}"]
    deliver(connection, write("rows.csv", f"id,{HEADER}{''.join(rows)}"))
    _allow(connection, "parcel")
    found = replay(connection)
    assert found == Replayed(
        2, 1, AppendResult(1, 1, 0, 0), Counter({"id_conflict": 1})
    )
    assert _outcomes(connection) == [(3, 1, 0, "appended")]
    assert _all(connection, "select entity_id from raw.status_transitions") == [
        (1,),
        (3,),
    ]


def test_dry_run_says_what_would_be_and_writes_nothing(
    connection: Connection, write: Write
) -> None:
    rows = _row(1, "parcel") + _row(1, "parcel") + _row("x")
    deliver(connection, write("rows.csv", HEADER + rows))
    _allow(connection, "parcel")
    before = _counts(connection)
    rehearsed = replay(connection, dry_run=True)
    assert rehearsed.result == (2, 1, 1, 0)
    assert _counts(connection) == before
    assert replay(connection) == rehearsed


def test_only_selected_rejects_are_replayed(
    connection: Connection, write: Write
) -> None:
    deliver(connection, write("a.csv", HEADER + _row(1, "parcel") + _row("x")))
    deliver(connection, write("b.csv", HEADER + _row(2, "parcel")))
    deliver(connection, write("c.csv", HEADER + _row(3, "parcel") + _row("y")))
    _allow(connection, "parcel")
    assert replay(connection, Selection(ids=[99])).selected == 0
    assert replay(connection, Selection(ids=[1, 2])).result == (1, 1, 0, 0)
    assert replay(connection, Selection(file_name="b.csv")).result == (1, 1, 0, 0)
    code = Selection(code="entity_id_is_bigint")
    assert replay(connection, code).open_codes == Counter({code.code: 2})
    both = Selection(code="entity_type_is_known", file_name="c.csv")
    assert replay(connection, both).result == (1, 1, 0, 0)


def test_replay_in_many_batches_resolves_each_reject_once(
    connection: Connection, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(_row(n, "parcel") if n % 3 else _row("x") for n in range(100))
    generous = Settings(max_rejected_ratio=1)
    deliver(connection, write("rows.csv", HEADER + rows), generous)
    _allow(connection, "parcel")
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 7)
    found = replay(connection)
    assert (found.selected, found.resolved, found.result.appended) == (100, 66, 66)
    numbers = (
        "select entity_id from raw.status_transitions order by batch_id, batch_row"
    )
    assert _all(connection, numbers) == [(n,) for n in range(100) if n % 3]


def test_file_that_goes_on_after_a_replay_is_delivered_with_its_own_counts(
    connection: Connection, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 2)
    path = write("rows.csv", HEADER + _row(1, "parcel") * 3 + _row(2))

    def die(rows: int) -> None:
        raise InterruptedError(rows)

    with pytest.raises(InterruptedError):
        deliver(connection, path, progress=die)
    _allow(connection, "parcel")
    assert replay(connection).result == (2, 1, 1, 0)
    assert deliver(connection, path).result == (4, 1, 1, 2)
    assert deliver(connection, path).result == (4, 0, 2, 2)


def _replay_in_process(url: str, chunk_rows: int, _: int) -> Replayed:
    chunks.CHUNK_ROWS = chunk_rows
    with connect(url) as connection:
        return replay(connection)


def _many_rejects(connection: Connection, write: Write) -> None:
    rows = "".join(_row(n, "parcel") for n in range(200))
    deliver(connection, write("r.csv", HEADER + rows), Settings(max_rejected_ratio=1))
    _allow(connection, "parcel")


def test_two_replays_at_once_append_each_reject_once(
    connection: Connection, database_url: str, write: Write
) -> None:
    _many_rejects(connection, write)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        job = partial(_replay_in_process, database_url, 10)
        found = list(pool.map(job, range(2)))
    assert sum(part.selected for part in found) == 200
    assert sum(part.result.appended for part in found) == 200
    assert _counts(connection)[:4] == [200, 200, 200, 0]


def _replay_until_killed(url: str, step: str, batches: int) -> None:
    """Die before the commit of a later batch, or right after it."""
    chunks.CHUNK_ROWS = 10
    original = getattr(rejects, step)
    calls = 0

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        result = original(*arguments, **options)
        calls += 1
        if calls == batches:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(rejects, step, deadly)
    with connect(url) as connection:
        replay(connection)


@pytest.mark.parametrize(("step", "done"), [("_resolve", 20), ("append_batch", 30)])
def test_killed_replay_leaves_whole_batches_and_the_next_one_the_rest(
    connection: Connection, database_url: str, write: Write, step: str, done: int
) -> None:
    _many_rejects(connection, write)
    process = multiprocessing.get_context("spawn").Process(
        target=_replay_until_killed, args=(database_url, step, 3)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    # It waits for the dead one's lock, and with it for the end of its transaction.
    assert replay(connection).selected == 200 - done
    assert _counts(connection)[:4] == [200, 200, 200, 0]


def test_rejects_of_a_file_begun_before_its_form_was_kept_stay_open(
    connection: Connection, write: Write
) -> None:
    path = write("rows.csv", HEADER + _row(1, "parcel"))
    connection.execute(
        "insert into raw.files (content_sha256, mapping_sha256, source, timezone)"
        " values (%s, %s, 'files', '')",
        [Content(path).sha256, NO_MAPPING],
    )
    deliver(connection, path)
    _allow(connection, "parcel")
    assert replay(connection).open_codes == Counter({"form_is_known": 1})


def test_rejects_are_counted_by_file_and_code(
    connection: Connection, write: Write, mapping: Load
) -> None:
    deliver(connection, write("rows.csv", HEADER + _row("x") * 2 + _row(1, "parcel")))
    _wide(connection, write, mapping, "B,2026-01-01T10:00:00,never\n")
    _allow(connection, "parcel")
    replay(connection)
    codes = ("entity_id_is_bigint", "entity_type_is_known", "created_at_is_instant")
    by_id = Group("rows.csv", codes[0], 2, 2)
    by_type = Group("rows.csv", codes[1], 1, 1)
    wide = Group("wide.csv", codes[2], 1, 2)
    count = rejects.count_rejects
    assert count(connection, Selection()) == [by_id, wide]
    everything = count(connection, Selection(), only_open=False)
    assert everything == [by_id, by_type, wide]
    assert count(connection, Selection(file_name="wide.csv")) == [wide]
    assert count(connection, Selection(code=codes[0])) == [by_id]
    single = rejects.list_rejects(connection, Selection(), 2)
    assert [(line.rejected_id, line.line_number) for line in single] == [(1, 2), (2, 3)]


def test_one_reject_is_shown_with_its_bytes_and_outcome(
    connection: Connection, write: Write
) -> None:
    deliver(connection, write("rows.csv", HEADER + _row(1, "parcel", "ü")))
    detail = rejects.find_reject(connection, 1)
    assert detail.original == _row(1, "parcel", "ü").encode()
    assert (detail.outcome, detail.resolved_batch_id) == (None, None)
    _allow(connection, "parcel")
    replay(connection)
    detail = rejects.find_reject(connection, 1)
    assert (detail.outcome, detail.resolved_batch_id) == ("appended", 2)
    with pytest.raises(SourceError, match="no reject 2"):
        rejects.find_reject(connection, 2)


def test_bytes_are_readable_and_told_apart() -> None:
    original = 'ü,"a\\n"\t\x00\x1b[2J\r\n'.encode() + b"\xff\xc2"
    shown = 'ü,"a\\\\n"\\t\\x00\\x1b[2J\\r\\n\\xff\\xc2'
    assert printable(original) == shown
    assert printable("\u0085\u202e".encode()) == "\\xc2\\x85\\xe2\\x80\\xae"
