"""The inbox: what is read is what is moved, and no item stops those behind it."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nights import tries

from ingest import SourceError, inbox
from ingest.delivery import deliver
from ingest.files import chunks
from ingest.inbox import Passed, Taken, survey, take_in
from ingest.shelves import TAKEN
from ingest.store.database import Connection, connect

HEADER = "created_at,entity_type,entity_id,to_status\n"
MAPPING = """\
source: shop
entity_type: {constant: order}
entity_id: nr
created_at: at
to_status: what
"""
MAPPED = "nr,at,what\n{0},2026-01-01T00:00:00Z,new\n"
# Runs the inbox and dies by SIGKILL after the first batch of a file.
DYING = """
import functools, os, signal, sys
from pathlib import Path
from ingest import delivery, inbox
from ingest.files import chunks
from ingest.store import database

chunks.CHUNK_ROWS = 2
die = lambda rows: os.kill(os.getpid(), signal.SIGKILL)
inbox.deliver = functools.partial(delivery.deliver, progress=die)
with database.session(sys.argv[1]) as connection:
    list(inbox.take_in(connection, Path(sys.argv[2])))
"""


def _csv(*numbers: int) -> str:
    rows = (f"2026-01-01T00:00:00Z,order,{number},new\n" for number in numbers)
    return HEADER + "".join(rows)


def _put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _stored(connection: Connection) -> list[int]:
    query = "select entity_id from raw.status_transitions order by 1"
    return [number for (number,) in connection.execute(query)]


def _names(folder: Path) -> set[str]:
    """The files of a folder, at any depth."""
    found = (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    return {str(path.relative_to(folder)) for path in found}


def _run(connection: Connection, home: Path) -> dict[str, Taken | Passed]:
    """What a run says, by the name in the inbox."""
    root = home / "inbox"
    said = list(take_in(connection, root))
    return {str(item.path.relative_to(root)): item for item in said}


def _refusal(item: Taken | Passed) -> str:
    assert isinstance(item, Taken)
    assert (item.delivery, item.left) == (None, None)
    assert item.refusal is not None
    return item.refusal


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an empty inbox."""
    (tmp_path / "home" / "inbox").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Do something once, while the next file is delivered, after its first batch."""

    def arrange(act: Callable[[], object]) -> None:
        waiting = [act]
        progress = lambda _: waiting and waiting.pop()()  # noqa: E731
        monkeypatch.setattr(chunks, "CHUNK_ROWS", 2)
        monkeypatch.setattr(inbox, "deliver", partial(deliver, progress=progress))

    return arrange


def test_file_renamed_over_one_that_is_delivered_is_delivered_next(
    connection: Connection, home: Path, during: Callable[..., None]
) -> None:
    first = _put(home / "inbox" / "latest.csv", _csv(1, 2, 3, 4, 5))
    second = _put(home / "second.csv", _csv(6, 7))
    during(lambda: second.rename(first))
    _run(connection, home)
    assert _stored(connection) == [1, 2, 3, 4, 5]
    assert (home / "archive" / "latest.csv").read_text() == _csv(1, 2, 3, 4, 5)
    _run(connection, home)
    assert _stored(connection) == [1, 2, 3, 4, 5, 6, 7]
    assert (home / "archive" / "1-latest.csv").read_text() == _csv(6, 7)
    assert _names(home / "inbox") == set()


def test_files_renamed_to_one_name_again_and_again_are_all_delivered_once(
    connection: Connection, home: Path
) -> None:
    place, count, has_ended = (
        home / "inbox" / "latest.csv",
        tries(20, 60),
        threading.Event(),
    )

    def produce() -> None:
        for number in range(count):
            while place.exists():
                pass
            _put(home / "next", _csv(number)).rename(place)
        has_ended.set()

    thread = threading.Thread(target=produce)
    thread.start()
    while not has_ended.is_set():
        _run(connection, home)
    thread.join()
    _run(connection, home)
    assert _stored(connection) == list(range(count))
    assert len(_names(home / "archive")) == count
    assert _names(home / "inbox") == set()


def test_file_that_grows_while_it_is_delivered_is_delivered_again_for_the_rest(
    connection: Connection, home: Path, during: Callable[..., None]
) -> None:
    _put(home / "inbox" / "log.csv", _csv(1, 2, 3))

    def grow() -> None:
        with (home / "inbox" / TAKEN / "1" / "log.csv").open("a") as file:
            file.write(_csv(4).removeprefix(HEADER))

    during(grow)
    said = _run(connection, home)["log.csv"]
    assert isinstance(said, Taken)
    assert said.left is not None
    assert "written to while it was delivered" in said.left
    _run(connection, home)
    assert _stored(connection) == [1, 2, 3, 4]
    assert (home / "archive" / "log.csv").read_text() == _csv(1, 2, 3, 4)


def test_what_a_killed_run_had_taken_is_delivered_first_under_its_name(
    connection: Connection,
    database_url: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 2)
    shop = home / "inbox" / "shop"
    _put(shop / "mapping.yml", MAPPING)
    rows = [MAPPED.format(number) for number in (1, 2, 3)]
    header, _ = rows[0].splitlines(keepends=True)
    _put(shop / "zoo.csv", header + "".join(r.removeprefix(header) for r in rows))
    command = [sys.executable, "-c", DYING, database_url, str(home / "inbox")]
    killed = subprocess.run(command, check=False, capture_output=True)
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, b"")
    assert (shop / TAKEN / "1" / "zoo.csv").exists()
    _put(shop / "zoo.csv", MAPPED.format(4))
    _put(home / "inbox" / "a.csv", _csv(5))
    said = [item.path.name for item in take_in(connection, home / "inbox")]
    assert said == ["zoo.csv", "a.csv", "zoo.csv"]
    assert _stored(connection) == [1, 2, 3, 4, 5]
    names = connection.execute("select file_name from raw.deliveries order by 1")
    assert names.fetchall() == [("a.csv",), ("zoo.csv",), ("zoo.csv",)]
    assert _names(home / "archive") == {"a.csv", "shop/zoo.csv", "shop/1-zoo.csv"}
    assert _names(home / "inbox") == {"shop/mapping.yml"}


def test_lost_connection_ends_the_run_and_the_file_is_taken_next_time(
    connection: Connection, database_url: str, home: Path, during: Callable[..., None]
) -> None:
    _put(home / "inbox" / "a.csv", _csv(1, 2, 3, 4, 5))
    _put(home / "inbox" / "b.csv", _csv(6))

    def cut() -> None:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )

    during(cut)
    with connect(database_url) as lost, pytest.raises(psycopg.OperationalError):
        _run(lost, home)
    assert not (home / "refused").exists()
    _run(connection, home)
    assert _stored(connection) == [1, 2, 3, 4, 5, 6]
    assert _names(home / "archive") == {"a.csv", "b.csv"}


def test_database_that_can_not_be_written_refuses_no_file(
    connection: Connection, home: Path
) -> None:
    _put(home / "inbox" / "a.csv", _csv(1))
    connection.execute("set default_transaction_read_only = on")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        _run(connection, home)
    connection.execute("set default_transaction_read_only = off")
    assert not (home / "refused").exists()
    _run(connection, home)
    assert _stored(connection) == [1]


def test_name_that_is_no_utf8_is_escaped_in_the_ledger_and_kept_on_disk(
    connection: Connection, home: Path
) -> None:
    name = os.fsdecode(b"b\xff.csv")
    _put(home / "inbox" / name, _csv(1) + "wrong\n")
    _put(home / "inbox" / os.fsdecode(b"wrong\xfe.csv"), "a,b\n1,2\n")
    _put(home / "inbox" / os.fsdecode(b"shop\xfd") / "mapping.yml", "nothing: 1\n")
    _put(home / "inbox" / os.fsdecode(b"shop\xfd") / "x.csv", MAPPED.format(3))
    _put(home / "inbox" / "z.csv", _csv(2))
    said = _run(connection, home)
    assert said.keys() == {r"b\xff.csv", r"wrong\xfe.csv", r"shop\xfd/x.csv", "z.csv"}
    assert r"wrong\xfe.csv, line 1" in _refusal(said[r"wrong\xfe.csv"])
    assert r"shop\xfd/mapping.yml, line 1: key" in _refusal(said[r"shop\xfd/x.csv"])
    assert _stored(connection) == [1, 2]
    for table in ("deliveries", "rejected_transitions"):
        rows = connection.execute(f"select file_name from raw.{table} order by 1")
        assert rows.fetchall()[0] == (r"b\xff.csv",)
    assert _names(home / "archive") == {name, "z.csv"}
    again = _put(home / name, _csv(1) + "wrong\n")
    assert deliver(connection, again).file_name == r"b\xff.csv"


def _long(first: str, end: str = ".csv") -> str:
    """A name of 255 bytes that begins so."""
    return first + "é" * ((255 - len(end) - len(first)) // 2) + end


def test_longest_names_are_archived_and_refused_again_and_again(
    connection: Connection, home: Path
) -> None:
    good, bad = _long("g"), _long("b")
    assert [len(os.fsencode(name)) for name in (good, bad)] == [255, 255]
    for number in range(3):
        _put(home / "inbox" / good, _csv(number))
        _put(home / "inbox" / bad, f"what,{number}\n")
        _put(home / "inbox" / "z.csv", _csv(number + 10))
        said = _run(connection, home)
        assert [item.left for item in said.values() if isinstance(item, Taken)] == [
            None
        ] * 3
    assert _stored(connection) == [0, 1, 2, 10, 11, 12]
    kept = sorted((home / "archive").iterdir())
    assert {p.read_text() for p in kept} == {_csv(n) for n in (0, 1, 2, 10, 11, 12)}
    refused = _names(home / "refused")
    texts = {name for name in refused if name.endswith(".txt")}
    assert {f"{name}.txt" for name in refused - texts} == texts
    assert len(texts) == 3


def test_shelf_that_is_a_file_is_said_and_the_rest_goes_on(
    connection: Connection, home: Path
) -> None:
    _put(home / "archive", "a file")
    _put(home / "inbox" / "a.csv", _csv(1))
    _put(home / "inbox" / "b.csv", "wrong\n")
    _put(home / "inbox" / "c.csv", _csv(2))
    for number in range(2):
        said = _run(connection, home)
        for name in ("a.csv", "c.csv"):
            item = said[name]
            assert isinstance(item, Taken)
            assert item.left is not None
            assert "can't be moved to" in item.left
            assert f"{TAKEN}/" in item.left
        _put(home / "inbox" / "a.csv", _csv(3 + number))
    assert _stored(connection) == [1, 2, 3]
    (home / "archive").unlink()
    _run(connection, home)
    assert _stored(connection) == [1, 2, 3, 4]
    assert _names(home / "archive") == {"a.csv", "1-a.csv", "2-a.csv", "c.csv"}
    assert _names(home / "inbox") == set()


def test_nothing_that_is_kept_is_overwritten_or_opened(
    connection: Connection, home: Path
) -> None:
    for name in ("a.csv", "a.csv.txt", "1-a.csv.txt"):
        _put(home / "refused" / name, name)
    os.mkfifo(home / "refused" / ".part")
    _put(home / "inbox" / "a.csv", "wrong\n")
    _refusal(_run(connection, home)["a.csv"])
    for name in ("a.csv", "a.csv.txt", "1-a.csv.txt"):
        assert (home / "refused" / name).read_text() == name
    assert (home / "refused" / "2-a.csv").read_text() == "wrong\n"


def test_folder_of_the_name_of_an_archived_file_is_archived_beside_it(
    connection: Connection, home: Path
) -> None:
    _put(home / "inbox" / "x.csv", _csv(1))
    _run(connection, home)
    _put(home / "inbox" / "x.csv" / "x.csv", _csv(2))
    _run(connection, home)
    assert _names(home / "archive") == {"x.csv", "1-x.csv/x.csv"}
    assert _stored(connection) == [1, 2]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another filesystem than the tests' own: in memory, or on a disk."""
    device = tmp_path.stat().st_dev
    places = [Path("/dev/shm"), Path("/var/tmp"), Path("/tmp")]  # noqa: S108
    place = next(p for p in places if p.is_dir() and p.stat().st_dev != device)
    folder = place / f"inbox-{os.getpid()}"
    folder.mkdir()
    yield folder
    subprocess.run(["rm", "-r", folder], check=True)


def test_inbox_on_another_filesystem_is_emptied_by_copies(
    connection: Connection, home: Path, elsewhere: Path
) -> None:
    assert elsewhere.stat().st_dev != home.stat().st_dev
    (home / "inbox").rmdir()
    (home / "inbox").symlink_to(elsewhere)
    _put(home / "archive" / "a.csv", "an older one")
    good = _put(elsewhere / "a.csv", _csv(1))
    os.utime(good, ns=(5, 7))
    _put(elsewhere / "shop" / "b.csv", "wrong\n")
    os.mkfifo(elsewhere / "pipe.csv")
    said = _run(connection, home)
    assert _stored(connection) == [1]
    assert _names(home / "archive") == {"a.csv", "1-a.csv"}
    assert (home / "archive" / "1-a.csv").read_text() == _csv(1)
    assert (home / "archive" / "1-a.csv").stat().st_mtime_ns == 7
    assert _names(home / "refused") == {"shop/b.csv", "shop/b.csv.txt"}
    piped = said["pipe.csv"]
    assert isinstance(piped, Taken)
    assert piped.left is not None
    assert os.strerror(errno.EXDEV) in piped.left
    assert _names(elsewhere) == {f"{TAKEN}/1/pipe.csv"}


def test_pipe_and_socket_are_refused_without_being_opened(
    connection: Connection, home: Path
) -> None:
    os.mkfifo(home / "inbox" / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(home / "inbox" / "socket.csv"))
    _put(home / "inbox" / "z.csv", _csv(1))
    said = _run(connection, home)
    for name in ("pipe.csv", "socket.csv"):
        assert "it is no file" in _refusal(said[name])
        reason = (home / "refused" / f"{name}.txt").read_text()
        assert reason == f"{_refusal(said[name])}\n"
    assert _stored(connection) == [1]


def test_file_that_may_not_be_read_is_refused(
    connection: Connection, public_folder: Path
) -> None:
    home = public_folder / "unreadable"
    _put(home / "inbox" / "a.csv", _csv(1)).chmod(0)
    _put(home / "inbox" / "z.csv", _csv(2)).chmod(0o644)
    user = os.geteuid() or 65_534
    for path in (home, home / "inbox"):
        os.chown(path, user, -1)
    items = take_in(connection, home / "inbox")
    try:
        os.seteuid(user)
        first = next(items)
    finally:
        os.seteuid(os.getuid())
    assert isinstance(next(items), Taken)
    assert "a.csv: Permission denied" in _refusal(first)
    assert _names(home / "refused") == {"a.csv", "a.csv.txt"}
    assert _stored(connection) == [2]


def test_file_that_vanishes_after_it_was_listed_is_said(
    connection: Connection, home: Path
) -> None:
    for name in ("a.csv", "b.csv", "c.csv"):
        _put(home / "inbox" / name, _csv(ord(name[0])))
    said = take_in(connection, home / "inbox")
    assert isinstance(next(said), Taken)
    (home / "inbox" / "b.csv").unlink()
    gone, last = said
    assert "b.csv: passed over, it was gone" in str(gone)
    assert isinstance(last, Taken)
    assert _stored(connection) == [ord("a"), ord("c")]
    assert _names(home / "inbox") == set()


def test_survey_of_files_that_come_and_go_never_fails(home: Path) -> None:
    has_ended = threading.Event()

    def come_and_go() -> None:
        for number in range(3_000):
            path = _put(home / "inbox" / "shop" / f"{number % 7}.csv", "")
            path.unlink()
            path.parent.rmdir()
        has_ended.set()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    found = 0
    while not has_ended.is_set():
        found += len(survey(home / "inbox").waiting)
    thread.join()
    assert found > 0
    assert survey(home / "inbox") == ([], [])


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "more memory"),
        (RecursionError("maximum depth"), "nested too deeply"),
        (ValueError("no such thing\nat all"), r"no such thing \(ValueError\)"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "why"), "UnicodeEncodeError"),
        (pl.exceptions.PanicException("panicked"), "panicked"),
        (psycopg.errors.ProgramLimitExceeded("too long"), "too long"),
        (psycopg.DataError("it holds NUL"), "it holds NUL"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_file_raises_is_its_refusal(
    connection: Connection,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    words: str,
) -> None:
    def raising(*arguments: Any, **options: Any) -> Any:
        if arguments[1].name == "bad.csv":
            raise error
        return deliver(*arguments, **options)

    monkeypatch.setattr(inbox, "deliver", raising)
    _put(home / "inbox" / "bad.csv", _csv(1))
    _put(home / "inbox" / "good.csv", _csv(2))
    said = _run(connection, home)
    with pytest.raises(SourceError, match=words):
        raise SourceError(_refusal(said["bad.csv"]))
    assert _stored(connection) == [2]


def test_links_are_neither_followed_nor_moved(
    connection: Connection, home: Path
) -> None:
    outside = home / "outside"
    _put(outside / "mapping.yml", MAPPING)
    _put(outside / "secret.csv", MAPPED.format(1))
    root = home / "inbox"
    (root / "folder").symlink_to(outside)
    (root / "file.csv").symlink_to(outside / "secret.csv")
    (root / "loop.csv").symlink_to(root / "loop.csv")
    _put(root / "shop" / "y.csv", MAPPED.format(2))
    (root / "shop" / "mapping.yml").symlink_to(outside / "mapping.yml")
    _put(root / "z.csv", _csv(3))
    said = _run(connection, home)
    assert said.keys() == {"file.csv", "shop/mapping.yml", "shop/y.csv", "z.csv"}
    links = said["file.csv"]
    assert isinstance(links, Passed)
    assert (links.others, "it is a link" in links.reason) == (2, True)
    assert _stored(connection) == [3]
    assert _names(outside) == {"mapping.yml", "secret.csv"}
    assert (root / "folder").is_symlink()
    assert not (home / "refused").exists()


def test_folder_of_taken_files_that_is_a_link_takes_nothing(
    connection: Connection, home: Path
) -> None:
    outside = _put(home / "outside" / "x.csv", _csv(1)).parent
    (home / "inbox" / TAKEN).symlink_to(outside)
    _put(home / "inbox" / "a.csv", _csv(2))
    said = _run(connection, home)["a.csv"]
    assert isinstance(said, Taken)
    assert said.left is not None
    assert f"{TAKEN} is no folder" in said.left
    assert _stored(connection) == []
    assert _names(outside) == {"x.csv"}
    assert (home / "inbox" / "a.csv").exists()


def test_link_that_takes_the_place_of_a_listed_file_is_refused_itself(
    connection: Connection, home: Path
) -> None:
    outside = _put(home / "outside.csv", _csv(1))
    for name in ("a.csv", "b.csv"):
        _put(home / "inbox" / name, _csv(2))
    said = take_in(connection, home / "inbox")
    next(said)
    (home / "inbox" / "b.csv").unlink()
    (home / "inbox" / "b.csv").symlink_to(outside)
    (linked,) = said
    assert "no file, but a link" in _refusal(linked)
    assert (home / "refused" / "b.csv").is_symlink()
    assert _stored(connection) == [2]


def test_what_is_passed_over_is_said_once_a_run_and_starts_none(
    connection: Connection, home: Path
) -> None:
    root = home / "inbox"
    _put(root / "shop" / "deep" / "x.csv", _csv(1))
    _put(root / ".hidden.csv", _csv(2))
    _put(root / ".git" / "x.csv", _csv(3))
    _put(root / "mapping.yml", MAPPING)
    for number in range(9):
        _put(root / "notes" / f"{number}.txt", "note")
    _put(root / "named" / "mapping.yaml", MAPPING)
    _put(root / "named" / "x.csv", MAPPED.format(4))
    _put(root / "both" / "mapping.yml", MAPPING)
    _put(root / "both" / "mapping.yaml", "nothing: 1")
    _put(root / "both" / "x.csv", MAPPED.format(5))
    (root / "dangling").mkdir()
    (root / "dangling" / "mapping.yml").symlink_to(root / "nowhere")
    _put(root / "dangling" / "x.csv", MAPPED.format(6))
    (root / "dir" / "mapping.yml").mkdir(parents=True)
    _put(root / "dir" / "x.csv", MAPPED.format(7))
    first = _run(connection, home)
    assert isinstance(first.pop("both/x.csv"), Taken)
    again = _run(connection, home)
    assert again == first
    words = {
        ".git": "begins with a dot",
        "both/mapping.yaml": "is named mapping.yml",
        "dangling/mapping.yml": "is a link",
        "dangling/x.csv": "mapping beside it",
        "dir/mapping.yml": "lies in a folder already",
        "dir/x.csv": "mapping beside it",
        "mapping.yml": "belongs in a folder",
        "named/mapping.yaml": "is named mapping.yml",
        "named/x.csv": "mapping beside it",
        "notes/0.txt": "ends in none of",
        "shop/deep": "lies in a folder already",
    }
    assert first.keys() == words.keys()
    for name, reason in words.items():
        assert reason in str(first[name])
    assert "/.git and 1 more: passed over" in str(first[".git"])
    assert "/0.txt and 8 more: passed over" in str(first["notes/0.txt"])
    assert survey(root).waiting == []
    assert _stored(connection) == [5]


NAMES = (
    *(b"a.csv", b"b.csv", b"B.JSONL.gz", b"\xff\xfe.csv", b"new\nline.csv", b".csv"),
    *(b"x" * 251 + b".csv", "é".encode() * 125 + b".tsv", b"notes.txt", b"~.parquet"),
    *(b"mapping.yml", b"mapping.yaml", b"Mapping.YML", b".taken", b".part", b"1", b"-"),
)
FOLDERS = (b"", b"", b"shop", b"\xfd", b"a.csv", b".taken", b".taken/1", b"shop/.taken")
KINDS = (
    *("rows", "rows", "rows", "mapped", "mapping", "bytes", "empty", "bomb", "pipe"),
    *("link to file", "link to folder", "link to nothing", "link to itself", "folder"),
)
ITEMS = st.tuples(
    st.sampled_from(FOLDERS), st.sampled_from(NAMES), st.sampled_from(KINDS)
)


def _make(path: Path, kind: str, number: int, outside: Path) -> None:
    """An item of a kind; each file's content is its own."""
    contents = {
        "rows": _csv(number),
        "mapped": MAPPED.format(number),
        "mapping": f"{MAPPING}# {number}\n",
        "bytes": b"\x00\xff%d" % number,
        "empty": "",
        "bomb": f"created_at: {'[' * 3000} # {number}",
    }
    links = {
        "link to file": outside / "x.csv",
        "link to folder": outside,
        "link to nothing": outside / "nothing",
        "link to itself": path,
    }
    if kind in contents:
        _put(path, contents[kind])
    elif kind in links:
        path.symlink_to(links[kind])
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()


def _contents(*folders: Path) -> list[bytes]:
    """Of all regular files, at any depth; those with a reason for us are left out."""
    return sorted(
        path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.suffix != ".txt"
    )


@settings(max_examples=tries(15, 30), deadline=None)
@given(items=st.lists(ITEMS, max_size=14))
def test_any_tree_is_taken_in_without_an_error_and_nothing_of_it_is_lost(
    fresh_database: Any,
    check_conservation: Callable[[Connection], None],
    tmp_path_factory: pytest.TempPathFactory,
    items: list[tuple[bytes, bytes, str]],
) -> None:
    home = tmp_path_factory.mktemp("home")
    root, outside = home / "inbox", home / "outside"
    _put(outside / "x.csv", _csv(10_000))
    root.mkdir()
    for number, (folder, name, kind) in enumerate(items):
        path = root / os.fsdecode(folder) / os.fsdecode(name)
        # Through a link it would be made elsewhere.
        if any(p.is_symlink() for p in path.parents if root in p.parents):
            continue
        with suppress(FileExistsError, NotADirectoryError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(path):
                _make(path, kind, number, outside)
    before = _contents(root)
    with fresh_database() as url, connect(url) as connection:
        said = list(take_in(connection, root))
        assert _contents(root, home / "archive", home / "refused") == before
        archived = b"".join(_contents(home / "archive"))
        rows = {n for n in range(len(items)) if b",order,%d," % n in archived}
        rows |= {n for n in range(len(items)) if b"\n%d,2026" % n in archived}
        assert set(_stored(connection)) == rows
        left = [item for item in said if isinstance(item, Passed) or item.left]
        assert list(take_in(connection, root)) == left
        assert len(survey(root).waiting) == sum(isinstance(i, Taken) for i in left)
        check_conservation(connection)
    assert _contents(outside) == [_csv(10_000).encode()]
    for item in said:
        " ".join(map(str, (*item, item))).encode()
