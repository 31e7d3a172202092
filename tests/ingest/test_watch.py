"""Status changes as they are committed: each once, whatever commits late."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from ingest import StatusEngineError, append, record
from ingest.position import Numbers, Position, parse_position
from ingest.store import cuts, database
from ingest.store.database import PROJECT, Connection
from ingest.watch import Change, Wanted, committed, now, require_known, watch

FROM_THE_START = "0"
EVERYTHING = Wanted(unchanged=True)


def _record(connection: Connection, entity_id: int, status: str = "new") -> uuid.UUID:
    return record(
        connection, entity_type="order", entity_id=entity_id, to_status=status
    ).id


def _append(connection: Connection, *rows: tuple[int, str, str]) -> None:
    names = ("entity_id", "created_at", "to_status")
    frame = pl.DataFrame(rows, names, orient="row")
    append(connection, frame.with_columns(entity_type=pl.lit("order")))


def _read(
    connection: Connection, after: str = FROM_THE_START, wanted: Wanted = EVERYTHING
) -> list[Change]:
    return list(committed(connection, parse_position(after), wanted))


def _ids(connection: Connection) -> set[uuid.UUID]:
    found = connection.execute("select id from raw.status_transitions").fetchall()
    return {id_ for (id_,) in found}


class _Writers:
    """Transactions that overlap: open ones commit late, or never."""

    def __init__(self, url: str, chance: random.Random) -> None:
        self.url, self.chance = url, chance
        self.sessions = [database.connect(url) for _ in range(4)]
        self.open: list[Connection] = []
        self.pinning = database.connect(url)
        self.is_pinning = False
        self.entity = 0

    def step(self) -> None:
        act = self.chance.choice(["begin", "begin", "bulk", "end", "end", "pin"])
        idle = [s for s in self.sessions[1:] if s not in self.open]
        if act == "begin" and idle:
            session = self.chance.choice(idle)
            session.execute("begin")
            self.open.append(session)
            for _ in range(self.chance.randint(1, 2)):
                self.entity += 1
                _record(session, self.entity)
        elif act == "bulk":
            self.entity += 1
            stays = [
                (self.entity, f"2026-01-0{day}T00:00Z", self.chance.choice("ab"))
                for day in range(1, self.chance.randint(2, 6))
            ]
            _append(self.sessions[0], *stays)
        elif act == "end" and self.open:
            session = self.open.pop(self.chance.randrange(len(self.open)))
            session.execute(self.chance.choice(["commit", "commit", "rollback"]))
        elif act == "pin" and not self.is_pinning:
            self.pinning.execute("begin")
            cuts.pin(self.pinning, uuid.uuid4().hex)
            self.is_pinning = True
        # What commits while a cut is being pinned is in the next one.
        if self.is_pinning and self.chance.random() < 0.3:
            self.pinning.execute("commit")
            self.is_pinning = False

    def end(self) -> None:
        for session in (*self.open, *([self.pinning] if self.is_pinning else [])):
            session.execute("commit")
        for session in (*self.sessions, self.pinning):
            session.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_follower_that_dies_at_every_line_sees_each_transition_once(
    connection: Connection, database_url: str, seed: int
) -> None:
    """It keeps nothing but the position of its last line."""
    chance = random.Random(seed)
    writers = _Writers(database_url, chance)
    after, seen = FROM_THE_START, Counter[uuid.UUID]()

    def follow(lines: int) -> None:
        nonlocal after
        for _ in range(lines):
            change = next(committed(connection, parse_position(after), EVERYTHING), 0)
            if not change:
                return
            after = change.position
            seen[change.id] += 1

    for _ in range(150):
        writers.step()
        follow(chance.randint(0, 3))
    writers.end()
    follow(10_000)
    assert seen == dict.fromkeys(_ids(connection), 1)
    assert len(seen) > 50


WATCH = (sys.executable, "-m", "dagster_project", "watch", "--interval", "0.05")


def _killed_after(lines: int, after: str) -> list[dict[str, Any]]:
    """The whole lines of a follower that is killed when so many were read."""
    command = [*WATCH, "--after", after, "--all"]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        read = [follower.stdout.readline() for _ in range(lines)]
        follower.send_signal(signal.SIGKILL)
        # What was on its way counts: its reader has it.
        read += follower.stdout.readlines()
    return [json.loads(line) for line in read if line.endswith(b"\n")]


def test_a_killed_process_goes_on_where_its_reader_is(
    connection: Connection, env_database: str
) -> None:
    """Beside writers that commit late and roll back, and cuts that are pinned."""
    stop = threading.Event()

    def write(number: int) -> None:
        chance = random.Random(number)
        with database.connect(env_database) as session:
            for entity in range(number * 10_000, number * 10_000 + 300):
                if stop.is_set():
                    return
                session.execute("begin")
                _record(session, entity)
                time.sleep(chance.random() / 20)
                session.execute(chance.choice(["commit", "commit", "rollback"]))
                if chance.random() < 0.1:
                    cuts.pin(session, uuid.uuid4().hex)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for writer in writers:
        writer.start()
    after, seen = FROM_THE_START, Counter[str]()
    for lines in (1, 1, 2, 5, 20):
        for line in _killed_after(lines, after):
            seen[line["id"]] += 1
            after = line["position"]
    stop.set()
    for writer in writers:
        writer.join()
    rest = subprocess.run(
        [*WATCH, "--after", after, "--all", "--until-caught-up"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    )
    seen.update(json.loads(line)["id"] for line in rest.stdout.splitlines())
    assert seen == {str(id_): 1 for id_ in _ids(connection)}


def test_a_line_says_what_changed(connection: Connection) -> None:
    _append(connection, (7, "2026-01-01T00:00Z", "new"))
    cuts.pin(connection, "first")
    user = uuid.uuid4()
    connection.execute(
        "insert into raw.entity_keys values ('order', 7, 'shop', 'A-7', 1)"
    )
    _append(connection, (7, "2026-01-03T00:00Z", "new"))
    first, same = _read(connection)
    assert (first.from_status, first.to_status, first.cut) == (None, "new", 1)
    assert (same.from_status, same.cut, same.entity_key) == ("new", None, "A-7")
    assert first.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert timedelta() < datetime.now(UTC) - first.recorded_at < timedelta(hours=1)
    made = record(
        connection,
        entity_type="order",
        entity_id=7,
        to_status="paid",
        transition_reason="why",
        triggered_by_system="till",
        triggered_by_user_id=None,
    )
    (change,) = _read(connection, same.position, Wanted())
    assert change[:4] == (made.id, made.created_at, change.recorded_at, "order")
    assert change[6:13] == ("new", "paid", None, "till", "why", made.batch_id, 1)
    assert user != change.id


def test_only_changes_are_told_and_only_those_of_a_type(connection: Connection) -> None:
    _append(
        connection,
        (1, "2026-01-01T00:00Z", "a"),
        (1, "2026-01-02T00:00Z", "a"),
        (1, "2026-01-03T00:00Z", "b"),
    )
    record(connection, entity_type="quote", entity_id=1, to_status="a")

    def told(wanted: Wanted) -> list[str]:
        return [c.to_status for c in _read(connection, wanted=wanted)]

    assert told(Wanted()) == ["a", "b", "a"]
    assert told(Wanted(unchanged=True)) == ["a", "a", "b", "a"]
    assert told(Wanted("order")) == ["a", "b"]
    assert told(Wanted("quote")) == ["a"]


def test_from_now_on_leaves_out_what_is_committed_and_nothing_else(
    connection: Connection, database_url: str
) -> None:
    _record(connection, 1)
    cuts.pin(connection, "first")
    _record(connection, 2)
    with database.connect(database_url) as late:
        late.execute("begin")
        expected = [_record(late, 3)]
        _record(connection, 4)
        position = now(connection)
        late.execute("commit")
    expected.append(_record(connection, 5))
    assert [c.id for c in committed(connection, position)] == expected


def test_batches_and_rows_beyond_one_reading_come_all(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.watch.MOST_BATCHES", 3)
    monkeypatch.setattr("ingest.watch.MOST_ROWS", 2)
    for number in range(10):
        _append(
            connection,
            *((number, f"2026-01-0{d}T00:00Z", "ab"[d % 2]) for d in range(1, 6)),
        )
        if number in (4, 7):
            cuts.pin(connection, str(number))
    told = [(c.entity_id, c.batch_row) for c in _read(connection)]
    assert told == [(n, row) for n in range(10) for row in range(1, 6)]


def test_position_stays_short_when_cuts_are_pinned(connection: Connection) -> None:
    for number in range(5):
        _record(connection, number)
        # A number that no batch has, as after a rollback.
        connection.execute("select nextval('raw.batches_batch_id_seq')")
    position = parse_position(FROM_THE_START)
    list(committed(connection, position))
    assert str(position).count(",") == 4
    cuts.pin(connection, "one")
    list(committed(connection, position))
    assert str(position) == "1"


def test_a_commit_wakes_who_watches_where_that_is_on(
    connection: Connection, database_url: str
) -> None:
    told: list[Change] = []

    def read() -> None:
        with database.connect(database_url) as session:
            told.append(next(watch(session, now(session), interval=60)))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    _wait_until_idle(connection, "%following.cut%")
    _record(connection, 1)
    reader.join(0.5)
    assert told == []
    connection.execute("set status_engine.notify = on")
    _record(connection, 2)
    reader.join(20)
    assert [change.entity_id for change in told] == [1]


def _wait_until_idle(connection: Connection, query: str) -> None:
    """Until another session has asked such a query, and has its answer."""
    for _ in range(2_000):
        found = connection.execute(
            "select 1 from pg_stat_activity where query like %s and state = 'idle'"
            " and pid <> pg_backend_pid() and datname = current_database()",
            [query],
        ).fetchone()
        if found:
            return
        time.sleep(0.01)
    raise AssertionError(query)


def test_an_idle_question_reads_indexes_alone(connection: Connection) -> None:
    """Whatever the size of the ledger: 100,000 batches, and a gap."""
    connection.execute(
        "insert into raw.batches (kind, source, source_row_count, read_count,"
        " appended_count, duplicate_count, rejected_count)"
        " select 'transitions', 'x', 0, 0, 0, 0, 0"
        " from generate_series(1, 100000) as n"
    )
    cuts.pin(connection, "one")
    connection.execute("analyze raw.batches")
    _record(connection, 1)
    position = now(connection)
    before = _rows_read(connection)
    assert list(committed(connection, position)) == []
    assert _rows_read(connection) == before


def _rows_read(connection: Connection) -> tuple[Any, ...] | None:
    """Of the ledger and the cuts, by this session and all others."""
    connection.execute("select pg_stat_force_next_flush()")
    return connection.execute(
        "select sum(seq_tup_read), sum(idx_tup_fetch) from pg_stat_user_tables"
        " where relname in ('batches')"
    ).fetchone()


@pytest.mark.parametrize(
    "text",
    ["", "x", "-1", "1:", "1:3-2", "1:5,4", "1:5,5", "1+2", "1+2.", "1:2 ", "1;2"],
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(StatusEngineError, match="is no position"):
        parse_position(text)


@pytest.mark.parametrize("text", ["0", "12", "12:4-7,9", "12:4-7,9+11.17", "0+1.1"])
def test_a_position_is_read_as_it_is_written(text: str) -> None:
    assert str(parse_position(text)) == text


def test_a_position_of_another_database_is_refused(connection: Connection) -> None:
    with pytest.raises(StatusEngineError, match="another database"):
        require_known(connection, parse_position("3"))


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_a_set(seed: int) -> None:
    chance = random.Random(seed)
    numbers = [chance.randrange(60) for _ in range(50)]
    kept = Numbers(numbers)
    ranges = list(kept.ranges())
    assert {n for a, b in ranges for n in range(a, b + 1)} == set(numbers)
    assert all(b + 1 < a for (_, b), (a, _) in itertools.pairwise(ranges))
    outside = {n for g in kept.gaps() for n in range(g.after + 1, min(g.before, 60))}
    assert outside == set(range(60)) - set(numbers)
    assert str(parse_position(str(Position(1, kept)))) == str(Position(1, kept))


def test_command_ends_quietly_when_its_reader_goes(
    connection: Connection, env_database: str
) -> None:
    assert env_database
    for number in range(3):
        _record(connection, number)
    reading, writing = os.pipe()
    os.close(reading)
    said = subprocess.run(
        [*WATCH, "--after", "0"],
        cwd=PROJECT,
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert said.stderr == b""
