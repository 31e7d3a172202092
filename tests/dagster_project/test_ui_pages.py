"""What an operator sees and does in a browser: red, why, what to do, green again."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import commands
import pytest
from first_run import Built
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from ingest.store import database
from tests.dagster_project.ui import Ui, running

CHROMIUM = shutil.which("chromium")
# Seconds, on a machine that builds as well.
SHOWN, RUN = 60, 300
CHECK = "assert_intervals_tile_each_entity"
# A stay ends an hour after the next began, which no build in part would look at.
DAMAGE = """
update sla.status_intervals set left_at = left_at + interval '1 hour'
where left_at is not null
"""
ASSETS = """
{ assetNodes {
  assetKey { path }
  staleStatus
  staleCauses { reason dependency { path } }
  freshnessStatusInfo { freshnessStatus }
  assetMaterializations(limit: 1) { runId }
} }
"""
STATUS = """
query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }
"""
AT_WORK = """
{ runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED]}) {
  ... on Runs { results { runId } }
} }
"""
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
# Group staging and building have no policy: what is read of them is watched.
NOT_WATCHED = ("staging", "building", "actions", "alerts")
HISTORY = """\
created_at,entity_type,entity_id,to_status
2026-03-02T09:00:00Z,order,7,new
"""
NEW_TYPE = "entity_types: [{name: shipment, label: Shipment}]\n"


@pytest.fixture(scope="module")
def ui(
    installation: Callable[..., AbstractContextManager[str]], built: Built
) -> Iterator[Ui]:
    """Of an installation that was built once; no tick comes between."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with installation(built.home, template=built.url), running() as ui:
        ui.query(ui.stopping())
        yield ui


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(ui: Ui, browser: Browser) -> Iterator[Page]:
    page = browser.new_page(
        base_url=f"http://{ui.host}", viewport={"width": 1500, "height": 2000}
    )
    # A page that asks another machine for anything is found by this.
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    expect.set_options(timeout=SHOWN * 1000)
    page.set_default_timeout(SHOWN * 1000)
    yield page
    page.close()
    own = (f"http://{ui.host}/", f"ws://{ui.host}/", "data:", "blob:")
    assert [url for url in asked if not url.startswith(own)] == []


def _launch(ui: Ui, page: Page, job: str) -> None:
    """By the page of a job; then that of its run says that it succeeded."""
    page.goto(f"/locations/dagster_project.definitions/jobs/{job}/playground")
    page.get_by_role("button", name="Launch Run").click()
    page.wait_for_url(re.compile("/runs/"))
    run = page.url.rpartition("/")[2].partition("?")[0]
    deadline = time.monotonic() + RUN
    while ui.query(STATUS, run=run)["runOrError"]["status"] not in ENDED:
        assert time.monotonic() < deadline
        time.sleep(1)
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()


def _drawn(picture: Locator) -> bool:
    expect(picture).to_be_visible()
    width: Any = picture.evaluate("image => image.decode().then(() => image.width)")
    return bool(width > 100)


def _out_of_step(ui: Ui) -> list[Any]:
    """Assets shown as unsynced, never made, or not fresh."""
    found = []
    for node in ui.query(ASSETS)["assetNodes"]:
        # Of a week: behind each publication until Monday.
        if node["assetKey"]["path"][0] == "reports":
            continue
        freshness = (node["freshnessStatusInfo"] or {}).get("freshnessStatus")
        watched = None if node["assetKey"]["path"][0] in NOT_WATCHED else "HEALTHY"
        is_made = bool(node["assetMaterializations"])
        if (node["staleStatus"], is_made, freshness) != ("FRESH", True, watched):
            found.append(node)
    return found


@pytest.mark.nightly
def test_a_person_finds_what_is_wrong_and_mends_it(ui: Ui, page: Page) -> None:
    with database.connect(database.url()) as connection:
        assert connection.execute(DAMAGE).rowcount == 1
    page.goto(f"/assets/sla/status_intervals?view=checks&checkDetail={CHECK}")
    page.get_by_role("button").filter(has_text=re.compile("^Execute$")).click()
    # What to do, and the row.
    said = page.get_by_text("it builds all anew beside what is published")
    expect(said).to_be_visible(timeout=RUN * 1000)
    row = page.locator("tr").filter(has_text=re.compile(r"order\s*1\s*new"))
    expect(row).to_contain_text("2026-03-01 11:00:00+00:00")
    page.locator("tr", has_text="query").get_by_text("Show Markdown").click()
    pasted = page.get_by_role("dialog").locator("code").inner_text()
    found = subprocess.run(
        ["bash", "-c", pasted],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        cwd=database.PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"order +\| +1 \| new .*\n\(1 row\)", found.stdout), found
    _launch(ui, page, "full_refresh")
    page.goto(f"/assets/sla/status_intervals?view=checks&checkDetail={CHECK}")
    expect(page.get_by_text("Passed").first).to_be_visible()
    expect(row).to_have_count(0)


@pytest.mark.nightly
def test_nothing_is_shown_as_unsynced_or_never_made(
    ui: Ui, page: Page, tmp_path: Path
) -> None:
    """After a run that builds all, one in part, and one with nothing new."""
    _launch(ui, page, "full_refresh")
    _assert_in_step(ui)
    file = tmp_path / "more.csv"
    file.write_text(HISTORY)
    assert commands.run("ingest", file).code == 0
    for _ in range(2):
        _launch(ui, page, "status_engine")
        _assert_in_step(ui)
    with database.connect(database.url()) as connection:
        found = connection.execute("select count(*) from sla.status_intervals")
        assert found.fetchone() == (4,)


def _assert_in_step(ui: Ui) -> None:
    """Once no run is at work, as one that a sensor asked for, and the daemon looked."""
    deadline = time.monotonic() + RUN
    while ui.query(AT_WORK)["runsOrError"]["results"] or "UNKNOWN" in str(
        _out_of_step(ui)
    ):
        assert time.monotonic() < deadline
        time.sleep(1)
    assert _out_of_step(ui) == []


@pytest.mark.nightly
def test_refused_rows_are_replayed_once_their_cause_is_mended(
    ui: Ui, page: Page, tmp_path: Path
) -> None:
    file = tmp_path / "shipments.csv"
    file.write_text(HISTORY.replace("order", "shipment"))
    assert "1 rejected" in commands.run("ingest", file).err
    (tmp_path / "types").mkdir()
    (tmp_path / "types" / "types.yml").write_text(NEW_TYPE)
    assert commands.run("workflows", "apply", tmp_path / "types").code == 0
    page.goto("/locations/dagster_project.definitions/jobs/replay_rejects")
    expect(page.get_by_text("Judge refused rows again").first).to_be_visible()
    _launch(ui, page, "replay_rejects")
    with database.connect(database.url()) as connection:
        found = connection.execute(
            "select count(*) from raw.status_transitions where entity_type = 'shipment'"
        )
        assert found.fetchone() == (1,)
    page.goto("/assets/raw/rejected_transitions?view=events")
    expect(page.locator("tr", has_text="still_rejected")).to_contain_text("0")


def test_the_published_files_show_how_things_stand(ui: Ui, page: Page) -> None:
    _launch(ui, page, "publish")
    page.goto("/assets/published/analytics")
    assert _drawn(page.get_by_alt_text(re.compile("^Compliance by week up to ")))
    expect(page.get_by_text("share_overdue")).to_be_visible()
    page.goto("/assets/sla/status_intervals")
    expect(
        page.get_by_text("From: building.pinned_transitions.created_at.")
    ).to_have_count(2)
