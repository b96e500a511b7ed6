"""Facts that are noted while a run is recorded, kept on disk until they go into its spec."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pruneviz.errors import LogError
from pruneviz.log import limits
from pruneviz.log.checkpoint_names import NOTED
from pruneviz.log.files import make_folder, write_whole
from pruneviz.log.regular_files import read_regular
from pruneviz.log.spec_file import as_json, parsed_facts


def write_noted(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write noted facts, in the place of earlier ones.

    Args:
        folder: Folder of the checkpoint of a run; it is made.
        facts: All facts that were noted.

    Raises:
        LogError: If a fact cannot be stored.
    """
    text = as_json(facts)
    content = f"{_digest(text)}\n{text}\n"
    make_folder(folder)
    write_whole(folder / NOTED, lambda file: file.write_text(content, encoding="utf-8"))


def read_noted(folder: Path) -> dict[str, Any]:
    """What `write_noted` wrote; nothing if no fact was noted.

    Raises:
        LogError: If the file is not what was written.
    """
    file = folder / NOTED
    try:
        stated, _, text = read_regular(file, limits.MOST_BYTES).decode().partition("\n")
    except FileNotFoundError:
        return {}
    except ValueError:  # no UTF-8
        stated, text = "", ""
    if stated != _digest(text.removesuffix("\n")):
        raise LogError(
            f"{file} is corrupt: its facts are not those that were noted; restore it from a "
            "backup, or delete it and note them again"
        )
    return parsed_facts(text.encode())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
