"""A status history of another PostgreSQL, brought over once."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest

from ingest import (
    DatabaseError,
    DeliveryResult,
    Mapping,
    Settings,
    SourceError,
    deliver,
    load_mapping,
)
from ingest.files.from_database import copied
from ingest.files.layout import Layout
from ingest.identity import key_to_uuid
from ingest.store.database import PROJECT, Connection

Load = Callable[[str], Mapping]

EXAMPLE = PROJECT / "examples" / "order_status_history.yml"
EVERYTHING = "select * from order_status_history order by id"
HISTORY = """
create table order_status_history (
    id bigint primary key,
    order_id bigint not null,
    old_status text,
    new_status text not null,
    changed_at timestamptz,
    changed_by text,
    notes text
);
insert into order_status_history values
(1, 9223372036854775807, null, 'new', '2025-03-30 01:59:59.999999+01', 'kim', ''),
(2, 9223372036854775807, 'new', 'paid', '2025-03-30 03:00+02', null, null),
(3, 7, '', 'done', '2025-01-01 00:00Z', 'kim', E'a "quoted",\\nline \\\\N'),
(4, 7, 'done', 'done', null, 'kim', 'when?'),
(5, 7, 'done', 'gone', 'infinity', 'kim', 'ever');
"""
KEYLESS = """
entity_type: {constant: order}
entity_id: o
created_at: at
to_status: s
"""


@pytest.fixture
def old_database(
    fresh_database: Callable[..., AbstractContextManager[str]],
) -> Iterator[str]:
    """Another database of the test server, with a history in it."""
    with fresh_database("template1") as url:
        with psycopg.connect(url) as connection:
            connection.execute(HISTORY)
            connection.execute("set time zone 'Asia/Tokyo'")
        yield url


def _import(
    connection: Connection, url: str, query: str, mapping: Mapping
) -> DeliveryResult:
    with copied(url, query, mapping.layout) as (path,):
        return deliver(connection, path, Settings(mapping))


def test_history_comes_over_value_by_value(
    connection: Connection, old_database: str
) -> None:
    found = _import(connection, old_database, EVERYTHING, load_mapping(EXAMPLE))
    assert found.result == (5, 3, 0, 2)
    kim = key_to_uuid("kim")
    stored = connection.execute(
        "select metadata ->> 'history_id', entity_type, entity_id, from_status,"
        " to_status, created_at::text, triggered_by_user_id::text, transition_reason"
        " from raw.status_transitions order by batch_row"
    ).fetchall()
    big = 2**63 - 1
    before, after = "2025-03-30 00:59:59.999999+00", "2025-03-30 01:00:00+00"
    assert stored == [
        ("1", "order", big, None, "new", before, kim, ""),
        ("2", "order", big, "new", "paid", after, None, None),
        (
            "3",
            "order",
            7,
            "",
            "done",
            "2025-01-01 00:00:00+00",
            kim,
            'a "quoted",\nline \\N',
        ),
    ]
    rejected = connection.execute(
        "select row_number, code, original from raw.rejected_transitions"
    ).fetchall()
    assert rejected == [
        (4, "created_at_is_given", b"4,7,done,done,,kim,when?\n"),
        (5, "created_at_is_instant", b"5,7,done,gone,infinity,kim,ever\n"),
    ]


def test_history_brought_over_again_appends_nothing(
    connection: Connection, old_database: str
) -> None:
    mapping = load_mapping(EXAMPLE)
    _import(connection, old_database, f"{EVERYTHING};", mapping)
    again = _import(connection, old_database, EVERYTHING, mapping)
    assert (again.is_repeated, again.result) == (True, (5, 0, 3, 2))
    turned = f"{EVERYTHING} desc -- the newest first"
    assert _import(connection, old_database, turned, mapping).result == (5, 0, 3, 2)


def test_exact_repetitions_of_a_table_without_key_are_duplicates(
    connection: Connection, old_database: str, mapping: Load
) -> None:
    query = (
        "select o, timestamptz '2025-01-01 00:00Z' as at, s"
        " from (values (1, 'a'), (1, 'a'), (1, 'b')) as rows (o, s)"
    )
    found = _import(connection, old_database, query, mapping(KEYLESS))
    assert found.result == (3, 2, 1, 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0.1::float8 + 0.2::float8", "0.30000000000000004"),
        ("1.50::numeric", "1.50"),
        ("true", "t"),
        ("'\\xff00'::bytea", "\\xff00"),
        ('\'{"b": 1.0, "a": null}\'::jsonb', '{"a": null, "b": 1.0}'),
        ("interval '1 day 02:00'", "P1DT2H"),
        ("date '2025-03-01'", "2025-03-01"),
        ("timestamp '2025-03-30 02:30'", "2025-03-30 02:30:00"),
        ("timestamptz '2025-03-30 02:30+02'", "2025-03-30 00:30:00+00"),
        ("'ü' || chr(8364)", "ü€"),
        ("''::text", ""),
        ("null::text", None),
    ],
)
def test_every_type_is_the_text_that_postgres_writes(
    connection: Connection,
    old_database: str,
    mapping: Load,
    value: str,
    text: str | None,
) -> None:
    # A role may have its own settings, as this one.
    settings = "-c timezone=Asia/Tokyo -c datestyle=german -c extra_float_digits=-10"
    settings += " -c bytea_output=escape -c intervalstyle=sql_standard"
    url = psycopg.conninfo.make_conninfo(
        old_database, options=settings, client_encoding="latin1"
    )
    query = f"select 1 as o, now() as at, 'new' as s, {value} as v"
    with_value = mapping(f"{KEYLESS}transition_reason: v\n")
    assert _import(connection, url, query, with_value).result.appended == 1
    stored = connection.execute("select transition_reason from raw.status_transitions")
    assert stored.fetchall() == [(text,)]


def test_file_is_named_by_database_and_host_without_password(
    connection: Connection, old_database: str
) -> None:
    url = psycopg.conninfo.make_conninfo(old_database, password="se!cret")  # noqa: S106
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    found = _import(connection, url, EVERYTHING, load_mapping(EXAMPLE))
    assert found.file_name == f"{name}.csv"
    for table in ("files", "deliveries", "batches", "rejected_transitions"):
        rows = connection.execute(f"select row_to_json(t) from raw.{table} as t")
        assert "se!cret" not in json.dumps(rows.fetchall())


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("select * from nothing", 'relation "nothing" does not exist'),
        ("selec", "syntax error"),
        ("select 1; select 2", "syntax error"),
        ("delete from order_status_history returning *", "syntax error"),
        ("select *, nextval('s') as n from order_status_history", "read-only"),
        ("select order_id from order_status_history", "no column 'changed_at'"),
        ("select 1 / (id - 3) as id, h.* from order_status_history as h", "more than"),
        (
            "select h.*, 1 / (id - 3) as x from order_status_history as h",
            "division by zero",
        ),
    ],
)
def test_wrong_query_is_refused_in_one_sentence(
    connection: Connection, old_database: str, query: str, part: str
) -> None:
    with psycopg.connect(old_database) as owner:
        owner.execute("create sequence s")
    with pytest.raises(SourceError, match=part) as caught:
        _import(connection, old_database, query, load_mapping(EXAMPLE))
    assert "\n" not in str(caught.value)
    assert connection.execute("select * from raw.files").fetchall() == []
    with psycopg.connect(old_database) as owner:
        kept = owner.execute("select count(*) from order_status_history").fetchone()
    assert kept == (5,)


def test_mapping_of_a_file_with_a_delimiter_is_refused(
    connection: Connection, old_database: str, mapping: Load
) -> None:
    with pytest.raises(SourceError, match="delimiter"):
        _import(
            connection, old_database, "select 1", mapping(f"{KEYLESS}delimiter: ';'")
        )


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@127.0.0.1:1/none", "mysql://me:secret@host/db"]
)
def test_unreachable_source_is_told_without_its_password(url: str) -> None:
    with (
        pytest.raises(DatabaseError, match=r"--from") as caught,
        copied(url, "select 1", Layout()) as paths,
    ):
        assert isinstance(paths, Path)
    assert "secret" not in str(caught.value)
