"""`pruneviz watch`: the interactive page of recordings, kept up to date while they are made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pruneviz.console.command import command_app, say, tell
from pruneviz.console.options import Data, PageColumns, recordings_given

EXAMPLES = """
  # The folder into which a training loop records
  pruneviz watch data/mine

  # On another port, and in the browser at once
  pruneviz watch data/mine --port 9000 --open
"""

_PORT = 8765


def watch(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DIR",
            help="Run directories, or folders with runs; they may be empty yet.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 takes a free one.")
    ] = _PORT,
    columns: PageColumns = None,
    open_it: Annotated[
        bool, typer.Option("--open", help="Open the page in the default browser.")
    ] = False,
) -> None:
    """Serve that page, refreshed while runs are recorded.

    The page is that of `pruneviz report`. It is served on 127.0.0.1 alone, nothing but the page and
    the numbers on it, and refreshed after every epoch. Ctrl-C ends it; the recording goes on.
    """
    import threading
    import webbrowser

    from pruneviz.report.following import Followed
    from pruneviz.report.server import PageServer

    followed = Followed([str(folder) for folder in recordings_given(runs, data)], columns)
    server = PageServer(followed, port)
    followed.look()
    tell(f"{server.address}  (Ctrl-C ends it)")
    if followed.trouble:
        say(f"waiting for recordings: {followed.trouble}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        if open_it:
            webbrowser.open(server.address)
        server.follow(tell)
    except KeyboardInterrupt:
        tell("ended")
    finally:
        server.stop()


app = command_app(watch, "watch", EXAMPLES)

if __name__ == "__main__":
    app(prog_name="pruneviz watch")
