"""Receivers of alerts, one of HTTP and one of mail; both fail when they are told."""

import json
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from aiosmtpd.controller import Controller


class HttpReceiver:
    """Keeps the JSON that it takes; answers with `statuses` first, then with 200."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        # What is done with a message before it is answered.
        self.before_answer: Callable[[], None] = lambda: None
        self.port = free_port()
        self.start()

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                content = json.loads(self.rfile.read(length))
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                if status == 200:
                    receiver.taken.append(content)
                receiver.before_answer()
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def address(self) -> str:
        return f"json://someone:hunter2@127.0.0.1:{self.port}/secret-token"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.taken]


class MailReceiver:
    """Keeps the mails that it takes; those that it refuses it answers with 451."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.refusals = 0
        self.port = free_port()
        self.start()

    def start(self) -> None:
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self.controller.start()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        if self.refusals:
            self.refusals -= 1
            return "451 not now"
        self.taken.append(envelope.content.decode())
        return "250 taken"

    def stop(self) -> None:
        self.controller.stop()

    @property
    def address(self) -> str:
        return (
            f"mailto://127.0.0.1:{self.port}?from=engine@example.com"
            "&to=planner@example.com&mode=insecure"
        )


def free_port() -> int:
    """Of 127.0.0.1, free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
