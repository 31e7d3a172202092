"""Another database that is followed: nothing is missed or doubled, nothing fills up."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
import yaml

from ingest import SourceError, following
from ingest.followed_source import FollowedSource, json_schema, load_source
from ingest.following import Reading, follow, follow_due, state_of
from ingest.store import database
from ingest.store.database import Connection

CREATE = """
create table history (
    id bigint primary key,
    order_id bigint not null,
    status text not null,
    changed_at timestamptz
)
"""
# A password that no server asks for, and that nobody may see.
SECRET = "se!cret"
DEFINITION: dict[str, Any] = {
    "connection": "SHOP_URL",
    "query": "select * from history",
    "mapping": {
        "entity_type": {"constant": "order"},
        "entity_id": "order_id",
        "created_at": "changed_at",
        "to_status": "status",
        "identity": ["id"],
    },
    "watermark": "changed_at",
    "overlap": "10 minutes",
    "interval": "1 minute",
}
AT = "2026-01-01T00:00Z"


@pytest.fixture
def shop(
    fresh_database: Callable[..., AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Connection]:
    """Another database of the test server, named by an environment variable."""
    with fresh_database("template1") as url:
        named = psycopg.conninfo.make_conninfo(url, password=SECRET)
        monkeypatch.setenv("SHOP_URL", named)
        with database.connect(url) as connection:
            connection.execute("set search_path = public")
            connection.execute(CREATE)
            yield connection


@pytest.fixture
def define(tmp_path: Path) -> Callable[..., FollowedSource]:
    """Write the file of source `shop`, with other values of some keys; load it."""

    def write(name: str = "shop", **other: Any) -> FollowedSource:
        path = tmp_path / "sources" / f"{name}.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({**DEFINITION, **other}))
        return load_source(path)

    return write


Define = Callable[..., FollowedSource]


def _sell(shop: Connection, number: int, at: str = AT, status: str = "new") -> None:
    shop.execute(
        "insert into history values (%s, %s, %s, %s)", [number, number, status, at]
    )


def _minutes(count: int) -> str:
    return f"2026-01-01T{count // 60:02}:{count % 60:02}Z"


def _orders(connection: Connection) -> list[int]:
    found = connection.execute(
        "select entity_id from raw.status_transitions order by entity_id"
    ).fetchall()
    return [number for (number,) in found]


def _count(connection: Connection, table: str) -> int:
    return database.row_count(connection, f"raw.{table}")


def test_only_what_is_new_is_read_and_late_rows_of_the_overlap(
    connection: Connection, shop: Connection, define: Define
) -> None:
    source = define()
    _sell(shop, 1, _minutes(0))
    _sell(shop, 2, _minutes(60))
    first = follow(connection, source)
    assert (first.is_whole, first.rows, first.result) == (True, 2, (2, 2, 0, 0))
    # Exactly at the edge of the overlap; and one microsecond before it.
    _sell(shop, 3, _minutes(50))
    _sell(shop, 4, "2026-01-01T00:49:59.999999Z")
    _sell(shop, 5, _minutes(70))
    second = follow(connection, source)
    assert (second.is_whole, second.result) == (False, (3, 2, 1, 0))
    assert _orders(connection) == [1, 2, 3, 5]
    whole = follow(connection, source, is_whole=True)
    assert whole.result == (5, 1, 4, 0)
    assert whole.watermark == "2026-01-01 01:10:00+00"


@pytest.mark.parametrize("seed", range(3))
def test_whatever_commits_late_within_the_overlap_comes_once(
    connection: Connection,
    shop: Connection,
    define: Define,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """Numbers are taken in order and committed up to ten later, or never."""
    chance = random.Random(seed)
    source = define(watermark="id", overlap=10)
    waiting: list[int] = []
    committed = set()
    for number in range(1, 81):
        waiting.append(number)
        ready = [n for n in waiting if chance.random() < 0.2 or n <= number - 9]
        for each in ready:
            waiting.remove(each)
            if chance.random() < 0.8:
                _sell(shop, each)
                committed.add(each)
        if chance.random() < 0.4:
            _follow_or_die(connection, source, chance, monkeypatch)
    follow(connection, source)
    assert set(_orders(connection)) == committed


def _follow_or_die(
    connection: Connection,
    source: FollowedSource,
    chance: random.Random,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sometimes it dies when its rows are committed and its position is not."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if chance.random() < 0.4:
            patch.setattr(following, "_note", die)
        with suppress(KeyboardInterrupt):
            follow(connection, source)


def test_what_is_read_again_fills_no_table(
    connection: Connection, shop: Connection, define: Define
) -> None:
    source = define()
    for minute in range(8):
        _sell(shop, minute, _minutes(minute))
    # Without an instant it is refused, each time that all is read; as is a status
    # that is empty, within the overlap.
    shop.execute("insert into history values (90, 90, 'new', null)")
    _sell(shop, 91, _minutes(7), status="")
    assert follow(connection, source).result == (10, 8, 0, 2)
    for minute in range(8, 12):
        _sell(shop, minute, _minutes(minute))
        reading = follow(connection, source, is_whole=minute == 11)
        assert (reading.result.appended, reading.result.rejected) == (1, 0)
        assert reading.known_rejects == (2 if minute == 11 else 1)
    assert _count(connection, "rejected_transitions") == 2
    assert _count(connection, "status_transitions") == 12
    follow(connection, source)
    tables = ("files", "batches", "rejected_transitions")
    before = [_count(connection, table) for table in tables]
    for _ in range(3):
        follow(connection, source)
    assert [_count(connection, table) for table in tables] == before
    assert _count(connection, "source_readings") == 9


def test_an_idle_or_empty_source_makes_no_delivery(
    connection: Connection, shop: Connection, define: Define
) -> None:
    source = define(overlap="1 second")
    assert follow(connection, source) == Reading("shop", is_whole=True)
    assert _count(connection, "deliveries") == 0
    _sell(shop, 1)
    assert follow(connection, source).result.appended == 1


def test_a_time_ahead_of_the_clock_hides_nothing(
    connection: Connection, shop: Connection, define: Define
) -> None:
    source = define(query="select *, changed_at as at from history", watermark="at")
    now = shop.execute("select now()::text").fetchone()
    assert now is not None
    for number, at in ((1, now[0]), (2, "9999-12-31T00:00Z"), (3, "infinity")):
        _sell(shop, number, at)
    follow(connection, source)
    _sell(shop, 4, now[0])
    follow(connection, source)
    assert _orders(connection) == [1, 4]


@pytest.mark.parametrize(
    ("kind", "overlap"),
    [("timestamp", "1 hour"), ("date", "1 day"), ("timestamptz", 60), ("integer", 2)],
)
def test_a_watermark_is_a_time_or_a_whole_number(
    connection: Connection, shop: Connection, define: Define, kind: str, overlap: Any
) -> None:
    value = "id" if kind == "integer" else "changed_at"
    source = define(
        query=f"select *, {value}::{kind} as mark from history -- all",
        watermark="mark",
        overlap=overlap,
    )
    _sell(shop, 5)
    follow(connection, source)
    _sell(shop, 6)
    _sell(shop, 3)
    assert follow(connection, source).result == (3, 2, 1, 0)


@pytest.mark.parametrize(
    ("other", "part"),
    [
        ({"watermark": "status"}, "neither a time nor a whole number"),
        ({"watermark": "id"}, "so must be its overlap"),
        ({"watermark": "none"}, "no column 'none'"),
        ({"query": "select * from nothing"}, 'relation "nothing" does not exist'),
        ({"query": "select 1 as x"}, "no column"),
        ({"connection": "NOT_SET"}, "environment variable NOT_SET is not set"),
        ({"query": "select *, pg_sleep(9) from history"}, "statement timeout"),
    ],
)
def test_a_source_that_fails_says_why_and_keeps_its_place(
    connection: Connection,
    shop: Connection,
    define: Define,
    other: dict[str, Any],
    part: str,
) -> None:
    _sell(shop, 1)
    source = define(**other, timeout="1 second")
    reading = follow(connection, source)
    assert part in (reading.refusal or "")
    assert (reading.refusal or "").count("\n") == 0
    state = state_of(connection, source)
    assert (state.refusal, state.is_due) == (reading.refusal, False)
    assert (state.watermark, state.is_whole_due) == (None, True)


def test_a_failed_reading_is_followed_by_one_from_where_it_stood(
    connection: Connection,
    shop: Connection,
    define: Define,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = define()
    _sell(shop, 1, _minutes(0))
    follow(connection, source)
    with monkeypatch.context() as patch:
        patch.setenv("SHOP_URL", f"postgresql://me:{SECRET}@127.0.0.1:1/none")
        failed = follow(connection, source)
    assert "SHOP_URL" in (failed.refusal or "")
    _sell(shop, 2, _minutes(5))
    again = follow(connection, source)
    assert (again.is_whole, again.result.appended) == (False, 1)
    # Another definition is another source: it is read whole.
    assert follow(connection, define(watermark="id", overlap=1)).is_whole


def test_a_password_is_kept_and_told_nowhere(
    connection: Connection,
    shop: Connection,
    define: Define,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _sell(shop, 1)
    readings = [follow(connection, define())]
    for url in (
        f"postgresql://me:{SECRET}@127.0.0.1:1/none",
        f"mysql://me:{SECRET}@host/db",
        f"host=127.0.0.1 port={SECRET} password={SECRET}",
    ):
        monkeypatch.setenv("SHOP_URL", url)
        readings.append(follow(connection, define()))
    assert all(reading.refusal for reading in readings[1:])
    kept = [str(readings)]
    tables = ("files", "deliveries", "batches", "source_readings")
    for table in tables:
        rows = connection.execute(f"select row_to_json(t) from raw.{table} as t")
        kept.append(json.dumps(rows.fetchall()))
    monkeypatch.setenv("SHOP_URL", f"x {SECRET}")
    with monkeypatch.context() as patch:

        def tell(*_: object, **__: object) -> None:
            raise ValueError(f"x {SECRET} is what I was given")

        patch.setattr(following, "copied_since", tell)
        kept.append(str(follow(connection, define())))
    assert [text for text in kept if SECRET in text] == []


def test_sources_are_read_when_they_are_due_and_one_stops_no_other(
    connection: Connection, shop: Connection, define: Define, tmp_path: Path
) -> None:
    assert list(follow_due(connection, tmp_path / "sources")) == []
    define("a_failing", connection="NOT_SET")
    define("slow", interval="1 day", whole_every="2 days")
    (tmp_path / "sources" / "broken.yml").write_text("query: 1\n")
    (tmp_path / "sources" / "x.mapping.yml").write_text("source: x\n")
    _sell(shop, 1)
    found = {r.source: r for r in follow_due(connection, tmp_path / "sources")}
    assert list(found) == ["a_failing", "broken", "slow"]
    assert found["slow"].result.appended == 1
    assert "is missing" in (found["broken"].refusal or "")
    again = list(follow_due(connection, tmp_path / "sources"))
    assert [reading.source for reading in again] == ["broken"]
    shorter = define("slow", interval="1 second")
    connection.execute("select pg_sleep(1.1)")
    assert state_of(connection, shorter).is_due
    assert not state_of(connection, shorter).is_whole_due
    often = define("slow", whole_every="1 second")
    assert state_of(connection, often).is_whole_due


@pytest.mark.parametrize(
    ("other", "part"),
    [
        ({"overlap": "soon"}, "'overlap' must be"),
        ({"interval": 5}, "'interval' must be a text such as 10 minutes"),
        ({"mapping": {"source": "x"}}, "key 'entity_type' is missing"),
        ({"mapping": "none.yml"}, "none.yml"),
        ({"url": "x"}, "key 'url' is unknown"),
        ({"connection": f"postgresql://me:{SECRET}@h/d"}, "the name of an environment"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(
    define: Define, other: dict[str, Any], part: str
) -> None:
    with pytest.raises(SourceError) as caught:
        define(**other)
    assert part in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_mapping_may_stand_in_a_file_beside_it(
    define: Define, tmp_path: Path
) -> None:
    inline = define()
    mapping = tmp_path / "sources" / "shop.mapping.yml"
    mapping.write_text(yaml.safe_dump(DEFINITION["mapping"]))
    beside = define(mapping=mapping.name, whole_every="1 week")
    assert beside.mapping == inline.mapping
    assert beside.sha256 == inline.sha256
    assert (beside.overlap, beside.whole_every) == (
        timedelta(minutes=10),
        timedelta(weeks=1),
    )


def test_published_schema_is_that_of_the_checks() -> None:
    published = database.PROJECT / "ingest" / "source.schema.json"
    assert json.loads(published.read_text()) == json_schema()
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(DEFINITION, json_schema())
