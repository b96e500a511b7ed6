"""Docs and notebooks: every name, command, option, link and path in them exists.

Each test collects all offenders and reports them as `file: what is wrong`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from torch import nn

import benchmarks.__main__
import benchmarks.measuring
import pruneviz as pv
from pruneviz import cli
from pruneviz.measuring.options import Options
from pruneviz.plans.needs import FIGURE_NEEDS
from pruneviz.plans.planning import plan_runs

ROOT = Path(__file__).parents[2]
PARTS = ("explanation", "howto", "reference")  # folders of pages; docs/gallery is generated
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *(page for part in PARTS for page in sorted((ROOT / "docs" / part).glob("*.md"))),
    ROOT / "data" / "README.md",
    ROOT / "figures" / "README.md",
    ROOT / "pruneviz" / "log" / "example_runs" / "README.md",
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PUBLIC_MODULES = (
    "pruneviz.errors",
    "pruneviz.figures",
    "pruneviz.loops.lightning",
    "pruneviz.loops.transformers",
)
OTHER_OPTIONS = {"--check"}  # of ruff
# A language, or a directive of the site in braces.
FENCE = re.compile(r"^ *```(\w*|\{[\w-]+\})\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")


@cache
def texts() -> dict[str, str]:
    """Markdown by file name; of a notebook, its Markdown cells."""
    found = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
    for notebook in NOTEBOOKS:
        cells = [source for kind, source in cells_of(notebook) if kind == "markdown"]
        found[str(notebook.relative_to(ROOT))] = "\n\n".join(cells)
    return found


def cells_of(notebook: Path) -> list[tuple[str, str]]:
    """Kind and source of every cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


def python_blocks() -> Iterator[tuple[str, ast.Module]]:
    """Python of all pages and notebooks, parsed; IPython's magics left out."""
    for name, text in texts().items():
        for language, code in FENCE.findall(text):
            if language == "python":
                yield name, ast.parse(code)
    for notebook in NOTEBOOKS:
        for kind, source in cells_of(notebook):
            if kind == "code":
                lines = [line for line in source.splitlines() if line[:1] not in ("%", "!")]
                yield str(notebook.relative_to(ROOT)), ast.parse("\n".join(lines))


def shell_lines() -> Iterator[tuple[str, str]]:
    """Command lines of all pages and of .ci/run, without comments."""
    for name, text in texts().items():
        for language, code in FENCE.findall(text):
            if language != "python" and "{" not in language:
                whole = code.replace("\\\n", " ")  # a command on several lines
                yield from ((name, line) for line in whole.splitlines())
        for code in INLINE.findall(FENCE.sub("", text)):
            yield name, " ".join(code.split())
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    yield from ((".ci/run", line) for line in script.replace("$pruneviz", "pruneviz").splitlines())


def manifest_commands() -> Iterator[tuple[str, list[str]]]:
    """Program and arguments of every container of Kubernetes in the docs; variables are 0."""
    for name, text in texts().items():
        for language, code in FENCE.findall(text):
            if language == "yaml":
                for container in yaml.safe_load(code)["spec"]["template"]["spec"]["containers"]:
                    yield name, [re.sub(r"\$\(\w+\)", "0", word) for word in container["command"]]


def commands(program: str) -> Iterator[tuple[str, list[str]]]:
    """Arguments of every call of a program, such as `pruneviz` or `python -m benchmarks`."""
    for name, (called, *arguments) in manifest_commands():
        if called == program:
            yield name, arguments
    call = re.compile(rf"(?:^|&& |step |bin/){re.escape(program)}(?= |$)([^#>&|]*)")
    for name, line in shell_lines():
        for arguments in call.findall(line):
            yield name, [word for word in shlex.split(arguments) if word != "..."]


# Python


def test_docs_import_only_what_is_public() -> None:
    wrong = []
    for name, tree in python_blocks():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found = [(a.name, a.asname) for a in node.names if a.name.startswith("pruneviz")]
                wrong += [
                    f"{name}: import {module}"
                    for module, alias in found
                    if (module, alias) != ("pruneviz", "pv") and module not in PUBLIC_MODULES
                ]
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pruneviz"):
                if node.module not in PUBLIC_MODULES:
                    wrong.append(f"{name}: from {node.module} import ...")
                    continue
                module = importlib.import_module(node.module)
                absent = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                wrong += [f"{name}: {node.module} has no {absence}" for absence in absent]
    assert not wrong, "\n".join(wrong)


def test_public_names_in_docs_exist() -> None:
    wrong = [
        f"{name}: pv.{attribute}"
        for name, text in texts().items()
        for attribute in re.findall(r"\bpv\.(\w+)", text)
        if attribute not in pv.__all__
    ]
    wrong += [
        f"{name}: pv.{node.attr}"
        for name, tree in python_blocks()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value) == "pv"
        and node.attr not in pv.__all__
    ]
    assert not wrong, "\n".join(wrong)


def test_arguments_of_public_functions_in_docs_exist() -> None:
    wrong = []
    for name, tree in python_blocks():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            called = ast.unparse(call.func)
            if not re.fullmatch(r"pv\.\w+", called):
                continue
            known = set(inspect.signature(getattr(pv, called.removeprefix("pv."))).parameters)
            if "measuring" in known:  # passed on, as pv.Recorder does
                known |= {field.name for field in fields(Options)}
            names = [word.arg for word in call.keywords if word.arg is not None]
            wrong += [f"{name}: {called}({word}=...)" for word in names if word not in known]
    assert not wrong, "\n".join(wrong)


SHORTER = {  # what makes the examples of docs short enough for a test
    "every=10": "every=1",
    "max_workers=8": "max_workers=1",
    "range(1, 161)": "range(1, 5)",
    "next_epoch(), 161)": "next_epoch(), 5)",
    "data/huge": str(ROOT / "data" / "cifar-mini" / "vgg13-cifar100-unpruned-s1"),
    "data/paper": str(ROOT / "data" / "paper"),
    "data/cifar-mini/*": str(ROOT / "data" / "cifar-mini" / "*"),
    '"data/cifar-mini"': repr(str(ROOT / "data" / "cifar-mini-batch")),
    "data/digits": str(ROOT / "data" / "cifar-mini-batch"),
    "data/cifar-mini-oracle": str(ROOT / "data" / "cifar-mini-oracle"),
}


# Trainers advise on workers, devices and logging intervals.
@pytest.mark.filterwarnings("ignore:::lightning|torch.utils.data|accelerate|transformers")
@pytest.mark.parametrize("page", [name for name, text in texts().items() if "```python" in text])
def test_examples_in_docs_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = nn.Sequential(
        *[nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)],
        *[nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)],
    )
    images, labels = torch.randn(32, 3, 8, 8), torch.arange(32) % 4
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    names = {"model": model, "images": images, "labels": labels, "optimizer": optimizer}
    for language, code in FENCE.findall(texts()[page]):
        if language == "python":
            for long, short in SHORTER.items():
                code = code.replace(long, short)
            exec(compile(code, page, "exec"), names)
    if "summary()" in texts()[page]:
        assert "parameters" in capsys.readouterr().out


# Commands


@cache
def subcommands() -> dict[str, Any]:
    """The subcommands of `pruneviz` by name."""
    root: Any = typer.main.get_command(cli.app)
    context = root.make_context("pruneviz", [], resilient_parsing=True)
    return {name: root.get_command(context, name) for name in root.list_commands(context)}


def fault_of(arguments: list[str]) -> str:
    """What is wrong with the arguments of `pruneviz`; empty if nothing is."""
    if not arguments or arguments in (["--version"], ["--help"]):
        return ""
    name, *rest = arguments
    if name not in subcommands():
        return f"there is no command {name}"
    if not rest:
        return ""  # the name of a command, in a sentence
    try:
        subcommands()[name].make_context(name, rest)
    except typer.Exit:  # --help
        return ""
    except Exception as error:
        return str(error)
    return ""


def test_commands_in_docs_are_understood() -> None:
    found = list(commands("pruneviz"))
    wrong = [f"{name}: pruneviz {' '.join(a)}: {fault_of(a)}" for name, a in found if fault_of(a)]
    assert not wrong, "\n".join(wrong)
    assert "record" in {arguments[1] for _, arguments in manifest_commands()}
    every = {"record", "figures", "remeasure", "findings", "claims", "thin"}
    assert every <= {a[0] for _, a in found if a}


def test_commands_in_docs_are_spelled_in_one_way() -> None:
    wrong = [
        f"{name}: {spelling}"
        for name, text in texts().items()
        for spelling in re.findall(r"python -m pruneviz\S*", outside_of_tables(text))
    ]
    assert not wrong, "\n".join(wrong)


def outside_of_tables(text: str) -> str:
    """A page without its generated part."""
    return re.sub(r"<!-- figures: begin -->.*<!-- figures: end -->", "", text, flags=re.DOTALL)


def test_options_in_sentences_exist() -> None:
    known = {
        option
        for command in subcommands().values()
        for parameter in command.params
        for option in parameter.opts
    }
    known |= set(benchmarks.__main__.parser()._option_string_actions) | OTHER_OPTIONS
    known |= set(benchmarks.measuring.parser()._option_string_actions)
    wrong = [
        f"{name}: {option}"
        for name, text in texts().items()
        for code in INLINE.findall(FENCE.sub("", text))
        for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", code)
        if option not in known
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", [benchmarks.__main__, benchmarks.measuring])
def test_benchmark_commands_in_docs_are_understood(module: Any) -> None:
    program = module.__name__.removesuffix(".__main__")
    found = [arguments for _, arguments in commands(f"python -m {program}")]
    assert found
    for arguments in found:
        module.parser().parse_args(arguments)  # exits, and so fails, at a wrong one


def test_targets_and_extras_in_docs_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    wrong = [
        f"{name}: make {arguments[0]}"
        for name, arguments in commands("make")
        if arguments and arguments[0] not in targets
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wrong += [
        f"{name}: extra {extra}"
        for name, text in {**texts(), "Makefile": makefile}.items()
        for listed in re.findall(r"'(?:\.|pruneviz)\[([a-z,]+)\]'", text)
        for extra in listed.split(",")
        if extra not in extras
    ]
    assert not wrong, "\n".join(wrong)


# Links and paths


def anchors(text: str) -> set[str]:
    """Anchors of the headings of a page, as GitHub forms them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_relative_links_lead_somewhere() -> None:
    wrong = []
    for name, text in texts().items():
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
            file, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            path = (ROOT / name).parent / file if file else ROOT / name
            if not path.exists():
                wrong.append(f"{name}: {target} does not exist")
            elif anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
                wrong.append(f"{name}: {target} names no heading")
    assert not wrong, "\n".join(wrong)


def exists_in_package(dotted: str) -> bool:
    """Whether a dotted name is a module of the package, or a name in one."""
    home, _, last = dotted.rpartition(".")
    return is_module(dotted) or (is_module(home) and hasattr(importlib.import_module(home), last))


def is_module(dotted: str) -> bool:
    """Whether there is a module or package of that name."""
    path = ROOT / dotted.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_modules_and_files_in_docs_exist() -> None:
    wrong = []
    for name, text in texts().items():
        inline = INLINE.findall(FENCE.sub("", text))
        dotted = {code for code in inline if re.fullmatch(r"pruneviz(\.\w+)+", code)}
        wrong += [f"{name}: {code}" for code in sorted(dotted) if not exists_in_package(code)]
        path = r"(pruneviz|tests|benchmarks|docs|notebooks)/[\w./-]*"
        files = {code for code in inline if re.fullmatch(path, code)}
        wrong += [f"{name}: {code}" for code in sorted(files) if not (ROOT / code).exists()]
    assert not wrong, "\n".join(wrong)


# Facts that stand twice


def test_the_table_of_modules_is_complete() -> None:
    page = texts()["docs/design.md"]
    told = set()
    for section in page.partition("<!-- modules: end -->")[0].split("\n### ")[1:]:
        wing = re.match(r"`(\w+)`\n", section)
        prefix = f"{wing[1]}/" if wing else ""
        told |= {prefix + name for name in re.findall(r"^\| `([\w/]+)` \|", section, re.MULTILINE)}
    package = ROOT / "pruneviz"
    modules = {
        file.relative_to(package).with_suffix("").as_posix()
        for file in package.rglob("*.py")
        if file.name != "__init__.py"
    } - {"__main__"}
    wrong = [f"docs/design.md does not describe {name}" for name in sorted(modules - told)]
    wrong += [f"docs/design.md: there is no module {name}" for name in sorted(told - modules)]
    assert not wrong, "\n".join(wrong)


def test_make_figures_draws_every_figure_and_no_recorded_run_for_nothing() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    line = re.search(r"^FIGURES +:= (.+)$", makefile, re.MULTILINE)
    assert line
    figures = line[1].split()
    assert sorted(figures) == sorted(set(FIGURE_NEEDS) - {"I1"})
    needed = {plan.run for plan in plan_runs("digits", figures=figures)}
    assert needed == {plan.run for plan in plan_runs("digits")}


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert project["version"] == pv.__version__
    assert f"\nversion: {pv.__version__}\n" in citation
    assert f"\n## {pv.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
