"""A local S3 server whose answers can be delayed, refused or cut off, in a process of its own.

Faults are chosen by the test through a file, so that they also reach requests that are under way.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

FAULTS = ("503", "slow", "cut", "expired")
BUCKET = "bucket"
_EXPIRED = (
    b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code>"
    b"<Message>The provided token has expired.</Message></Error>"
)
_BUSY = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code>"
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class S3Server:
    """A running server.

    Attributes:
        port: Its port.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._faults = folder / "faults.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self.faults()

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server, which is empty."""
        command = [sys.executable, "-m", "tests.support.s3_server", str(self.port)]
        self._process = subprocess.Popen(
            [*command, str(self._faults)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(1200):
            with suppress(OSError):
                urllib.request.urlopen(f"{self.endpoint}/moto-api/data.json", timeout=5).close()
                break
            time.sleep(0.1)
        request = urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=60).close()

    def faults(self, share: float = 0.0, *kinds: str, seed: int = 0) -> None:
        """Let a share of the requests fail in some ways, from now on."""
        self._faults.write_text(f"{share} {seed} {','.join(kinds)}")

    def pause(self) -> None:
        """Take no connection's bytes any more: requests hang."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the server: connections are refused."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server for a test."""
    server = S3Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def environment(server: S3Server) -> dict[str, str]:
    """Variables by which clients find the server."""
    return {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


class _Faulty:
    """The application of the server, some of whose answers fail."""

    def __init__(self, application: Any, faults: Path) -> None:
        self._application, self._faults = application, faults
        self._drawn, self._random = "", random.Random(0)

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        kind = self._draw()
        if kind == "slow":
            time.sleep(2.0)
        if kind in ("503", "expired"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            busy = kind == "503"
            status = "503 Slow Down" if busy else "400 Bad Request"
            start(status, [("Content-Type", "application/xml")])
            return [_BUSY if busy else _EXPIRED]
        if kind == "cut":  # in the middle of what the client sends or gets
            with suppress(OSError):
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        return self._application(environ, start)

    def _draw(self) -> str:
        said = self._faults.read_text()
        if said != self._drawn:
            self._drawn, self._random = said, random.Random(said)
        share, _, kinds = (*said.split(" "), "")[:3]
        if kinds and self._random.random() < float(share):
            return self._random.choice(kinds.split(","))
        return ""


def _serve(port: int, faults: Path) -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = _Faulty(DomainDispatcherApplication(create_backend_app), faults)
    make_server("127.0.0.1", port, application, threaded=True).serve_forever()


if __name__ == "__main__":
    os.environ.update(AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret")
    _serve(int(sys.argv[1]), Path(sys.argv[2]))
