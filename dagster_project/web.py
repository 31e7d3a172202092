"""The web server of Dagster behind the guard, with its daemon and code server.

It is what `dagster dev` starts, with a web server that other sites can't command, and
that shows the weeks' reviews as well.
"""

import json
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import dagster as dg
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from dagster_project.assets import REPORTS
from dagster_project.children import child
from dagster_project.guard import Guard
from ingest.errors import StatusEngineError
from ingest.store import database

ADDRESS = "127.0.0.1"
# Also the name of the code location, by which Dagster knows its schedules.
DEFINITIONS = "dagster_project.definitions"
# Seconds that requests get to end; those of open pages would never.
PATIENCE = 2


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A socket on a port of this machine; who connects waits until it is served.

    Raises:
        StatusEngineError: the port can't be had; says why.
    """
    try:
        listener = socket.create_server((ADDRESS, port))
    except OSError as error:
        msg = (
            f"Port {port} can't be used: {error.strerror}. "
            "Name another: status-engine ui --port."
        )
        raise StatusEngineError(msg) from error
    with listener:
        yield listener


def serve(listener: socket.socket) -> None:
    """Serve until interrupted, by SIGINT or SIGTERM; nothing that it started is left.

    Args:
        listener: bound; DAGSTER_HOME names the instance.

    Raises:
        StatusEngineError: the daemon or the code server has ended.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="status-engine-"))
        )
        code, workspace = folder / "code.sock", folder / "workspace.yaml"
        location = {"location_name": DEFINITIONS, "socket": str(code)}
        workspace.write_text(json.dumps({"load_from": [{"grpc_server": location}]}))
        start = ("dagster", "code-server", "start", "--log-level", "warning")
        code_server = stack.enter_context(
            child(*start, "--module-name", DEFINITIONS, "--socket", str(code))
        )
        _wait_for(code_server, code)
        daemon = stack.enter_context(
            child("dagster-daemon", "run", "--workspace", str(workspace))
        )
        instance = stack.enter_context(dg.DagsterInstance.get())
        context = stack.enter_context(
            WorkspaceProcessContext(instance, WorkspaceFileTarget([str(workspace)]))
        )
        _answer(context, listener, (code_server, daemon))


def _wait_for(process: subprocess.Popen[bytes], path: Path) -> None:
    """Until a server listens on its socket, which it does once it has loaded."""
    while process.poll() is None:
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.connect(str(path))
            return
        time.sleep(0.1)
    msg = "Dagster's code server has ended; what it said is above."
    raise StatusEngineError(msg)


def _answer(
    context: WorkspaceProcessContext,
    listener: socket.socket,
    children: tuple[subprocess.Popen[bytes], ...],
) -> None:
    app = create_app_from_workspace_process_context(context)
    # Before Dagster's own routes, of which one takes every path.
    reviews = StaticFiles(directory=database.home() / REPORTS, check_dir=False)
    app.router.routes.insert(0, Mount(f"/{REPORTS}", reviews))
    server = uvicorn.Server(
        uvicorn.Config(
            Guard(app, listener.getsockname()[1]),
            log_level="warning",
            proxy_headers=False,
            timeout_graceful_shutdown=PATIENCE,
        )
    )

    def stop_with_children() -> None:
        while all(process.poll() is None for process in children):
            time.sleep(1)
        server.should_exit = True

    threading.Thread(target=stop_with_children, daemon=True).start()
    server.run(sockets=[listener])
    if any(process.poll() is not None for process in children):
        msg = "Dagster's daemon or code server has ended; what it said is above."
        raise StatusEngineError(msg)
