"""What a person sees: no control characters of the data, no traceback, no secret."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import polars as pl
import psycopg
import pytest
from commands import Said, assert_one_sentence, process, run
from nights import NIGHTLY
from psycopg.conninfo import make_conninfo

from dagster_project import cli, dbt_process, terminal
from dagster_project.resources import Warehouse
from dagster_project.run import RunError, dagster_home
from dagster_project.run import run as run_job
from ingest import DatabaseError, append
from ingest.store import database

Installation = Callable[..., AbstractContextManager[str]]

EVIL = "\x1b]0;owned\x07\x1b[31mnew[/x]\u202e\x9b"
SHOWN = "\\x1b]0;owned\\x07\\x1b[31mnew[/x]\\u202e\\x9b"
SECRET = "xyzzy"


def _is_clean(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Ünïcode 漢字 🙂", "Ünïcode 漢字 🙂"),
        (EVIL, SHOWN),
        ("a\tb\r\n", "a\\tb\\r\\n"),
        ("\udcff", "\\udcff"),
        ("\u2028\ufeff", "\\u2028\\ufeff"),
        (None, "None"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(value: object, expected: str) -> None:
    assert terminal.shown(value) == expected


@pytest.mark.usefixtures("first_run_url")
def test_no_command_prints_control_characters_of_the_data(
    tmp_path: Path, home: Path
) -> None:
    office = (database.PROJECT / "workflows" / "office_nl.yml").read_text()
    evil_name = json.dumps(EVIL)
    calendar = tmp_path / "calendar.yml"
    calendar.write_text(office.replace("office_nl", evil_name, 1))
    order = (database.PROJECT / "workflows" / "order.yml").read_text()
    workflow = tmp_path / "order.yml"
    workflow.write_text(
        order.replace("calendar: office_nl", f"calendar: {evil_name}").replace(
            "status_label: New", f"status_label: {evil_name}"
        )
    )
    said = [run("workflows", "apply", tmp_path)]
    said += [run("workflows", "show"), run("workflows", "show", EVIL.replace("/", ""))]
    said += [run("workflows", "show", "order/standard")]
    row = {
        "created_at": "2026-03-01T09:00:00Z",
        "entity_type": "order",
        "entity_id": 7,
        "to_status": EVIL,
        "transition_reason": EVIL,
        "triggered_by_system": EVIL,
    }
    file = tmp_path / f"rows{EVIL.replace('/', '')}.jsonl"
    file.write_text(f"{json.dumps(row)}\n{json.dumps({**row, 'entity_type': EVIL})}\n")
    said += [run("ingest", file), run("rejects", "list"), run("rejects", "show", 1)]
    run_job(Warehouse(), ["cut", "build", "publish"])
    said += [run("explain", "order", 7), run("as-of", "order", 7)]
    assert [one for one in said if not _is_clean(one.out + one.err)] == []
    assert SHOWN in said[-2].out
    assert SHOWN in said[-1].out
    (home / "inbox").mkdir(exist_ok=True)
    (home / "inbox" / f"bad{EVIL.replace('/', '')}.csv").write_text("nothing")
    refused = run("run")
    assert refused.code == 1
    assert _is_clean(refused.out + refused.err)
    from rich.console import Console

    from dagster_project.cli.summary import summarise

    with (tmp_path / "summary").open("w") as file_of_summary:
        summarise(home, Console(file=file_of_summary, width=200))
    summary = (tmp_path / "summary").read_text()
    assert _is_clean(summary)
    assert "Compliance" in summary


@pytest.mark.usefixtures("installed_url")
def test_what_nobody_foresaw_is_a_sentence_and_kept_in_a_private_log(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_conninfo(os.environ["DATABASE_URL"], password=SECRET)
    monkeypatch.setenv("DATABASE_URL", url)

    def fail(*_: object) -> None:
        msg = f"first line of {url}\nsecond line with {SECRET}"
        raise ZeroDivisionError(msg)

    monkeypatch.setattr(cli.configuration.in_force, "definitions", fail)
    said = run("workflows", "show")
    log = home / terminal.LOG_NAME
    assert_one_sentence(said, "ZeroDivisionError: first line of …", str(log))
    assert "second line" in log.read_text()
    assert "Traceback" in log.read_text()
    assert SECRET not in log.read_text() + said.err
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "order", "1", "--as-of", "9999-12-31T23:59:59-14:00"],
        ["as-of", "order", "1", "--at", "0001-01-01T00:00:00+14:00"],
        ["workflows", "show", "--at", "9999-12-31T23:59:59-14:00"],
    ],
)
def test_instant_beyond_utc_is_wrong_usage(arguments: list[str]) -> None:
    said = run(*arguments)
    assert said.code == 2
    assert "not within years 1 to 9999" in said.err


@pytest.mark.usefixtures("installed_url")
@pytest.mark.parametrize("offset", ["+23:59", "-23:59", "+15:59:59"])
def test_instant_of_any_offset_is_taken(offset: str) -> None:
    said = run("workflows", "show", "--at", f"2026-03-01T00:00:00{offset}")
    assert (said.code, said.err) == (0, "There is none.\n")


@pytest.mark.usefixtures("installed_url")
def test_argument_that_is_no_text_is_one_sentence() -> None:
    for arguments in (
        ["explain", "order\udcff", "1"],
        ["workflows", "show", "\udcff"],
        ["rejects", "list", "--code", "\udcff"],
        ["record", "order", "1", "\udcff"],
        ["ingest", "\udcff.csv"],
    ):
        said = run(*arguments)
        assert said.code == 1
        assert _is_clean(said.err)
        assert said.err.startswith("Error: ")
        assert said.err.count("\n") == 1


def _append(url: str) -> None:
    frame = {
        "created_at": ["2026-03-01T09:00:00Z"],
        "entity_type": ["order"],
        "entity_id": [7],
        "to_status": ["new"],
    }
    with database.session(url) as connection:
        append(connection, pl.DataFrame(frame))


@pytest.fixture
def analyst(first_run_url: str) -> Iterator[str]:
    """The URL of a role that has rights on schema sla alone, once it is built."""
    with psycopg.connect(first_run_url, autocommit=True) as server:
        server.execute("create role analyst login")
        yield first_run_url.replace("//postgres@", "//analyst@")
        server.execute("drop owned by analyst")
        server.execute("drop role analyst")


@pytest.mark.usefixtures("first_run_url")
def test_entity_that_is_not_there_is_told_from_an_unknown_type() -> None:
    unknown = "The type 'ticket' is unknown; known are order, quote, visit, line_item,"
    for command in ("explain", "as-of"):
        assert_one_sentence(run(command, "ticket", 1), unknown)
    assert_one_sentence(
        run("explain", "order", 3), "no order 3: nothing was ever recorded; ids there "
    )
    said = run("explain", "quote", 1)
    assert said.err == "Error: There is no quote 1: nothing was ever recorded.\n"


def test_who_may_only_read_reads_and_is_told_what_else_takes(
    first_run_url: str, analyst: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(first_run_url, autocommit=True) as server:
        server.execute("grant usage on schema sla to analyst")
        server.execute("grant select on all tables in schema sla to analyst")
    monkeypatch.setenv("DATABASE_URL", analyst)
    for reading in (["explain", "order", "1"], ["as-of", "order", "1"]):
        said = run(*reading)
        assert (said.code, said.err) == (0, "")
    # Which types are known, who has no rights on schema raw is not told.
    assert_one_sentence(run("explain", "ticket", 1), "There is no ticket 1")
    for other in (
        ["rejects", "list"],
        ["workflows", "show"],
        ["init"],
        ["record", "order", "1", "confirmed"],
    ):
        said = run(*other)
        assert_one_sentence(said, "The role analyst lacks a right", "schema sla alone")
        assert "grant create" not in said.err
    with pytest.raises(RunError, match="The role analyst lacks a right"):
        run_job(Warehouse(), ["cut", "build"])

    # A server that takes no writes, as a standby does not.
    with psycopg.connect(first_run_url, autocommit=True) as server:
        name = server.info.dbname
        server.execute(f"alter database {name} set default_transaction_read_only = on")
    monkeypatch.setenv("DATABASE_URL", first_run_url)
    for reading in (
        ["explain", "order", "1"],
        ["as-of", "order", "1"],
        ["rejects", "list"],
        ["workflows", "show"],
    ):
        assert run(*reading).code == 0
    file = database.PROJECT / "workflows" / "quote.yml"
    for writing in (
        ["record", "order", "1", "confirmed"],
        ["workflows", "apply", file],
        ["rejects", "replay"],
    ):
        said = run(*writing)
        if writing[0] != "rejects":
            assert_one_sentence(said, "is read-only here", "DATABASE_URL")
    with pytest.raises(RunError, match="is read-only here"):
        run_job(Warehouse(), ["cut", "build"])


LEAKING = [
    f"postgresql://user:{SECRET}@more@host/name",
    f"postgresql://user:more@{SECRET}@host/name",
    f"postgresql://user:{SECRET}/more@host/name",
    f"postgresql://user:more/{SECRET}@host/name",
    f"postgresql://user:1/{SECRET}@host/name",
    f"postgresql://user:{SECRET}",
    f"postgresql://user:{SECRET}%zz@host/name",
    f"postgresql://user:more?{SECRET}@{SECRET}@host/name",
    f"host=host password=more {SECRET}",
    f"{SECRET}",
]


@pytest.mark.parametrize("url", LEAKING)
def test_malformed_url_is_refused_without_its_password(
    url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatabaseError) as caught:
        database.connect(url)
    chain = caught.value
    assert chain.__cause__ is None
    assert chain.__context__ is None or chain.__suppress_context__
    assert SECRET not in str(caught.value)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("STATUS_ENGINE_HOME", str(home))
    said = run("run")
    assert_one_sentence(said, "is no PostgreSQL connection string", "%40")
    kept = [
        path
        for path in home.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert kept == []


def test_password_is_not_among_the_arguments_of_psql(
    installed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_conninfo(installed_url, password=SECRET)
    monkeypatch.setenv("DATABASE_URL", url)
    code = "\\! tr '\\\\0' ' ' < /proc/$PPID/cmdline"
    said = subprocess.run(
        [sys.executable, "-m", "dagster_project", "psql", "-X"],
        cwd=database.PROJECT,
        input=f"{code}\n\\echo :USER\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.endswith("psql\0-X\0postgres\n")
    assert SECRET not in said.stdout + said.stderr


@pytest.mark.usefixtures("first_run_url")
def test_files_of_the_home_are_private(home: Path) -> None:
    # As a release that did not know better left it.
    (home / "dagster").mkdir(parents=True)
    (home / "dagster" / "history").mkdir()
    assert process("init").code == 0
    file = home / "inbox" / "rows.csv"
    header = "created_at,entity_type,entity_id,to_status"
    file.write_text(f"{header}\n2026-03-01T09:00:00Z,order,3,new\n")
    file.chmod(0o600)
    assert process("run").code == 0
    assert [p for p in home.iterdir() if p.stat().st_mode & 0o077] == []
    published = home / "published" / "current"
    assert [p for p in published.iterdir() if p.stat().st_mode & 0o077] == []


def test_build_that_fails_says_what_failed_and_where_to_read_on(
    first_run_url: str, home: Path
) -> None:
    with database.connect(first_run_url) as connection:
        connection.execute("alter table sla.status_intervals drop column visit cascade")
    lines = run("build").err.splitlines()
    assert lines[0].startswith("  cut 2 pinned")
    assert [line for line in lines if not line.startswith("  ")] == [
        "Error: The build failed: status_intervals (Table status_intervals has other "
        "columns than its model. Run status-engine build --full-refresh). "
        f"What dbt says is in {home / 'dbt-sla'}/dbt.log."
    ]


def _interrupt(words: list[str], after: str) -> Said:
    """Ctrl-C at a terminal, to all processes of a command, once it said something."""
    with subprocess.Popen(
        [sys.executable, "-m", "dagster_project", *words],
        cwd=database.PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests that run in the background of a shell are told to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as command:
        assert command.stderr is not None
        said = ""
        # Modules are being loaded; nothing else is done yet.
        while (
            not after and "polars" not in Path(f"/proc/{command.pid}/maps").read_text()
        ):
            assert command.poll() is None
        while after not in said:
            line = command.stderr.readline()
            assert line
            said += line
        os.killpg(command.pid, signal.SIGINT)
        out, err = command.communicate()
    return Said(command.returncode, out, said + err)


def test_ctrl_c_ends_a_run_with_a_sentence(first_run_url: str) -> None:
    _append(first_run_url)
    # Each goes on to where the next is stopped, the last one to the end.
    for after in ("", "pinned", "passed") if NIGHTLY else ("pinned",):
        said = _interrupt(["run"], after)
        assert said.code == 1
        assert said.out == ""
        *lines, last = said.err.splitlines()
        assert last.removeprefix("Error: ") == "Stopped. Run it again to continue."
        assert [line for line in lines if not line.startswith("  ")] == []
    assert run("run").code == 0


@pytest.mark.usefixtures("installed_url")
def test_settings_of_dagster_that_were_half_written_are_made_anew(home: Path) -> None:
    settings = dagster_home(home) / "dagster.yaml"
    whole = settings.read_text()
    for broken in (b"", b"telemetry:\n  enabled: [", b"\xff", b"telemetry"):
        settings.write_bytes(broken)
        dagster_home(home)
        assert settings.read_text() == whole
    own = "telemetry:\n  enabled: false\nnux: {enabled: false}\n"
    settings.write_text(own)
    dagster_home(home)
    assert settings.read_text() == own


@pytest.mark.parametrize("left", [pytest.param(b"{", marks=pytest.mark.nightly), b"[]"])
def test_manifest_that_was_half_written_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bytes
) -> None:
    project = tmp_path / "dbt"
    shutil.copytree(
        dbt_process.DBT, project, ignore=shutil.ignore_patterns("target", "logs")
    )
    monkeypatch.setattr(dbt_process, "DBT", project)
    (project / "target" / ".parse").mkdir(parents=True)
    manifest = project / "target" / "manifest.json"
    manifest.write_bytes(left)
    assert dbt_process.dbt_project().manifest_path == manifest
    assert len(json.loads(manifest.read_bytes())["nodes"]) > 20
    assert not (project / "target" / ".parse").exists()
    made = manifest.stat().st_mtime_ns
    dbt_process.dbt_project()
    assert manifest.stat().st_mtime_ns == made
