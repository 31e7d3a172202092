"""Configuration and explanations on the command line, on a real database."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from commands import assert_one_sentence, run

from ingest import append
from ingest.configuration import workflows
from ingest.store import database
from ingest.store.cuts import Cut
from ingest.store.database import PROJECT, Connection

Build = Callable[..., Cut]
Write = Callable[..., Path]

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
BOSS = "00000000-0000-4000-8000-000000000001"
OFFICE = """\
calendar_name: office
timezone: Europe/Amsterdam
windows:
  monday: ["08:00-12:00", "12:30-17:00"]
  tuesday: ["08:00-12:00", "12:30-17:00"]
  wednesday: ["08:00-12:00", "12:30-17:00"]
  thursday: ["08:00-12:00", "12:30-17:00"]
  friday: ["08:00-12:00", "12:30-17:00"]
closed_dates: [2026-01-12]
covers: [2025, 2027]
"""
USERS = f"""\
user_accounts:
  - {{id: {BOSS}, name: Boss, roles: [], business_entity: null, is_active: true}}
"""
# What may be in a name, and means something to Mermaid.
ODD = 'wait: "A-1"; é'


def _step(name: str, order: int, to: list[str], hours: float | None) -> str:
    step = {
        "status_name": name,
        "status_label": name.title(),
        "status_color": "#2563eb",
        "step_order": order,
        "allowed_transitions": to,
        "sla_hours": hours,
        "requires_approval": False,
        "approval_role": None,
        "auto_transition_conditions": {},
        "notification_settings": {},
        "is_final": not to,
    }
    return f"  - {json.dumps(step)}\n"


def _workflow(hours: float | None = 12, entity_type: str = "order") -> str:
    """new -> ODD -> done, or new -> done."""
    return (
        f"entity_type: {entity_type}\n"
        "workflow_name: standard\n"
        "business_entity: null\n"
        "is_default: true\n"
        "is_active: true\n"
        "conditions: {}\n"
        "calendar: office\n"
        "steps:\n"
        + _step("new", 1, [ODD, "done"], hours)
        + _step(ODD, 2, ["done"], None)
        + _step("done", 3, [], None)
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the files of a folder; those that are not named stay as they are."""

    def write_files(**texts: str) -> Path:
        folder = tmp_path / "files"
        folder.mkdir(exist_ok=True)
        for name, text in texts.items():
            (folder / f"{name}.yml").write_text(text)
        return folder

    return write_files


def _apply(url: str, path: Path, days: int = 0) -> None:
    with database.session(url) as connection:
        at = JANUARY + timedelta(days=days)
        workflows.apply(connection, workflows.load(path), at=at)


def _counts(url: str) -> tuple[int, ...]:
    tables = ("batches", "status_workflows", "calendars", "user_accounts")
    counts = ", ".join(f"(select count(*) from raw.{name})" for name in tables)
    with database.connect(url) as connection:
        row = connection.execute(f"select {counts}").fetchone()
    assert row is not None
    return row


def test_check_says_file_and_line_of_every_defect(write: Write) -> None:
    """Without any database."""
    office = OFFICE.replace("08:00-12:00", "08:00-13:00", 1)
    order = _workflow().replace("is_default: true", "is_default: maybe")
    folder = write(office=office, order=order)
    said = run("workflows", "check", folder)
    assert said == (
        1,
        "",
        f"Error: {folder}/office.yml, line 4: monday 08:00-13:00 overlaps monday "
        "12:30-17:00.\n"
        f"{folder}/order.yml, line 4: 'is_default' must be true or false, not "
        "'maybe'.\n",
    )
    missing = folder / "missing.yml"
    assert_one_sentence(run("workflows", "check", missing), str(missing))


def test_check_refuses_a_calendar_that_no_file_beside_defines(write: Write) -> None:
    path = write(order=_workflow()) / "order.yml"
    assert_one_sentence(
        run("workflows", "check", path), f"{path}, line 7: ", "calendar 'office'"
    )
    write(office=OFFICE)
    assert run("workflows", "check", path).code == 0


def test_check_warns_of_what_is_hardly_meant(write: Write) -> None:
    never = "calendar_name: never\ntimezone: UTC\nwindows: {}\ncovers: [2026, 2026]\n"
    folder = write(office=OFFICE, order=_workflow(), never=never)
    assert run("workflows", "check", folder) == (
        0,
        "",
        f"Warning: {folder}/order.yml, line 10: {ODD!r} sets no deadline: it has no "
        "sla_hours.\n"
        f"Warning: {folder}/never.yml, line 3: 'never' never opens, so nothing that it "
        "times has a deadline (S12).\n"
        "1 workflows and 2 calendars are sound.\n",
    )


def test_workflow_without_a_final_status_is_applied_with_a_warning(
    write: Write, installed_url: str
) -> None:
    text = _workflow().replace(
        '"allowed_transitions": []', '"allowed_transitions": "any"'
    )
    folder = write(office=OFFICE, order=text.replace("true}", "false}"))
    warned = run("workflows", "check", folder)
    warnings = warned.err.splitlines()[:-1]
    assert (warned.code, warned.out) == (0, "")
    assert "order.yml, line 8: no step is final: an entity stays open" in warnings[-1]
    applied = run("workflows", "apply", folder)
    assert applied.code == 0
    assert applied.err.splitlines()[: len(warnings)] == warnings
    assert _counts(installed_url)[1] == 1
    again = json.loads(run("workflows", "apply", folder, "--json").out)
    assert again["changed"] == []
    assert [f"Warning: {warning}" for warning in again["warnings"]] == warnings
    shown = run("workflows", "show", "order/standard").out.splitlines()[-1]
    assert f"new, {ODD}" in shown


def test_dry_run_shows_what_would_change_and_writes_nothing(
    write: Write, installed_url: str
) -> None:
    folder = write(office=OFFICE, order=_workflow(), users=USERS)
    said = run("workflows", "apply", folder, "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "definition       field           in_force  new\n"
        f"user Boss        new definition            {BOSS}\n"
        "calendar office  new definition            office\n"
        "order/standard   new definition            3 steps\n"
    )
    assert _counts(installed_url) == (0, 0, 0, 0)
    shown = run("workflows", "apply", folder, "--dry-run", "--json")
    assert [d["definition"] for d in json.loads(shown.out)["differences"]] == [
        "user Boss",
        "calendar office",
        "order/standard",
    ]
    assert _counts(installed_url) == (0, 0, 0, 0)
    unknown = write(order=_workflow(entity_type="ordre"))
    refused = run("workflows", "apply", unknown, "--dry-run")
    assert_one_sentence(refused, "order.yml, line 1: ", "'ordre' is unknown")


def test_diff_shows_each_field_until_it_is_applied(
    write: Write, installed_url: str
) -> None:
    folder = write(office=OFFICE, order=_workflow(), users=USERS)
    assert run("workflows", "apply", folder) == (
        0,
        "",
        f"Warning: {folder}/order.yml, line 10: {ODD!r} sets no deadline: it has no "
        "sla_hours.\n"
        "new version: user Boss\n"
        "new version: calendar office\n"
        "new version: order/standard\n"
        "3 new versions, 0 unchanged.\n",
    )
    nothing = (0, "", "Nothing differs from what is in force.\n")
    assert run("workflows", "diff", folder) == nothing
    assert run("workflows", "apply", folder, "--dry-run") == nothing
    closed = "closed_dates: [2026-01-12, 2026-01-13]"
    write(
        office=OFFICE.replace("closed_dates: [2026-01-12]", closed),
        order=_workflow(hours=1.5),
    )
    before = _counts(installed_url)
    assert run("workflows", "diff", folder) == (
        0,
        "definition       field                     in_force  new\n"
        "calendar office  closed_dates: 2026-01-13            closed\n"
        "order/standard   step new: sla_hours       12        1.5\n",
        "",
    )
    content = json.loads(run("workflows", "diff", folder, "--json").out)
    assert content["differences"][0] == {
        "definition": "calendar office",
        "field": "closed_dates: 2026-01-13",
        "in_force": None,
        "new": "closed",
    }
    assert _counts(installed_url) == before == (1, 1, 1, 1)
    said = run("workflows", "apply", folder)
    assert said.err.endswith("2 new versions, 1 unchanged.\n")
    assert run("workflows", "diff", folder) == nothing
    assert json.loads(run("workflows", "diff", folder, "--json").out) == {
        "differences": []
    }


@pytest.fixture
def two_versions(write: Write, installed_url: str) -> None:
    """12 hours from the first of January on, 1.5 hours from the third."""
    _apply(installed_url, write(office=OFFICE, order=_workflow(), users=USERS))
    _apply(installed_url, write(order=_workflow(hours=1.5)), days=2)


@pytest.mark.usefixtures("two_versions")
def test_show_lists_what_is_in_force() -> None:
    since = "2026-01-01 00:00:00+00:00"
    assert run("workflows", "show", "--at", "2026-01-02T00:00:00Z") == (
        0,
        "kind      name            business_entity  is_active  versions  "
        "in_force_since\n"
        f"workflow  order/standard                   True       1         {since}\n"
        f"calendar  office                           True       1         {since}\n"
        f"user      Boss                             True       1         {since}\n",
        "",
    )
    now = run("workflows", "show").out.splitlines()
    assert now[1].split() == [
        *("workflow", "order/standard", "True", "2", "2026-01-03", "00:00:00+00:00")
    ]
    before = run("workflows", "show", "--at", "2025-12-31T23:59:59Z")
    assert before == (0, "", "There is none.\n")


@pytest.mark.usefixtures("two_versions")
def test_show_prints_the_steps_of_a_workflow() -> None:
    said = run("workflows", "show", "order/standard")
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "order/standard for all business entities: version 2, in force since "
        "2026-01-03 00:00:00+00:00\n"
        "status          label           order  sla_hours  calendar  "
        "allowed_next          approval_role  is_final  "
        "is_waiting\n"
        "new             New             1      1.5        office    "
        'wait: "A-1"; é, done\n'
        'wait: "A-1"; é  Wait: "A-1"; É  2                 office    done\n'
        "done            Done            3                 office    "
        "                                     yes\n"
    )
    then = run("workflows", "show", "order/standard", "--at", "2026-01-02T23:59:59Z")
    assert "version 1, in force since 2026-01-01 00:00:00+00:00" in then.out
    assert then.out.splitlines()[2].split() == [
        *("new", "New", "1", "12", "office", "wait:", '"A-1";', "é,", "done")
    ]


@pytest.mark.usefixtures("two_versions")
def test_show_draws_a_workflow_in_mermaid() -> None:
    assert run("workflows", "show", "order/standard", "--mermaid") == (
        0,
        "stateDiagram-v2\n"
        '    state "new" as s1\n'
        '    state "wait#58; #34;A#45;1#34;#59; é" as s2\n'
        '    state "done" as s3\n'
        "    s1 : SLA 1.5 h of office\n"
        "    [*] --> s1\n"
        "    s1 --> s2\n"
        "    s1 --> s3\n"
        "    s2 --> s3\n"
        "    s3 --> [*]\n",
        "",
    )


@pytest.mark.usefixtures("two_versions")
def test_show_refuses_unknown_names_in_one_sentence() -> None:
    known = "is in force now; in force are order/standard."
    for name in ("order/fleet", "ordre/standard"):
        said = run("workflows", "show", name)
        assert_one_sentence(said, f"No workflow {name!r} {known}")
    assert_one_sentence(run("workflows", "show", "x"), "in force are office.")
    whose = ("--business-entity", "Nobody")
    said = run("workflows", "show", "order/standard", *whose)
    assert_one_sentence(said, "in force now for all")
    before = ("--at", "2025-12-31T23:59:59Z")
    said = run("workflows", "show", "order/standard", *before)
    assert_one_sentence(said, "at 2025-12-31 23:59:59+00:00; in force are none.")
    for arguments in (("office", "--mermaid"), ("--mermaid",), whose):
        assert run("workflows", "show", *arguments).code == 2


def test_show_prints_the_week_of_office_nl_and_a_year_of_its_holidays(
    installed_url: str,
) -> None:
    _apply(installed_url, PROJECT / "workflows" / "office_nl.yml")
    said = run("workflows", "show", "office_nl", "--at", "2026-06-01T00:00:00Z")
    assert said == (
        0,
        "office_nl: Europe/Amsterdam, in force since 2026-01-01 00:00:00+00:00, "
        "covers 1990-01-01 to 2100-12-31\n"
        "\n"
        "monday      08:00-12:00, 12:30-17:00\n"
        "tuesday     08:00-12:00, 12:30-17:00\n"
        "wednesday   08:00-12:00, 12:30-17:00\n"
        "thursday    08:00-12:00, 12:30-17:00\n"
        "friday      08:00-12:00, 12:30-17:00\n"
        "saturday    closed\n"
        "sunday      closed\n"
        "\n"
        "2026-12-24 Thu  closed\n"
        "2026-12-25 Fri  closed: Eerste kerstdag\n"
        "2026-12-26 Sat  closed: Tweede kerstdag\n"
        "2027-01-01 Fri  closed: Nieuwjaarsdag\n"
        "2027-03-26 Fri  closed: Goede vrijdag\n"
        "2027-03-28 Sun  closed: Eerste paasdag\n"
        "2027-03-29 Mon  closed: Tweede paasdag\n"
        "2027-04-27 Tue  closed: Koningsdag\n"
        "2027-05-06 Thu  closed: Hemelvaartsdag\n"
        "2027-05-16 Sun  closed: Eerste pinksterdag\n"
        "2027-05-17 Mon  closed: Tweede pinksterdag\n",
        "",
    )


def test_draft_is_written_to_a_new_file_checked_and_applied(
    installed_url: str, tmp_path: Path
) -> None:
    with database.connect(installed_url) as connection:
        _append(connection)
    said = run("workflows", "draft", "order")
    assert (said.code, said.err) == (0, "")
    folder = tmp_path / "drafted"
    folder.mkdir()
    file = folder / "order.yml"
    assert run("workflows", "draft", "order", "-o", file) == (
        0,
        "",
        f"2 statuses are drafted in {file}. Read it, correct it and set sla_hours; "
        f"then: status-engine workflows check {file}\n",
    )
    assert file.read_text() == said.out
    assert run("workflows", "check", folder).code == 0
    assert run("workflows", "apply", file).err.endswith(
        "1 new versions, 0 unchanged.\n"
    )
    assert "new     New" in run("workflows", "show", "order/standard").out
    again = run("workflows", "draft", "order", "-o", file)
    assert_one_sentence(again, f"{file} is there already. Name another file")
    assert file.read_text() == said.out
    nowhere = run("workflows", "draft", "order", "-o", tmp_path / "none" / "order.yml")
    assert_one_sentence(nowhere, "can't be written: No such file or directory.")


@pytest.mark.usefixtures("installed_url")
def test_draft_says_what_to_do_where_nothing_is_recorded() -> None:
    said = run("workflows", "draft", "quote")
    assert_one_sentence(
        said, "No transition of 'quote' is recorded", "Ingest a history"
    )
    said = run("workflows", "draft", "qoute")
    assert_one_sentence(said, "Entity type 'qoute' is unknown; known are order, quote,")


@pytest.fixture(scope="module")
def explained_url(
    installation,
    built_empty_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    build: Build,
) -> Iterator[str]:
    """Two built orders: one was a breach by half an hour, the other is open."""
    folder = tmp_path_factory.mktemp("explained")
    for name, text in (("a", OFFICE), ("b", _workflow()), ("c", USERS)):
        (folder / f"{name}.yml").write_text(text)
    with installation(folder / "home", template=built_empty_url) as url:
        _apply(url, folder)
        with database.connect(url) as connection:
            _append(connection)
        build(url, datetime(2026, 1, 14, 12, tzinfo=UTC))
        yield url


def _append(connection: Connection) -> None:
    """Order 1 from a Friday, 16:00 in Amsterdam; order 2 from a Tuesday, 08:00."""
    rows = [
        (1, "2026-01-09T15:00:00Z", "new", BOSS, "shop", "a sale"),
        (1, "2026-01-14T10:00:00Z", "done", None, None, None),
        (2, "2026-01-13T07:00:00Z", "new", None, None, None),
    ]
    names = ("entity_id", "created_at", "to_status", "triggered_by_user_id")
    names += ("triggered_by_system", "transition_reason")
    texts = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        pl.col("entity_id").cast(pl.String), entity_type=pl.lit("order")
    )
    assert append(connection, texts).appended == 3


@pytest.mark.usefixtures("explained_url")
def test_explain_counts_the_windows_up_to_a_deadline() -> None:
    said = run("explain", "order", 1, "--as-of", "2026-01-15T12:00:00Z")
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "order 1 is 'done' since Wed 2026-01-14 11:00:00\n"
        "  (times are in Europe/Amsterdam)\n"
        "  workflow 'standard' binds it: the most specific in force that matches\n"
        "\n"
        "new\n"
        "  Fri 2026-01-09 16:00:00, by Boss, through shop, because 'a sale', "
        "batch 2\n"
        "  under workflow 'standard', version of Thu 2026-01-01 01:00:00\n"
        "  deadline Wed 2026-01-14 10:30:00, after 12 h of business time by "
        "calendar 'office', first version\n"
        # The weekend, and a Monday that is a closed date.
        "    Fri 2026-01-09 16:00:00  - Fri 2026-01-09 17:00:00  1 h 00 min open  "
        "1 h 00 min in all   then 87 h 00 min closed (closed)\n"
        "    Tue 2026-01-13 08:00:00  - Tue 2026-01-13 12:00:00  4 h 00 min open  "
        "5 h 00 min in all   then 0 h 30 min closed\n"
        "    Tue 2026-01-13 12:30:00  - Tue 2026-01-13 17:00:00  4 h 30 min open  "
        "9 h 30 min in all   then 15 h 00 min closed\n"
        "    Wed 2026-01-14 08:00:00  - Wed 2026-01-14 10:30:00  2 h 30 min open  "
        "12 h 00 min in all\n"
        "  left Wed 2026-01-14 11:00:00 after 115 h 00 min = 12 h 30 min open + "
        "102 h 30 min closed: breached by 0 h 30 min\n"
        "\n"
        "done\n"
        "  Wed 2026-01-14 11:00:00, batch 2\n"
        "  under workflow 'standard', version of Thu 2026-01-01 01:00:00\n"
        "  a final status has no deadline\n"
        "  open for 26 h 00 min = 10 h 00 min open + 16 h 00 min closed\n"
    )


@pytest.mark.parametrize(
    ("as_of", "headline", "outcome"),
    [
        # The deadline is Wednesday, 11:30 in Amsterdam.
        (
            "2026-01-14T11:00:00+01:00",
            "order 2 is 'new' since Tue 2026-01-13 08:00:00",
            "open for 27 h 00 min = 11 h 30 min open + 15 h 30 min closed, "
            "0 h 30 min left",
        ),
        (
            "2026-01-14T10:30:00Z",
            "order 2 is 'new' since Tue 2026-01-13 08:00:00",
            "open for 27 h 30 min = 12 h 00 min open + 15 h 30 min closed, "
            "0 h 00 min left",
        ),
        (
            "2026-01-14T10:30:00.000001Z",
            "order 2 is 'new' since Tue 2026-01-13 08:00:00, overdue",
            "open for 27 h 30 min 0.000001 s = 12 h 00 min 0.000001 s open + "
            "15 h 30 min closed, overdue by 0 h 00 min 0.000001 s",
        ),
    ],
)
@pytest.mark.usefixtures("explained_url")
def test_explain_measures_an_open_stay_up_to_the_instant_asked_for(
    as_of: str, headline: str, outcome: str
) -> None:
    said = run("explain", "order", 2, "--as-of", as_of)
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert (lines[0], lines[-1]) == (headline, f"  {outcome}")


@pytest.mark.usefixtures("explained_url")
def test_explanation_is_one_json_object() -> None:
    said = run("explain", "order", 1, "--as-of", "2026-01-15T12:00:00Z", "--json")
    assert (said.code, said.err) == (0, "")
    content = json.loads(said.out)
    assert [row["workflow_name"] for row in content["candidates"]] == ["standard"]
    assert [row["to_status"] for row in content["transitions"]] == ["new", "done"]
    new, done = content["intervals"]
    assert (new["sla_deadline"], new["verdict"]) == (
        "2026-01-14 09:30:00+00:00",
        "breached",
    )
    assert (new["counted_seconds"], new["closed_seconds"]) == (
        "45000.000000",
        "369000.000000",
    )
    assert new["margin_seconds"] == "-1800.000000"
    assert (done["sla_deadline"], done["left_at"]) == (None, None)
    assert [row["opens_at"] for row in content["windows"]] == [
        "2026-01-09 11:30:00+00:00",
        "2026-01-13 07:00:00+00:00",
        "2026-01-13 11:30:00+00:00",
        "2026-01-14 07:00:00+00:00",
    ]


@pytest.mark.usefixtures("explained_url")
def test_explain_refuses_what_was_never_recorded() -> None:
    sentence = (
        "There is no order 3: nothing was ever recorded; ids there are from 1 to 2."
    )
    assert_one_sentence(run("explain", "order", 3), sentence)
    assert_one_sentence(run("explain", "ordre", 1), "'ordre' is unknown")
    assert_one_sentence(run("explain", "ordre", "one"), "'ordre' is unknown")
    for arguments in (("order",), ("order", 2**63), ("order", "-1")):
        assert run("explain", *arguments).code == 2
    assert run("explain", "order", 1, "--as-of", "2026-01-15T12:00:00").code == 2


@pytest.mark.usefixtures("installed_url")
def test_explain_before_any_build_is_refused() -> None:
    sentence = "Nothing is built yet. Run: status-engine build."
    assert run("explain", "order", 1) == (1, "", f"Error: {sentence}\n")
