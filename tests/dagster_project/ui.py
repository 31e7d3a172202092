"""The running web server of an installation, as programs and browsers meet it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import psutil
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from ingest.store.database import PROJECT

# Seconds; it needs some ten, on a machine that does nothing else.
START = 120
END = 60
JSON = {"Content-Type": "application/json"}
LOCATION = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "dagster_project.definitions",
}
SCHEDULE = {"scheduleName": "every_five_minutes", **LOCATION}
SCHEDULE_STATE = """
query($schedule: ScheduleSelector!) {
  scheduleOrError(scheduleSelector: $schedule) {
    ... on Schedule { scheduleState { id status } }
  }
}
"""
STOP = """
mutation { stopRunningSchedule(id: "ID") {
  __typename
  ... on ScheduleStateResult { scheduleState { status } }
} }
"""
START_AGAIN = """
mutation($schedule: ScheduleSelector!) { startSchedule(scheduleSelector: $schedule) {
  __typename
  ... on ScheduleStateResult { scheduleState { status } }
} }
"""
LAUNCH = """
mutation($run: ExecutionParams!) { launchRun(executionParams: $run) {
  __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on RunConfigValidationInvalid { errors { message } }
} }
"""


class Answer(NamedTuple):
    """Of the server, to one request."""

    status: int
    headers: Mapping[str, str]
    body: str


class Ui(NamedTuple):
    """A server of its own process, on a port of this machine."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
    ) -> Answer:
        """Send these very headers; without a Host among them, the server's own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": self.host, **(headers or {})}.items():
            connection.putheader(name, value)
        content = (body or "").encode()
        if body is not None:
            connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(response.status, names, response.read().decode())
        connection.close()
        return answer

    def connect(self, host: str = "127.0.0.1", origin: str = "") -> ClientConnection:
        """Open a websocket, by these very names."""
        return connect(
            f"ws://{host}:{self.port}/graphql",
            sock=socket.create_connection(("127.0.0.1", self.port)),
            origin=Origin(origin) if origin else None,
            subprotocols=[Subprotocol("graphql-ws")],
            proxy=None,
            # Seconds; it does not say good-bye where it has refused something.
            close_timeout=1,
        )

    def query(self, text: str, **variables: object) -> Any:
        """As the server's own pages do; what it answers."""
        own = {**JSON, "Origin": f"http://{self.host}", "Sec-Fetch-Site": "same-origin"}
        content = json.dumps({"query": text, "variables": variables})
        answer = self.ask("POST", "/graphql", own, content)
        assert answer.status == 200, answer
        return json.loads(answer.body)["data"]

    def schedule_state(self) -> dict[str, str]:
        """The id of the schedule's state, and whether it runs."""
        said = self.query(SCHEDULE_STATE, schedule=SCHEDULE)
        state: dict[str, str] = said["scheduleOrError"]["scheduleState"]
        return state

    def stopping(self) -> str:
        """The mutation that stops the schedule."""
        return STOP.replace("ID", self.schedule_state()["id"])

    def launch(self, configuration: object, **selection: object) -> Any:
        """Start a run of the job, or of what is selected of it, as a page does."""
        job = {**LOCATION, "pipelineName": "status_engine", **selection}
        run = {"selector": job, "runConfigData": configuration}
        return self.query(LAUNCH, run=run)["launchRun"]


@contextmanager
def running() -> Iterator[Ui]:
    """Start `status-engine ui` on the home folder of the environment; end it by INT.

    A server that is there at the end ends in order, and leaves nothing.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home = Path(os.environ["STATUS_ENGINE_HOME"])
    home.mkdir(exist_ok=True)
    log = home / "ui.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster_project", "ui", "--port", str(port)],
            cwd=PROJECT,
            stdout=output,
            stderr=output,
            # A terminal interrupts a group; it must not be that of the tests.
            start_new_session=True,
        )
    ui = Ui(process, port, log)
    try:
        _wait_for(ui)
        yield ui
        if process.poll() is None:
            assert_ends(ui, "INT")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(END)


def assert_ends(ui: Ui, how: str) -> None:
    """A signal, as a terminal's Ctrl-C to the whole group, ends it and its children."""
    started = psutil.Process(ui.process.pid).children(recursive=True)
    names = {Path(part).name for child in started for part in child.cmdline()}
    assert names >= {"dagster-daemon", "code-server", "grpc"}
    os.killpg(ui.process.pid, signal.Signals[f"SIG{how}"])
    code = ui.process.wait(END)
    assert left_of(started) == []
    assert code == (-signal.SIGKILL if how == "KILL" else 0)
    assert how == "KILL" or ui.log.read_text().endswith("Dagster is stopped.\n")


def left_of(started: list[psutil.Process]) -> list[psutil.Process]:
    """Those that don't end; they are ended, for the machine's sake."""
    _, alive = psutil.wait_procs(started, timeout=END)
    for survivor in alive:
        survivor.kill()
    return alive


def _wait_for(ui: Ui) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and ui.process.poll() is None:
        try:
            assert ui.ask("GET", "/server_info").status == 200
        except ConnectionRefusedError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(ui.log.read_text())


def runs_of_others() -> list[str]:
    """The ids of runs that neither schedule nor sensor asked for."""
    with dg.DagsterInstance.get() as instance:
        return [
            run.run_id
            for run in instance.get_runs()
            if not {"dagster/schedule_name", "dagster/sensor_name"} & run.tags.keys()
        ]
