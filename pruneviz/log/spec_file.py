"""The file `spec.json` of a run directory: read, checked and written.

It is text of others as soon as a recording was sent around, so its size, depth and every known fact
are checked before anything is done with it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from pruneviz.errors import LogError
from pruneviz.log import limits, older_columns, schema
from pruneviz.log.arguments import is_whole
from pruneviz.log.checksums import FileSum
from pruneviz.log.fact_kinds import shown, wrong_kinds
from pruneviz.log.files import write_whole
from pruneviz.log.parquet import corrupt
from pruneviz.log.regular_files import is_something, read_regular, unreadable
from pruneviz.log.run_spec import RunSpec

SPEC_FILE = "spec.json"
FACTS_DIGEST = "facts_sha256"  # fact: SHA-256 of all others
TABLE_FILES = "table_files"  # fact of a finished run: rows, bytes and SHA-256 of every table

_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # as JSON escapes them, and pairs of them
# Facts of the file, not of the run.
_OF_THE_FILE = ("sealed", TABLE_FILES, FACTS_DIGEST)


class StoredRun(NamedTuple):
    """What a spec says, at one moment.

    Attributes:
        spec: Facts of the run.
        sealed: Whether it is finished.
        tables: What its tables held when they were written; empty of an unfinished run, and of one
            that a pruneviz before schema 4 finished.
    """

    spec: RunSpec
    sealed: bool
    tables: Mapping[str, FileSum]


def read_run(path: str | Path) -> StoredRun:
    """The spec of a run directory, and what it says of the files.

    Raises:
        LogError: If it is missing, corrupt, or of a newer schema.
    """
    path = Path(path)
    facts = stored_facts(path)
    of_file = {name: facts.pop(name, None) for name in _OF_THE_FILE}
    try:
        spec = RunSpec.from_dict(older_columns.facts_now(facts))
        has_sums = of_file["sealed"] and facts["schema_version"] >= schema.SUMS_SINCE
        tables = _sums(of_file[TABLE_FILES], spec) if has_sums else {}
    except (TypeError, ValueError, LogError) as error:
        raise corrupt(path / SPEC_FILE, error) from error
    return StoredRun(spec, bool(of_file["sealed"]), tables)


def read_spec(path: str | Path) -> RunSpec:
    """The spec of a run directory.

    Raises:
        LogError: If it is missing, corrupt, or of a newer schema.
    """
    return read_run(path).spec


def _sums(facts: Any, spec: RunSpec) -> dict[str, FileSum]:
    if not isinstance(facts, dict) or set(facts) != set(spec.tables):
        raise ValueError(
            f"{TABLE_FILES} is {shown(facts)}, expected rows, bytes and sha256 of "
            f"{', '.join(spec.tables)}"
        )
    return {table: FileSum.from_facts(facts[table]) for table in spec.tables}


def is_sealed(path: str | Path) -> bool:
    """Whether a run directory holds a finished run.

    Raises:
        LogError: If there is a spec that cannot be read.
    """
    path = Path(path)
    return is_something(path / SPEC_FILE) and bool(stored_facts(path)["sealed"])


def stored_facts(path: Path) -> dict[str, Any]:
    """The facts in the spec of a run directory as they are stored.

    Raises:
        LogError: If it is missing, corrupt, or of a newer schema.
    """
    file = path / SPEC_FILE
    try:
        facts = parsed_facts(read_regular(file, limits.MOST_BYTES))
        _check_version(facts)
    except FileNotFoundError:
        raise LogError(_without_spec(path)) from None
    except _NewerSchemaError as error:
        raise LogError(f"{file} {error}") from None
    except PermissionError as error:
        raise unreadable(file) from error
    except (OSError, ValueError) as error:
        raise corrupt(file, error) from error
    if wrong := wrong_kinds(facts):
        raise corrupt(file, LogError("; ".join(wrong)))
    _check_digest(file, facts)
    return facts


def _check_digest(file: Path, facts: Mapping[str, Any]) -> None:
    """Check that facts are those that were written; null in place of their digest says nothing."""
    repair = (
        "restore it from a backup, or, if you changed it yourself, write null as its "
        f"{FACTS_DIGEST}"
    )
    if FACTS_DIGEST not in facts and facts["schema_version"] >= schema.SUMS_SINCE:
        raise LogError(f"{file} lacks {FACTS_DIGEST}, which it was written with; {repair}")
    if facts.get(FACTS_DIGEST) not in (None, _digest(facts)):
        raise LogError(
            f"{file} was changed after it was written, as its {FACTS_DIGEST} says; {repair}"
        )


def write_spec(path: Path, spec: RunSpec, tables: Mapping[str, FileSum] | None = None) -> None:
    """Write the spec of a run directory, atomically.

    Args:
        path: Run directory.
        spec: Facts of the run.
        tables: What its tables hold, of a run that is finished.
    """
    sums = {name: sum.to_facts() for name, sum in (tables or {}).items()}
    named = {} if tables is None else {TABLE_FILES: sums}
    facts = json.loads(as_json({**spec.to_dict(), "sealed": tables is not None, **named}))
    text = json.dumps({**facts, FACTS_DIGEST: _digest(facts)}, indent=2)
    _check_size(text, len(facts) + 1)
    write_whole(path / SPEC_FILE, lambda file: file.write_text(text + "\n", encoding="utf-8"))


def check_room(facts: Mapping[str, Any], *, of_pruneviz: bool = False) -> None:
    """Check that a spec can hold some facts, and those that sealing adds.

    Args:
        facts: All facts of a run, with those that were noted.
        of_pruneviz: Whether pruneviz itself adds the last of them, for which there is room.

    Raises:
        LogError: If a fact cannot be stored, or they are too many or too large.
    """
    kept_free = 1 if of_pruneviz else 2
    text = as_json(facts)
    room = kept_free * limits.ROOM_BYTES // 2, kept_free * limits.ROOM_FACTS // 2
    _check_size(text, len(facts), *room)
    if len(str(facts.get("run", ""))) > limits.MOST_LETTERS:
        raise LogError(
            f"the name of the run has {len(facts['run']):,} letters, at most "
            f"{limits.MOST_LETTERS:,} can be read; give a shorter one"
        )


def _check_size(text: str, count: int, kept_free: int = 0, facts_kept_free: int = 0) -> None:
    """Check that a spec can be read again."""
    for number, most, what in (
        (len(text) + 1, limits.MOST_BYTES - kept_free, "bytes"),
        (count, limits.MOST_FACTS - facts_kept_free, "facts"),
    ):
        if number > most:
            raise LogError(
                f"the facts of the run take {number:,} {what} in {SPEC_FILE}, at most {most:,} can "
                "be stored; keep large ones in a file of your own, and give its name"
            )


def as_json(facts: Mapping[str, Any]) -> str:
    """Facts as the text of a spec, which can be read again.

    Raises:
        LogError: If a fact cannot be stored, such as a number that is not finite.
    """

    def plain(value: Any) -> Any:
        return value.item() if hasattr(value, "item") else str(value)

    try:
        text = json.dumps(dict(facts), default=plain, allow_nan=False)
        stored = parsed_facts(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise LogError(
            f"a fact of the run cannot be stored in {SPEC_FILE} ({error}); "
            "give finite numbers, texts and lists of them"
        ) from error
    if wrong := wrong_kinds(stored):
        raise LogError(f"{'; '.join(wrong)}; give it so, or under a name of your own")
    return json.dumps(stored, indent=2)


def parsed_facts(content: bytes) -> dict[str, Any]:
    """The facts in the content of a spec; text that is no Unicode is shown by its escapes.

    Raises:
        ValueError: If it is no JSON, names a fact twice, holds a number that is not finite, or is
            too large or too deep.
    """
    if len(content) > limits.MOST_BYTES:
        raise ValueError(
            f"it has {len(content):,} bytes, at most {limits.MOST_BYTES:,} can be read"
        )
    text = content.decode("utf-8-sig")
    try:
        facts = json.loads(
            text,
            object_pairs_hook=_named_once,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(facts)
    if not isinstance(facts, dict):
        raise ValueError(f"it holds {shown(facts)}, expected facts by name")
    return _readable(facts) if _LONE_SURROGATE.search(text) else facts


class _NewerSchemaError(ValueError):
    """The file was written by a later version of pruneviz."""


def _check_version(facts: Mapping[str, Any]) -> None:
    """Check the version of the schema, and that the file says whether the run is finished."""
    if "schema_version" not in facts:
        raise ValueError("schema_version is missing")
    version, sealed = facts["schema_version"], facts.get("sealed")
    if not is_whole(version) or version < 1:
        raise ValueError(
            f"schema_version is {shown(version)}, expected a whole number from 1 to "
            f"{schema.SCHEMA_VERSION}"
        )
    if version > schema.SCHEMA_VERSION:
        versions = facts.get("versions")
        wrote = versions.get("pruneviz") if isinstance(versions, dict) else None
        known = isinstance(wrote, str)
        needed = f"pruneviz {shown(wrote)[1:-1]}, which wrote it" if known else "a newer pruneviz"
        raise _NewerSchemaError(
            f"has schema {shown(version)}, this pruneviz reads up to {schema.SCHEMA_VERSION}; "
            f"install {needed}"
        )
    if not isinstance(sealed, bool):
        said = shown(sealed) if "sealed" in facts else "missing"
        raise ValueError(f"sealed is {said}, expected true or false")


def _digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 of facts, in any order and whatever the white space of their file."""
    others = {name: value for name, value in facts.items() if name != FACTS_DIGEST}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def _without_spec(path: Path) -> str:
    if is_something(path / "epochs.parquet"):
        return (
            f"{path} holds tables of a run but no {SPEC_FILE}; restore it from a backup, or delete "
            "the run and record it again"
        )
    return f"{path} is no run directory: it has no {SPEC_FILE}; record one with pruneviz record"


_TOO_DEEP = f"it nests values more than {limits.MOST_DEPTH} deep"


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [inner for one in level for inner in _inside(one)]:
        depth += 1
        if depth > limits.MOST_DEPTH:
            raise ValueError(_TOO_DEEP)


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > limits.MOST_FACTS:
        raise ValueError(
            f"it names {len(pairs):,} facts, at most {limits.MOST_FACTS:,} can be read"
        )
    facts = dict(pairs)
    if len(facts) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it names {shown(twice)} twice")
    return facts


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, expected finite numbers")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds {text[:60]}, expected finite numbers")
    return value


def _whole(text: str) -> int:
    if len(text.removeprefix("-")) > limits.MOST_DIGITS:
        raise ValueError(
            f"it holds {text[:20]}..., a whole number of {len(text.removeprefix('-')):,} digits, "
            f"expected at most {limits.MOST_DIGITS}"
        )
    return int(text)


def _readable(value: Any) -> Any:
    """A value with escapes in place of text that is no Unicode, such as bytes of file names."""
    if isinstance(value, str):
        return limits.readable(value)
    if isinstance(value, dict):
        return _named_once([(_readable(name), _readable(inner)) for name, inner in value.items()])
    return [_readable(inner) for inner in value] if isinstance(value, list) else value
