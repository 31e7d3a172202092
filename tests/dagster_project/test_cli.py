"""The command line, each command in a process of its own, on a real database."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psycopg
import pytest
from commands import Said, assert_one_sentence, process, run
from psycopg.sql import SQL, Identifier

from dagster_project.cli import main
from ingest.configuration import workflows
from ingest.store import database
from ingest.store.database import PROJECT

HEADER = "created_at,entity_type,entity_id,to_status\n"
GOOD = f"{HEADER}2026-03-01T09:00:00Z,order,1,new\n"
ORDER = PROJECT / "workflows" / "order.yml"
OFFICE = PROJECT / "workflows" / "office_nl.yml"


@pytest.fixture
def write(tmp_path: Path):
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        raw = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(raw)
        return path

    return write_file


def test_help_names_every_command_and_the_exit_codes() -> None:
    said = process("--help")
    assert said.code == 0
    for words in ("Exit codes:", "0  everything", "1  refused", "2  wrong", "3  some"):
        assert words in said.out
    assert [name for name in main.commands if name not in said.out] == []
    for command in ("ingest", "run"):
        assert "Exit codes:" in run(command, "--help").out
    assert run("--version").out == f"status-engine {version('status-engine')}\n"


@pytest.mark.usefixtures("installed_url")
def test_folder_and_pattern_name_the_files_in_them(write, tmp_path: Path) -> None:
    for number, name in enumerate(("a.csv", "b.csv", "c.jsonl", "notes.txt")):
        write(name, GOOD.replace(",1,", f",{number},"))
    (tmp_path / "c.jsonl").write_text(
        '{"created_at": "2026-03-01T09:00:00Z", "entity_type": "order",'
        ' "entity_id": 2, "to_status": "new"}\n'
    )
    said = run("ingest", "--json", tmp_path)
    assert (said.code, json.loads(said.out)["appended"]) == (0, 3)
    said = run("ingest", "--json", tmp_path / "*.csv")
    assert (said.code, json.loads(said.out)["duplicate"]) == (0, 2)
    assert_one_sentence(run("ingest", tmp_path / "*.parquet"), "there is no file")


@pytest.mark.usefixtures("installed_url")
def test_standard_input_is_a_file_of_the_named_format() -> None:
    arguments = ["ingest", "--json", "-"]
    for expected in ("appended", "duplicate"):
        said = run(*arguments, given=GOOD)
        assert (said.code, json.loads(said.out)[expected]) == (0, 1)


@pytest.mark.usefixtures("installed_url")
def test_ingest_ends_with_0_where_nothing_is_rejected_and_with_3_else(write) -> None:
    good = write("good.csv", GOOD)
    first = run("ingest", good)
    counts = "read 1 = 1 appended + 0 duplicate + 0 rejected"
    assert (first.code, first.out) == (0, "")
    assert counts in first.err
    again = run("ingest", good)
    assert again.code == 0
    assert "(delivered before)" in again.err
    assert "0 appended + 1 duplicate" in again.err
    bad = run("ingest", write("bad.csv", f"{GOOD}2026-03-01T09:00:00Z,ordre,2,new\n"))
    assert bad.code == 3
    assert "read 2 = 0 appended + 1 duplicate + 1 rejected" in bad.err


@pytest.mark.usefixtures("installed_url")
def test_why_a_file_was_broken_off_is_told_as_json_too(write) -> None:
    rows = "".join(f"2026-03-01T09:00:00Z,parcel,{n},new\n" for n in range(200))
    said = run("ingest", write("bad.csv", HEADER + rows), "--json")
    assert said.code == 1
    assert "broken off, 200 of 200 rows would be rejected" in said.err
    found = json.loads(said.out)
    (code,) = found["codes"]
    assert (found["broken_off"], code["code"]) == ("bad.csv", "entity_type_is_known")
    assert (code["row_count"], code["line_number"], code["value"]) == (200, 2, "parcel")
    assert "add yours by a file" in found["why"]


@pytest.mark.usefixtures("installed_url")
def test_equal_rows_of_a_first_file_and_skipped_ones_are_told(write) -> None:
    row = "2026-03-01T09:00:00Z,order,1,new\n"
    twice = write("twice.csv", f"{HEADER}{row}{row}")
    said = run("ingest", twice)
    assert said.code == 0
    assert "1 of 2 transitions equal another one in all that is mapped" in said.err
    assert "equal another" not in run("ingest", twice).err
    mapping = write(
        "mapping.yml",
        "entity_type: entity_type\nentity_id: entity_id\ncreated_at: created_at\n"
        "to_status: to_status\nwhere: [{column: entity_id, is_not: 1}]\n",
    )
    said = run("ingest", twice, "--mapping", mapping)
    assert "twice.csv: 2 rows, 2 of them skipped; read 0 = " in said.err
    said = run("ingest", twice, "--mapping", mapping, "--json")
    (found,) = json.loads(said.out)["files"]
    assert (found["source_rows"], found["skipped_rows"], found["equal"]) == (2, 2, 0)


@pytest.mark.usefixtures("installed_url")
def test_an_audit_log_comes_in_by_its_kind(write) -> None:
    row = ",2026-03-01T09:00:00Z,order,1,update,,\n"
    header = "id,created_at,table,record,action,user,changes\n"
    file = write("audit.csv", f"{header}{row}{row}")
    said = run("ingest", "--kind", "audit_logs", "--dry-run", file)
    assert "2 rows; 2 audit entries of 1 entities, 0 rows would be rejected" in said.err
    said = run("ingest", "--kind", "audit_logs", file)
    assert said.code == 0
    assert "read 2 = 1 appended + 1 duplicate + 0 rejected" in said.err
    assert "no column" in run("ingest", file).err
    assert run("ingest", "--kind", "transitions", write("good.csv", GOOD)).code == 0
    said = run("ingest", file, "--kind", "audit_logs", "--mapping", file)
    assert (said.code, "leave out --kind" in said.err) == (2, True)


@pytest.mark.usefixtures("installed_url")
def test_json_is_one_object_with_every_count(write) -> None:
    files = [
        write("a.csv", GOOD),
        write("b.csv", f"{HEADER}x,order,1,new\n2026-03-02T09:00:00Z,order,2,new\n"),
    ]
    said = run("ingest", *files, "--json")
    assert said.code == 3
    content = json.loads(said.out)
    counts = ("read", "appended", "duplicate", "rejected")
    assert [content[name] for name in counts] == [3, 2, 0, 1]
    assert [[f[name] for name in counts] for f in content["files"]] == [
        [1, 1, 0, 0],
        [2, 1, 0, 1],
    ]
    assert [f["file"] for f in content["files"]] == ["a.csv", "b.csv"]


def test_rejects_are_listed_shown_and_replayed(write, installed_url: str) -> None:
    row = "2026-03-01T09:00:00Z,parcel,1,\x1bnew\n"
    run("ingest", write("bad.csv", f"{HEADER}{row}2026-03-01T09:00:00Z,order,x,new\n"))
    said = run("rejects", "list")
    assert said == (
        0,
        "file_name  code                  row_count  transition_count\n"
        "bad.csv    entity_id_is_bigint   1          1\n"
        "bad.csv    entity_type_is_known  1          1\n",
        "",
    )
    found = json.loads(run("rejects", "list", "--limit", 1, "--json").out)["rejects"]
    assert [(line["rejected_id"], line["line_number"]) for line in found] == [(1, 2)]
    shown = "original           2026-03-01T09:00:00Z,parcel,1,\\x1bnew\\n\n"
    assert shown in run("rejects", "show", 1).out
    assert_one_sentence(run("rejects", "show", 3), "no reject 3")
    with database.connect(installed_url) as connection:
        connection.execute("insert into raw.entity_types values ('parcel', 99)")
    rehearsed = run("rejects", "replay", "--dry-run")
    assert rehearsed.err.startswith("dry run, nothing is written: 2 rejects; ")
    said = run("rejects", "replay")
    assert said == (
        3,
        "",
        "2 rejects; 1 resolved with 1 appended + 0 duplicate; "
        "1 still rejected\n  1 entity_id_is_bigint: The entity id is a whole number "
        "from 0 to 2^63-1, in digits only.\n",
    )
    said = run("rejects", "replay", "--id", 1, "--json")
    assert (said.code, json.loads(said.out)["selected"]) == (0, 0)
    assert json.loads(run("rejects", "show", 1, "--json").out)["outcome"] == "appended"
    assert (
        len(json.loads(run("rejects", "list", "--all", "--json").out)["rejects"]) == 2
    )
    assert run("rejects", "list", "--file", "x") == (0, "", "There is none.\n")


@pytest.mark.usefixtures("installed_url")
def test_files_that_were_broken_off_are_listed_until_they_came_in_whole(write) -> None:
    row = "2026-03-01T09:00:00Z,ticket,1,new\n"
    file = write("tickets.csv", HEADER + row * 100)
    said = run("ingest", file)
    assert_one_sentence(said, "Why: 100 entity_type_is_known (line 2: 'ticket')")
    listed = run("rejects", "list")
    assert (listed.code, listed.err) == (0, "There is none.\n")
    assert listed.out.count("\n") == 1
    assert said.err.removeprefix("Error: ").strip() in listed.out
    assert " UTC  " in listed.out
    (stop,) = json.loads(run("rejects", "list", "--json").out)["stopped"]
    assert (stop["file_name"], stop["row_count"]) == ("tickets.csv", 100)
    assert stop["codes"] == [
        {
            "code": "entity_type_is_known",
            "row_count": 100,
            "line_number": 2,
            "row_number": 1,
            "value": "ticket",
        }
    ]
    for other in (("--code", "id_is_uuid"), ("--file", "orders.csv")):
        assert run("rejects", "list", *other).out == ""
    for same in (("--code", "entity_type_is_known"), ("--file", "tickets.csv")):
        assert "broken off" in run("rejects", "list", *same).out
    assert run("ingest", file, "--max-rejected-ratio", 1).code == 3
    assert "broken off" not in run("rejects", "list").out
    assert "broken off" in run("rejects", "list", "--all").out


def test_history_of_another_database_is_brought_over(
    fresh_database, installed_url: str
) -> None:
    query = (
        "select '2026-03-01 09:00Z'::timestamptz as created_at, 1 as entity_id,"
        " 'order' as entity_type, 'new' as to_status"
    )
    with fresh_database("template1") as url:
        said = run("ingest", "--from", url, "--query", query, "--json")
        assert (said.code, json.loads(said.out)["appended"]) == (0, 1)
        said = run("ingest", "--from", url, "--query", "select 1 as a")
        assert_one_sentence(said, "no column 'created_at'")
        assert run("ingest", "--from", url).code == 2
        assert run("ingest", "--from", url, "--query", query, "rows.csv").code == 2
    assert run("ingest", "--query", query).code == 2
    with database.connect(installed_url) as connection:
        rows = connection.execute("select count(*) from raw.status_transitions")
        assert rows.fetchone() == (1,)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("empty.csv", "", "empty"),
        ("wrong.csv", "when,what\n2026-03-01,new\n", "line 1: the header"),
        ("broken.parquet", b"PAR1 nothing of the kind PAR1", "Parquet"),
        ("data.xlsx", "x", "its name ends"),
    ],
)
@pytest.mark.usefixtures("installed_url")
def test_an_unreadable_file_is_refused_in_one_sentence(
    write, name: str, content: str | bytes, part: str
) -> None:
    assert_one_sentence(run("ingest", write(name, content)), name, part)


@pytest.mark.usefixtures("installed_url")
def test_a_missing_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    said = run("ingest", tmp_path / "gone.csv")
    assert_one_sentence(said, "gone.csv: No such file or directory")


@pytest.mark.usefixtures("installed_url")
def test_a_wrong_mapping_is_refused_in_one_sentence(write) -> None:
    good = write("good.csv", GOOD)
    mapping = write("mapping.yml", "source: x\nentity_typ: {constant: order}\n")
    assert_one_sentence(run("ingest", good, "--mapping", mapping), "entity_typ")
    assert_one_sentence(run("ingest", good, "--timezone", "Mars/Base"), "Mars/Base")


def test_wrong_usage_ends_with_2() -> None:
    assert run("ingest").code == 2
    assert run("nothing").code == 2
    assert run("build", "--as-of", "tomorrow").code == 2
    said = run("build", "--as-of", "2026-03-07T12:00:00")
    assert said.code == 2
    assert "has no offset" in said.err
    assert run("demo", "--entities", "1").code == 2


def test_workflow_files_are_checked_with_file_and_line(write) -> None:
    assert run("workflows", "check", PROJECT / "workflows").code == 0
    text = ORDER.read_text()
    line = text[: text.index("sla_hours: 8.5")].count("\n") + 1
    broken = write("order.yml", text.replace("sla_hours: 8.5", "sla_hours: soon", 1))
    assert_one_sentence(
        run("workflows", "check", broken), f"{broken}, line {line}: 'sla_hours'"
    )
    malformed = write("malformed.yml", "entity_type: order\n  steps: [\n")
    said = run("workflows", "check", malformed)
    assert_one_sentence(said, f"{malformed}, line 2", "no YAML")


def test_workflows_are_applied_once(installed_url: str) -> None:
    first = run("workflows", "apply", PROJECT / "workflows", "--json")
    assert first.code == 0
    content = json.loads(first.out)
    assert content["unchanged"] == 0
    assert "order/standard" in content["changed"]
    again = json.loads(run("workflows", "apply", PROJECT / "workflows", "--json").out)
    assert again == {"changed": [], "unchanged": len(content["changed"])}
    with database.connect(installed_url) as connection:
        batches = "select count(*) from raw.batches where kind = 'configuration'"
        assert connection.execute(batches).fetchone() == (1,)


@pytest.mark.usefixtures("installed_url")
def test_a_workflow_of_an_unknown_entity_type_is_refused(write) -> None:
    text = ORDER.read_text().replace("entity_type: order", "entity_type: ordre")
    said = run("workflows", "apply", write("order.yml", text))
    assert_one_sentence(said, "order.yml, line 4", "'ordre' is unknown")


def test_an_unreachable_database_is_told_in_one_sentence(
    write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    told = set()
    for command in (("ingest", write("good.csv", GOOD)), ("build",), ("psql",)):
        said = run(*command)
        assert_one_sentence(said, "can't be reached", "Check DATABASE_URL")
        told.add(said.err)
    assert len(told) == 1


def test_a_database_url_that_is_none_is_refused_without_its_password(
    write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("not a url", "mysql://me:secret@host/db"):
        monkeypatch.setenv("DATABASE_URL", url)
        said = run("ingest", write("good.csv", GOOD))
        assert_one_sentence(said, "DATABASE_URL is no PostgreSQL connection string")
        assert "secret" not in said.err


def test_a_role_without_rights_is_told_what_to_grant(
    installed_url: str, server_url: str, write, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(SQL("create role {}").format(Identifier("reader_only")))
        connection.execute("alter role reader_only login")
    try:
        limited = installed_url.replace("postgres@", "reader_only@", 1)
        monkeypatch.setenv("DATABASE_URL", limited)
        said = run("ingest", write("good.csv", GOOD))
        assert_one_sentence(said, "reader_only", "rant")
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute("drop role reader_only")


RECORD = ("record", "order", 1)
AT_NINE = ("--created-at", "2026-03-01T10:00:00+01:00")
ID = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def applied_url(installed_url: str) -> str:
    """An installation whose order workflow is in force since long."""
    with database.session(installed_url) as connection:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        for name in (OFFICE, ORDER):
            workflows.apply(connection, workflows.load(name), at=at)
    return installed_url


@pytest.mark.usefixtures("applied_url")
def test_recorded_transition_is_said_with_its_deadline() -> None:
    assert run(*RECORD, "new", *AT_NINE) == (
        0,
        "",
        "order 1 went to 'new' at 2026-03-01 09:00:00+00:00; "
        "its deadline is 2026-03-02 16:00:00+00:00, by workflow 'standard'.\n",
    )
    given = ("--sla-deadline", "2026-03-01T12:00:00Z", *AT_NINE)
    assert run(*RECORD, "confirmed", *given).err.endswith(
        "its deadline is 2026-03-01 12:00:00+00:00, by what was given.\n"
    )
    unbound = run("record", "quote", 1, "new")
    assert unbound.err.endswith("no workflow binds it, so it has no deadline.\n")


def test_every_option_of_record_is_stored(applied_url: str) -> None:
    said = run(
        *(*RECORD, "new", *AT_NINE, "--first", "--id", ID, "--json"),
        *("--reason", "why", "--context", '{"a": 1}', "--system", "shop"),
        *("--milestone", "--metadata", '{"b": 2}', "--source", "till"),
        *("--sla-deadline", "2026-03-01T12:00:00Z"),
    )
    content = json.loads(said.out)
    assert (said.code, said.err, content["id"]) == (0, "", ID)
    assert content["sla_deadline"] == "2026-03-01 12:00:00+00:00"
    with database.connect(applied_url) as connection:
        row = connection.execute(
            """
            select
                transition_reason, business_context, triggered_by_system,
                is_milestone, metadata, source
            from raw.status_transitions
            join raw.batches using (batch_id)
            """
        ).fetchone()
    assert row == ("why", {"a": 1}, "shop", True, {"b": 2}, "till")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("paid",), "workflow 'standard' has no such status"),
        (("new", "--expected-status", "new"), "no status yet, where status 'new'"),
        (("new", "--user", ID), f"user {ID} is unknown"),
        (("new", "--context", "[]"), "(business_context_is_json_object)"),
    ],
)
@pytest.mark.usefixtures("applied_url")
def test_refused_transition_is_one_sentence(arguments, part: str) -> None:
    assert_one_sentence(run(*RECORD, *arguments), part)


@pytest.mark.usefixtures("applied_url")
def test_first_status_is_recorded_once() -> None:
    assert run(*RECORD, "new", "--first").code == 0
    said = run(*RECORD, "confirmed", "--first")
    assert_one_sentence(said, "it has status 'new', where no status yet was expected")


@pytest.mark.parametrize(
    "arguments",
    [
        ("order", "1"),
        ("order", str(2**63), "new"),
        ("order", "9" * 5_000, "new"),
        ("order", "-1", "new"),
        ("order", "1", "new", "--created-at", "2026-03-01T09:00:00"),
        ("order", "1", "new", "--user", "me"),
        ("order", "1", "new", "--first", "--expected-status", "new"),
    ],
)
def test_wrong_usage_of_record_ends_with_2(arguments) -> None:
    assert run("record", *arguments).code == 2


def test_url_and_psql_reach_the_same_database(installed_url: str) -> None:
    assert run("url") == (0, f"{installed_url}\n", "")
    said = process("psql", "-Atc", "select current_database()")
    assert said == (0, f"{installed_url.partition('?')[0].rpartition('/')[2]}\n", "")
    assert process("psql", "-c", "select wrong").code == 1


def test_publishing_before_any_build_is_refused_in_one_sentence(
    installed_url: str, home: Path
) -> None:
    said = run("publish")
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[-1] == (
        "Error: Nothing is built yet. Run: status-engine build."
    )
    assert not (home / "published" / "current").exists()
    with database.connect(installed_url) as connection:
        assert connection.execute("select count(*) from raw.cuts").fetchone() == (0,)


@pytest.mark.usefixtures("built_url")
def test_run_ends_with_3_for_rejected_rows_and_with_1_for_refused_files(
    home: Path,
) -> None:
    assert run("init").code == 0
    inbox = home / "inbox"
    (inbox / "a.csv").write_text(f"{GOOD}wrong,order,1,new\n")
    said = run("run", "--json")
    assert said.code == 3, said.err
    assets = json.loads(said.out)["assets"]
    assert assets["raw/batches"]["rejected"] == 1
    assert assets["published/status_intervals"]["dagster/row_count"] == 1
    (inbox / "b.csv").write_text("when,what\n")
    said = run("run")
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("Error: files were refused")


@pytest.mark.nightly
@pytest.mark.usefixtures("installed_url")
def test_a_second_demo_appends_nothing(home: Path) -> None:
    first = run("demo", "--entities", 60, "--end", "2026-03-01T00:00:00Z")
    assert first.code == 0, first.err
    again = run("demo", "--entities", 60, "--end", "2026-03-01T00:00:00Z")
    assert again.code == 0, again.err

    def counts(said: Said) -> list[int]:
        (line,) = [s for s in said.out.splitlines() if s.startswith("Transitions")]
        return [int(word.replace(",", "")) for word in line.split()[2::2]]

    read, appended, duplicate, rejected = counts(first)
    assert read == appended + duplicate + rejected
    assert min(appended, duplicate, rejected) > 0
    assert counts(again) == [read, 0, read - rejected, rejected]
    assert "Compliance" in again.out
    assert (home / "published" / "current" / "analytics.duckdb").exists()
    assert (home / "inbox").is_dir()
    (example,) = re.findall(r"status-engine explain (\w+ \d+)", again.out)
    explained = run("explain", *example.split())
    assert explained.out.startswith(f"{example} is '")


KEYED = """\
number,at,to
INC-7,2026-01-01T00:00:00Z,new
INC-8,2026-01-02T00:00:00Z,new
"""
MAPPING = """\
source: desk
entity_type: {constant: internal_task}
entity_id: {column: number, key: true, namespace: %s}
created_at: {column: at}
to_status: {column: to}
"""


def test_an_entity_is_named_by_the_text_that_its_source_knows_it_by(
    installed_url: str, build: Callable[..., object], tmp_path: Path
) -> None:
    (tmp_path / "keyed.csv").write_text(KEYED)
    (tmp_path / "other.csv").write_text("".join(KEYED.splitlines(True)[:2]))
    for name, namespace in (("keyed", "desk"), ("other", "yard")):
        mapping = tmp_path / f"{name}.yml"
        mapping.write_text(MAPPING % namespace)
        run("ingest", tmp_path / f"{name}.csv", "--mapping", mapping)
    said = run("explain", "internal_task", "INC-8")
    assert_one_sentence(said, "Nothing is built yet.")
    assert run("record", "internal_task", "INC-8", "open").code == 0
    build(installed_url, datetime(2026, 2, 1, tzinfo=UTC))
    clock = ("--as-of", "2026-02-01T00:00:00Z", "--json")
    told = run("explain", "internal_task", "INC-8", *clock)
    transitions = json.loads(told.out)["transitions"]
    assert [row["to_status"] for row in transitions] == ["new", "open"]
    number = transitions[0]["entity_id"]
    assert run("explain", "internal_task", number, *clock) == told
    then = ("--at", "2026-01-03T00:00:00Z", "--json")
    found = json.loads(run("as-of", "internal_task", "INC-8", *then).out)
    assert (found["entity_id"], found["current_status"]) == (number, "new")
    for command in (["explain"], ["as-of"], ["record"]):
        to = ["open"] if command == ["record"] else []
        said = run(*command, "internal_task", "INC-9", *to)
        assert_one_sentence(said, "no internal_task 'INC-9': it is no number, and no ")
        said = run(*command, "internal_task", "INC-7", *to)
        assert_one_sentence(said, "Several sources know", "of 'desk', ", "of 'yard'.")
    said = run("explain", "order", 2**63)
    assert (said.code, "no id; the largest is" in said.err) == (2, True)
