"""Starting and ending the web server: what it says, and what is left of it."""

import socket

import psutil
import pytest

from tests.dagster_project.commands import assert_one_sentence, process
from tests.dagster_project.ui import END, assert_ends, left_of, running


@pytest.mark.usefixtures("installed_url")
def test_a_port_that_is_in_use_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = process("ui", "--port", port)
    assert_one_sentence(said, f"Port {port}", "in use", "--port")


@pytest.mark.nightly
@pytest.mark.usefixtures("installed_url")
def test_a_server_whose_daemon_has_ended_says_so_and_ends() -> None:
    with running() as ui:
        started = psutil.Process(ui.process.pid).children(recursive=True)
        (daemon,) = [child for child in started if "dagster-daemon" in child.cmdline()]
        daemon.kill()
        assert ui.process.wait(END) == 1
    assert left_of(started) == []
    said = ui.log.read_text().splitlines()
    (sentence,) = [line for line in said if line.startswith("Error: ")]
    assert "has ended" in sentence


@pytest.mark.usefixtures("installed_url")
@pytest.mark.parametrize(
    "how", ["KILL", pytest.param("TERM", marks=pytest.mark.nightly)]
)
def test_nothing_is_left_of_a_server_that_has_ended(how: str) -> None:
    """By INT each server of a test ends: see ui.py."""
    with running() as ui, ui.connect():
        assert_ends(ui, how)
    log = ui.log.read_text()
    assert "Traceback" not in log
    assert "Error" not in log
