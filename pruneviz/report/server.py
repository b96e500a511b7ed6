"""The page of recordings on this machine alone, kept up to date while they are recorded."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from pruneviz.errors import ReportError
from pruneviz.report.following import Followed
from pruneviz.report.page import facts_of_page, page_of

HOST = "127.0.0.1"
INTERVAL = 1.0  # seconds between two looks at the files
_HEARTBEAT = 15.0  # seconds after which an unchanged page is told so, to notice that it was closed

_WAITING = """<!DOCTYPE html><html lang="en"><meta charset="utf-8">
<meta http-equiv="refresh" content="2"><link rel="icon" href="data:,"><title>pruneviz watch</title>
<p>Waiting for the first epoch. This page looks again every two seconds.</p></html>
"""


class PageServer(ThreadingHTTPServer):
    """Serves one page, the numbers on it, and events that tell of changes.

    Args:
        followed: The recordings.
        port: Port on 127.0.0.1; 0 takes a free one.

    Raises:
        ReportError: If the port is in use or may not be opened.
    """

    daemon_threads = True
    # Else a second server could take over the port of the first on some systems.
    allow_reuse_address = False

    def __init__(self, followed: Followed, port: int) -> None:
        self.followed = followed
        self.stopped = threading.Event()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ReportError(_why_closed(port, error)) from error

    @property
    def address(self) -> str:
        """The address to open in a browser."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def follow(self, told: Callable[[str], None]) -> None:
        """Look at the files until the server is stopped.

        Args:
            told: Called with a line when recordings changed or could not be read.
        """
        while not self.stopped.wait(INTERVAL):
            if self.followed.look():
                told(self.followed.trouble or _news(self.followed))

    def stop(self) -> None:
        """End the open connections and the server."""
        self.stopped.set()
        self.followed.close()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers to the page; everything else is not found."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    routes: ClassVar = {"/": "_page", "/contents": "_contents", "/events": "_events"}

    def do_GET(self) -> None:
        """Answer a request for one of the three addresses."""
        # A page of another site that resolves its name to 127.0.0.1 sends that name.
        port = self.server.server_address[1]
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        route = self.routes.get(self.path.partition("?")[0])
        if route is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            getattr(self, route)()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the page was closed

    def _page(self) -> None:
        followed = self.server.followed
        contents = followed.contents
        text = page_of(contents, followed.title, live=True) if contents else _WAITING
        self._answer(text, "text/html; charset=utf-8")

    def _contents(self) -> None:
        followed = self.server.followed
        contents = followed.contents
        facts = facts_of_page(contents, followed.title, live=True)
        blocks = [[block.text for block in run.blocks] for run in contents]
        self._answer(json.dumps({"facts": facts, "blocks": blocks}), "application/json")

    def _events(self) -> None:
        """An event for every change, as long as the page is open."""
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        version = self.server.followed.version
        while not self.server.stopped.is_set():
            now = self.server.followed.wait(version, _HEARTBEAT)
            if self.server.stopped.is_set():
                return
            event = f"event: changed\ndata: {now}\n\n" if now != version else ": open\n\n"
            version = now
            self.wfile.write(event.encode("ascii"))
            self.wfile.flush()

    def _answer(self, text: str, kind: str) -> None:
        body = text.encode("utf-8")
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: every change is told once, by `PageServer.follow`."""


def _news(followed: Followed) -> str:
    """What the page shows now, in one line."""
    ends = [
        f"{run.facts['name']} up to epoch {run.facts['epochs'][-1]}"
        for run in followed.contents
        if not run.facts["finished"]
    ]
    return f"{followed.title}: {', '.join(ends) or 'all finished'}"


def _why_closed(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} is in use, perhaps by another `pruneviz watch`; choose another with "
            "--port, or --port 0 for any free one"
        )
    return f"port {port} cannot be opened ({error.strerror}); choose one from 1024 with --port"
