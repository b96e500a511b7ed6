"""What a command and its runs on other machines tell each other, in a folder that they share.

```
<out>/.pruneviz-<token>/orders      "<token> <signal>"; 0 as long as nothing asks to stop
<out>/.pruneviz-<token>/00007.json  how far the eighth run is
```

Every file is there from the start and is written in place, because a network file system may
remember for a minute that a name is not there, but looks at a file anew when it is opened.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

from pruneviz.errors import PrunevizError

_NAME = ".pruneviz-"
_ORDERS = "orders"
_SIZE = 1024  # bytes of a text, which is written in one call
_LONGEST = 60  # characters of words: none is longer than 12 bytes in JSON
_FORGOTTEN = 60 * 86400.0  # seconds after which nobody looks into a folder any more


@dataclass(frozen=True)
class Post:
    """How far a run is.

    Attributes:
        epochs: Epochs done, with the fraction of the current one.
        words: What it does.
        host: Where.
        count: Grows with every post.
    """

    epochs: float
    words: str
    host: str
    count: int


@dataclass(frozen=True)
class Box:
    """The place of one run in a mailbox, for the process that supervises it.

    Args:
        folder: The mailbox.
        token: What tells it from others.
        number: Number of the run.
    """

    folder: Path
    token: str
    number: int

    def check(self, host: str) -> None:
        """Check that this machine sees the folder of the command.

        Args:
            host: Name of this machine.

        Raises:
            PrunevizError: If it does not.
        """
        if _read(self.folder / _ORDERS)[:1] != [self.token]:
            raise PrunevizError(
                f"{self.folder.parent} on {host} is not the folder of the command; give --out a "
                "folder that all machines share (with a URL, PRUNEVIZ_SPOOL), and start the "
                "command on one of them"
            )

    def ordered(self) -> int | None:
        """The signal by which the run is asked to stop, or None."""
        try:
            words = (self.folder / _ORDERS).read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return signal.SIGTERM  # the command has ended without this run
        except OSError:
            return None
        number = int(words[1]) if len(words) == 2 and words[1].isdecimal() else 0
        return number or None

    def tell(self, post: Post) -> None:
        """Tell the command how far the run is; it need not hear of all."""
        fits = replace(post, words=post.words[:_LONGEST])
        with suppress(OSError):
            _write(self.folder / f"{self.number:05}.json", json.dumps(asdict(fits)))


class Mailbox:
    """The folder, for the command; use it as a context manager, which removes it.

    Args:
        folder: Folder of the runs, which all machines share.
        runs: Number of runs.
    """

    def __init__(self, folder: Path, runs: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_forgotten(folder)
        self.token = secrets.token_hex(8)
        self.folder = folder.absolute() / f"{_NAME}{self.token}"
        self.folder.mkdir()
        _write(self.folder / _ORDERS, f"{self.token} 0", new=True)
        for number in range(runs):
            _write(self.folder / f"{number:05}.json", "", new=True)

    def box(self, number: int) -> Box:
        """The place of one run."""
        return Box(self.folder, self.token, number)

    def order(self, number: int) -> None:
        """Ask all runs to stop.

        Args:
            number: The signal that asks.
        """
        with suppress(OSError):
            _write(self.folder / _ORDERS, f"{self.token} {number}")

    def post(self, number: int) -> Post | None:
        """The last post of a run; None before the first, or while one is written."""
        try:
            return Post(**json.loads((self.folder / f"{number:05}.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def __enter__(self) -> Mailbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the folder; a run that still looks into it stops."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _write(path: Path, text: str, new: bool = False) -> None:
    """Write a text in place, in one call."""
    fd = os.open(path, os.O_WRONLY | (os.O_CREAT if new else 0), 0o666)
    try:
        os.write(fd, text.encode()[:_SIZE].ljust(_SIZE))
    finally:
        os.close(fd)


def _read(path: Path) -> list[str]:
    with suppress(OSError, ValueError):
        return path.read_text(encoding="utf-8").split()
    return []


def _remove_forgotten(folder: Path) -> None:
    """Remove the folders of commands that were killed long ago."""
    for old in folder.glob(f"{_NAME}*"):
        with suppress(OSError):
            newest = max(file.stat().st_mtime for file in (old, *old.iterdir()))
            if time.time() - newest > _FORGOTTEN:
                shutil.rmtree(old, ignore_errors=True)
