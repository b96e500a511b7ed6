"""Whole recordings, changed in every way that a file can be, by a random generator.

A `Mutation` is made of a seed alone, so that one that was found to be read wrongly can be kept as a
number.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from pruneviz.errors import PrunevizError
from pruneviz.figures.__main__ import app as figures
from pruneviz.log import schema
from pruneviz.log.faults import faults
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import RunSpec
from pruneviz.log.runs import load
from pruneviz.log.scan import scan
from pruneviz.log.spec_file import FACTS_DIGEST
from pruneviz.log.thinning import thin
from tests.support.time_limits import at_most

SECONDS = 60  # a reader that takes longer hangs; all take milliseconds
LAYERS = ("features.0", "features.3")
EPOCHS = 4
_LAST = f"epochs-{EPOCHS - 1:05d}.parquet"


# Recordings


def make_recordings(folder: Path) -> Path:
    """A finished run, one with halves and rounds, a thin copy, and an unfinished run."""
    facts = {"network": "tiny", "dataset": "noise", "seed": 0, "every": "2", "epochs": EPOCHS - 1}
    _record(folder / "whole", facts)
    _record(folder / "pruned", {**facts, "seed": 1, "samples": 2, "measure": "magnitude"})
    _record(folder / "open", {**facts, "seed": 2}, seal=False)
    thin(folder / "whole", folder / "copies").path.rename(folder / "thin")
    (folder / "copies").rmdir()
    return folder


def _record(path: Path, facts: dict[str, Any], *, seal: bool = True) -> None:
    spec = RunSpec.from_dict({**facts, "run": path.name, "columns": ["theta_g"]})
    log = RunLog.create(path, spec)
    for epoch in range(EPOCHS):
        row = {"epoch": [epoch], "phase": ["train"], "test_acc": [0.1 * epoch], "note": ["a"]}
        log.append(
            epoch,
            epochs=pd.DataFrame({**row, "kept_fraction": 1.0}),
            filters=_filters(epoch),
            rounds=_rounds(epoch) if facts.get("measure") and epoch == 2 else None,
            halves=_halves(epoch) if facts.get("samples") == 2 and epoch % 2 == 0 else None,
        )
    if seal:
        log.seal()
    elif hasattr(log, "release"):
        log.release()


def _filters(epoch: int) -> pd.DataFrame:
    keys = {"epoch": epoch, "layer": [*LAYERS, *LAYERS], "filter": [0, 0, 1, 1], "kept": True}
    values = {"theta_norm2": [1.0 + epoch, 2.0, 3.0, 4.0]}
    if epoch % 2 == 0:
        values["theta_g"] = [0.5 * epoch, -1.0, 1e-30, 7.0]
    return pd.DataFrame({**keys, **values})


def _halves(epoch: int) -> pd.DataFrame:
    both = [_filters(epoch).drop(columns=["kept", "theta_norm2"]).assign(half=h) for h in "AB"]
    return pd.concat(both, ignore_index=True)


def _rounds(epoch: int) -> pd.DataFrame:
    facts = {"layer": LAYERS, "layer_index": [0, 1], "filters": 2, "kept": 2}
    return pd.DataFrame({"round": 1, "epoch": epoch, **facts})


# Mutations


class Mutation:
    """One or two changes of one run, by a seed.

    Attributes:
        seed: The seed.
        run: Name of the run directory that was changed.
        changes: What was done, in words.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        rng = random.Random(seed)
        run = rng.choice(sorted(path for path in folder.iterdir() if path.is_dir()))
        times = 1 if rng.random() < 0.8 else 2
        self.seed, self.run = seed, run.name
        self.changes = [_mutate(rng, run) for _ in range(times)]

    def __repr__(self) -> str:
        return f"mutation {self.seed}: {'; '.join(self.changes)}"


def _mutate(rng: random.Random, run: Path) -> str:
    kind = rng.choices((_mutate_file, _mutate_spec, _mutate_rows, _add), (5, 5, 4, 1))[0]
    return kind(rng, run)


def _files(run: Path, ending: str = "") -> list[Path]:
    return sorted(file for file in run.rglob(f"*{ending}") if file.is_file())


def _mutate_file(rng: random.Random, run: Path) -> str:
    there = _files(run)
    if not there:
        return "nothing left to change"
    file, change = rng.choice(there), rng.choice(_FILE_CHANGES)
    change(rng, file, run)
    return f"{change.__name__.strip('_')} {file.relative_to(run.parent)}"


def _flip(rng: random.Random, file: Path, run: Path) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 8)) if content else 0):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def _overwrite(rng: random.Random, file: Path, run: Path) -> None:
    content = bytearray(file.read_bytes())
    start = rng.randrange(len(content) + 1)
    content[start : start + rng.randrange(64)] = rng.randbytes(rng.randrange(64))
    file.write_bytes(content)


def _cut(rng: random.Random, file: Path, run: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content) + 1)])


def _empty(rng: random.Random, file: Path, run: Path) -> None:
    file.write_bytes(b"")


def _delete(rng: random.Random, file: Path, run: Path) -> None:
    file.unlink()


def _double(rng: random.Random, file: Path, run: Path) -> None:
    file.write_bytes(file.read_bytes() * 2)


def _swap(rng: random.Random, file: Path, run: Path) -> None:
    other = rng.choice(_files(run))
    one, two = file.read_bytes(), other.read_bytes()
    file.write_bytes(two)
    other.write_bytes(one)


def _take_of_another_run(rng: random.Random, file: Path, run: Path) -> None:
    others = [path for path in run.parent.iterdir() if path != run and path.is_dir()]
    same = [path / file.relative_to(run) for path in others]
    found = sorted(path for path in same if path.is_file())
    if found:
        shutil.copy(rng.choice(found), file)


def _rename(rng: random.Random, file: Path, run: Path) -> None:
    name = rng.choice(
        (file.name.upper(), f"{file.name}.bak", "x\udcff.parquet", "epochs-3.parquet")
    )
    file.rename(file.with_name(name))


def _make_pipe(rng: random.Random, file: Path, run: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _make_folder(rng: random.Random, file: Path, run: Path) -> None:
    file.unlink()
    file.mkdir()


def _make_socket(rng: random.Random, file: Path, run: Path) -> None:
    file.unlink()
    with socket.socket(socket.AF_UNIX) as opened, contextlib.suppress(OSError):
        opened.bind(str(file))  # names of sockets are short


def _link(rng: random.Random, file: Path, run: Path) -> None:
    to = rng.choice(("/dev/zero", "/dev/stdin", "nowhere", file.name, ".."))
    file.unlink()
    file.symlink_to(to)


def _link_to_itself_moved(rng: random.Random, file: Path, run: Path) -> None:
    moved = run.parent / f"{file.name}.moved"
    shutil.move(file, moved)
    file.symlink_to(moved)


_FILE_CHANGES: tuple[Callable[[random.Random, Path, Path], None], ...] = (
    *(_flip, _flip, _flip, _overwrite, _cut, _empty, _delete, _double, _swap),
    *(_take_of_another_run, _rename, _make_pipe, _make_folder, _make_socket, _link),
    _link_to_itself_moved,
)

_VALUES: tuple[str, ...] = (  # as JSON
    *("null", "[]", "{}", '""', '"x"', "0", "-1", "2.9", "true", "false", "1", "2", "99", '"2"'),
    *("NaN", "Infinity", "-Infinity", "1e999", "-0.0", "1" * 50, "1" * 5000, "[1, 2]", '[["a"]]'),
    *('{"a": 1}', '["theta_g", "theta_g"]', "[" * 100_000 + "]" * 100_000, "[" * 20 + "]" * 20),
    *('"\\ud800"', '"\\u0000\\u001b[31m"', '"$\\\\frac{$"', '"../../x"', f'"{"a" * 100_000}"'),
    *(
        '{"epochs": 1, "of_epochs": 4}',
        '{"epochs": [], "of_epochs": "x"}',
        '{"measured_epochs": 1}',
    ),
)
# Facts that say which tables a run has, and whether it is finished. Where one is changed by hand,
# and the digest of the facts removed with it, another recording is described.
_DESCRIBING = ("sealed", "samples", "flow", "thinned", "schema_version", "table_files")


def _mutate_spec(rng: random.Random, run: Path) -> str:
    file = run / "spec.json"
    if not file.is_file():
        return "no spec left to change"
    try:
        facts = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return "spec is no JSON any more"
    if not isinstance(facts, dict):
        return "spec holds no facts any more"
    change = rng.choice(("value", "value", "value", "value", "text", "remove", "double", "rename"))
    if change == "text":
        return _mutate_text(rng, file)
    names = [*facts, "wall_seconds", "coverage", "left_out", "new"]
    name, value = rng.choice(names), rng.choice(_VALUES)
    careful = rng.random() < 0.5 and name not in _DESCRIBING
    lines = {key: json.dumps(held) for key, held in facts.items()}
    if careful:
        lines[FACTS_DIGEST] = "null"
    listed = [(key, text) for key, text in lines.items() if key != name]
    was = lines.get(name, "1")
    more = {
        "value": [(name, value)],
        "remove": [],
        "double": [(name, was), (name, value)],
        "rename": [(f"{name}x", was)],
    }[change]
    body = ", ".join(f"{json.dumps(key)}: {text}" for key, text in [*listed, *more])
    file.write_text(f"{{{body}}}", encoding="utf-8")
    by_hand = " and removed the digest" if careful else ""
    return f"{change} {run.name} {name} {value[:40]}{by_hand}"


def _mutate_text(rng: random.Random, file: Path) -> str:
    content = file.read_bytes()
    changes = {
        "BOM": b"\xef\xbb\xbf" + content,
        "UTF-16": content.decode("utf-8", "replace").encode("utf-16"),
        "not UTF-8": content.replace(b"tiny", b"\xff\xfe"),
        "padded": content + b" " * (5 << 20),
        "long": b'{"x": "' + b"x" * (5 << 20) + b'", ' + content.lstrip()[1:],
        "nested": b"[" * 100_000,
        "a number": b"1",
        "a list": b"[" + content + b"]",
        "more": content + b"{}",
        "null bytes": b"\0" * len(content),
    }
    name = rng.choice(sorted(changes))
    file.write_bytes(changes[name])
    return f"spec of {file.parent.name} {name}"


def _mutate_rows(rng: random.Random, run: Path) -> str:
    """Write a table anew as a valid file."""
    # nothing follows the last part of all that could know its digest
    there = [file for file in _files(run, ".parquet") if file.name != _LAST]
    if not there:
        return "no table left to change"
    file = rng.choice(there)
    name, change = rng.choice(sorted(_ROW_CHANGES.items()))
    try:
        rows = pq.read_table(file)
        written = change(rng, rows)
        pq.write_table(written.replace_schema_metadata(_metadata(rng, rows)), file)
    except (OSError, pa.ArrowException, ValueError):
        return f"{file.name} is no table any more"
    return f"{name} {file.relative_to(run.parent)}"


def _metadata(rng: random.Random, rows: pa.Table) -> dict[bytes, bytes]:
    index = {"index_columns": ["epoch"], "columns": [], "column_indexes": [], "pandas_version": "3"}
    return {
        **(rows.schema.metadata or {}),
        **rng.choice(({}, {b"pandas": json.dumps(index).encode()})),
    }


def _column(rng: random.Random, rows: pa.Table) -> int:
    return rng.randrange(rows.num_columns)


def _changed_value(rng: random.Random, rows: pa.Table) -> pa.Table:
    place = _column(rng, rows)
    values = rows.column(place).to_pylist()
    if values:
        at = rng.randrange(len(values))
        held = values[at]
        values[at] = None if isinstance(held, str | bool) or held is None else type(held)(held * 2)
    return rows.set_column(place, rows.field(place), pa.array(values, rows.field(place).type))


def _retyped(rng: random.Random, rows: pa.Table) -> pa.Table:
    place = _column(rng, rows)
    kind = rng.choice((pa.string(), pa.int64(), pa.float64(), pa.binary(), pa.bool_(), pa.null()))
    values = pa.nulls(len(rows), kind)
    return rows.set_column(place, pa.field(rows.field(place).name, kind), values)


_ROW_CHANGES: dict[str, Callable[[random.Random, pa.Table], pa.Table]] = {
    "no rows": lambda rng, rows: rows.slice(0, 0),
    "half the rows": lambda rng, rows: rows.slice(0, len(rows) // 2),
    "rows twice": lambda rng, rows: pa.concat_tables([rows, rows]),
    "rows reversed": lambda rng, rows: rows.take(list(range(len(rows)))[::-1]),
    "the same rows": lambda rng, rows: rows,
    "another value": _changed_value,
    "another type": _retyped,
    "a column less": lambda rng, rows: rows.remove_column(_column(rng, rows)),
    "a column twice": lambda rng, rows: rows.append_column(
        rows.field(place := _column(rng, rows)), rows.column(place)
    ),
    "a column renamed": lambda rng, rows: rows.rename_columns(
        [f"{name}x" if rng.random() < 0.1 else name for name in rows.column_names]
    ),
    "columns reversed": lambda rng, rows: rows.select(rows.column_names[::-1]),
    "many rows": lambda rng, rows: pa.concat_tables([rows] * 2000),
}


def _add(rng: random.Random, run: Path) -> str:
    """Add what does not belong there."""
    folder = rng.choice([run, *(path for path in run.rglob("*") if path.is_dir())])
    name = rng.choice(
        (
            *(".spec.json.17.tmp", "notes.txt", "flow.parquet", "halves.parquet"),
            *("parts", "checkpoint", "epochs-abc.parquet", "epochs-000000.parquet"),
            *("epochs-00099.parquet", "filters-00099.parquet", "dropped.txt", "x\udcff"),
        )
    )
    new = folder / name
    if os.path.lexists(new):
        return f"nothing added, {name} is there"
    kind = rng.choice(("bytes", "pipe", "folder", "copy"))
    tables = _files(run, ".parquet")
    if kind == "pipe":
        os.mkfifo(new)
    elif kind == "folder":
        new.mkdir()
    elif kind == "copy" and tables:
        shutil.copy(rng.choice(tables), new)
    else:
        new.write_bytes(rng.randbytes(20))
    return f"added {kind} {new.relative_to(run.parent)!s}"


# Readers


class Hangs(BaseException):
    """A reader takes too long."""


def numbers_of(folder: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """All tables of each run below a folder, by run directory."""
    return {path.name: loaded(path) for path in sorted(folder.iterdir()) if path.is_dir()}


def loaded(path: Path) -> dict[str, pd.DataFrame]:
    """All tables of a run without its name."""
    runs = load(path)
    return {table: _bare(getattr(runs, table)) for table in schema.TABLES}


def scanned(path: Path) -> pd.DataFrame:
    """The filters table of a finished run, read in blocks."""
    opened = scan(path)
    return _bare(pd.concat([opened.no_rows(), *opened.blocks(list(opened.columns))]))


def _bare(table: pd.DataFrame) -> pd.DataFrame:
    kept = table.drop(columns="run")
    texts = dict.fromkeys(kept.select_dtypes("category"), "str")
    return kept.astype(texts).reset_index(drop=True)


def wrongly_read(
    path: Path, expected: dict[str, pd.DataFrame], *, listing: bool = False
) -> list[str]:
    """What readers get wrong of a mutated recording: other numbers, another error, or no answer.

    Args:
        path: Its run directory.
        expected: Its numbers before.
        listing: Whether `pruneviz figures --list` is run too, on the whole folder.
    """
    readers: dict[str, Callable[[], str]] = {
        "load": lambda: _compare_loaded(path, expected),
        "scan": lambda: _compare_scanned(path, expected),
        "check": lambda: _checked(path),
    }
    if listing:
        readers["figures --list"] = lambda: _list(path.parent)
    said = {name: _result(read) for name, read in readers.items()}
    found = [f"{name}: {wrong}" for name, (_, wrong) in said.items() if wrong]
    if said["load"][0] and said["check"][0] == _WHOLE:
        found.append(f"check calls whole what load refuses: {said['load'][0]}")
    return found


_WHOLE = "no faults"


def _result(read: Callable[[], str]) -> tuple[str, str]:
    """Why a reader refused, and what is wrong with that; both "" where it read what it should."""
    try:
        with at_most(SECONDS, Hangs), warnings.catch_warnings(action="ignore"):
            return read(), ""
    except PrunevizError as error:
        return str(error) or "refused", ""
    except (Exception, Hangs) as error:
        return "", f"{type(error).__name__}: {str(error)[:300]}"


def _compare_loaded(path: Path, expected: dict[str, pd.DataFrame]) -> str:
    found = loaded(path)
    for table, rows in expected.items():
        pd.testing.assert_frame_equal(found[table], rows, check_exact=True, obj=table)
    return ""


def _compare_scanned(path: Path, expected: dict[str, pd.DataFrame]) -> str:
    found = scanned(path)
    rows = expected["filters"]
    named = [name for name in rows if name in found]
    pd.testing.assert_frame_equal(found[named], rows[named], check_exact=True)
    others = rows.drop(columns=named)
    assert others.isna().all(axis=None), f"scan lacks {list(others)}"
    return ""


def _checked(path: Path) -> str:
    return "\n".join(faults(path)["fault"]) or _WHOLE


def _list(folder: Path) -> str:
    result = CliRunner().invoke(figures, ["--list", "--data", str(folder)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2), result.output[-300:]
    return ""
