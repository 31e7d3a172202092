"""Who may ask the web server: its own pages, and programs on this machine.

A page of any other site can make a browser send requests here: forms, images, fetches
and websockets, and after DNS rebinding under a name of that site. Dagster answers them
all, so they are refused before they reach it. Starting servers is in `web`.
"""

from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAMES = ("127.0.0.1", "localhost", "[::1]")
GRAPHQL = "/graphql"
# What a browser says of a request that its own page, or a person, made.
OWN_SITES = {"same-origin", "none"}


class Refusal(NamedTuple):
    """The answer instead: its status, a sentence, and the methods that are allowed."""

    status: int
    sentence: str
    allow: str = ""


class Guard:
    """An ASGI application in front of another, which sees only what is let through.

    No answer may be shown in a frame, where a page could have its buttons pressed.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app = app
        self.port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request or a websocket, or hand it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = refuse(HTTPConnection(scope), self.port)
        answer: ASGIApp = self.app
        if refusal:
            allow = {"Allow": refusal.allow} if refusal.allow else None
            answer = PlainTextResponse(refusal.sentence, refusal.status, allow)

        async def send_unframed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Frame-Options"] = "DENY"
            await send(message)

        await answer(scope, receive, send_unframed)


def refuse(connection: HTTPConnection, port: int) -> Refusal | None:
    """Why a request or a websocket is refused, or None.

    Args:
        connection: its headers, and for a request its method and path.
        port: the server's own, which the name of its host ends with.
    """
    headers, address = connection.headers, f"http://127.0.0.1:{port}"
    hosts = [host.lower() for host in headers.getlist("host")]
    if len(hosts) != 1 or hosts[0] not in {f"{name}:{port}" for name in NAMES}:
        return Refusal(403, f"This server is {address} and answers to no other name.\n")
    if _is_foreign(headers, f"http://{hosts[0]}"):
        return Refusal(403, f"Another site asked for this: open {address} itself.\n")
    if connection.scope["type"] == "websocket":
        return None
    return _refuse_request(connection)


def _is_foreign(headers: Headers, own: str) -> bool:
    """Whether a browser says that the page of another origin asks."""
    referers = map(urlsplit, headers.getlist("referer"))
    origins = {f"{referer.scheme}://{referer.netloc}" for referer in referers}
    origins.update(headers.getlist("origin"))
    sites = set(headers.getlist("sec-fetch-site"))
    return not (origins <= {own} and sites <= OWN_SITES)


def _refuse_request(connection: HTTPConnection) -> Refusal | None:
    """Queries and mutations come by POST, as JSON; a GET only reads."""
    method, path = connection.scope["method"], connection.scope["path"]
    if method in ("GET", "HEAD"):
        # Dagster's route also takes the path with a line end behind it.
        if path.startswith(GRAPHQL) and connection.scope["query_string"]:
            return Refusal(405, "GraphQL is asked by POST, as JSON.\n", "POST")
        return None
    if method != "POST" or path != GRAPHQL:
        sentence = f"Only {GRAPHQL} takes more than GET, and that is POST.\n"
        return Refusal(405, sentence, "POST" if path == GRAPHQL else "GET, HEAD")
    kind = connection.headers.get("content-type", "").partition(";")[0]
    if kind.strip().lower() != "application/json":
        return Refusal(415, "GraphQL is asked as application/json.\n")
    return None
