"""The embedded server of a home folder: crashes, races, long paths, root."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ingest import DatabaseError, deliver
from ingest.store import embedded
from ingest.store.database import connect, upgrade

PROJECT = Path(__file__).parents[2]
START = "import sys, pathlib\nfrom ingest.store import embedded\n"
START += "print(embedded.start(pathlib.Path(sys.argv[1])))"

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder that other OS users can reach; its server is stopped at the end."""
    parent = Path(tempfile.mkdtemp(prefix="se-"))
    parent.chmod(0o755)
    yield parent / "home"
    _stop(parent / "home")
    shutil.rmtree(parent)


def _stop(home: Path) -> None:
    try:
        embedded.stop(home, delete=True)
    except DatabaseError:
        # What a test has killed is started once more, so that it can be stopped.
        embedded.start(home)
        embedded.stop(home, delete=True)


def _data_folder(conninfo: str) -> Path:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("show data_directory").fetchone()
    assert row is not None
    return Path(row[0])


def _kill_server(conninfo: str) -> None:
    """End the postmaster of this conninfo without a chance to clean up."""
    pid = int((_data_folder(conninfo) / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    _wait_for_end(pid)


def _wait_for_end(pid: int) -> None:
    for _ in range(600):
        status = Path(f"/proc/{pid}/stat")
        # A zombie that its parent has not collected yet still looks alive.
        if not status.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")


def _note(conninfo: str, number: int) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute("create table if not exists notes (number integer)")
        connection.execute("insert into notes values (%s)", [number])


def _notes(conninfo: str) -> list[int]:
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("select number from notes order by number").fetchall()
    return [number for (number,) in rows]


def test_data_survives_a_stop_and_a_crash(home: Path) -> None:
    conninfo = embedded.start(home)
    _note(conninfo, 1)
    assert embedded.start(home) == conninfo
    assert embedded.stop(home)
    with pytest.raises(DatabaseError):
        connect(conninfo)
    assert embedded.start(home) == conninfo
    _note(conninfo, 2)
    _kill_server(conninfo)
    assert embedded.start(home) == conninfo
    assert _notes(conninfo) == [1, 2]


def test_stop_tells_whether_a_server_ran_and_deletes_on_request(home: Path) -> None:
    assert not embedded.stop(home)
    folder = _data_folder(embedded.start(home))
    assert embedded.stop(home)
    assert not embedded.stop(home)
    assert folder.exists()
    embedded.stop(home, delete=True)
    assert not folder.exists()


def test_stop_after_a_crash_finds_no_server(home: Path) -> None:
    _kill_server(embedded.start(home))
    assert not embedded.stop(home)


def test_a_server_of_another_release_is_stopped_by_the_command_that_is_told(
    home: Path,
) -> None:
    """Its socket is elsewhere: here by another name of its folder."""
    url = embedded.start(home)
    _note(url, 1)
    (_data_folder(url).parent / "made").write_text("elsewhere")
    with pytest.raises(DatabaseError, match=r"another release.* status-engine stop\.$"):
        embedded.start(home)
    assert embedded.stop(home)
    assert _notes(embedded.start(home)) == [1]


def test_start_interrupted_before_its_database_was_made_completes(home: Path) -> None:
    conninfo = embedded.start(home)
    server = conninfo.replace("/status_engine?", "/postgres?")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("drop database status_engine")
    assert embedded.start(home) == conninfo
    _note(conninfo, 1)


def test_half_made_cluster_is_made_anew(home: Path) -> None:
    folder = _data_folder(embedded.start(home))
    embedded.stop(home)
    (folder / "global" / "pg_control").unlink()
    (folder.parent / "made").unlink()
    _note(embedded.start(home), 1)


def test_processes_starting_at_once_share_one_server(home: Path) -> None:
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", START, str(home)],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in starts]
    assert [p.returncode for p in starts] == [0, 0], said
    assert len({out for out, _ in said}) == 1
    _note(said[0][0].strip(), 1)


@pytest.fixture
def deep_home(home: Path) -> Iterator[Path]:
    """A home whose path is too long for a Unix socket in it."""
    deep = home / ("deep" * 25)
    yield deep
    _stop(deep)


def _socket_folder(conninfo: str) -> Path:
    return Path(str(conninfo_to_dict(conninfo)["host"]))


def test_home_too_deep_for_a_socket_still_works(deep_home: Path) -> None:
    conninfo = embedded.start(deep_home)
    _note(conninfo, 1)
    assert _data_folder(conninfo).is_relative_to(deep_home)
    assert not _socket_folder(conninfo).is_relative_to(deep_home)
    embedded.stop(deep_home)
    assert _notes(embedded.start(deep_home)) == [1]
    embedded.stop(deep_home, delete=True)
    shutil.rmtree(_socket_folder(conninfo), ignore_errors=True)


def test_delete_removes_the_socket_folder_too(deep_home: Path) -> None:
    folder = _socket_folder(embedded.start(deep_home))
    embedded.stop(deep_home, delete=True)
    is_left = folder.exists()
    shutil.rmtree(folder, ignore_errors=True)
    assert not is_left


def test_server_listens_on_no_port_and_to_no_other_user(home: Path) -> None:
    conninfo = embedded.start(home)
    with psycopg.connect(conninfo) as connection:
        assert connection.execute("show listen_addresses").fetchone() == ("",)
        row = connection.execute("show unix_socket_directories").fetchone()
    assert row is not None
    folder = Path(row[0].strip('"'))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / embedded.SOCKET_NAME).stat().st_mode) == 0o700


def test_environment_names_no_other_server(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    conninfo = embedded.start(home)
    _note(conninfo, 1)
    assert embedded.start(home) == conninfo


@pytest.mark.parametrize("how", ["open", "link", "file"])
def test_socket_folder_of_somebody_else_is_refused(deep_home: Path, how: str) -> None:
    conninfo = embedded.start(deep_home)
    embedded.stop(deep_home)
    folder = Path(conninfo_to_dict(conninfo)["host"])
    assert folder.parent == Path(tempfile.gettempdir())
    if how == "open":
        folder.chmod(0o755)
    else:
        folder.rmdir()
        if how == "link":
            folder.symlink_to(deep_home)
        else:
            folder.write_text("")
    try:
        with pytest.raises(DatabaseError, match="belongs to another user, or is open"):
            embedded.start(deep_home)
    finally:
        if how == "open":
            folder.chmod(0o700)
        else:
            folder.unlink()


@is_root
def test_socket_folder_of_another_user_is_refused(deep_home: Path) -> None:
    conninfo = embedded.start(deep_home)
    embedded.stop(deep_home)
    folder = Path(conninfo_to_dict(conninfo)["host"])
    os.chown(folder, 65534, 65534)
    with pytest.raises(DatabaseError, match="belongs to another user"):
        embedded.start(deep_home)
    shutil.rmtree(folder)


def test_home_is_closed_to_others(home: Path) -> None:
    embedded.start(home)
    assert stat.S_IMODE(home.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    assert [
        p.name for p in home.iterdir() if p.is_dir() and p.stat().st_mode & 0o077
    ] == []


def test_home_that_is_a_file_is_a_database_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("occupied")
    with pytest.raises(DatabaseError, match="STATUS_ENGINE_HOME"):
        embedded.start(tmp_path / "home")


def test_binaries_that_are_missing_are_a_database_error(home: Path) -> None:
    with pytest.raises(DatabaseError, match="DATABASE_URL"):
        embedded.start(home, binaries=home / "absent")


@is_root
def test_root_leaves_a_private_parent_private(home: Path) -> None:
    home.mkdir()
    private = home / "private"
    private.mkdir(mode=0o700)
    inner = private / "home"
    try:
        _note(embedded.start(inner), 1)
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        embedded.stop(inner)
        assert _notes(embedded.start(inner)) == [1]
    finally:
        embedded.stop(inner, delete=True)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@is_root
def test_root_with_a_private_umask_starts_a_server(home: Path) -> None:
    before = os.umask(0o077)
    try:
        _note(embedded.start(home), 1)
        assert _notes(embedded.start(home)) == [1]
    finally:
        os.umask(before)


@is_root
def test_ordinary_user_runs_the_server_as_themselves(home: Path) -> None:
    home.mkdir()
    shutil.chown(home, "nobody")
    home.chmod(0o700)
    script = f"{START}\nprint(embedded.stop(pathlib.Path(sys.argv[1])))"
    needed = (Path(sys.executable).resolve(), Path(sys.prefix), PROJECT / "ingest")
    if not all(map(_is_reachable, needed)):
        pytest.skip("nobody can't read this checkout, its Python or its packages")
    ran = subprocess.run(
        [sys.executable, "-B", "-c", script, str(home)],
        cwd=PROJECT,
        user="nobody",
        group="nogroup",
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[1] == "True"
    assert (home / "postgres" / "data").stat().st_uid == home.stat().st_uid


def _is_reachable(folder: Path) -> bool:
    return all(p.stat().st_mode & 0o001 for p in (folder, *folder.parents))


def test_oldest_supported_postgresql_takes_a_delivery(
    oldest_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "created_at,entity_type,entity_id,to_status,transition_reason,metadata\n"
        '2026-01-01T00:00:00Z,order,1,new,"two\n\\.\nlines","{""a"":1.0}"\n'
        "2026-01-01T00:00:00Z,order,1,new,,{}\n"
        "2026-01-02T00:00:00,order,1,paid,,\n"
    )
    with connect(oldest_url) as connection:
        assert connection.info.server_version // 10_000 == 15
        upgrade(connection)
        assert deliver(connection, path).result == (3, 2, 0, 1)
        assert deliver(connection, path).result == (3, 0, 2, 1)
        rows = connection.execute(
            "select transition_reason, metadata::text from raw.status_transitions"
            " order by batch_row"
        ).fetchall()
    assert rows == [("two\n\\.\nlines", '{"a": 1.0}'), (None, "{}")]


def test_a_home_deleted_under_its_server_is_made_anew(home: Path) -> None:
    """The old server ends by itself, and must not take the new one's socket along."""
    folder = _data_folder(embedded.start(home))
    old = int((folder / "postmaster.pid").read_text().split()[0])
    shutil.rmtree(home)
    conninfo = embedded.start(home)
    _note(conninfo, 1)
    os.kill(old, signal.SIGTERM)
    _wait_for_end(old)
    assert _notes(conninfo) == [1]
    assert embedded.start(home) == conninfo


@pytest.mark.parametrize("name", ["o'k", "o,k", "o k é", "o%2Ck"])
def test_home_with_an_unusual_name_works(home: Path, name: str) -> None:
    folder = home.parent / name
    try:
        _note(embedded.start(folder), 1)
        assert _notes(embedded.start(folder)) == [1]
    finally:
        embedded.stop(folder, delete=True)


@pytest.mark.parametrize("name", ["o$HOME", "o`k", 'o"k'])
def test_home_that_pg_ctl_can_not_take_is_a_database_error(
    home: Path, name: str
) -> None:
    with pytest.raises(DatabaseError, match="Set STATUS_ENGINE_HOME"):
        embedded.start(home.parent / name)
