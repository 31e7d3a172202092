"""What another site's page, and the server's own, can do to the running web server."""

import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from ingest.store import database
from tests.dagster_project.ui import (
    END,
    JSON,
    SCHEDULE,
    START_AGAIN,
    Ui,
    running,
    runs_of_others,
)

EVIL = "http://evil.example"
TEXT = {"Content-Type": "text/plain"}
HISTORY = "created_at,entity_type,entity_id,to_status\n2026-03-01T09:00Z,order,1,new\n"
LOGS = """
subscription($run: ID!) { pipelineRunLogs(runId: $run) {
  ... on PipelineRunLogsSubscriptionSuccess { messages { __typename } }
} }
"""
CHROMIUM = shutil.which("chromium")
BROWSER = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=20000",
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
)
EVIL_PAGE = """
<body>
<img src="http://OWN/graphql?query=STOP">
<iframe name="frame"></iframe>
<form id="form" method="post" target="frame" enctype="text/plain"
      action="http://OWN/graphql?query=STOP"><input name='{"query": "' value='STOP"}'>
</form>
<script>
const json = JSON.stringify({query: decodeURIComponent("STOP")});
const url = "http://OWN/graphql";
const send = (name, options, to = url) => fetch(to, {method: "POST", ...options})
  .then(() => name + " sent", () => name + " failed");
const socket = () => new Promise(done => {
  const opened = new WebSocket("ws://OWN/graphql", "graphql-ws");
  opened.onopen = () => done("websocket opened");
  opened.onerror = () => done("websocket failed");
});
form.submit();
Promise.all([
  send("text", {mode: "no-cors", headers: {"Content-Type": "text/plain"}, body: json}),
  send("query", {mode: "no-cors"}, url + "?query=STOP"),
  send("json", {headers: {"Content-Type": "application/json"}, body: json}),
  socket(),
]).then(said => setTimeout(() => document.body.append(said.join(", ") + "."), 3000));
</script>
"""


@pytest.fixture(scope="module")
def served(
    installation: Callable[..., AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ui]:
    home = tmp_path_factory.mktemp("home")
    with installation(home), running() as ui:
        yield ui


@pytest.fixture
def ui(served: Ui) -> Iterator[Ui]:
    """Whatever a test does to the server, afterwards it is as it was."""
    runs = runs_of_others()
    yield served
    assert served.schedule_state()["status"] == "RUNNING"
    assert runs_of_others() == runs
    with dg.DagsterInstance.get() as instance:
        assert instance.get_latest_materialization_event(dg.AssetKey("evil")) is None
    with database.connect(database.url()) as connection:
        found = connection.execute("select count(*) from raw.status_transitions")
        assert found.fetchone() == (0,)


def assert_refused(ui: Ui, status: int, *request: Any) -> None:
    """By one plain sentence, which no other origin may read."""
    answer = ui.ask(*request)
    assert answer.status == status
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(r"[A-Z].*\.\n", answer.body)
    assert [n for n in answer.headers if n.startswith("access-control")] == []
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/graphql", "/graphql%0A", "/graphql/"])
def test_a_mutation_is_not_taken_from_an_address(
    ui: Ui, method: str, path: str
) -> None:
    """Dagster's route takes the path with a line end behind it as well."""
    answer = ui.ask(method, f"{path}?query={quote(ui.stopping())}")
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/graphql",
        "application/jsonp",
        "",
    ],
)
def test_a_mutation_is_not_taken_as_anything_but_json(ui: Ui, kind: str) -> None:
    """What a page may send to another origin without asking it first."""
    target = f"/graphql?query={quote(ui.stopping())}"
    body = json.dumps({"query": ui.stopping()})
    assert_refused(ui, 415, "POST", target, {"Content-Type": kind}, body)
    assert_refused(ui, 415, "POST", target, {}, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Origin", EVIL),
        ("Origin", "null"),
        ("Origin", "http://127.0.0.1:1"),
        ("Origin", "http://127.0.0.1"),
        ("Origin", "http://localhost:PORT"),
        ("Origin", "https://127.0.0.1:PORT"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Referer", f"{EVIL}/http://127.0.0.1:PORT/"),
        ("Referer", "http://127.0.0.1:1/"),
    ],
)
def test_nothing_is_answered_to_the_page_of_another_origin(
    ui: Ui, name: str, value: str
) -> None:
    foreign = {name: value.replace("PORT", str(ui.port))}
    body = json.dumps({"query": ui.stopping()})
    assert_refused(ui, 403, "POST", "/graphql", {**JSON, **foreign}, body)
    assert_refused(ui, 403, "GET", "/", foreign)
    assert_refused(ui, 403, "OPTIONS", "/graphql", foreign)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:PORT", "127.0.0.1", "127.0.0.1:1", ""]
)
def test_nothing_is_answered_under_another_name(ui: Ui, host: str) -> None:
    """DNS rebinding: a name of the other site, which now leads here."""
    named = {"Host": host.replace("PORT", str(ui.port))}
    body = json.dumps({"query": ui.stopping()})
    assert_refused(ui, 403, "POST", "/graphql", {**JSON, **named}, body)
    assert_refused(ui, 403, "GET", "/", named)


def test_two_names_of_the_host_are_none(ui: Ui) -> None:
    with socket.create_connection(("127.0.0.1", ui.port)) as client:
        hosts = f"Host: {ui.host}\r\nHost: evil.example\r\n"
        client.sendall(f"GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
        status = client.makefile("rb").readline().split()[1]
    assert status in (b"400", b"403")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/graphql"),
        ("DELETE", "/graphql"),
        ("OPTIONS", "/graphql"),
        ("POST", "/graphql%0A"),
        ("POST", "/report_asset_materialization/evil"),
        ("POST", "/report_asset_observation/evil"),
        ("POST", "/report_asset_check/evil?check_name=c&passed=true"),
        ("POST", "/"),
    ],
)
def test_what_changes_something_goes_by_graphql_alone(
    ui: Ui, method: str, path: str
) -> None:
    body = json.dumps({"query": ui.stopping()})
    assert_refused(ui, 405, method, path, JSON, body)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1", EVIL),
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("127.0.0.1", "null"),
        ("evil.example", ""),
        ("evil.example", "http://evil.example:PORT"),
    ],
)
def test_no_page_of_another_origin_has_a_websocket(
    ui: Ui, host: str, origin: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        ui.connect(host, origin.replace("PORT", str(ui.port)))
    assert refused.value.response.status_code == 403


def test_a_websocket_takes_no_mutation_even_of_its_own_page(ui: Ui) -> None:
    with ui.connect(origin=f"http://{ui.host}") as websocket:
        _subscribe(websocket, query=ui.stopping())
        assert json.loads(websocket.recv(END))["type"] == "error"


def _subscribe(websocket: ClientConnection, **payload: object) -> None:
    websocket.send(json.dumps({"type": "connection_init"}))
    assert json.loads(websocket.recv(END)) == {"type": "connection_ack"}
    start = {"type": "start", "id": "1", "payload": payload}
    websocket.send(json.dumps(start))


@pytest.mark.parametrize(
    "configuration",
    [
        {"ops": {"inbox": {"config": {"paths": ["FILE"]}}}},
        {"ops": {"configuration": {"config": {"folder": "FILE"}}}},
        {"resources": {"warehouse": {"config": {"home": "FILE"}}}},
        {"resources": {"dbt": {"config": {"dbt_executable": "FILE"}}}},
        {"resources": {"named": {"config": {"paths": ["FILE"]}}}},
    ],
)
def test_no_run_is_started_whose_configuration_names_a_file(
    ui: Ui, tmp_path: Path, configuration: object
) -> None:
    file = tmp_path / "history.csv"
    file.write_text(HISTORY)
    named = json.loads(json.dumps(configuration).replace("FILE", str(file)))
    said = ui.launch(named)
    assert said["__typename"] == "RunConfigValidationInvalid"
    assert "unexpected config entry" in said["errors"][0]["message"]


def test_the_page_is_served_to_a_person_and_shown_in_no_frame(ui: Ui) -> None:
    for host in (ui.host, f"localhost:{ui.port}", f"[::1]:{ui.port}"):
        answer = ui.ask("GET", "/", {"Host": host, "Sec-Fetch-Site": "none"})
        assert answer.status == 200
        assert '<html lang="en">' in answer.body
        assert answer.headers["x-frame-options"] == "DENY"
    assert ui.ask("GET", "/graphql", {"Accept": "text/html"}).status == 200


def test_reviews_of_weeks_are_pages_and_nothing_else_of_the_home_is(ui: Ui) -> None:
    home = database.home()
    (home / "reports").mkdir(exist_ok=True)
    (home / "reports" / "2026-W10.html").write_text("<h1>Week 10</h1>")
    answer = ui.ask("GET", "/reports/2026-W10.html")
    assert (answer.status, answer.body) == (200, "<h1>Week 10</h1>")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-frame-options"] == "DENY"
    assert_refused(ui, 403, "GET", "/reports/2026-W10.html", {"Host": "evil.example"})
    (home / "reports" / "log.html").symlink_to(home / "ui.log")
    for path in (
        "",
        "none.html",
        "../ui.log",
        "%2e%2e/ui.log",
        "..%2fui.log",
        "log.html",
    ):
        answer = ui.ask("GET", f"/reports/{path}")
        assert answer.status == 404, path


def test_its_own_page_stops_and_starts_the_schedule(ui: Ui) -> None:
    stopped = ui.query(ui.stopping())["stopRunningSchedule"]
    assert stopped["scheduleState"] == {"status": "STOPPED"}
    assert ui.schedule_state()["status"] == "STOPPED"
    started = ui.query(START_AGAIN, schedule=SCHEDULE)["startSchedule"]
    assert started["scheduleState"] == {"status": "RUNNING"}


def test_its_own_page_starts_a_run_and_follows_it(served: Ui) -> None:
    selection = [{"path": ["raw", "cuts"]}]
    said = served.launch({}, assetSelection=selection, assetCheckSelection=[])
    assert said["__typename"] == "LaunchRunSuccess"
    run_id = said["run"]["runId"]
    with served.connect(origin=f"http://{served.host}") as websocket:
        _subscribe(websocket, query=LOGS, variables={"run": run_id})
        seen: set[str] = set()
        while not seen & {"RunSuccessEvent", "RunFailureEvent"}:
            message = json.loads(websocket.recv(END))
            logs = message["payload"]["data"]["pipelineRunLogs"]
            seen.update(event["__typename"] for event in logs["messages"])
    assert seen >= {"MaterializationEvent", "RunSuccessEvent"}
    assert run_id in runs_of_others()


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[str], str]:
    """What Debian's chromium makes of a page."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    program = CHROMIUM

    def dump(url: str) -> str:
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        return subprocess.run(
            [program, *BROWSER, profile, "--dump-dom", url],
            capture_output=True,
            text=True,
            check=True,
            timeout=END,
        ).stdout

    return dump


def test_a_page_in_a_browser_can_not_stop_the_schedule(
    ui: Ui, browse: Callable[[str], str], tmp_path: Path
) -> None:
    page = EVIL_PAGE.replace("STOP", quote(ui.stopping())).replace("OWN", ui.host)
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.html").write_text(page)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as evil:
        serving = threading.Thread(target=evil.serve_forever)
        serving.start()
        shown = browse(f"http://127.0.0.1:{evil.server_port}/evil.html")
        evil.shutdown()
        serving.join()
    # What it may not read it may have sent all the same.
    assert "text sent, query sent, json failed, websocket failed." in shown


def test_a_name_that_is_bound_anew_shows_a_browser_nothing(
    ui: Ui, browse: Callable[[str], str]
) -> None:
    assert "answers to no other name" in browse(f"http://evil.example:{ui.port}/")


def test_a_browser_shows_the_asset_graph(ui: Ui, browse: Callable[[str], str]) -> None:
    shown = browse(f"http://{ui.host}/asset-groups")
    assert "Global asset lineage" in shown
    for group in ("raw", "staging", "building", "sla", "published"):
        assert f">{group}<" in shown
