"""`map` and `ingest --dry-run`: what is guessed, what is asked, what would come."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from commands import assert_one_sentence, run
from nights import NIGHTLY

from ingest import Settings, deliver, load_mapping
from ingest.preview import preview
from ingest.store import database
from ingest.store.database import PROJECT

DATA = PROJECT.parent / "shared" / "data"
LOG = (
    "ticket_id;event_id;changed;status;old_status;seq;team\n"
    "T-1;1;13/03/2026 09:00;Neu;;1;Küche\n"
    "T-1;2;13/03/2026 09:00;Geprüft;Neu;2;Küche\n"
    "T-2;3;14/03/2026 10:30;Neu;;1;Bad\n"
    "T-2;4;14/03/2026 11:00;Gelöst;Neu;2;\n"
    "T-2;5;14/03/2026 11:00;Zu;Gelöst;3;Bad\n"
    "T-1;6;15/03/2026 08:15;Gelöst;Geprüft;3;Bad\n"
)
WIDE = (
    "order_id,customer_id,approved_at,ordered_at,due_date\n"
    "1,7,2026-03-02 09:00:00,2026-03-01 09:00:00,2026-03-09\n"
    "2,7,,2026-03-01 10:00:00,2026-03-09\n"
    "3,8,2026-03-02 11:00:00,2026-03-01 11:00:00,2026-03-09\n"
)


@pytest.fixture
def drafted(installed_url: str, tmp_path: Path):
    """Drafts a mapping of a file; the loaded one, its text, and what was said."""

    def draft(content: bytes, *options: str, name: str = "log.csv"):
        path = tmp_path / name
        path.write_bytes(content)
        output = tmp_path / "drafted.yml"
        output.unlink(missing_ok=True)
        said = run("map", path, "-o", output, *options)
        assert said.code == 0, said.err
        # What was previewed is what a delivery does.
        mapping = load_mapping(output)
        with database.connect(installed_url) as connection:
            connection.execute(
                "insert into raw.entity_types values ('ticket', 99)"
                " on conflict do nothing"
            )
            seen = preview(connection, path, Settings(mapping))
            found = deliver(connection, path, Settings(mapping, max_rejected_ratio=1))
            read, appended, duplicate, rejected = found.result
            assert (seen.rows, seen.transitions) == (found.source_rows, read - rejected)
            assert (appended, duplicate) == (
                seen.transitions - seen.repeated,
                seen.repeated,
            )
            assert f"{seen.transitions:,} transitions" in said.err
        return mapping, output.read_text(), said.err

    return draft


def _rows(url: str, columns: str) -> list[tuple]:
    with database.connect(url) as connection:
        query = f"select {columns} from raw.status_transitions order by created_at, id"
        return connection.execute(query).fetchall()


def test_log_of_events_is_told_from_its_first_rows(drafted, installed_url: str) -> None:
    mapping, text, said = drafted(
        LOG.encode("cp1252"), "--entity-type", "order", "--timezone", "Europe/Berlin"
    )
    assert (mapping.delimiter, mapping.encoding) == (";", "cp1252")
    assert (mapping.identity, mapping.order) == (("event_id",), ("seq",))
    assert "# 3 events share entity and instant." not in text
    assert "# 2 events share entity and instant." in text
    assert "Still to be answered" not in said
    stored = _rows(
        installed_url, "created_at, from_status, to_status, business_context ->> 'team'"
    )
    assert len(stored) == 6
    at = datetime(2026, 3, 13, 8, tzinfo=UTC)
    assert set(stored[:2]) == {
        (at, None, "Neu", "Küche"),
        (at, "Neu", "Geprüft", "Küche"),
    }


def test_table_of_entities_makes_a_transition_of_each_instant(
    drafted, installed_url: str
) -> None:
    mapping, _, said = drafted(WIDE.encode(), "--timezone", "UTC")
    assert mapping.is_wide
    assert "order" in mapping.entity_types
    assert "3 rows; 5 transitions of 3 entities" in said
    statuses = [status for (status,) in _rows(installed_url, "to_status")]
    assert sorted(statuses) == ["approved"] * 2 + ["ordered"] * 3
    # The last of a row has no deadline to keep.
    found = _rows(installed_url, "to_status, sla_deadline is not null")
    assert set(found) == {("ordered", True), ("approved", False)}


AMBIGUOUS = LOG.replace("13/", "03/").replace("14/", "04/").replace("15/", "06/")


def test_columns_that_are_ours_are_found_again(drafted, installed_url: str) -> None:
    history = (
        "created_at,entity_type,entity_id,to_status\n"
        "2026-03-02T09:00:00+01:00,order,1,new\n"
        "2026-03-03T11:30:00+01:00,order,1,confirmed\n"
    )
    mapping, _, said = drafted(history.encode())
    assert mapping.entity_types == []
    assert "2 rows; 2 transitions of 1 entities, 0 rows would be rejected" in said
    stored = _rows(installed_url, "entity_type, entity_id, to_status")
    assert stored == [("order", 1, "new"), ("order", 1, "confirmed")]
    mapping, _, _ = drafted(history.encode(), "--entity-type", "visit")
    assert mapping.entity_types == ["visit"]


def test_what_nobody_can_know_is_asked(drafted) -> None:
    log = AMBIGUOUS
    _, text, said = drafted(log.encode(), "--entity-type", "order")
    for words in (
        "in which zone 'changed' are meant, as in --timezone Europe/Amsterdam",
        "has the day or the month first: --day-first or --month-first",
    ):
        assert words in text
        assert words in said
    # Without a zone nothing is guessed: the rows would be rejected.
    assert "rejected: 6 created_at_has_offset" in said


@pytest.mark.parametrize(
    ("option", "given"), [("--day-first", "%d/%m/%Y"), ("--month-first", "%m/%d/%Y")]
)
def test_answer_decides_whether_the_day_is_first(
    drafted, option: str, given: str
) -> None:
    answers = ("--timezone", "UTC", "--entity-type", "order", option)
    _, text, said = drafted(AMBIGUOUS.encode(), *answers)
    assert f"format: '{given} %H:%M'" in text
    assert "Still to be answered" not in said


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv.gz"])
def test_every_format_is_sampled(drafted, kind: str, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "caseId": ["a", "a", "b"],
            "state": ["new", "done", "new"],
            "at": ["2026-03-01T09:00:00+01:00", "2026-03-02T09:00:00Z", None],
        }
    )
    frame = frame.with_columns(pl.col("at").fill_null("2026-03-01T10:00:00Z"))
    path = tmp_path / "made"
    if kind == "parquet":
        frame.write_parquet(path)
    elif kind == "jsonl":
        frame.write_ndjson(path)
    else:
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    _, _, said = drafted(
        path.read_bytes(), "--entity-type", "visit", name=f"log.{kind}"
    )
    assert "3 rows; 3 transitions of 2 entities, 0 rows would be rejected" in said
    assert "          2  new" in said


def test_event_log_in_xes_is_mapped_by_its_attributes(
    drafted, installed_url: str
) -> None:
    event = (
        '<event><string key="concept:name" value="{}"/>'
        '<date key="time:timestamp" value="2026-03-01T09:00:00+01:00"/></event>'
    )
    traces = "".join(
        f'<trace><string key="concept:name" value="{case}"/>'
        f"{event.format('Open')}{event.format('Close')}</trace>"
        for case in ("C-1", "C-2")
    )
    mapping, _, said = drafted(
        f"<log>{traces}</log>".encode(), "--entity-type", "visit", name="log.xes"
    )
    assert mapping.order == ("xes:position",)
    assert "4 rows; 4 transitions of 2 entities, 0 rows would be rejected" in said
    stored = _rows(installed_url, "to_status, source_order")
    assert sorted(stored) == [("Close", 2), ("Close", 2), ("Open", 1), ("Open", 1)]


def test_cut_last_line_null_texts_and_new_types_are_told(drafted) -> None:
    text = LOG.replace(";Bad\n", ";?\n").rstrip("\n")
    options = ("--entity-type", "ticket", "--timezone", "UTC")
    mapping, written, said = drafted(text.encode(), *options)
    assert "# The last line has no line end; is it whole?\naccept_unended: true" in (
        written
    )
    assert mapping.nulls == ("?",)
    assert "entity_types: [{name: ticket, label: Ticket}]" in said


def test_repeated_and_nameless_columns_are_named_by_their_place(
    drafted, installed_url: str
) -> None:
    text = (
        "id,at,status,status,\n"
        "1,2026-03-01T09:00Z,new,old,x\n"
        "2,2026-03-01T09:01Z,a,b,y\n"
    )
    drafted(text.encode(), "--entity-type", "order", "--status", "status#2")
    assert _rows(installed_url, "to_status, business_context ->> 'status#1'") == [
        ("old", "new"),
        ("b", "a"),
    ]


@pytest.mark.parametrize(
    ("content", "options", "parts"),
    [
        (LOG, (), ("say what its entities are, as in --entity-type order",)),
        (LOG, ("--key", "tiket_id"), ("no column 'tiket_id'; it has 'ticket_id', ",)),
        ("a,b\n1,2\n", ("--entity-type", "order"), ("no column looks like the key",)),
        ("id,b\n1,2\n2,3\n", ("--entity-type", "order"), ("like the status",)),
        (
            "id,status\n1,new\n2,old\n",
            ("--entity-type", "order"),
            ("no column holds instants in a format that is known",),
        ),
        ("id,status\n", ("--entity-type", "order"), ("no row of it can be read",)),
        ("", (), ("the file is empty",)),
    ],
)
@pytest.mark.usefixtures("installed_url")
def test_what_can_not_be_guessed_is_a_sentence(
    tmp_path: Path, content: str, options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(content)
    assert_one_sentence(run("map", path, *options), str(path), *parts)


@pytest.mark.usefixtures("installed_url")
def test_nothing_is_overwritten_and_nothing_else_is_written(tmp_path: Path) -> None:
    path, output = tmp_path / "log.csv", tmp_path / "mapping.yml"
    path.write_text(LOG)
    output.write_text("mine")
    options = ("--entity-type", "order", "--timezone", "UTC")
    assert_one_sentence(
        run("map", path, "-o", output, *options), "is there already. Name another"
    )
    assert output.read_text() == "mine"
    said = run("map", path, *options)
    assert said.code == 0
    (tmp_path / "other.yml").write_text(said.out)
    dry = run("ingest", path, "--mapping", tmp_path / "other.yml", "--dry-run")
    assert (dry.code, dry.out) == (0, "")
    assert dry.err.endswith("dry run, nothing is written\n")
    assert dry.err.splitlines()[:3] == said.err.splitlines()[:3]
    as_json = run(
        "ingest", path, "--mapping", tmp_path / "other.yml", "--dry-run", "--json"
    )
    (found,) = json.loads(as_json.out)["files"]
    assert (found["rows"], found["transitions"], found["rejected"]) == (6, 6, [])
    assert found["statuses"] == {"Gelöst": 2, "Neu": 2, "Geprüft": 1, "Zu": 1}
    with database.session() as connection:
        for table in ("status_transitions", "batches", "files", "deliveries"):
            query = f"select count(*) from raw.{table}"
            assert connection.execute(query).fetchone() == (0,)


REAL_LOGS: list[tuple[str, tuple[str, ...], dict[str, int]]] = [
    ("helpdesk_italian", ("--entity-type", "ticket"), {"Resolve ticket": 4_983}),
    (
        "olist_orders_8135",
        ("--timezone", "America/Sao_Paulo"),
        {"purchase": 8_134, "approved": 7_988, "delivered_carrier": 6_353},
    ),
    ("receipt_wabo", ("--entity-type", "permit"), {"Confirmation of receipt": 1_434}),
]
if NIGHTLY:
    # The large ones.
    REAL_LOGS += [
        (
            "boston_311_2011",
            ("--entity-type", "visit", "--timezone", "America/New_York"),
            {"open": 58_247, "closed": 54_566},
        ),
        (
            "bpic2013_incidents",
            ("--entity-type", "incident"),
            {"Accepted": 40_117, "Completed": 13_867, "Queued": 11_544, "Unmatched": 5},
        ),
    ]


@pytest.mark.skipif(not DATA.exists(), reason="the real data is not here")
@pytest.mark.parametrize(("name", "options", "counts"), REAL_LOGS)
@pytest.mark.usefixtures("installed_url")
def test_real_logs_are_mapped_by_their_answers_alone(
    name: str, options: tuple[str, ...], counts: dict[str, int]
) -> None:
    said = run("map", DATA / f"{name}.csv.gz", *options, "--json")
    found = json.loads(said.out)
    assert found["questions"] == []
    shown = found["preview"]["statuses"]
    assert {status: shown[status] for status in counts} == counts
    # Local times that a clock change makes twice.
    refused = found["preview"]["rejected"]
    assert {r["code"] for r in refused} <= {"created_at_exists_once"}
    assert sum(r["row_count"] for r in refused) <= 4
