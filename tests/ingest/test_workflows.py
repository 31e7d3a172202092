"""Configuration files: what is refused and warned of, and what becomes a version."""

import copy
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ingest.append import known_types
from ingest.configuration import in_force, json_schemas, workflows
from ingest.configuration.calendars import Opening
from ingest.configuration.workflows import Applied, Configuration, Difference
from ingest.errors import WorkflowError
from ingest.store.database import PROJECT, Connection

Content = dict[str, Any]
Write = Callable[..., Path]
Alter = Callable[[Content], Any]

FLEET, HOME, BOSS = (
    "729ed482-9c14-4980-99f6-7aa66bbbbdb6",
    "a91ff91d-2615-431f-a88a-8c685407cacf",
    "00000000-0000-4000-8000-000000000001",
)
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
FILES = sorted((PROJECT / "workflows").glob("*.yml"))


def _step(name: str, order: int, to: list[str], **given: Any) -> Content:
    return {
        "status_name": name,
        "status_label": name.title(),
        "status_color": "#2563eb",
        "step_order": order,
        "allowed_transitions": to,
        "sla_hours": 24 if to else None,
        "requires_approval": False,
        "approval_role": None,
        "auto_transition_conditions": {},
        "notification_settings": {},
        "is_final": not to,
        **given,
    }


def _workflow(name: str = "standard", **given: Any) -> Content:
    """new -> busy -> done, and back from busy to new."""
    return {
        "entity_type": "order",
        "workflow_name": name,
        "business_entity": None,
        "is_default": False,
        "is_active": True,
        "conditions": {},
        "calendar": None,
        "steps": [
            _step("new", 1, ["busy"]),
            _step("busy", 2, ["done", "new"]),
            _step("done", 3, []),
        ],
        **given,
    }


def _calendar(name: str = "office", **given: Any) -> Content:
    return {
        "calendar_name": name,
        "timezone": "Europe/Amsterdam",
        "windows": {"monday": ["09:00-17:00"]},
        # Few years, so that few windows are made.
        "covers": [2026, 2027],
        **given,
    }


TYPES: Content = {"entity_types": [{"name": "incident", "label": "Incident"}]}
ENTITIES: Content = {
    "business_entities": [{"id": FLEET, "name": "Fleet"}, {"id": HOME, "name": "Home"}]
}
USERS: Content = {
    "user_accounts": [
        {
            "id": BOSS,
            "name": "Boss",
            "roles": ["boss"],
            "business_entity": None,
            "is_active": True,
        }
    ]
}
TARGETS: Content = {
    "targets": [
        {
            "name": "orders",
            "entity_type": "order",
            "at_least": 95,
            "effective_from": "2026-01-01",
        }
    ]
}


@pytest.fixture
def folder(tmp_path: Path) -> Write:
    """Write each content to a file of one folder: 0.yml, 1.yml and so on."""

    def write(*contents: Content, name: str = "files") -> Path:
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        for number, content in enumerate(contents):
            text = yaml.safe_dump(content, sort_keys=False, default_flow_style=False)
            (path / f"{number}.yml").write_text(text)
        return path

    return write


def _refusals(path: Path) -> list[str]:
    with pytest.raises(WorkflowError) as refused:
        workflows.check(path)
    return str(refused.value).splitlines()


def _line(path: Path, text: str) -> int:
    """The number of the last line that begins with a text."""
    lines = path.read_text().splitlines()
    return max(
        n for n, line in enumerate(lines, 1) if line.lstrip(" -'").startswith(text)
    )


def _assert_refused(path: Path, at: str, *sentences: str) -> None:
    """Each defect is a sentence with the file and the last line that begins so."""
    where = f"{path}, line {_line(path, at)}: "
    assert _refusals(path) == [where + sentence for sentence in sentences]


def _set(place: str, value: Any) -> Alter:
    """An alteration of what stands at a place such as steps.0.sla_hours."""

    def alter(content: Any) -> None:
        *path, last = place.split(".")
        for part in path:
            content = content[int(part) if part.isdigit() else part]
        content[last] = value

    return alter


def _remove(content: Any, *path: Any) -> None:
    *ahead, last = path
    for part in ahead:
        content = content[part]
    del content[last]


def _altered(content: Content, alter: Alter) -> Content:
    changed = copy.deepcopy(content)
    alter(changed)
    return changed


def _only_to_itself(content: Content) -> None:
    content["steps"][1]["allowed_transitions"].append("stuck")
    content["steps"].append(_step("stuck", 4, ["stuck"]))


def _dead_end(content: Content) -> None:
    content["steps"][1]["allowed_transitions"].append("dead")
    content["steps"].append(_step("dead", 4, [], is_final=False))


def _ruled(*rules: Content, step: int = 1) -> Alter:
    """Rules of the step busy, or of another."""
    appended = [{"append": True, **rule} for rule in rules]
    return _set(f"steps.{step}.auto_transition_conditions", {"rules": appended})


def _in_a_circle(**of_the_way_back: Any) -> Alter:
    """From new to busy and back, at once where nothing else is said."""

    def alter(content: Any) -> None:
        there = {"to": "busy", "when_context": {"state": "on", "tags": ["a"]}}
        _ruled(there, step=0)(content)
        back = {"when_context": {"tags": ["b"]}, **of_the_way_back}
        _ruled({"to": "new", **back})(content)

    return alter


ITEMS = {"entity_type": "line_item", "context_key": "order_id"}
RULE_DEFECTS: list[tuple[Alter, str, str]] = [
    (
        _ruled({"to": "done", "when_moon": "full"}),
        "when_moon",
        "key 'when_moon' is unknown; known are to, append, after_hours, clock, "
        "when_context, when_children, when_parent.",
    ),
    (
        _set("steps.1.auto_transition_conditions", {"after_hours": 3}),
        "after_hours",
        "key 'after_hours' is unknown; known are rules.",
    ),
    (
        _ruled({"to": "busy", "after_hours": 1}),
        "to: busy",
        "'busy' may not follow 'busy'.",
    ),
    (
        _ruled({"to": "done", "after_hours": 1}, step=0),
        "to: done",
        "'done' may not follow 'new'.",
    ),
    (
        _ruled({"to": "new", "after_hours": 1}, step=2),
        "to: new",
        "'new' may not follow 'done'.",
    ),
    (
        _ruled({"to": "done"}),
        "append",
        "the rule has none of after_hours, when_context, when_children, when_parent.",
    ),
    (
        _ruled({"to": "done", "when_context": {"a": 1}, "clock": "elapsed"}),
        "clock",
        "a clock is given, and no after_hours.",
    ),
    (
        _ruled({"to": "done", "after_hours": 0.0000001}),
        "after_hours",
        "1E-7 has more than six decimals.",
    ),
    (
        _ruled({"to": "done", "when_children": {**ITEMS, "any": ["x"], "all": ["y"]}}),
        "entity_type: line_item",
        "when_children takes either all or any.",
    ),
    (
        _ruled({"to": "done", "when_children": ITEMS}),
        "entity_type: line_item",
        "when_children takes either all or any.",
    ),
    (
        lambda w: (
            _set("steps.2.requires_approval", True)(w),
            _set("steps.2.approval_role", "boss")(w),
            _ruled({"to": "done", "after_hours": 1})(w),
        ),
        "append",
        "'done' requires an approval, which no rule gives; with append: false it is "
        "proposed.",
    ),
    (
        _in_a_circle(),
        "append",
        "a loop of rules without hours leads from 'busy' to 'new' to 'busy' again; let "
        "one of them wait, or only propose.",
    ),
    (
        _in_a_circle(after_hours=0),
        "append",
        "a loop of rules without hours leads from 'busy' to 'new' to 'busy' again; let "
        "one of them wait, or only propose.",
    ),
]


@pytest.mark.parametrize(("alter", "at", "sentence"), RULE_DEFECTS)
def test_defect_of_a_rule_is_refused_with_file_and_line(
    folder: Write, alter: Alter, at: str, sentence: str
) -> None:
    path = folder(_altered(_workflow(), alter)) / "0.yml"
    _assert_refused(path, at, sentence)


@pytest.mark.parametrize(
    "way_back",
    [
        {"after_hours": 0.000001},
        {"append": False},
        # What is asked of the context can't be there at once, and no rule changes it.
        {"when_context": {"state": "off"}},
    ],
)
def test_a_circle_that_waits_or_asks_a_person_or_another_context_is_sound(
    folder: Write, way_back: Content
) -> None:
    path = folder(_altered(_workflow(), _in_a_circle(**way_back)))
    assert len(workflows.check(path).workflows) == 1


def test_a_search_for_loops_ends_where_ways_are_without_number(folder: Write) -> None:
    """Thirty statuses, each of which leads to all that come later."""
    names = [f"s{number:02}" for number in range(30)]
    steps = [_step(name, n, names[n + 1 :]) for n, name in enumerate(names)]
    for step in steps:
        step["auto_transition_conditions"]["rules"] = [
            {"to": to, "append": True, "when_context": {"a": 1}}
            for to in step["allowed_transitions"]
        ]
    assert workflows.check(folder(_workflow(steps=steps))).workflows


WORKFLOW_DEFECTS: list[tuple[Alter, str, str]] = [
    (
        _set("sla", 1),
        "sla:",
        "key 'sla' is unknown; known are entity_type, workflow_name, business_entity, "
        "is_default, is_active, conditions, calendar, steps.",
    ),
    (
        _set("steps.2.colour", 1),
        "colour:",
        "key 'colour' is unknown; known are "
        f"{', '.join(json_schemas.STEP['properties'])}.",
    ),
    (
        _set("steps.0.notification_settings", {"at_risk_hours": "soon"}),
        "at_risk_hours",
        "'at_risk_hours' must be a number from 0 to 1000000 or null, not 'soon'.",
    ),
    (
        lambda w: _remove(w, "calendar"),
        "entity_type",
        "key 'calendar' is missing.",
    ),
    (
        lambda w: _remove(w, "steps", 2, "is_final"),
        "status_name: done",
        "key 'is_final' is missing.",
    ),
    (
        _set("is_default", 1),
        "is_default",
        "'is_default' must be true or false, not 1.",
    ),
    (
        _set("conditions", [1]),
        "conditions:",
        "'conditions' must be a mapping, not a list of 1.",
    ),
    (
        _set("steps.2.is_waiting", True),
        "is_waiting",
        "'done' is final, and nobody is waited for.",
    ),
    (_set("steps", []), "steps", "'steps' must be a non-empty list, not a list of 0."),
    (
        _set("workflow_name", ""),
        "workflow_name",
        "'workflow_name' must be a non-empty text, not ''.",
    ),
    (
        lambda w: w["steps"].append(_step("done", 4, [])),
        "status_name: done",
        "status_name 'done' is there more than once.",
    ),
    (
        _set("steps.2.step_order", 2),
        "step_order: 2",
        "step_order 2 is there more than once.",
    ),
    (
        _set("steps.2.step_order", True),
        "step_order: true",
        "'step_order' must be a whole number from 0 to 2147483647, not True.",
    ),
    (
        _set("steps.2.allowed_transitions", ["gone"]),
        "allowed_transitions",
        "'gone' is no step here.",
    ),
    (
        _set("steps.2.allowed_transitions", [["new"]]),
        "allowed_transitions",
        "an item of 'allowed_transitions' must be a non-empty text of at most 255 "
        "characters, not a list of 1.",
    ),
    (
        _set("steps.2.allowed_transitions", "all"),
        "allowed_transitions: all",
        "'allowed_transitions' must be the text any or a list, not 'all'.",
    ),
    (
        _set("steps.2.allowed_transitions", ["any"]),
        "allowed_transitions",
        "'any' is no step here.",
    ),
    (
        _set("steps.2.allowed_transitions", ["new", "new"]),
        "allowed_transitions",
        "'allowed_transitions' holds 'new' more than once.",
    ),
    (
        _dead_end,
        "allowed_transitions",
        "'dead' is not final and has no way out.",
    ),
    (
        _only_to_itself,
        "allowed_transitions",
        "'stuck' is not final and has no way out.",
    ),
    (
        _set("steps.2.status_color", "red"),
        "status_color: red",
        "'status_color' must be a text such as #2563eb, not 'red'.",
    ),
    (
        _set("steps.1.sla_hours", -1),
        "sla_hours: -1",
        "'sla_hours' must be a number from 0 to 1000000 or null, not -1.",
    ),
    (
        _set("steps.1.sla_hours", 0.0000001),
        "sla_hours: 1.0e-07",
        "1e-07 has more than six decimals.",
    ),
    (
        _set("steps.2.sla_hours", 1),
        "sla_hours: 1",
        "'done' is final and can't have an SLA (S10).",
    ),
    (
        _set("steps.2.requires_approval", True),
        "approval_role",
        "a role is needed where an approval is required, and only there.",
    ),
    (
        _set("conditions", {"at": float("nan")}),
        "at: .nan",
        "nan can't be stored as JSON; write a text or a number.",
    ),
    (
        _set("conditions", {"tags": ["a\0"]}),
        '"a\\0',
        "'a\\x00' can't be stored as JSON; write a text or a number.",
    ),
]


@pytest.mark.parametrize(("alter", "at", "sentence"), WORKFLOW_DEFECTS)
def test_defect_of_a_workflow_is_refused_with_file_and_line(
    folder: Write, alter: Alter, at: str, sentence: str
) -> None:
    path = folder(_altered(_workflow(), alter)) / "0.yml"
    _assert_refused(path, at, sentence)


CALENDAR_DEFECTS: list[tuple[Alter, str, str]] = [
    (
        _set("opens", 1),
        "opens:",
        "key 'opens' is unknown; known are "
        f"{', '.join(json_schemas.CALENDAR['properties'])}.",
    ),
    (
        _set("calendar_name", "a/b"),
        "calendar_name",
        "'calendar_name' must be a text such as office_nl, not 'a/b'.",
    ),
    (
        _set("timezone", "Mars/Base"),
        "timezone",
        "'Mars/Base' is no IANA time zone.",
    ),
    (
        _set("windows.moonday", []),
        "moonday",
        "key 'moonday' is unknown; known are monday, tuesday, wednesday, thursday, "
        "friday, saturday, sunday.",
    ),
    (
        _set("windows.monday", "09:00-17:00"),
        "monday",
        "'monday' must be a list, not '09:00-17:00'.",
    ),
    (
        _set("windows.monday", ["09:00-25:00"]),
        "monday",
        "an item of 'monday' must be a text such as 09:00-17:00, not '09:00-25:00'.",
    ),
    (
        _set("windows.monday", ["09:00-17:00\n"]),
        "monday",
        r"an item of 'monday' must be a text such as 09:00-17:00, not '09:00-17:00\n'.",
    ),
    (
        _set("windows.monday", ["09:00-09:00"]),
        "monday",
        "monday 09:00-09:00 has no length.",
    ),
    (
        _set("windows.monday", ["09:00-17:00", "16:59:59-18:00"]),
        "monday",
        "monday 09:00-17:00 overlaps monday 16:59:59-18:00.",
    ),
    (
        _set("windows", {"monday": ["22:00-06:00"], "tuesday": ["05:59-12:00"]}),
        "tuesday",
        "monday 22:00-06:00 overlaps tuesday 05:59-12:00.",
    ),
    (
        _set("windows", {"monday": ["05:00-12:00"], "sunday": ["22:00-06:00"]}),
        "monday",
        "sunday 22:00-06:00 overlaps monday 05:00-12:00.",
    ),
    (
        _set("holidays", {"country": "XX"}),
        "holidays",
        "Country XX not available.",
    ),
    (
        _set("holidays", {"country": "NL", "subdivision": "XX"}),
        "holidays",
        "Entity NL does not have subdivision XX.",
    ),
    (_set("holidays", {}), "holidays", "key 'country' is missing."),
    (
        _set("holidays", {"country": "NL", "land": "NL"}),
        "land:",
        "key 'land' is unknown; known are country, subdivision.",
    ),
    (
        _set("closed_dates", ["soon"]),
        "closed_dates",
        "an item of 'closed_dates' must be a text such as 2026-12-24, not 'soon'.",
    ),
    (
        _set("closed_dates", ["2026-02-29"]),
        "closed_dates",
        "2026-02-29 is no date of the calendar.",
    ),
    (
        _set("special_dates", {"soon": []}),
        "soon",
        "key 'soon' must be a text such as 2026-12-24, not 'soon'.",
    ),
    (
        _set("special_dates", {"2026-02-30": ["09:00-10:00"]}),
        "2026-02-30",
        "2026-02-30 is no date of the calendar.",
    ),
    (
        _set("special_dates", {"2026-12-24": ["09:00-10:00", "09:30-11:00"]}),
        "2026-12-24",
        "2026-12-24 09:00-10:00 overlaps 09:30-11:00.",
    ),
    (
        lambda c: c.update(
            closed_dates=["2026-12-24"], special_dates={"2026-12-24": ["09:00-10:00"]}
        ),
        "2026-12-24':",
        "2026-12-24 is among the closed dates as well.",
    ),
    (
        _set("covers", [2026]),
        "covers",
        "'covers' must be a non-empty list of at most 2 items, not a list of 1.",
    ),
    (
        _set("covers", [2027, 2026]),
        "covers",
        "2026 is before 2027.",
    ),
    (
        _set("covers", [26, 2026]),
        "covers",
        "an item of 'covers' must be a whole number from 1900 to 2200, not 26.",
    ),
]


@pytest.mark.parametrize(("alter", "at", "sentence"), CALENDAR_DEFECTS)
def test_defect_of_a_calendar_is_refused_with_file_and_line(
    folder: Write, alter: Alter, at: str, sentence: str
) -> None:
    path = folder(_altered(_calendar(), alter)) / "0.yml"
    _assert_refused(path, at, sentence)


PARTY_DEFECTS: list[tuple[Content, Alter, str, str]] = [
    (
        ENTITIES,
        _set("business_entities.1.id", FLEET.upper()),
        "id:",
        "'id' must be a text such as 729ed482-9c14-4980-99f6-7aa66bbbbdb6, "
        f"not '{FLEET.upper()}'.",
    ),
    (
        ENTITIES,
        _set("user_accounts", []),
        "user_accounts",
        "key 'user_accounts' is unknown; known are business_entities.",
    ),
    (
        ENTITIES,
        _set("business_entities", FLEET),
        "business_entities",
        f"'business_entities' must be a list, not '{FLEET}'.",
    ),
    (
        USERS,
        _set("user_accounts.0.role", "boss"),
        "role:",
        "key 'role' is unknown; known are id, name, roles, business_entity, is_active.",
    ),
    (
        USERS,
        _set("user_accounts.0.roles", [1]),
        "roles",
        "an item of 'roles' must be a non-empty text, not 1.",
    ),
]


TARGET_DEFECTS: list[tuple[Content, Alter, str, str]] = [
    *(
        (
            TARGETS,
            _set("targets.0.at_least", share),
            "at_least",
            "'at_least' must be a number from 1 to 100 such as 95 or null, not "
            f"{share!r}.",
        )
        for share in (0, 0.95, 100.0001, "95 %", True)
    ),
    (
        TARGETS,
        _set("targets.0.at_least", 99.95001),
        "at_least",
        "99.95001 has more than four decimals.",
    ),
    (
        TARGETS,
        _set("targets.0.effective_from", "2026-02-29"),
        "effective_from",
        "2026-02-29 is no date of the calendar.",
    ),
    (
        TARGETS,
        _set("targets.0.effective_from", "January"),
        "effective_from",
        "'effective_from' must be a text such as 2026-12-24, not 'January'.",
    ),
]


@pytest.mark.parametrize(
    ("content", "alter", "at", "sentence"), [*PARTY_DEFECTS, *TARGET_DEFECTS]
)
def test_defect_of_a_party_is_refused_with_file_and_line(
    folder: Write, content: Content, alter: Alter, at: str, sentence: str
) -> None:
    _assert_refused(folder(_altered(content, alter)) / "0.yml", at, sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: [", "line 2: this is no YAML: expected the node content, but found"),
        ("- a", "line 1: a workflow file is a mapping; this is none."),
        ("", "line 1: a workflow file is a mapping; this is none."),
        ("calendar_name: a\ncalendar_name: b", "line 2: key 'calendar_name' stands"),
        ("a: !!binary YQ==", "line 1: tag '!!binary' is not known here;"),
        ('a: "\\uD800"', "line 1: '\\ud800' can't be stored as JSON;"),
        ("a: \x01", "line 1: this is no YAML: character U+0001 can't stand in it."),
    ],
)
def test_file_that_is_no_mapping_of_json_values_is_refused(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "file.yml"
    path.write_text(text)
    (refusal,) = _refusals(path)
    assert refusal.startswith(str(path))
    assert sentence in refusal


def test_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    assert "no such file or folder" in _refusals(tmp_path / "gone.yml")[0]
    assert "holds no .yml file" in _refusals(tmp_path)[0]
    (tmp_path / "latin.yml").write_bytes(b"name: \xe9")
    assert "this is no YAML: " in _refusals(tmp_path)[0]
    (tmp_path / "latin.yml").unlink()
    (tmp_path / "folder.yml").mkdir()
    assert "Is a directory. Check the path." in _refusals(tmp_path)[0]


def test_every_defect_of_every_file_is_told_at_once(folder: Write) -> None:
    path = folder(
        _altered(_workflow(), _set("is_default", "no")),
        _calendar(timezone="Mars/Base"),
        _altered(USERS, _set("user_accounts.0.id", "1")),
    )
    assert [line.partition(",")[0] for line in _refusals(path)] == [
        str(path / f"{number}.yml") for number in range(3)
    ]


def test_definition_is_refused_where_it_stands_twice(folder: Write) -> None:
    contents = (_workflow(), _calendar(), ENTITIES, USERS)
    path = folder(*contents, *contents)
    line = _line(path / "6.yml", f"id: {HOME}")
    assert _refusals(path) == [
        f"{path}/4.yml, line 1: order, standard is defined twice; the other is at "
        f"{path}/0.yml, line 1.",
        f"{path}/5.yml, line 1: office is defined twice; the other is at "
        f"{path}/1.yml, line 1.",
        *(
            f"{path}/6.yml, line {at}: {name} is defined twice; the other is at "
            f"{path}/2.yml, line {at}."
            for at, name in ((2, FLEET), (line, HOME), (3, "Fleet"), (5, "Home"))
        ),
        f"{path}/7.yml, line 2: {BOSS} is defined twice; the other is at "
        f"{path}/3.yml, line 2.",
    ]


def test_same_name_for_another_type_or_business_entity_is_another_workflow(
    folder: Write,
) -> None:
    path = folder(
        _workflow(),
        _workflow(entity_type="quote"),
        _workflow(business_entity="Fleet"),
    )
    assert len(workflows.check(path).workflows) == 3


def test_two_defaults_are_refused(folder: Write) -> None:
    default = {"is_default": True}
    path = folder(
        _workflow("one", **default),
        _workflow("two", conditions={"priority": "urgent"}, **default),
        _workflow("three", business_entity="Fleet", **default),
        _workflow("four", entity_type="quote", **default),
        _workflow("five", is_active=False, **default),
        _workflow("six"),
    )
    place = _line(path / "1.yml", "is_default")
    assert _refusals(path) == [
        f"{path}/1.yml, line {place}: order/two is a default, as order/one is at "
        f"{path}/0.yml, line {place}; one of them may be (S8)."
    ]


RIVALS: list[tuple[Content, Content]] = [
    ({}, {}),
    ({"priority": "urgent"}, {"priority": "urgent"}),
    ({"priority": "urgent"}, {"region": "south"}),
    ({"site": {"kind": "home"}}, {"site": {"floor": 2}}),
    ({"tags": ["a"]}, {"tags": ["b"]}),
    # Neither an empty list nor an empty mapping is a leaf.
    ({"tags": []}, {"site": {}}),
    ({"a": None}, {"a": None}),
    ({"a": 1}, {"a": 1.0}),
]
NO_RIVALS: list[tuple[Content, Content]] = [
    ({}, {"priority": "urgent"}),
    ({"priority": "urgent"}, {"priority": "normal"}),
    ({"site": {"kind": "home"}}, {"site": {"kind": "office"}}),
    ({"site": {"kind": "home"}, "a": 1}, {"site": {"kind": "office"}, "b": 1}),
    ({"site": {"kind": "home"}}, {"site": "home"}),
    ({"tags": ["a"]}, {"tags": "a"}),
    ({"tags": ["a"]}, {"tags": {"a": 1}}),
    ({"a": 1}, {"a": True}),
    ({"a": None}, {"a": False}),
    ({"tags": ["a"]}, {"tags": ["a", "b"]}),
]


@pytest.mark.parametrize(("one", "other"), RIVALS)
def test_two_workflows_between_which_only_names_decide_are_refused(
    folder: Write, one: Content, other: Content
) -> None:
    path = folder(_workflow("one", conditions=one), _workflow("two", conditions=other))
    place = _line(path / "1.yml", "conditions:")
    assert _refusals(path) == [
        f"{path}/1.yml, line {place}: order/two and order/one (at {path}/0.yml, line "
        f"{place}) can match the same transition and are equally specific, so that "
        "their names would decide (S8). Give one of them another condition, or make it "
        "the default."
    ]


@pytest.mark.parametrize(("one", "other"), NO_RIVALS)
def test_two_workflows_that_differ_in_rank_or_contradict_are_sound(
    folder: Write, one: Content, other: Content
) -> None:
    path = folder(_workflow("one", conditions=one), _workflow("two", conditions=other))
    assert len(workflows.check(path).workflows) == 2


@pytest.mark.parametrize(
    ("one", "other", "is_expected"),
    [*((*pair, True) for pair in RIVALS), *((*pair, False) for pair in NO_RIVALS)],
)
def test_rivals_are_those_that_the_database_finds_equal(
    connection: Connection,
    folder: Write,
    one: Content,
    other: Content,
    is_expected: bool,
) -> None:
    """Some context, made of both, matches both with one rank: by PostgreSQL itself."""
    for name, conditions in (("one", one), ("two", other)):
        path = folder(_workflow(name, conditions=conditions), name=name)
        workflows.apply(connection, workflows.load(path))
    rows = connection.execute(
        "select rank from raw.matching_workflows('order', %s)",
        [json.dumps(_merged(one, other))],
    ).fetchall()
    assert (len(rows) == 2 and rows[0] == rows[1]) == is_expected


def _merged(one: Any, other: Any) -> Any:
    """A value that contains both, where one can."""
    if isinstance(one, dict) and isinstance(other, dict):
        both = {key: _merged(one[key], other[key]) for key in one.keys() & other.keys()}
        return {**one, **other, **both}
    if isinstance(one, list) and isinstance(other, list):
        return one + other
    return one


@pytest.mark.parametrize(
    "given",
    [
        {"is_default": True},
        {"is_active": False},
        {"entity_type": "quote"},
        {"business_entity": "Fleet"},
    ],
)
def test_what_decides_before_the_name_makes_no_rivals(
    folder: Write, given: Content
) -> None:
    path = folder(_workflow("one"), _workflow("two", **given))
    assert len(workflows.check(path).workflows) == 2


def test_unknown_calendar_is_refused_by_check(folder: Write) -> None:
    path = folder(_workflow(calendar="office"), _workflow(entity_type="quote"))
    _assert_refused(
        path / "0.yml",
        "calendar",
        "no file beside it defines calendar 'office'; defined are none.",
    )
    folder(_workflow(calendar="office"), _calendar(), _calendar("other"))
    assert len(workflows.check(path).calendars) == 2
    # A single file is seen beside the others, and applied alone.
    assert workflows.check(path / "0.yml").calendars == ()
    folder(_workflow(calendar="offices"))
    _assert_refused(
        path / "0.yml",
        "calendar",
        "no file beside it defines calendar 'offices'; defined are office, other.",
    )


def test_apply_knows_calendars_of_the_files_and_of_the_database(
    connection: Connection, folder: Write
) -> None:
    path = folder(_workflow(calendar="office"), _calendar())
    with pytest.raises(WorkflowError) as refused:
        workflows.apply(connection, workflows.load(path / "0.yml"))
    assert str(refused.value) == (
        f"{path}/0.yml, line {_line(path / '0.yml', 'calendar')}: calendar 'office' is "
        "unknown; known are none."
    )
    assert in_force.definitions(connection) == []
    workflows.apply(connection, workflows.load(path / "1.yml"))
    applied = workflows.apply(connection, workflows.load(path / "0.yml"))
    assert applied == (("order/standard",), 0)


@pytest.mark.parametrize(
    ("content", "at", "sentence"),
    [
        (_workflow(entity_type="parcel"), "entity_type", "entity type 'parcel' is "),
        (_workflow(business_entity="X"), "business_entity", "business entity 'X' is "),
    ],
)
def test_apply_refuses_what_no_table_knows_and_writes_nothing(
    connection: Connection, folder: Write, content: Content, at: str, sentence: str
) -> None:
    configuration = workflows.load(folder(USERS, content))
    file = folder() / "1.yml"
    for door in (workflows.apply, workflows.compare):
        with pytest.raises(WorkflowError) as refused:
            door(connection, configuration)
        expected = f"{file}, line {_line(file, at)}: {sentence}unknown; "
        assert str(refused.value).startswith(expected)
    assert in_force.definitions(connection) == []


def _targets(*changes: Content) -> Content:
    return {"targets": [{**TARGETS["targets"][0], **given} for given in changes]}


def test_every_defect_of_targets_beside_each_other_and_workflows_is_told(
    connection: Connection, folder: Write
) -> None:
    path = folder(
        _targets(
            {},
            {"at_least": 90},
            {"name": "a", "workflow": "express"},
            {"name": "b", "status": "gone"},
            {"name": "c", "workflow": "standard", "status": "gone"},
            {"name": "d", "workflow": "standard", "status": "busy"},
        ),
        _workflow(),
    )
    twice, *others = (line.partition(": ")[2] for line in _refusals(path))
    assert twice.startswith("orders, 2026-01-01 is defined twice; the other is at ")
    sentences = [
        "'order' has no workflow 'express'; it has standard.",
        *["'order' has no status 'gone' there; it has busy, done, new."] * 2,
    ]
    assert others == sentences
    # Alone, a file is seen beside the others.
    assert [line.partition(": ")[2] for line in _refusals(path / "0.yml")][1:] == others
    workflows.apply(connection, workflows.load(path / "1.yml"))
    folder(_targets(*({"name": n, "status": "gone"} for n in "ab")))
    with pytest.raises(WorkflowError, match=r"gone(?s:.*)\n.*gone"):
        workflows.apply(connection, workflows.load(path / "0.yml"))


def test_a_known_target_changes_from_a_day_that_is_to_come(
    connection: Connection, folder: Write
) -> None:
    """What was decided is not judged again; what has not begun may be put right."""

    def apply(at: datetime, *changes: Content) -> Applied:
        path = folder(_targets(*changes))
        return workflows.apply(connection, workflows.load(path), at=at)

    july = {"effective_from": "2026-07-01", "at_least": 97.5}
    noon = JANUARY + timedelta(days=30, hours=12)
    # A first one may be of the past.
    assert apply(noon, {}, july).changed == (
        "target orders from 2026-01-01",
        "target orders from 2026-07-01",
    )
    assert apply(noon, {"at_least": 95.0}, july) == ((), 2)
    later = noon + timedelta(minutes=1)
    assert apply(later, {**july, "at_least": 98}).changed
    for change in (
        {"at_least": 90},
        {"effective_from": "2025-12-01"},
        {"effective_from": "2026-01-31", "at_least": None},
    ):
        with pytest.raises(
            WorkflowError,
            match=r"0.yml, line \d+: target orders from .* would judge again what was "
            "decided before: give the change an effective_from after 2026-01-31",
        ):
            apply(later, change)
    assert apply(later, {"effective_from": "2026-02-01", "at_least": None}).changed
    shown = [row[1:] for row in in_force.definitions(connection)]
    assert shown == [
        ("orders from 2026-01-01", None, True, 1, noon),
        ("orders from 2026-02-01", None, False, 1, later),
        ("orders from 2026-07-01", None, True, 2, later),
    ]
    rows = connection.execute(
        "select effective_from::text, at_least::text from raw.targets order by 1, 2"
    ).fetchall()
    assert rows == [
        ("2026-01-01", "95.0000"),
        ("2026-02-01", None),
        ("2026-07-01", "97.5000"),
        ("2026-07-01", "98.0000"),
    ]


def test_sound_files_are_warned_of_what_is_hardly_meant(folder: Write) -> None:
    stuck = [
        _step("new", 1, ["a", "done"]),
        _step("a", 2, ["b"], sla_hours=None),
        _step("b", 3, ["a"]),
        _step("done", 4, [], is_final=True),
    ]
    never = _calendar("never", windows={"monday": []}, special_dates={})
    path = folder(_workflow(steps=stuck), never, _calendar())
    file, calendar = path / "0.yml", path / "1.yml"
    a, b = (_line(file, f"status_name: {name}") for name in "ab")
    assert workflows.check(path).warnings == (
        f"{file}, line {a}: 'a' sets no deadline: it has no sla_hours.",
        f"{file}, line {a}: from 'a' no final status can be reached.",
        f"{file}, line {b}: from 'b' no final status can be reached.",
        f"{calendar}, line {_line(calendar, 'windows')}: 'never' never opens, so "
        "nothing that it times has a deadline (S12).",
    )


def test_workflow_without_a_final_status_is_warned_of_and_once(folder: Write) -> None:
    round_and_round = [_step("new", 1, ["busy"]), _step("busy", 2, ["new"])]
    file = folder(_workflow(steps=round_and_round)) / "0.yml"
    assert workflows.check(file).warnings == (
        f"{file}, line {_line(file, 'steps')}: no step is final: an entity stays open "
        "in its last status, and overdue once that one's deadline has passed (S14).",
    )


def test_status_that_nothing_leads_to_is_warned_of(folder: Write) -> None:
    """Entities may begin in it: a first transition has no previous step (S19)."""
    workflow = _altered(
        _workflow(), lambda w: w["steps"].append(_step("lost", 4, ["new"]))
    )
    file = folder(workflow) / "0.yml"
    assert workflows.check(file).warnings == (
        f"{file}, line {_line(file, 'status_name: lost')}: 'lost' can't be reached "
        "from the first, 'new': only entities that begin after that are ever there.",
    )


OPEN_STEPS = [
    _step("done", 30, [], allowed_transitions="any"),
    _step("new", 10, ["any"]),
    _step("any", 20, [], allowed_transitions="any", is_final=False, sla_hours=1),
]


def test_any_stands_for_all_other_statuses_in_their_order(folder: Write) -> None:
    """A status may have that name; in a list it is no more than that."""
    configuration = workflows.check(folder(_workflow(steps=OPEN_STEPS)))
    (workflow,) = configuration.workflows
    assert configuration.warnings == ()
    assert {s["status_name"]: s["allowed_transitions"] for s in workflow["steps"]} == {
        "done": ["new", "any"],
        "new": ["any"],
        "any": ["new", "done"],
    }
    lines = (folder() / "0.yml").read_text().splitlines()
    at = workflow["steps"][2].at("allowed_transitions")
    assert lines[int(at.rpartition(" ")[2]) - 1] == "  allowed_transitions: any"


def test_only_status_with_any_has_no_way_out(folder: Write) -> None:
    alone = [_step("new", 1, [], allowed_transitions="any", is_final=False)]
    path = folder(_workflow(steps=alone)) / "0.yml"
    sentence = "'new' is not final and has no way out."
    _assert_refused(path, "allowed_transitions", sentence)


def test_any_is_applied_as_the_list_that_it_stands_for(
    connection: Connection, folder: Write
) -> None:
    _apply(connection, folder(_workflow(steps=OPEN_STEPS)))
    _, steps = in_force.steps_of(connection, "order/standard")
    assert [(step.status, step.allowed_next) for step in steps] == [
        ("new", ("any",)),
        ("any", ("new", "done")),
        ("done", ("new", "any")),
    ]
    listed = copy.deepcopy(OPEN_STEPS)
    listed[0]["allowed_transitions"] = ["new", "any"]
    listed[2]["allowed_transitions"] = ["new", "done"]
    assert _apply(connection, folder(_workflow(steps=listed)), 1) == ((), 1)
    # One more status may follow, too.
    more = [*OPEN_STEPS, _step("late", 40, ["new"])]
    assert _apply(connection, folder(_workflow(steps=more)), 2).changed
    _, steps = in_force.steps_of(connection, "order/standard")
    assert steps[2].allowed_next == ("new", "any", "late")


def test_any_in_a_workflow_of_thousands_of_statuses_is_refused(tmp_path: Path) -> None:
    content = _large(2_001)
    path = tmp_path / "large.yml"
    for step in content["steps"][:500]:
        step["allowed_transitions"] = "any"
    path.write_text(json.dumps(content, indent=1))
    (told,) = _refusals(path)
    assert told.endswith(
        "'any' stands for 1,000,500 moves in this workflow, and may for 1,000,000; "
        "list those that are meant."
    )
    content["steps"][0]["allowed_transitions"] = ["status_1"]
    path.write_text(json.dumps(content))
    assert len(workflows.check(path).workflows) == 1


def test_calendar_says_what_its_file_means(folder: Write) -> None:
    content = _calendar(
        windows={"friday": ["13:00-17:00", "22:00-02:30", "09:00-12:00"]},
        holidays={"country": "NL"},
        closed_dates=["2026-12-24", "2026-12-25"],
        special_dates={"2026-12-26": ["10:00-12:00"], "2027-01-01": []},
    )
    path = folder(content) / "0.yml"
    path.write_text(path.read_text().replace("'", ""))
    (calendar,) = workflows.load(path).calendars
    assert [[str(w) for w in day] for day in calendar.windows] == [
        *([[]] * 4),
        ["09:00-12:00", "13:00-17:00", "22:00-02:30"],
        *([[]] * 2),
    ]
    closed = {str(day): why for day, why in calendar.closed_dates.items()}
    assert closed["2026-12-24"] == "closed"
    # A holiday that is closed anyway keeps its name.
    assert closed["2026-12-25"] == "Eerste kerstdag"
    assert closed["2026-04-27"] == "Koningsdag"
    # The night before the first day belongs to it.
    assert "2025-12-25" in closed
    assert closed.keys().isdisjoint({"2026-12-26", "2027-01-01"})
    assert {str(d): len(w) for d, w in calendar.special_dates.items()} == {
        "2026-12-26": 1,
        "2027-01-01": 0,
    }


def _apply(connection: Connection, path: Path, days: int = 0) -> Applied:
    configuration: Configuration = workflows.load(path)
    at = JANUARY + timedelta(days=days)
    return workflows.apply(connection, configuration, at=at)


ALL = (ENTITIES, USERS, _calendar(), _workflow(calendar="office"))


def test_only_what_changed_gets_a_version_in_one_batch(
    connection: Connection, folder: Write
) -> None:
    names = (
        "business entity Fleet",
        "business entity Home",
        "user Boss",
        "calendar office",
        "order/standard",
    )
    assert _apply(connection, folder(*ALL)) == (names, 0)
    assert _apply(connection, folder(*ALL)) == ((), 5)
    folder(*ALL[:3], _altered(ALL[3], _set("steps.0.sla_hours", 24.0)))
    assert _apply(connection, folder(), 1) == ((), 5)
    folder(*ALL[:3], _altered(ALL[3], _set("steps.0.sla_hours", 1.5)))
    assert _apply(connection, folder(), 2) == (("order/standard",), 4)
    rows = connection.execute(
        "select read_count, appended_count, duplicate_count from raw.batches "
        "where kind = 'configuration' order by batch_id"
    ).fetchall()
    assert rows == [(5, 5, 0), (5, 1, 4)]


def test_an_entity_type_is_added_named_anew_and_bound_by_a_workflow(
    connection: Connection, folder: Write
) -> None:
    """S7: with its workflow in one go; another label is another version."""
    path = folder(_workflow(entity_type="incident"), TYPES)
    assert _apply(connection, path) == (
        ("entity type incident", "incident/standard"),
        0,
    )
    assert known_types(connection)[-2:] == ["internal_task", "incident"]
    assert _apply(connection, path, 1) == ((), 2)
    named = folder({"entity_types": [{"name": "incident", "label": "Storing"}]})
    assert workflows.compare(connection, workflows.load(named / "0.yml")) == (
        Difference("entity type incident", "label", "Incident", "Storing"),
    )
    assert workflows.apply(connection, workflows.load(named / "0.yml")).changed == (
        "entity type incident",
    )
    assert known_types(connection).count("incident") == 1
    (found,) = in_force.definitions(connection)[1:]
    assert (found.kind, found.name, found.versions) == ("entity type", "incident", 2)


def test_comparison_shows_every_field_that_apply_would_change(
    connection: Connection, folder: Write
) -> None:
    path = folder(*ALL)
    assert workflows.compare(connection, workflows.load(path)) == (
        Difference("business entity Fleet", "new definition", None, FLEET),
        Difference("business entity Home", "new definition", None, HOME),
        Difference("user Boss", "new definition", None, BOSS),
        Difference("calendar office", "new definition", None, "office"),
        Difference("order/standard", "new definition", None, "3 steps"),
    )
    assert in_force.definitions(connection) == []
    _apply(connection, path)
    assert workflows.compare(connection, workflows.load(path)) == ()
    workflow = _workflow(
        calendar=None,
        conditions={"priority": "urgent"},
        steps=[
            _step("new", 1, ["busy", "done"], sla_hours=1.5),
            _step("busy", 2, ["done", "new"], sla_hours=None),
            _step("done", 3, []),
            _step("dropped", 4, []),
        ],
    )
    workflow["steps"][1]["allowed_transitions"].append("dropped")
    calendar = _calendar(
        windows={"monday": ["09:00-12:00", "13:00-17:00"]}, closed_dates=["2026-12-24"]
    )
    users = _altered(USERS, _set("user_accounts.0.roles", ["boss", "clerk"]))
    entities = _altered(ENTITIES, _set("business_entities.0.name", "Vloot"))
    path = folder(entities, users, calendar, workflow)
    name = "order/standard"
    added = workflow["steps"][3]
    assert workflows.compare(connection, workflows.load(path)) == (
        Difference("business entity Vloot", "name", "Fleet", "Vloot"),
        Difference("user Boss", "roles", "boss", "boss, clerk"),
        Difference(
            "calendar office",
            "windows: monday",
            "09:00-17:00",
            "09:00-12:00, 13:00-17:00",
        ),
        Difference("calendar office", "closed_dates: 2026-12-24", None, "closed"),
        Difference(name, "calendar_name", "office", "null"),
        Difference(name, "conditions", "{}", '{"priority": "urgent"}'),
        Difference(name, "step new: allowed_transitions", "busy", "busy, done"),
        Difference(name, "step new: sla_hours", "24", "1.5"),
        Difference(
            name, "step busy: allowed_transitions", "done, new", "done, new, dropped"
        ),
        Difference(name, "step busy: sla_hours", "24", "null"),
        *(
            Difference(name, f"step dropped: {key}", None, shown)
            for key, shown in (
                ("allowed_transitions", "none"),
                ("approval_role", "null"),
                ("auto_transition_conditions", "{}"),
                ("is_final", "true"),
                ("is_waiting", "false"),
                ("notification_settings", "{}"),
                ("requires_approval", "false"),
                ("sla_hours", "null"),
                ("status_color", added["status_color"]),
                ("status_label", "Dropped"),
                ("step_order", "4"),
            )
        ),
    )
    _apply(connection, path, 1)
    assert workflows.compare(connection, workflows.load(path)) == ()


def test_new_rules_of_a_zone_are_a_difference_of_their_own(
    connection: Connection, folder: Write
) -> None:
    path = folder(_calendar())
    _apply(connection, path)
    connection.execute("alter table raw.calendars disable trigger append_only")
    connection.execute("update raw.calendars set opening_sha256 = 'of older rules'")
    (difference,) = workflows.compare(connection, workflows.load(path))
    assert difference[:3] == ("calendar office", "opening_sha256", "of older rules")
    assert _apply(connection, path, 1).changed == ("calendar office",)


def test_windows_and_pages_are_stored_as_the_calendar_has_them(
    connection: Connection, folder: Write
) -> None:
    """Those of each version, also where one is open for seconds or never."""
    contents = [
        _calendar("office", covers=[1900, 2200], windows={"sunday": ["22:00-06:00"]}),
        _calendar("second", windows={"thursday": ["00:00-00:00:01"]}),
        _calendar("never", windows={}),
    ]
    path = folder(*contents)
    _apply(connection, path)
    _apply(connection, folder(_calendar("office"), name="changed"), 1)
    calendars = [*workflows.load(path).calendars]
    calendars += workflows.load(folder(name="changed")).calendars
    ids = connection.execute(
        "select id from raw.calendars order by created_at, "
        "array_position(array['office', 'second', 'never'], calendar_name)"
    ).fetchall()
    for (calendar_id,), calendar in zip(ids, calendars, strict=True):
        opening = Opening(calendar)
        stored = connection.execute(
            """
            select
                opens_at at time zone 'UTC', closes_at at time zone 'UTC',
                business_clock,
                next_opens_at at time zone 'UTC'
            from raw.calendar_windows where calendar_id = %s order by opens_at
            """,
            [calendar_id],
        ).fetchall()
        following = [*(window.opens_at for window in opening.windows[1:]), None]
        expected = zip(opening.windows, following, strict=True)
        assert stored == [(*window, next_at) for window, next_at in expected]
        pages = connection.execute(
            """
            select page, is_by_clock, covers_until, opens_at, closes_at, business_clock
            from raw.calendar_pages where calendar_id = %s order by is_by_clock, page
            """,
            [calendar_id],
        ).fetchall()
        until = opening.windows[-1].closes_at
        assert pages == [
            (p.number, p.is_by_clock, until, *map(list, zip(*p.windows, strict=True)))
            for p in opening.pages()
        ]


def test_definitions_in_force_are_listed_with_their_versions(
    connection: Connection, folder: Write
) -> None:
    _apply(connection, folder(*ALL))
    fleet = _workflow(business_entity="Fleet", is_active=False)
    users = _altered(USERS, _set("user_accounts.0.business_entity", "Home"))
    _apply(connection, folder(ENTITIES, users, _calendar(), _workflow(), fleet), 2)
    later = JANUARY + timedelta(days=2)
    listed = [tuple(found) for found in in_force.definitions(connection)]
    assert listed == [
        ("workflow", "order/standard", None, True, 2, later),
        ("workflow", "order/standard", "Fleet", False, 1, later),
        ("calendar", "office", None, True, 1, JANUARY),
        ("business entity", "Fleet", None, True, 1, JANUARY),
        ("business entity", "Home", None, True, 1, JANUARY),
        ("user", "Boss", "Home", True, 2, later),
    ]
    before = later - timedelta(microseconds=1)
    earlier = in_force.definitions(connection, before)
    assert [d.versions for d in earlier] == [1] * 5
    assert {d.in_force_since for d in earlier} == {JANUARY}
    assert in_force.definitions(connection, later)[0].versions == 2
    assert in_force.definitions(connection, JANUARY - timedelta(microseconds=1)) == []


def test_steps_of_the_version_in_force_are_read(
    connection: Connection, folder: Write
) -> None:
    _apply(connection, folder(*ALL))
    steps = [
        _step("done", 30, []),
        _step("new", 10, ["done"], sla_hours=0.000001, approval_role="boss"),
    ]
    steps[1] |= {"requires_approval": True, "is_waiting": True}
    _apply(connection, folder(*ALL[:3], _workflow(steps=steps)), 2)
    found, now = in_force.steps_of(connection, "order/standard")
    assert found[:4] == ("workflow", "order/standard", None, True)
    assert [tuple(step) for step in now] == [
        ("new", "New", 10, "0.000001", None, ("done",), "boss", False, True),
        ("done", "Done", 30, None, None, (), None, True, False),
    ]
    found, then = in_force.steps_of(connection, "order/standard", at=JANUARY)
    assert (found.versions, found.in_force_since) == (1, JANUARY)
    assert [(step.status, step.sla_hours, step.calendar) for step in then] == [
        ("new", "24", "office"),
        ("busy", "24", "office"),
        ("done", None, "office"),
    ]


def test_workflow_of_a_business_entity_is_named_with_it(
    connection: Connection, folder: Write
) -> None:
    def whose(name: str, of: str | None = None) -> str | None:
        return in_force.steps_of(connection, name, of)[0].business_entity

    def refusal(name: str, of: str | None = None) -> str:
        with pytest.raises(WorkflowError) as refused:
            whose(name, of)
        return str(refused.value)

    of_both = [_workflow("b", business_entity=name) for name in ("Fleet", "Home")]
    only = _workflow("c", business_entity="Fleet", conditions={"a": 1})
    _apply(connection, folder(ENTITIES, _workflow("a"), *of_both, only))
    _apply(connection, folder(_workflow("a", business_entity="Home"), name="more"))
    assert (whose("order/a"), whose("order/a", "Home")) == (None, "Home")
    assert (whose("order/c"), whose("order/b", "Home")) == ("Fleet", "Home")
    assert refusal("order/b") == (
        "workflow 'order/b' is in force now for 'Fleet', 'Home'; name whose is meant."
    )
    assert refusal("order/a", "Fleet") == (
        "workflow 'order/a' is in force now for all, 'Home'; name whose is meant."
    )
    assert refusal("order/d") == (
        "No workflow 'order/d' is in force now; in force are order/a, order/b, order/c."
    )


def test_calendar_in_force_is_read(connection: Connection, folder: Write) -> None:
    first = _calendar(timezone="Pacific/Kiritimati", closed_dates=["2026-12-24"])
    _apply(connection, folder(first))
    special = {"2026-05-05": ["10:00-12:00"], "2026-05-04": []}
    _apply(connection, folder(_calendar(special_dates=special)), 2)
    then = in_force.calendar_in_force(
        connection, "office", JANUARY + timedelta(hours=10)
    )
    # At the instant that was asked for, in the calendar's own zone.
    assert (then.timezone, str(then.today)) == ("Pacific/Kiritimati", "2026-01-02")
    assert {str(day): why for day, why in then.closed_dates.items()} == {
        "2026-12-24": "closed"
    }
    now = in_force.calendar_in_force(connection, "office")
    assert (str(now.covers_from), str(now.covers_until)) == ("2026-01-01", "2027-12-31")
    assert list(now.windows.items())[:2] == [
        ("monday", ["09:00-17:00"]),
        ("tuesday", []),
    ]
    assert [str(day) for day in now.special_dates] == ["2026-05-04", "2026-05-05"]
    with pytest.raises(
        WorkflowError, match="No calendar 'x' is in force now; in force"
    ):
        in_force.calendar_in_force(connection, "x")
    before = JANUARY - timedelta(days=1)
    with pytest.raises(WorkflowError, match=r"in force at 2025-12-31 .*are none"):
        in_force.calendar_in_force(connection, "office", before)


def _kind(content: Content) -> str:
    for kind in ("entity_types", "business_entities", "user_accounts", "targets"):
        if kind in content:
            return kind
    return "calendar" if "calendar_name" in content else "workflow"


def _published(kind: str) -> jsonschema.Draft202012Validator:
    path = PROJECT / "ingest" / "configuration" / f"{kind}.schema.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text()))


@pytest.mark.parametrize("kind", json_schemas.KINDS)
def test_published_schema_is_the_one_that_the_checks_read(kind: str) -> None:
    schema = json_schemas.json_schema(kind)
    assert _published(kind).schema == schema
    jsonschema.Draft202012Validator.check_schema(schema)
    assert list(_undescribed(schema)) == []


def _undescribed(schema: Content) -> list[str]:
    """Keys, at any depth, of which nothing is said."""
    properties = schema.get("properties", {})
    inner = [*properties.values(), *([schema["items"]] if "items" in schema else [])]
    return [
        *(key for key, shape in properties.items() if not shape.get("description")),
        *(key for shape in inner for key in _undescribed(shape)),
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_of_the_project_is_of_the_schema_that_it_names(path: Path) -> None:
    content = yaml.load(path.read_text(), _Texts)  # noqa: S506
    kind = _kind(content)
    assert _published(kind).is_valid(content)
    first, *_ = path.read_text().splitlines()
    assert (
        first
        == f"# yaml-language-server: $schema=../ingest/configuration/{kind}.schema.json"
    )


class _Texts(yaml.SafeLoader):
    """As YAML 1.2 has it: a date is a text."""


_Texts.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if not pair[0].endswith(":timestamp")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@pytest.mark.parametrize(
    "content", [_workflow(), _calendar(), TYPES, ENTITIES, USERS, TARGETS], ids=_kind
)
def test_sound_content_is_of_its_schema(content: Content) -> None:
    assert _published(_kind(content)).is_valid(content)


OF_SHAPE = "must be|is unknown|is missing|more than once"
# Python's $ ends before a last line end as well; in other languages it does not.
BEYOND_SHAPE = ("is there more than once", "can't be stored", "\\n")
SHAPE_DEFECTS = [
    (content, alter, sentence)
    for content, alter, sentence in (
        *((_workflow(), alter, sentence) for alter, _, sentence in WORKFLOW_DEFECTS),
        *((_calendar(), alter, sentence) for alter, _, sentence in CALENDAR_DEFECTS),
        *(
            (content, alter, sentence)
            for content, alter, _, sentence in (*PARTY_DEFECTS, *TARGET_DEFECTS)
        ),
    )
    if any(words in sentence for words in OF_SHAPE.split("|"))
    and not any(words in sentence for words in BEYOND_SHAPE)
]


@pytest.mark.parametrize(("content", "alter", "sentence"), SHAPE_DEFECTS)
def test_defect_of_shape_is_refused_by_the_published_schema(
    content: Content, alter: Alter, sentence: str
) -> None:
    assert not _published(_kind(content)).is_valid(_altered(content, alter)), sentence


def _large(size: int) -> Content:
    names = [f"status_{number}" for number in range(size)]
    steps = [
        _step(name, number, [after, names[0]])
        for number, (name, after) in enumerate(pairwise(names))
    ]
    last = _step(names[-1], size, [], is_final=True, sla_hours=None)
    return _workflow(steps=[*steps, last])


def test_workflow_of_5000_steps_is_checked_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "large.yml"
    # JSON is YAML, and written in no time.
    path.write_text(json.dumps(_large(5_000), indent=1))
    started = time.process_time()
    assert workflows.check(path).warnings == ()
    # One second; what compares each step with each takes forty.
    assert time.process_time() - started < 5


def test_thousand_workflows_are_checked_in_seconds(tmp_path: Path) -> None:
    for number in range(1_000):
        content = _workflow(f"w{number}", is_default=False, business_entity=str(number))
        (tmp_path / f"{number}.yml").write_text(json.dumps(content))
    started = time.process_time()
    assert len(workflows.check(tmp_path).workflows) == 1_000
    assert time.process_time() - started < 10


def test_first_thousand_defects_are_told_and_the_others_counted(folder: Write) -> None:
    path = folder(
        _altered(_workflow(), _set("steps.0.allowed_transitions", [1] * 1_500))
    )
    *told, last = _refusals(path)
    assert len(told) == 1_000
    assert last == f"{path}: there are 501 more defects."


FOUR_DEFECTS = (
    "'Europe/Amsterdm' is no IANA time zone.",
    "an item of 'tuesday' must be a text such as 09:00-17:00, not '9:00-17:00'.",
    "monday 08:00-12:00 overlaps monday 11:00-17:00.",
    "key 'openings' is unknown; known are calendar_name, timezone, windows, holidays, "
    "closed_dates, special_dates, covers.",
)


def test_calendar_with_four_defects_shows_four_and_no_false_one_beside(
    folder: Write,
) -> None:
    windows = {
        "monday": ["08:00-12:00", "11:00-17:00"],
        "tuesday": ["9:00-17:00", "12:00-17:00"],
    }
    calendar = _calendar(timezone="Europe/Amsterdm", windows=windows, openings=3)
    # The workflow's calendar is there, though not sound.
    told = _refusals(folder(calendar, _workflow(calendar="office")))
    assert sorted(line.split(": ", 1)[1] for line in told) == sorted(FOUR_DEFECTS)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"windows": {"monday": ["09:00-17:00", "09:00-17:00"]}},
            "'monday' holds '09:00-17:00' more than once.",
        ),
        (
            {"covers": [26, 2026]},
            "an item of 'covers' must be a whole number from 1900 to 2200, not 26.",
        ),
        ({"holidays": {"subdivision": "BY"}}, "key 'country' is missing."),
        ({"special_dates": {"soon": []}}, "key 'soon' must be a text such as"),
        ({"windows": []}, "'windows' must be a mapping, not a list of 0."),
        ({"calendar_name": None}, "'calendar_name' must be a text such as office_nl"),
    ],
)
def test_one_defect_of_a_calendar_makes_no_other(
    folder: Write, given: Content, sentence: str
) -> None:
    (told,) = _refusals(folder(_calendar(**given)))
    assert sentence in told


def test_calendar_without_its_name_is_no_workflow(folder: Write) -> None:
    calendar = _calendar()
    del calendar["calendar_name"]
    (told,) = _refusals(folder(calendar))
    assert told.endswith("key 'calendar_name' is missing.")


def test_calendar_that_can_not_be_read_is_not_said_to_be_missing(folder: Write) -> None:
    path = folder(_workflow(calendar="office"))
    (path / "office.yml").write_text("calendar_name: office\n  windows: [")
    (told,) = _refusals(path)
    assert "this is no YAML" in told
