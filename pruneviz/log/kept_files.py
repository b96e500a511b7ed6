"""Files of kept weights: their names, and what their headers say; torch is not needed.

Kept weights of equal shapes fit into any network of a kind, so a file says of which run, epoch and
network it is, and is compared with its name and with the log. Files of earlier versions say nothing
of this, and are compared by the digest of the network that they are loaded into.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pruneviz.errors import LogError
from pruneviz.log.epoch_parts import complete_epochs, parts_of
from pruneviz.log.parquet import TablePart, read_file
from pruneviz.log.regular_files import is_something
from pruneviz.log.spec_file import SPEC_FILE, is_sealed, read_spec
from pruneviz.stores.mirror import listed_names

WEIGHTS = "weights"  # folder in a run directory
DIGEST = "sha256"  # fact in a header: of the tensors and of all other facts
_NETWORK = "network_digest"
_KEPT = "kept"  # key in a header: all facts as JSON, as safetensors writes keys in any order
_NAMED = re.compile(r"([0-9]{5,10})\.safetensors")


def kept_file(run: str | Path, epoch: int) -> Path:
    """The file of the weights of a run after an epoch."""
    return Path(run) / WEIGHTS / f"{epoch:05d}.safetensors"


def kept_files(run: str | Path) -> dict[int, Path]:
    """The files of kept weights of a run, by epoch, ascending; other files there are a person's."""
    folder = Path(run) / WEIGHTS
    there = {*(file.name for file in folder.glob("*.safetensors")), *listed_names(folder)}
    named = filter(None, map(_NAMED.fullmatch, there))
    files = {epoch: kept_file(run, epoch) for epoch in sorted({int(name[1]) for name in named})}
    return {epoch: file for epoch, file in files.items() if file.name in there}


def kept_facts(run: str | Path, epoch: int, network: str | None) -> dict[str, str]:
    """What the header of kept weights says besides their digest.

    Args:
        run: Run directory.
        epoch: Number of epochs trained.
        network: Digest of the network, if it has one.
    """
    facts = {"epoch": str(epoch)}
    if is_something(Path(run) / SPEC_FILE):
        facts["run"] = read_spec(run).run
    if network is not None:
        facts[_NETWORK] = network
    return facts


def as_header(facts: Mapping[str, str], digest: str) -> dict[str, str]:
    """What is written into a header, the same bytes for the same facts."""
    if not facts:
        return {DIGEST: digest}
    return {_KEPT: json.dumps({**facts, DIGEST: digest}, sort_keys=True)}


def stated_in(header: Mapping[str, Any]) -> dict[str, Any]:
    """The facts in a header.

    Raises:
        ValueError: If they cannot be read.
    """
    others = {name: value for name, value in header.items() if name != _KEPT}
    if _KEPT not in header:
        return others
    facts = json.loads(str(header[_KEPT]))
    if not isinstance(facts, dict):
        raise ValueError("its header holds no facts by name")
    return {**others, **facts}


def facts_text(stated: Mapping[str, Any]) -> bytes:
    """The facts in a header as its digest takes them; nothing of a file without any."""
    facts = {name: value for name, value in stated.items() if name != DIGEST}
    return json.dumps(facts, sort_keys=True).encode() if facts else b""


def network_digests(run: str | Path, only: int | None = None) -> dict[int, str | None]:
    """The recorded epochs of a run, each with the digest of its network, if the log has it.

    Args:
        run: Run directory, finished or not.
        only: An epoch besides which nothing needs to be read, as other parts may be damaged.

    Raises:
        LogError: If the log cannot be read.
    """
    path = Path(run)
    epochs = None if only is None else (only,)
    files = [path / "epochs.parquet"] if is_sealed(path) else parts_of(path, "epochs", epochs)
    found: dict[int, str | None] = {}
    for file in files:
        rows = read_file(file, "epochs").to_pydict()
        known = rows.get(_NETWORK, [None] * len(rows["epoch"]))
        found |= dict(zip(rows["epoch"], known, strict=True))
    return found


def unrecorded(run: str | Path) -> Iterator[str]:
    """Kept weights of epochs that the log lacks, as sentences.

    Weights are written before the log, so those after the last epoch of an unfinished run are
    nothing unusual.

    Raises:
        LogError: If the log cannot be read.
    """
    path = Path(run)
    sealed = is_sealed(path)
    held = [*_epochs(path)] if sealed else complete_epochs(path)
    last = max(held, default=-1)
    for epoch, file in kept_files(path).items():
        if epoch not in held and (sealed or epoch < last):
            yield (
                f"{file} is of epoch {epoch}, which {path} did not record; move it out of there, "
                "or give it its name back"
            )


def of_another(
    file: Path, stated: Mapping[str, Any], run: str | Path, epoch: int, recorded: str | None
) -> str | None:
    """What kept weights are of instead of a run and epoch, in a sentence; None if they fit.

    Args:
        file: Their file.
        stated: What its header says.
        run: Run directory.
        epoch: The epoch that its name says.
        recorded: Digest of the network of this epoch in the log, if there is one.
    """
    name = read_spec(run).run if is_something(Path(run) / SPEC_FILE) else stated.get("run")
    of_run, of_epoch = stated.get("run", name), stated.get("epoch", str(epoch))
    repair = "give it its name back, or restore the folder from a backup"
    if (of_run, of_epoch) != (name, str(epoch)):
        of = f"epoch {of_epoch} of {of_run}"
        return f"{file} holds the weights of {of}, not of epoch {epoch} of {name}; {repair}"
    if recorded is not None and stated.get(_NETWORK, recorded) != recorded:
        return (
            f"{file} is of another recording of {name}: the log has another network at epoch "
            f"{epoch}; {repair}"
        )
    return None


def check_recorded(run: str | Path) -> None:
    """Check that all kept weights are of epochs of the log.

    Raises:
        LogError: If some are not; names the first.
    """
    for fault in unrecorded(run):
        raise LogError(fault)


def _epochs(path: Path) -> list[int]:
    rows = read_file(path / "epochs.parquet", "epochs", TablePart(("epoch",)))
    found: list[int] = rows["epoch"].to_pylist()
    return found
