"""The shape of the house: which module may import which, what the drawing side may load, and how long a room may be."""

from __future__ import annotations

import ast
import functools
import graphlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pruneviz

PACKAGE = Path(pruneviz.__file__).parent

# A module imports only from lower floors. "T" is the side that loads torch; it may also import from the other side, never the reverse.
FLOORS = {
    "errors": "0", "schema": "0", "plans": "0", "experiments": "0", "freed_memory": "0",
    "scores": "1", "masks": "1", "tables": "1", "runlog": "1", "scanning": "1",
    "analysis": "2", "rounds": "2", "durations": "2",
    "figures": "3", "findings": "3",
    "sample": "0T", "tracing": "0T", "isolation": "0T", "filters": "0T", "masking": "0T",
    "bilinear": "0T", "directional": "0T", "networks": "0T", "datasets": "0T",
    "derivatives": "1T", "calibration": "1T", "standard_errors": "1T", "extra_columns": "1T", "coupling": "1T",
    "history": "2", "weights": "2", "units": "1T", "processes": "1T", "cheap_columns": "2T", "run_facts": "2T",
    "snapshot": "2T", "repeatability": "2T", "kept_weights": "2T",
    "recorder": "3T", "pruning": "3T",
    "training": "4T", "training_step": "4T", "pruned_training": "4T",
    "recording": "5T", "record": "5T", "remeasure": "5T",
}  # fmt: skip
WITHIN_A_FLOOR = {
    ("schema", "errors"), ("plans", "errors"), ("experiments", "errors"), ("experiments", "plans"),
    ("masks", "scores"), ("repeatability", "snapshot"), ("record", "recording"),
    ("scores", "scanning"), ("masks", "scanning"), ("scanning", "runlog"), ("scanning", "tables"), ("runlog", "tables"),
    ("pruned_training", "training"), ("training", "training_step"), ("run_facts", "snapshot"), ("weights", "analysis"),
    ("sample", "errors"), ("isolation", "errors"), ("filters", "errors"), ("networks", "errors"), ("datasets", "errors"),
    ("directional", "bilinear"), ("snapshot", "cheap_columns"), ("filters", "sample"), ("filters", "tracing"), ("filters", "isolation"),
    ("calibration", "derivatives"), ("standard_errors", "derivatives"), ("extra_columns", "derivatives"),
}  # fmt: skip
ANALYSIS_SIDE = ("pruneviz", "schema", "scores", "masks", "runlog", "analysis.correlation", "experiments")
DRAWING_SIDE = (*ANALYSIS_SIDE, "figures", "figures.__main__", "figures.pictures", "figures.draw")


def _name(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}
MODULES = sorted(set(SOURCES) - {""})
EVERY_MODULE = pytest.mark.parametrize("module", MODULES)
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def parsed(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


def imported(module: str) -> Iterator[str]:
    """Every module that this one imports, wherever in it the import stands; the package's own without its name in front."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("pruneviz.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path"
            home = "" if node.module == "pruneviz" else (node.module or "").removeprefix("pruneviz.")
            for alias in node.names:
                inner = f"{home}.{alias.name}".removeprefix(".")
                yield inner if inner in SOURCES else home


def own_imports(module: str) -> set[str]:
    return {name for name in imported(module) if name in SOURCES and name}


def room(module: str) -> str:
    return module.split(".")[0]


def height(name: str) -> int:
    return int(FLOORS[name][0])


def may_import(room_of: str, other: str) -> bool:
    torch_side, below = FLOORS[room_of].endswith("T"), height(other) < height(room_of)
    if FLOORS[other].endswith("T") and not torch_side:
        return False
    return below or room_of == other or (room_of, other) in WITHIN_A_FLOOR


def test_every_module_has_a_floor_and_every_floor_a_module() -> None:
    assert {room(module) for module in MODULES} == set(FLOORS)
    assert all(height(a) == height(b) for a, b in WITHIN_A_FLOOR), "the exceptions are within one floor"


@EVERY_MODULE
def test_a_module_imports_only_from_lower_floors(module: str) -> None:
    wrong = sorted(other for other in own_imports(module) if not may_import(room(module), room(other)))
    assert not wrong, f"{module} is on floor {FLOORS[room(module)]} and imports {', '.join(f'{o} ({FLOORS[room(o)]})' for o in wrong)}"


def test_imports_make_no_cycle() -> None:
    order = list(graphlib.TopologicalSorter({module: own_imports(module) for module in MODULES}).static_order())
    assert set(order) == set(MODULES)
    assert order.index("errors") < order.index("schema") < order.index("runlog") < order.index("recorder") < order.index("recording")


LOADS = [(DRAWING_SIDE, "torch"), (("pruneviz", "record"), "torch"), (ANALYSIS_SIDE, "matplotlib")]


@pytest.mark.parametrize(("loaded", "absent"), LOADS, ids=["figures", "record", "analysis"])
def test_the_drawing_side_loads_no_torch_and_the_analysis_no_matplotlib(loaded: tuple[str, ...], absent: str) -> None:
    names = ["pruneviz" if name == "pruneviz" else f"pruneviz.{name}" for name in loaded]
    code = f"import sys, {', '.join(names)}; print(sorted(n for n in sys.modules if n.split('.')[0] == {absent!r})[:3])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("module", [module for module in MODULES if FLOORS[room(module)] in "0123"])
def test_the_side_without_torch_never_names_it(module: str) -> None:
    assert not {"torch", "torchvision", "safetensors"} & {name.split(".")[0] for name in imported(module)}


@EVERY_MODULE
def test_nothing_is_unpickled_printed_or_star_imported(module: str) -> None:
    assert not {"pickle", "dill", "joblib", "shelve", "marshal"} & {name.split(".")[0] for name in imported(module)}
    for node in ast.walk(parsed(module)):
        assert not (isinstance(node, ast.ImportFrom) and node.names[0].name == "*"), f"star import in line {node.lineno}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called != "print", f"print in line {node.lineno}"
        assert called not in ("pd.read_pickle", "np.load", "torch.hub.load"), f"{called} in line {node.lineno}"
        if called == "torch.load":
            assert [ast.unparse(k.value) for k in node.keywords if k.arg == "weights_only"] == ["True"], f"line {node.lineno}"


@EVERY_MODULE
def test_no_mutable_or_empty_global_and_no_global_statement(module: str) -> None:
    assert not [node.lineno for node in ast.walk(parsed(module)) if isinstance(node, ast.Global)]
    values = [node.value for node in parsed(module).body if isinstance(node, (ast.Assign, ast.AnnAssign))]
    assert not [value.lineno for value in values if isinstance(value, (ast.List, ast.Dict, ast.Set)) and not ast.unparse(value)[1:-1]]


@EVERY_MODULE
def test_no_room_is_too_large(module: str) -> None:
    assert len(SOURCES[module].read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(parsed(module)):
        if isinstance(node, FUNCTION):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            start = body[0].lineno if body else node.lineno
            assert (node.end_lineno or start) - start + 1 <= 50, f"{node.name} is {(node.end_lineno or start) - start + 1} lines long"


@EVERY_MODULE
def test_what_is_public_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(parsed(module)) or not parsed(module).body
    owners: list[ast.Module | ast.ClassDef] = [parsed(module), *(n for n in parsed(module).body if isinstance(n, ast.ClassDef))]
    for owner in (o for o in owners if not getattr(o, "name", "").startswith("_")):
        for node in owner.body:
            if isinstance(node, (*FUNCTION, ast.ClassDef)) and not node.name.startswith("_") and node.name != "forward":
                assert ast.get_docstring(node), f"{node.name} in line {node.lineno} has no docstring"


@pytest.mark.parametrize("name", dir(pruneviz))
def test_every_public_name_resolves_and_is_described(name: str) -> None:
    thing = getattr(pruneviz, name)
    assert isinstance(thing, str) or inspect.getdoc(thing)
    assert name in pruneviz.__all__


def test_a_public_name_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'mesure'; it has Pruner, Recorder, .*measure"):
        pruneviz.mesure  # noqa: B018


@pytest.mark.parametrize("name", ["Recorder", "measure", "load", "score", "correlate", "mask_distance"])
def test_the_public_contract_is_there(name: str) -> None:
    assert callable(getattr(pruneviz, name))
