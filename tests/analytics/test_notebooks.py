"""The notebooks over a home that a run published, one that is empty, and none.

Their figures are held against the published tables, counted here by other means.
"""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_rows import Publish

from analytics.published import Publication

PROJECT = Path(__file__).parents[2]
NOTEBOOKS = PROJECT / "notebooks"
NAMES = (
    "bottlenecks",
    "data_quality",
    "entity_life",
    "forecast_what_if",
    "week_review",
)
CHROMIUM = shutil.which("chromium")
# A Tuesday; the last week that is over begins on 23 March.
AS_OF = datetime(2026, 3, 31, 12, tzinfo=UTC)
ANN, BOB = (f"00000000-0000-0000-0000-00000000000{n}" for n in (1, 2))
REJECTED = ["2026-03-01T08:00:00Z,unicorn,1,new,"]
WAY = ("new", "confirmed", "scheduled", "in_progress", "completed")
Published = Callable[[str, datetime], AbstractContextManager[Publication]]
Run = Callable[..., tuple[str, dict[str, Any]]]


def _history() -> str:
    """Orders with returns, moves that are not allowed, handovers; visits of no rule."""
    draw = Random(6)
    lines = ["created_at,entity_type,entity_id,to_status,triggered_by_user_id"]
    for entity in range(1000, 1160):
        at = datetime(2026, 2, 20, tzinfo=UTC) + timedelta(hours=draw.randrange(500))
        way = list(WAY[: draw.randint(1, len(WAY))])
        if entity % 5 == 0:
            way[1:1] = ["confirmed", "new"]
        for status in way:
            at += timedelta(microseconds=draw.randrange(4 * 86_400_000_000))
            user = draw.choice([ANN, BOB, ""])
            lines.append(f"{at.isoformat()},order,{entity},{status},{user}")
    lines += [
        f"2026-03-{day:02}T08:00:00Z,visit,{day},planned," for day in range(1, 29)
    ]
    return "\n".join([*lines, *REJECTED]) + "\n"


@pytest.fixture(scope="module")
def publication(published: Published) -> Iterator[Publication]:
    with published(_history(), AS_OF) as opened:
        yield opened


@pytest.fixture(scope="module")
def home(publication: Publication) -> Path:
    row = publication.connection.execute(
        "select path from duckdb_databases() where not internal"
    ).fetchone()
    assert row is not None
    return Path(row[0]).parents[2]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a notebook over a home, with choices by name; what it says, what it found."""
    monkeypatch.syspath_prepend(NOTEBOOKS)

    def run_notebook(name: str, home: Path, **chosen: object) -> Any:
        monkeypatch.setenv("STATUS_ENGINE_HOME", str(home))
        spec = importlib.util.spec_from_file_location(name, NOTEBOOKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        defs = {
            n: v if isinstance(v, pl.DataFrame) else SimpleNamespace(value=v)
            for n, v in chosen.items()
        }
        outputs, found = module.app.run(defs=defs)
        if "publication" in found:
            found["publication"].close()
        return "".join(o.text for o in outputs if o is not None), found

    return run_notebook


def _ask(publication: Publication, sql: str) -> Any:
    rows = publication.connection.execute(sql).fetchall()
    return rows[0][0] if len(rows) == 1 and len(rows[0]) == 1 else rows


ALL = {"entity_type": None, "business_entity": None}
EVER = (date(2026, 1, 1), date(2100, 1, 1))


def test_review_of_the_week_is_what_the_tables_say(
    run: Run, home: Path, publication: Publication
) -> None:
    text, found = run("week_review", home)
    stays = publication.connection.execute(
        "select verdict, left_at, sla_deadline, entity_type from status_intervals "
        "where sla_deadline is not null"
    ).fetchall()
    monday = datetime(2026, 3, 23, tzinfo=UTC)
    decided = [
        (left if verdict == "met" else due, verdict == "met")
        for verdict, left, due, _ in stays
        if verdict or due < AS_OF
    ]
    week = [met for at, met in decided if monday <= at < monday + timedelta(days=7)]
    assert (found["total"].now.met, found["total"].now.due) == (sum(week), len(week))
    assert 0 < sum(week) < len(week)
    assert found["groups"]["due"].sum() == len(week)
    assert found["late"]["breached_count"].sum() == _ask(
        publication,
        "select count(*) from status_intervals where verdict = 'breached' "
        "and left_at >= timestamptz '2026-03-23 00:00:00Z' "
        "and left_at < timestamptz '2026-03-30 00:00:00Z'",
    )
    assert f"{sum(week) / len(week):.1%}" in text
    overdue = _ask(
        publication, "select count(*) from entity_current_status where is_overdue"
    )
    assert found["overdue"].height == overdue > 0
    bands = _ask(publication, "select sum(open_count) from open_work")
    assert found["bands"]["open_count"].sum() == bands
    workload = publication.connection.execute(
        "select counted_on, sum(open_count)::bigint, sum(overdue_count)::bigint "
        "from workload where status <> 'completed' and counted_on >= '2026-02-21' "
        "and counted_on < '2026-03-30' group by all order by all"
    ).fetchall()
    work = found["work"].select("day", "open_count", "overdue_count")
    assert work.filter(pl.col("day") >= date(2026, 2, 21)).rows() == workload


def test_filter_of_the_review_leaves_out_the_others(run: Run, home: Path) -> None:
    week = {"week": date(2026, 3, 23)}
    _, all_types = run("week_review", home, **ALL, **week)
    _, orders = run("week_review", home, **{**ALL, "entity_type": "order"}, **week)
    _, visits = run("week_review", home, **{**ALL, "entity_type": "visit"}, **week)
    _, nobody = run("week_review", home, **{**ALL, "business_entity": "x"}, **week)
    assert orders["total"] == all_types["total"]
    assert set(orders["bands"]["entity_type"]) == {"order"}
    assert visits["total"].now.due == nobody["total"].now.due == 0
    assert set(visits["bands"]["entity_type"]) == {"visit"}
    assert visits["work"]["open_count"].max() == 28
    assert nobody["bands"].height == nobody["overdue"].height == 0


def test_ways_and_moves_are_those_of_the_tables(
    run: Run, home: Path, publication: Publication
) -> None:
    chosen = {"entity_type": "order", "business_entity": None, "days": EVER}
    _, found = run("bottlenecks", home, **chosen)
    moves = publication.connection.execute(
        "select from_status, to_status, sum(transition_count)::bigint, "
        "sum(entity_count)::bigint from status_flow "
        "where entity_type = 'order' and from_status is not null group by all"
    ).fetchall()
    columns = ("from_status", "to_status", "move_count", "entity_count")
    assert sorted(found["moves"].select(columns).rows()) == sorted(moves)
    ways = publication.connection.execute(
        "select variant, entity_count, ended_count, breached_entity_count, "
        "median_elapsed_seconds, p90_elapsed_seconds from process_variants "
        "where entity_type = 'order'"
    ).fetchall()
    told = found["ways"].drop("stay_count", "entity_ratio", "waiting_ratio")
    assert sorted(told.rows(), key=str) == sorted(ways, key=str)
    assert found["ways"]["entity_ratio"].sum() == pytest.approx(1)
    ended = found["ways"].filter(pl.col("ended_count") > 0).row(0, named=True)
    waited = publication.connection.execute(
        "select waiting_business_seconds, business_seconds from entity_journeys "
        "where variant = $1",
        [ended["variant"]],
    ).fetchall()
    business = sum(seconds for _, seconds in waited)
    assert ended["waiting_ratio"] == sum(w for w, _ in waited) / business
    handed = publication.connection.execute(
        "select from_party, to_party, sum(handover_count)::bigint from handovers "
        "where entity_type = 'order' and kind = 'user' group by all"
    ).fetchall()
    columns = ("from_user", "to_user", "handover_count")
    assert sorted(found["handed"].select(columns).rows()) == sorted(handed)
    assert len(handed) == 2
    rework = found["found"].filter(pl.col("name") == "rework")["count"].sum()
    assert rework == _ask(publication, "select sum(rework_count) from entity_journeys")
    assert rework > 30
    boxes = dict(
        re.findall(r's\d+[(\[]+"([\w ]+)<br/>(\d+) stays?', found["drawn"].mermaid)
    )
    stays = found["statuses"].select("label", pl.col("stay_count").cast(pl.String))
    assert boxes.items() <= set(stays.rows())
    assert found["drawn"].ratio >= 0.9
    assert len(boxes) >= 4


def test_period_holds_what_was_entered_in_it(
    run: Run, home: Path, publication: Publication
) -> None:
    days = (date(2026, 3, 2), date(2026, 3, 8))
    chosen = {"entity_type": "order", "business_entity": None, "days": days}
    _, found = run("bottlenecks", home, **chosen)
    assert found["statuses"]["stay_count"].sum() == _ask(
        publication,
        "select count(*) from status_intervals where entity_type = 'order' "
        "and entered_at >= timestamptz '2026-03-02 00:00:00Z' "
        "and entered_at < timestamptz '2026-03-09 00:00:00Z'",
    )


def test_life_of_an_entity_is_told_whole(
    run: Run, home: Path, publication: Publication
) -> None:
    text, found = run("entity_life", home, entity=("order", 1005), found=pl.DataFrame())
    stays, transitions = _ask(
        publication,
        "select stay_count, transition_count from entity_journeys "
        "where entity_type = 'order' and entity_id = 1005",
    )[0]
    assert found["stays"].height == stays
    assert found["transitions"].height == transitions
    for earlier, later in pairwise(found["stays"].iter_rows(named=True)):
        assert earlier["left_at"] == later["entered_at"]
    assert "New (2.)" in text
    _, found = run("entity_life", home, **ALL, search="1159")
    assert [r[1] for r in found["found"].rows()] == [1159]
    _, found = run("entity_life", home, **ALL, search="no such")
    assert "life" not in found


def test_quality_is_counted_from_each_transition(
    run: Run, home: Path, publication: Publication
) -> None:
    _, found = run("data_quality", home, **ALL, days=EVER)
    came = _ask(publication, "select count(*) from audit_trail")
    assert found["sources"]["transition_count"].sum() == came
    assert found["delays"]["transition_count"].sum() == came
    by_entity = defaultdict(list)
    for *entity, batch in publication.connection.execute(
        "select entity_type, entity_id, batch_id from audit_trail "
        "order by entity_type, entity_id, entity_place"
    ).fetchall():
        by_entity[tuple(entity)].append(batch)
    late = sum(
        batch > min(batches[place + 1 :], default=batch)
        for batches in by_entity.values()
        for place, batch in enumerate(batches)
    )
    assert found["sources"]["out_of_order_count"].sum() == late
    (delivered,) = found["delivered"].iter_rows(named=True)
    assert delivered["appended_count"] == came
    assert delivered["rejected_count"] == len(REJECTED)
    assert delivered["read_count"] == came + len(REJECTED)
    assert found["reject_codes"].rows() == [
        (delivered["source"], "transitions", "entity_type_is_known", len(REJECTED))
    ]
    broken = publication.connection.execute(
        "select violation, count(*) from workflow_violations group by all"
    ).fetchall()
    assert sorted(found["by_kind"].rows()) == sorted(broken)
    assert {name for name, _ in broken} >= {"illegal_transition", "no_workflow"}
    _, found = run("data_quality", home, **{**ALL, "entity_type": "visit"}, days=EVER)
    assert found["by_kind"].rows() == [("no_workflow", 28)]


def test_rows_that_came_after_later_ones_and_restated_verdicts_are_told(
    run: Run, publish: Publish, tmp_path: Path
) -> None:
    publish(
        """
        insert into stays (entity_id, status, entered_at, left_at) values
            (1, 'new', '2026-03-01 00:00:00Z', '2026-03-02 00:00:00Z'),
            (1, 'done', '2026-03-02 00:00:00Z', null);
        insert into restatements by name select 'r' as restatement_id, 'verdict' as
            figure, 'order' as entity_type, 'met' as old_value, 'breached' as new_value,
            5 as cut, timestamptz '2026-03-03 00:00:00Z' as restated_at
        """,
        "2026-03-10T00:00:00Z",
    ).close()
    file = tmp_path / "published" / "current" / "analytics.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute(
            "update audit_trail set source = 'crm', batch_id = 3 - entity_place, "
            "recorded_at = timestamptz '2026-03-02 00:00:30Z'"
        )
    _, found = run("data_quality", tmp_path, **ALL, days=EVER)
    (source,) = found["sources"].iter_rows(named=True)
    assert (source["source"], source["out_of_order_count"]) == ("crm", 1)
    assert source["silent_seconds"] == 8 * 86_400 - 30
    assert found["delays"].select("delay", "transition_count").rows() == [
        ("under a minute", 1),
        ("a day to a week", 1),
    ]
    assert found["restated"]["verdict_count"].to_list() == [1]


def _side(due: int, met: int) -> dict[str, object]:
    return {"due": due, "met": met, "ratio": met / due, "interval": [0.1, 0.9]}


WHAT_IF = {
    "cut": 2,
    "as_of": "2026-03-31 12:00:00+00:00",
    "since": None,
    "changed": ["order/standard"],
    "stays": 10,
    "moved_deadlines": 4,
    "flip_count": 1,
    "groups": [
        {"by": by, "entity_type": "order", "name": name, "before": _side(10, 9),
         "after": _side(10, 8)}
        for by, name in (("entity type", None), ("status", "new"))
    ],
    "alerts": [
        {"stage": "breached", "due_before": 1, "due_after": 2, "waiting_before": 0,
         "waiting_after": 0}
    ],
    "flips": [
        {"entity_type": "order", "entity_id": 7, "status": "new",
         "entered_at": "2026-03-01 00:00:00+00:00", "before": "met",
         "after": "breached", "deadline_before": "2026-03-03 00:00:00+00:00",
         "deadline_after": None}
    ],
}  # fmt: skip


def test_forecast_is_of_open_deadlines_and_what_if_of_a_file(
    run: Run, home: Path, publication: Publication
) -> None:
    text, found = run("forecast_what_if", home)
    assert "status-engine what-if" in text
    assert found["likely"].height == _ask(
        publication,
        "select count(*) from status_intervals cross join publication "
        "where left_at is null and sla_deadline >= as_of "
        "and sla_deadline < as_of + interval 7 day",
    )
    assert found["likely"]["breach_probability"].is_between(0, 1).all()
    assert found["exits"] is None
    assert found["tested"] is None
    folder = home / "what-if"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(WHAT_IF))
    text, found = run("forecast_what_if", home)
    assert found["groups"]["change"].round(9).to_list() == [-0.1, -0.1]
    assert found["flips"].rows()[0][:3] == ("order", 7, "new")
    assert "1 flip" in text
    (folder / "a.json").write_text('{"cut": 2}')
    text, found = run("forecast_what_if", home)
    assert "is no result of a what-if" in text
    shutil.rmtree(folder)


def test_forecast_tells_when_asked_where_stays_go_and_how_good_it_is(
    run: Run, home: Path
) -> None:
    text, found = run("forecast_what_if", home, ask=True, ask_ways=True)
    likely, exits = found["likely"], found["exits"]
    asked = likely.join(found["ways"], on="interval_id", how="semi")
    assert exits["expected_count"].sum() == pytest.approx(asked.height)
    assert asked.height > 0
    assert "(still there: a breach)" in text
    assert f"{asked.height} of {likely.height} open deadlines" in text
    assert found["tested"].verdict.sentence in text
    assert found["tested"].calibration.height > 0
    nothing: dict[str, Any] = {**ALL, "entity_type": "visit", "ahead": 7, "days": EVER}
    text, found = run("forecast_what_if", home, ask_ways=True, **nothing)
    assert found["likely"].is_empty()
    assert "None of them has a comparable stay" in text


EMPTY = {
    "bottlenecks": ("Nothing moved", "No stay has ended", "Nothing stands out"),
    "data_quality": ("No transition came", "No transition violates", "No verdict was"),
    "entity_life": ("No entity fits",),
    "forecast_what_if": ("No open deadline falls", "Nothing goes with breaches"),
    "week_review": (
        "Nothing was due",
        "No target is in force",
        "Nothing is overdue",
        "Nothing is open",
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_publication_says_so(
    run: Run, publish: Publish, tmp_path: Path, name: str
) -> None:
    publish("", "2026-03-10T00:00:00Z").close()
    text, _ = run(name, tmp_path)
    assert [said for said in EMPTY[name] if said not in text] == []
    assert "Cut <strong>7</strong>, as of <strong>2026-03-10 00:00 UTC" in text


@pytest.mark.parametrize("name", NAMES)
def test_without_a_publication_it_says_what_to_run(
    run: Run, tmp_path: Path, name: str
) -> None:
    text, found = run(name, tmp_path)
    assert "Nothing is published in" in text
    assert "make demo" in text
    assert "publication" not in found


# The first example loads what draws.
@settings(deadline=None)
@given(
    names=st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=5, unique=True)
)
def test_a_map_holds_every_move_whatever_statuses_are_called(names: list[str]) -> None:
    sys.path.insert(0, str(NOTEBOOKS))
    import process_map

    sys.path.remove(str(NOTEBOOKS))
    pairs = list(pairwise(names))
    moves = pl.DataFrame(
        [(a, b, 3, 2, 60) for a, b in pairs],
        schema=[
            "from_status",
            "to_status",
            "move_count",
            "entity_count",
            "p50_seconds",
        ],
        orient="row",
    )
    statuses = pl.DataFrame(
        [(name, name, False, 3) for name in names],
        schema=["status", "label", "is_final", "stay_count"],
        orient="row",
    )
    lasting = pl.DataFrame({"status": names, "p50": [60] * len(names)})
    drawn = process_map.draw(moves, statuses, lasting, 1.0)
    assert (drawn.drawn, drawn.ratio) == (len(pairs), 1.0)
    lines = drawn.mermaid.splitlines()[2:]
    assert len(lines) == 2 * len(names) + 2 * len(pairs)
    node = re.compile(r's\d+\["(?:[\w ,.·-]|#\d+;|<br/>)*"\]')
    assert all(node.fullmatch(line) for line in lines[: 2 * len(names) : 2])


@pytest.fixture
def served(home: Path, tmp_path: Path) -> Iterator[str]:
    """All notebooks, as `make notebooks` serves them, by an account of no files."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    make = (PROJECT / "Makefile").read_text()
    (command,) = re.findall(r"^\t@\$\(BIN\)/(marimo .* notebooks)$", make, re.MULTILINE)
    arguments = command.replace("2718", str(port)).split()
    program = Path(sys.executable).parent / arguments[0]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "STATUS_ENGINE_HOME": str(home),
    }
    with subprocess.Popen(
        [program, *arguments[1:], "--headless"],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while not _answers(address):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield address
        server.terminate()


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.nightly
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_filter_changes_what_a_reader_sees(served: str) -> None:
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        expect.set_options(timeout=60_000)
        page.goto(served)
        for title in (
            "The week's review",
            "Bottlenecks and rework",
            "One entity's life",
            "Forecast and what-if",
            "Data quality",
        ):
            expect(page.get_by_text(title).first).to_be_visible()
        page.goto(f"{served}/?file=data_quality.py")
        broken = page.locator("marimo-stat, div").filter(has_text="no_workflow").last
        expect(broken).to_be_visible()
        expect(page.get_by_text("illegal_transition").first).to_be_visible()
        page.get_by_label("Entity type").select_option(label="Visit")
        expect(page.get_by_text("illegal_transition")).to_have_count(0)
        expect(broken).to_be_visible()
        page.goto(f"{served}/?file=bottlenecks.py")
        expect(page.locator("svg").filter(has_text="Scheduled").first).to_be_visible()
        expect(page.get_by_text("Traceback")).to_have_count(0)
        expect(page.locator(".marimo-error, [data-testid=marimo-error]")).to_have_count(
            0
        )
        browser.close()
    own = (served, served.replace("http:", "ws:"), "data:", "blob:")
    assert [url for url in asked if not url.startswith(own)] == []
