"""The architecture: which wing imports which, what each side loads, and what every module keeps to.

Each test collects all offenders and reports them as `file:line: what is wrong`.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import pruneviz

PACKAGE = Path(pruneviz.__file__).parent
ROOT = PACKAGE.parent

# What each wing may import besides itself and `pruneviz.errors`. This table is the whole rule.
TORCH_FREE = {
    "console": set(),
    "engines": {"console"},
    "stores": {"console"},
    "log": {"console", "stores"},
    "plans": {"console", "stores", "log"},
    "analysis": {"console", "stores", "log"},
    "plot": {"console", "stores", "log", "analysis"},
    "figures": {"console", "stores", "log", "plans", "analysis", "plot"},
    "report": {"console", "stores", "log", "analysis", "plot"},
}
TORCH = ("model", "pruning", "measuring", "recording", "loops", "experiment")
MAY_IMPORT = TORCH_FREE | {
    wing: set(TORCH_FREE) | set(TORCH[:place]) for place, wing in enumerate(TORCH)
}
COMMANDS = {"check", "record", "remeasure", "findings", "verdicts", "samplesize", "sweep"}
COMMANDS |= {"thin", "upload", "watch"}
TOP = {"__init__", "__main__", "errors", "cli", *COMMANDS}
TORCH_PACKAGES = {"torch", "torchvision", "safetensors"}

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
LONGEST_MODULE, LONGEST_FUNCTION = 400, 50


def module_name(file: Path) -> str:
    """Dotted name below the package: `log/runs.py` -> `log.runs`."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def parsed(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


def place(module: str, line: int) -> str:
    return f"{SOURCES[module].relative_to(ROOT)}:{line}"


def wing(module: str) -> str:
    """The wing of a module; "" for the modules at the top."""
    first = module.split(".")[0]
    return first if first in MAY_IMPORT else ""


def imports(module: str) -> Iterator[tuple[int, str, str]]:
    """Each import, wherever it stands: line, full module name, imported name ("" for a module)."""
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = node.module or ""
            for alias in node.names:
                inner = f"{home}.{alias.name}"
                is_module = inner.removeprefix("pruneviz.") in SOURCES
                yield (node.lineno, inner, "") if is_module else (node.lineno, home, alias.name)


def own_imports(module: str) -> Iterator[tuple[int, str, str]]:
    """Imports of the package itself, without `pruneviz.` in front."""
    for line, imported, name in imports(module):
        if imported.split(".")[0] == "pruneviz":
            yield line, imported.removeprefix("pruneviz").removeprefix("."), name


# The wings


def test_the_package_is_made_of_wings_and_of_what_a_person_types() -> None:
    folders = {entry.name for entry in PACKAGE.iterdir() if (entry / "__init__.py").exists()}
    assert folders == set(MAY_IMPORT)
    assert {file.stem for file in PACKAGE.glob("*.py")} == TOP


def test_a_module_imports_from_its_own_wing_or_from_one_to_its_left() -> None:
    wrong = [
        f"{place(module, line)}: wing {wing(module)} may not import pruneviz.{other}; "
        f"it may import {', '.join(sorted({'errors', wing(module), *MAY_IMPORT[wing(module)]}))}"
        for module in SOURCES
        if wing(module)
        for line, other, _ in own_imports(module)
        if other != "errors" and wing(other) not in {wing(module), *MAY_IMPORT[wing(module)]}
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_make_no_cycle() -> None:
    graph = {module: {other for _, other, _ in own_imports(module)} for module in SOURCES}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_wings_without_torch_never_import_it() -> None:
    wrong = [
        f"{place(module, line)}: wing {wing(module)} is free of torch and imports {imported}"
        for module in SOURCES
        if wing(module) in TORCH_FREE
        for line, imported, _ in imports(module)
        if imported.split(".")[0] in TORCH_PACKAGES
    ]
    assert not wrong, "\n".join(wrong)


def test_wings_without_torch_and_commands_load_with_a_plain_install() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = {re.split(r"[^\w-]", one)[0] for one in project["dependencies"]}
    wrong = [
        f"{place(module, node.lineno)}: {name} comes with an extra; import it where it is used"
        for module in SOURCES
        if wing(module) not in TORCH
        for node in parsed(module).body
        for name in top_level_names(node)
        if name not in {"pruneviz", *installed, *sys.stdlib_module_names}
    ]
    assert not wrong, "\n".join(wrong)


def top_level_names(node: ast.stmt) -> list[str]:
    """The packages that an import statement loads."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    return [(node.module or "").partition(".")[0]] if isinstance(node, ast.ImportFrom) else []


def test_no_module_imports_a_private_name_of_another() -> None:
    wrong = [
        f"{place(module, line)}: {name or other} is private to pruneviz.{other}"
        for module in SOURCES
        for line, other, name in own_imports(module)
        if name.startswith("_")
        or any(part.startswith("_") and part[:2] != "__" for part in other.split("."))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("loaded", "absent"),
    [
        (
            ("", "figures.__main__", "figures.draw", "analysis.correlation", "plans.planning"),
            "torch",
        ),
        (("cli", *sorted(COMMANDS)), "torch"),
        (
            ("", "log.runs", "analysis.correlation", "analysis.scores", "plans.planning"),
            "matplotlib",
        ),
    ],
    ids=["figures", "commands", "analysis"],
)
def test_drawing_loads_no_torch_and_analysis_no_matplotlib(
    loaded: tuple[str, ...], absent: str
) -> None:
    names = ", ".join(f"pruneviz.{name}".rstrip(".") for name in loaded)
    found = f"sorted(n for n in sys.modules if n.split('.')[0] == {absent!r})[:3]"
    code = f"import sys, {names}; print({found})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_every_test_of_a_wing_names_its_module() -> None:
    tests = ROOT / "tests"
    strangers = [
        str(file.relative_to(ROOT))
        for name in MAY_IMPORT
        for file in (tests / name).rglob("test_*.py")
        if not (PACKAGE / file.relative_to(tests))
        .with_name(file.name.removeprefix("test_"))
        .exists()
        and not (
            PACKAGE / file.relative_to(tests).with_suffix("").with_name(file.stem[5:])
        ).is_dir()
    ]
    assert not strangers, (
        f"no module of that name: {', '.join(strangers)}; move them to tests/whole"
    )


# Every module


def test_nothing_is_unpickled_printed_or_star_imported() -> None:
    wrong = []
    for module in SOURCES:
        for line, imported, name in imports(module):
            if imported.split(".")[0] in {"pickle", "dill", "joblib", "shelve", "marshal"}:
                wrong.append(f"{place(module, line)}: imports {imported}")
            if name == "*":
                wrong.append(f"{place(module, line)}: star import")
        for node in (n for n in ast.walk(parsed(module)) if isinstance(n, ast.Call)):
            called = ast.unparse(node.func)
            if called in {"print", "pd.read_pickle", "np.load", "torch.hub.load"}:
                wrong.append(f"{place(module, node.lineno)}: calls {called}")
            weights_only = [ast.unparse(k.value) for k in node.keywords if k.arg == "weights_only"]
            if called == "torch.load" and weights_only != ["True"]:
                wrong.append(f"{place(module, node.lineno)}: torch.load without weights_only=True")
    assert not wrong, "\n".join(wrong)


def test_there_is_no_global_state() -> None:
    wrong = []
    for module in SOURCES:
        tree = parsed(module)
        globals_ = [node for node in ast.walk(tree) if isinstance(node, ast.Global)]
        wrong += [f"{place(module, node.lineno)}: global statement" for node in globals_]
        for node in tree.body:
            value = getattr(node, "value", None)
            mutable = isinstance(value, (ast.List, ast.Dict, ast.Set))
            if mutable and not ast.unparse(value)[1:-1]:
                wrong.append(f"{place(module, node.lineno)}: an empty container at module level")
    assert not wrong, "\n".join(wrong)


def test_no_module_and_no_function_is_too_long() -> None:
    wrong = []
    for module in SOURCES:
        lines = len(SOURCES[module].read_text(encoding="utf-8").splitlines())
        if lines > LONGEST_MODULE:
            wrong.append(f"{place(module, lines)}: {lines} lines, at most {LONGEST_MODULE}")
        for node in (n for n in ast.walk(parsed(module)) if isinstance(n, FUNCTION)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            start = body[0].lineno if body else node.lineno
            length = (node.end_lineno or start) - start + 1
            if length > LONGEST_FUNCTION:
                wrong.append(f"{place(module, start)}: {node.name} has {length} lines")
    assert not wrong, "\n".join(wrong)


def public_definitions(module: str) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes of a module, and public methods of its public classes."""
    owners = [parsed(module), *(n for n in parsed(module).body if isinstance(n, ast.ClassDef))]
    for owner in owners:
        if getattr(owner, "name", "").startswith("_"):
            continue
        for node in owner.body:
            if isinstance(node, (*FUNCTION, ast.ClassDef)) and not node.name.startswith("_"):
                yield node


def test_every_module_and_every_public_name_is_described() -> None:
    wrong = [place(module, 1) for module in SOURCES if not ast.get_docstring(parsed(module))]
    wrong += [
        f"{place(module, node.lineno)}: {node.name}"
        for module in SOURCES
        for node in public_definitions(module)
        if node.name != "forward" and not ast.get_docstring(node)
    ]
    assert not wrong, "without a docstring:\n" + "\n".join(wrong)


# The public names


def test_every_public_name_resolves_and_is_described() -> None:
    assert set(dir(pruneviz)) == set(pruneviz.__all__)
    things = {name: getattr(pruneviz, name) for name in dir(pruneviz)}
    callables = {name: thing for name, thing in things.items() if callable(thing)}
    assert not [name for name, thing in callables.items() if not inspect.getdoc(thing)]


def test_a_public_name_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'mesure'.*\bmeasure\b"):
        pruneviz.mesure  # noqa: B018


def test_the_public_contract_is_there() -> None:
    names = ("Recorder", "measure", "load", "score", "correlate", "mask_distance")
    assert [name for name in names if not callable(getattr(pruneviz, name))] == []
