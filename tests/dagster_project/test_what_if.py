"""What-if: history under other configuration equals what that would have made of it."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from commands import assert_one_sentence, run
from psycopg.rows import dict_row
from scipy.stats import beta

from dagster_project import what_if as module
from dagster_project.resources import Warehouse
from dagster_project.what_if import WhatIf, what_if
from ingest import deliver
from ingest.configuration import workflows
from ingest.store import database
from ingest.store.database import PROJECT
from ingest.store.locks import Lock, holding

APPLIED = datetime(2026, 1, 1, tzinfo=UTC)
SINCE = datetime(2026, 2, 1, tzinfo=UTC)
CHANGED = datetime(2026, 2, 15, tzinfo=UTC)
AS_OF = datetime(2026, 3, 10, 12, tzinfo=UTC)
Row = dict[str, Any]


def _workflow(name: str, hours: float, **given: Any) -> str:
    """A workflow of orders: hours in status new, twice as many in confirmed."""
    steps = [
        {
            "status_name": status,
            "status_label": given.pop("label", status),
            "status_color": "#2563eb",
            "step_order": place + 1,
            "allowed_transitions": "any",
            "sla_hours": None if status == "done" else hours * (place + 1),
            "requires_approval": False,
            "approval_role": None,
            "auto_transition_conditions": {},
            "notification_settings": {"at_risk_hours": 2},
            "is_final": status == "done",
        }
        for place, status in enumerate(("new", "confirmed", "done"))
    ]
    head = {
        "entity_type": "order",
        "workflow_name": name,
        "business_entity": None,
        "is_default": name == "standard",
        "is_active": True,
        "conditions": {},
        "calendar": None,
    }
    return json.dumps({**head, **given, "steps": steps})


def _calendar(opens: str) -> str:
    days = ("monday", "tuesday", "wednesday", "thursday", "friday")
    return json.dumps(
        {
            "calendar_name": "office",
            "timezone": "Europe/Amsterdam",
            "windows": {day: [f"{opens}-17:00"] for day in days},
            "covers": [2025, 2027],
        }
    )


URGENT = {"conditions": {"priority": "high"}}
IN_FORCE = {
    "standard": _workflow("standard", 24, calendar="office"),
    "urgent": _workflow("urgent", 6, **URGENT),
    "office": _calendar("08:00"),
}
# Other hours, other opening times, one that is retired, and one that is new.
PROPOSED = {
    "standard": _workflow("standard", 12, calendar="office"),
    "urgent": _workflow("urgent", 6, **URGENT, is_active=False),
    "office": _calendar("12:00"),
    "export": _workflow("export", 48, conditions={"country": "US"}),
}


def _folder(path: Path, files: dict[str, str]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / f"{name}.yml").write_text(text)
    return path


def _history(path: Path, numbers: range) -> Path:
    """Orders from January to March: some open, some with a deadline of their own."""
    chance = random.Random(22)
    lines = []
    for number in numbers:
        instant = APPLIED + timedelta(hours=chance.uniform(30, 24 * 66))
        country = chance.choice(["US", "NL"])
        priority = chance.choice(["high", "low", "low"])
        for status in chance.choice(
            [["new"], ["new", "confirmed"], ["new", "confirmed", "new", "done"]]
        ):
            given = instant + timedelta(hours=30)
            line = {
                "created_at": instant.isoformat(),
                "entity_type": "order",
                "entity_id": number,
                "to_status": status,
                "business_context": {"country": country, "priority": priority},
            }
            if chance.random() < 0.1:
                line["sla_deadline"] = given.isoformat()
            lines.append(json.dumps(line))
            instant += timedelta(hours=chance.expovariate(1 / 50))
    path.write_text("\n".join(lines) + "\n")
    return path


class Installed(NamedTuple):
    """Databases of one history, by what was applied to it and when."""

    # In force before it began, and a version of standard after SINCE.
    early: str
    # All of it applied when the history was there.
    late: str
    # As `early`, but with the proposal applied at SINCE; and from the beginning on.
    since: str
    always: str


@pytest.fixture(scope="module")
def installed(
    fresh_database: Any, built_empty: str, build: Any, tmp_path_factory: Any
) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("what_if")
    old = _folder(folder / "old", IN_FORCE)
    new = _folder(folder / "new", PROPOSED)
    between = _folder(folder / "between", {"s": _workflow("standard", 99)})
    history = _history(folder / "history.jsonl", range(1, 121))
    applied = (
        [(old, APPLIED), (between, CHANGED), (old, CHANGED + timedelta(days=3))],
        [(old, AS_OF)],
        [(old, APPLIED), (new, SINCE)],
        # An urgent one that is retired at once binds nobody.
        [(new, APPLIED)],
    )
    with ExitStack() as until_the_end:
        urls = []
        for versions in applied:
            url = until_the_end.enter_context(fresh_database(built_empty))
            urls.append(url)
            with database.session(url) as connection:
                for path, at in versions:
                    workflows.apply(connection, workflows.load(path), at=at)
                deliver(connection, history)
            build(url, AS_OF)
        yield Installed(*urls)


@pytest.fixture
def proposed(tmp_path: Path) -> Path:
    return _folder(tmp_path / "proposed", PROPOSED)


@pytest.fixture(scope="module")
def warehouse_home(tmp_path_factory: Any) -> Path:
    """One, so that dbt reads the project once."""
    return tmp_path_factory.mktemp("home")


def _stays(url: str) -> dict[str, Row]:
    """The stays of a build, judged in Python."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        rows = connection.execute("select * from sla.status_intervals").fetchall()
    return {row["interval_id"]: {**row, "judgement": _judgement(row)} for row in rows}


def _judgement(stay: Row) -> str:
    deadline, left = stay["sla_deadline"], stay["left_at"]
    if deadline is None:
        return "no deadline"
    if left is not None:
        return "met" if left <= deadline else "breached"
    return "overdue" if deadline < AS_OF else "not yet due"


def _assert_equals(found: WhatIf, before_url: str, after_url: str) -> None:
    """All that was found follows from the stays and alerts of two databases."""
    before, after = _stays(before_url), _stays(after_url)
    assert before.keys() == after.keys()
    pairs = [(before[key], after[key]) for key in before]
    changes = Counter((one["judgement"], two["judgement"]) for one, two in pairs)
    assert {(c.before, c.after): c.stays for c in found.changes} == changes
    moved = [1 for one, two in pairs if one["sla_deadline"] != two["sla_deadline"]]
    assert found.moved_deadlines == len(moved)
    assert {tuple(flip) for flip in found.flips} == {
        (
            *(one[name] for name in ("entity_type", "entity_id", "status")),
            one["entered_at"],
            one["left_at"],
            *(stay["judgement"] for stay in (one, two)),
            *(stay["sla_deadline"] for stay in (one, two)),
            *(stay["workflow_name"] for stay in (one, two)),
        )
        for one, two in pairs
        if one["judgement"] != two["judgement"]
    }
    assert found.flip_count == len(found.flips) > 10
    sides = (("before", before_url, before), ("after", after_url, after))
    for side, url, stays in sides:
        _assert_groups(found, side, list(stays.values()))
        _assert_alerts(found, side, url)
        _assert_ever(found, side, list(stays.values()))


def _assert_groups(found: WhatIf, side: str, stays: list[Row]) -> None:
    names = {
        "all": lambda _: (None, None),
        "entity type": lambda stay: (stay["entity_type"], None),
        "workflow": lambda stay: (stay["entity_type"], stay["workflow_name"]),
        "status": lambda stay: (stay["entity_type"], stay["status"]),
        "business entity": lambda stay: (None, stay["business_entity_id"]),
    }
    counted = Counter(
        (by, *name(stay), stay["judgement"])
        for stay in stays
        for by, name in names.items()
    )
    for group in found.groups:
        compliance = getattr(group, side)
        key = (group.by, group.entity_type, group.name)
        due = ("met", "breached", "overdue")
        assert tuple(compliance) == tuple(counted.pop((*key, j), 0) for j in due)
    assert {key[-1] for key in counted} <= {"no deadline", "not yet due"}


def _assert_alerts(found: WhatIf, side: str, url: str) -> None:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select stage, count(*) filter (where due_at <= %(at)s), "
            "count(*) filter (where due_at > %(at)s) from sla.sla_alerts group by 1",
            {"at": AS_OF},
        ).fetchall()
    told = [
        (s.stage, getattr(s, f"due_{side}"), getattr(s, f"waiting_{side}"))
        for s in found.alerts
    ]
    assert sorted(told) == sorted(rows)


def _assert_ever(found: WhatIf, side: str, stays: list[Row]) -> None:
    """How many stays, ended ones too, came to be at risk, and to be breached."""
    ever = {
        "at_risk": sum(
            stay["at_risk_from"] is not None
            and max(stay["at_risk_from"], stay["entered_at"])
            < (stay["left_at"] or AS_OF)
            for stay in stays
        ),
        "breached": sum(s["judgement"] in ("breached", "overdue") for s in stays),
    }
    assert all(ever.values())
    told = {stage.stage: getattr(stage, f"stays_{side}") for stage in found.alerts}
    assert told == {**dict.fromkeys(told), **ever}


def _left(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select nspname from pg_namespace where nspname like '%what_if%'"
        ).fetchall()


@pytest.mark.parametrize("name", ["early", "late"])
def test_a_proposal_judges_as_if_it_had_been_applied_then(
    installed: Installed, proposed: Path, warehouse_home: Path, name: str
) -> None:
    url = getattr(installed, name)
    files = workflows.load(proposed)
    # A build that is at work holds up nothing.
    with database.connect(url) as connection, holding(connection, Lock.BUILD):
        raw = _raw_counts(connection)
        found = what_if(
            Warehouse(database_url=url, home=str(warehouse_home)), files, SINCE
        )
        assert _raw_counts(connection) == raw
    _assert_equals(found, url, installed.since)
    assert _left(url) == []
    # What began before is judged as it was.
    assert min(flip.entered_at for flip in found.flips) >= SINCE


def _raw_counts(connection: database.Connection) -> list[Any]:
    tables = ("batches", "status_workflows", "status_workflow_steps", "calendar_pages")
    return [
        connection.execute(f"select count(*) from raw.{t}").fetchone() for t in tables
    ]


@pytest.mark.nightly
def test_by_default_a_proposal_judges_all_history(
    installed: Installed, proposed: Path, warehouse_home: Path
) -> None:
    warehouse = Warehouse(database_url=installed.early, home=str(warehouse_home))
    found = what_if(warehouse, workflows.load(proposed))
    _assert_equals(found, installed.early, installed.always)


@pytest.fixture
def late_url(installed: Installed, fresh_database: Any) -> Iterator[str]:
    """A copy of `late`, to be changed."""
    name = database.environment(installed.late)["PGDATABASE"]
    with fresh_database(name, "copied") as url:
        yield url


def test_the_configuration_in_force_flips_nothing(
    late_url: str,
    warehouse_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    build: Any,
    tmp_path: Path,
) -> None:
    """Also where dbt judges all again, and a build publishes a later cut meanwhile."""
    warehouse = Warehouse(database_url=late_url, home=str(warehouse_home))
    in_force = workflows.load(_folder(tmp_path / "same", IN_FORCE))
    assert what_if(warehouse, in_force).proposal.changed == ()
    run_dbt = module.run_aside

    def build_first(*arguments: Any) -> None:
        with database.connect(late_url) as connection:
            deliver(connection, _history(tmp_path / "2.jsonl", range(900, 950)))
        build(late_url, AS_OF + timedelta(days=1))
        run_dbt(*arguments)

    monkeypatch.setattr(module, "run_aside", build_first)
    renamed = {
        "standard": _workflow("standard", 24, calendar="office", label="New order"),
        "urgent": _workflow("urgent", 6, **URGENT, label="New order"),
    }
    stays = len(_stays(late_url))
    files = workflows.load(_folder(tmp_path / "renamed", renamed))
    found = what_if(warehouse, files)
    assert found.proposal.changed == ("order/standard", "order/urgent")
    assert (found.stays, found.flip_count, found.moved_deadlines) == (stays, 0, 0)
    assert all(group.before == group.after for group in found.groups)
    assert len(_stays(late_url)) > stays


def test_the_interval_is_that_of_clopper_and_pearson() -> None:
    def to_nine_places(*bounds: float) -> list[float]:
        return [round(bound, 9) for bound in bounds]

    found = module.Compliance(met=17, breached=2, overdue=1).interval or ()
    beside = (beta.ppf(0.025, 17, 4), beta.ppf(0.975, 18, 3))
    assert to_nine_places(*found) == to_nine_places(*beside)
    of_all = module.Compliance(met=3).interval or ()
    assert to_nine_places(*of_all) == to_nine_places(0.025 ** (1 / 3), 1)
    assert module.Compliance().interval is None


def test_what_apply_would_refuse_is_refused_in_the_same_words(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", installed.early)
    for text in (
        _workflow("standard", -1),
        _workflow("standard", 1, calendar="nowhere"),
        _workflow("standard", 1, business_entity="Nobody"),
    ):
        file = _folder(tmp_path, {"bad": text}) / "bad.yml"
        refused = run("workflows", "apply", file)
        assert refused.code == 1
        assert run("what-if", file) == refused
    assert _left(installed.early) == []


def test_configuration_that_waits_for_a_build_is_refused(
    fresh_database: Any, build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database() as url:
        monkeypatch.setenv("DATABASE_URL", url)
        path = _folder(tmp_path / "old", IN_FORCE)
        assert_one_sentence(run("what-if", path), "Nothing is built yet.")
        build(url, AS_OF)
        assert_one_sentence(
            run("what-if", path, "--since", "2026-03-11"), "No stay began since"
        )
        assert run("workflows", "apply", path).code == 0
        assert_one_sentence(run("what-if", path), "Run: status-engine build.")


def test_the_command_tells_draws_and_fails_a_check(
    installed: Installed,
    proposed: Path,
    warehouse_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("DATABASE_URL", installed.early)
    monkeypatch.setenv("STATUS_ENGINE_HOME", str(warehouse_home))
    paths = sorted(proposed.iterdir())
    plot = tmp_path / "plot.svg"
    said = run("what-if", *paths, "--since", "2026-02-01", "--json", "--plot", plot)
    found = json.loads(said.out)
    assert (said.code, found["below"]) == (0, [])
    assert found["since"] == "2026-02-01 00:00:00+00:00"
    (of_orders,) = (g for g in found["groups"] if g["by"] == "entity type")
    ratio = of_orders["after"]["ratio"]
    assert of_orders["after"]["interval"][0] < ratio < of_orders["after"]["interval"][1]
    assert f"{ratio:.1%} of {of_orders['after']['due']}" in plot.read_text()
    missed = run("what-if", *paths, "--since", "2026-02-01", "--fail-below", "0.99")
    assert missed.code == 3
    assert missed.err == "order would be below 99.0%.\n"
    told = f"{found['stays']:,} stays were judged again"
    assert told in missed.out
    assert re.search(rf"order +entity type .* {ratio:.1%} ", missed.out)
    assert found["flip_count"] == len(found["flips"]) > 20
    assert f"All {found['flip_count']} with --json." in missed.out


def test_a_killed_one_leaves_what_nobody_reads_and_the_next_cleans(
    installed: Installed, proposed: Path, warehouse_home: Path, tmp_path: Path
) -> None:
    url = installed.since
    before = _stays(url)
    other = _folder(tmp_path / "old", IN_FORCE)
    with pytest.MonkeyPatch.context() as patch:
        for name in database.environment(url):
            patch.delenv(name, raising=False)
        patch.setenv("DATABASE_URL", url)
        patch.setenv("STATUS_ENGINE_HOME", str(warehouse_home))
        killed = subprocess.Popen(
            [sys.executable, "-m", "dagster_project", "what-if", str(other)],
            cwd=PROJECT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while not _is_at_dbt(url) and time.monotonic() < deadline:
            assert killed.poll() is None
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert _left(url) != []
    assert _stays(url) == before
    # Its dbt may be about to notice.
    warehouse = Warehouse(database_url=url, home=str(warehouse_home))
    assert what_if(warehouse, workflows.load(proposed)).proposal.changed == ()
    assert _left(url) == []


def _is_at_dbt(url: str) -> bool:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "select to_regclass('sla_what_if_staging.published_stays') is not null"
        ).fetchone()
    return found == (True,)
