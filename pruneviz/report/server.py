"""The page of recordings on this machine alone, kept up to date while they are recorded."""

from __future__ import annotations

import errno
import json
import os
import secrets
import sys
import threading
from collections.abc import Callable
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from pruneviz.errors import ReportError
from pruneviz.report.following import Followed
from pruneviz.report.page import facts_of_page, in_bytes, page_of

HOST = "127.0.0.1"
_HOSTS = (HOST, "localhost")
INTERVAL = 1.0  # seconds between two looks at the files

_WAITING = """<!DOCTYPE html><html lang="en"><meta charset="utf-8">
<meta http-equiv="refresh" content="2"><link rel="icon" href="data:,"><title>pruneviz watch</title>
<p>Waiting for the first epoch. This page looks again every two seconds.</p>
<p>{trouble}</p></html>
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
    # Without it the port of a server that has just ended is in use for a minute. On Windows it
    # would let a second server take over the port of the first.
    allow_reuse_address = os.name != "nt"

    def __init__(self, followed: Followed, port: int) -> None:
        self.followed = followed
        self.stopped = threading.Event()
        self._mark = secrets.token_hex(4)  # tells a page that another server has taken the port
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ReportError(_why_closed(port, error)) from error

    @property
    def address(self) -> str:
        """The address to open in a browser."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def named_version(self, version: int) -> str:
        """A version of the contents, as pages of this server know it."""
        return f"{self._mark}.{version}"

    def follow(self, told: Callable[[str], None]) -> None:
        """Look at the files until the server is stopped.

        Args:
            told: Called with a line when recordings changed or could not be read.
        """
        while not self.stopped.wait(INTERVAL):
            if self.followed.look():
                told(self.followed.trouble or _news(self.followed))

    def stop(self) -> None:
        """End the server."""
        self.stopped.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where a page was closed in the middle of an answer."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers to the page; everything else is not found."""

    server: PageServer
    # A connection that stays open would be answered after the server has stopped.
    protocol_version = "HTTP/1.0"
    routes: ClassVar = {"/": "_page", "/contents": "_contents", "/version": "_version"}

    def do_GET(self) -> None:
        """Answer a request for one of the three addresses."""
        # A page of another site that resolves its name to 127.0.0.1 sends that name. The port may
        # be another one, that of a tunnel.
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in _HOSTS:
            self.send_error(HTTPStatus.FORBIDDEN, explain=f"open http://{HOST}/ with the port")
            return
        route = self.routes.get(self.path.partition("?")[0])
        if route is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        getattr(self, route)()

    def _page(self) -> None:
        version, contents, title, trouble = self.server.followed.state()
        if contents:
            named = self.server.named_version(version)
            text = page_of(contents, title, version=named, trouble=trouble)
        else:
            text = _WAITING.format(trouble=escape(trouble))
        self._answer(text, "text/html; charset=utf-8")

    def _contents(self) -> None:
        version, contents, title, trouble = self.server.followed.state()
        named = self.server.named_version(version)
        facts = facts_of_page(contents, title, version=named, trouble=trouble)
        blocks = [[block.text for block in run.blocks] for run in contents]
        self._answer(json.dumps({"facts": facts, "blocks": blocks}), "application/json")

    def _version(self) -> None:
        """What an open page asks every second: a stream for each would use up connections."""
        version, _, _, trouble = self.server.followed.state()
        self._answer(
            json.dumps({"version": self.server.named_version(version), "trouble": trouble}),
            "application/json",
        )

    def _answer(self, text: str, kind: str) -> None:
        body = in_bytes(text)
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
    if not followed.contents:
        return "waiting for the first epoch"
    return f"{followed.title}: {', '.join(ends) or 'all finished'}"


def _why_closed(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} is in use, perhaps by another `pruneviz watch`; choose another with "
            "--port, or --port 0 for any free one"
        )
    return f"port {port} cannot be opened ({error.strerror}); choose one from 1024 with --port"
