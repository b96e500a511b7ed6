"""The benchmarks: their frame on stub modules, and other tools as an oracle for our numbers."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

import benchmarks.__main__ as runner
import pruneviz as pv
from benchmarks import measuring, peers, subjects
from benchmarks.common import (
    Result,
    at_least,
    at_most,
    not_measured,
    result_from,
    row_of,
    side_by_side,
    write_results,
)
from benchmarks.gathered import (
    Machine,
    Measured,
    file_name,
    read_machine,
    run_modules,
    updated,
    write_machine,
)
from benchmarks.subjects import Batches, subject
from benchmarks.table import BEGIN, END, write_table
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.networks.registry import NETWORKS, build_network

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
WORKS = """
import sys
from pathlib import Path
from benchmarks.common import Result, write_results
file = Path(sys.argv[sys.argv.index("--json") + 1])
write_results([Result("memory", "peak " + sys.argv[-1], 2.0, "GB")], file)
"""
CPU = {
    "system": "Linux",
    "processor": "Some CPU (R)",
    "cores": 2,
    "memory_gb": 16.0,
    "gpu": "none",
    "torch": "2.11.0",
}
GPU = CPU | {"gpu": "Some GPU 80GB"}
MET = Result(
    "measuring", "a whole snapshot", 18.25, "passes", "<= 20", True, (18.0, 18.25, 19.0), "of a|b"
)
MISSED = Result("memory", "peak", 5.0, "GB", "<= 4", False, (5.0,))
UNKNOWN = not_measured("measuring", "a peer", "times", "it is not installed")


def test_a_figure_is_the_median_and_knows_whether_the_goal_is_met() -> None:
    expected = Result("p", "w", 2.0, "s", "<= 2", True, (3.0, 1.0, 2.0))
    assert at_most("p", "w", [3.0, 1.0, 2.0], "s", 2) == expected
    assert at_least("p", "w", [3.0, 1.0, 2.0], "s", 2.5).met is False
    assert at_least("p", "w", [1.0], "s").met is None


def test_calls_that_are_timed_side_by_side_take_turns_after_a_warm_up() -> None:
    calls: list[str] = []
    times = side_by_side([lambda: calls.append("a"), lambda: calls.append("b")], 3)
    assert calls == ["a", "b"] * 4
    assert [len(of_one) for of_one in times] == [3, 3]


def test_results_survive_json_also_where_nothing_was_measured(tmp_path: Path) -> None:
    write_results([MET, MISSED, UNKNOWN], tmp_path / "r.json")
    *measured, unknown = map(result_from, json.loads((tmp_path / "r.json").read_text()))
    assert measured == [MET, MISSED]
    assert math.isnan(unknown.value)
    assert row_of(unknown) == row_of(UNKNOWN)


def test_a_module_that_fails_is_told_and_does_not_lose_the_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(BENCHMARKS.parent)]))
    (tmp_path / "broken.py").write_text("raise SystemExit(3)")
    (tmp_path / "works.py").write_text(WORKS)
    found = run_modules(["broken", "absent", "works"], {"works": ["--quick"]})
    assert [module.module for module in found] == ["works"]
    assert found[0].results == (Result("memory", "peak --quick", 2.0, "GB"),)
    told = capfd.readouterr().out
    assert "broken FAILED with exit status 3" in told
    assert "absent FAILED" in told
    assert "works FAILED" not in told


def test_a_run_replaces_its_own_modules_on_its_own_machine_only(tmp_path: Path) -> None:
    file = tmp_path / file_name(CPU)
    measuring_before = Measured("measuring", "2026-01-01", (MET,))
    before = Machine(CPU, (measuring_before, Measured("memory", "2026-01-01", (MISSED,))))
    write_machine(before, file)
    assert read_machine(file) == before
    fresh = Measured("memory", "2026-01-02", (Result("memory", "peak", 3.0, "GB"),))
    assert updated(file, CPU, [fresh]) == Machine(CPU, (before.modules[0], fresh))
    newer = CPU | {"torch": "2.12.0"}
    assert updated(file, newer, [fresh]) == Machine(newer, (fresh,))
    assert file_name(CPU) == "some-cpu-r-2-cores.json"
    assert file_name(GPU) == "some-gpu-80gb.json"


def test_the_page_has_a_section_per_machine_and_keeps_its_own_text(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    machines = [
        Machine(CPU, (Measured("m", "2026-01-01", (MET, UNKNOWN, MISSED)),)),
        Machine(GPU, (Measured("m", "2026-01-02", (MET,)),)),
    ]
    for _ in range(2):  # writing again changes nothing
        write_table(page, machines)
    lines = page.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[-1] == "after"
    assert "old" not in lines
    assert [line for line in lines if line.startswith("#")] == [
        "### no GPU, 2 cores of Some CPU (R), 16 GB", "#### Measuring", "#### Memory",
        "### Some GPU 80GB, 2 cores of Some CPU (R), 16 GB", "#### Measuring",
    ]  # fmt: skip
    assert "| a whole snapshot | 18.2 passes (18 to 19) | <= 20 | yes | of a\\|b |" in lines
    assert "| a peer | – |  |  | not measured: it is not installed |" in lines
    assert "| peak | 5 GB | <= 4 | **no** |  |" in lines


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("text")
    with pytest.raises(ValueError, match="lacks the lines"):
        write_table(tmp_path / "page.md", [])


def test_the_command_writes_the_machine_and_the_page_and_a_quick_run_neither(
    tmp_path: Path,
) -> None:
    (tmp_path / "page.md").write_text(f"{BEGIN}\n{END}\n")
    found = [Measured("memory", "2026-01-02", (MISSED,))]
    runner.write(
        found,
        argparse.Namespace(json=tmp_path / "here.json", table=tmp_path / "page.md", quick=True),
    )
    assert read_machine(tmp_path / "here.json").modules == tuple(found)
    assert "| peak | 5 GB |" in (tmp_path / "page.md").read_text()
    kept = {file: file.read_bytes() for file in tmp_path.iterdir()}
    runner.DOCS = tmp_path
    runner.write(found, argparse.Namespace(json=None, table=None, quick=True))
    assert kept == {file: file.read_bytes() for file in tmp_path.iterdir()}


def test_every_module_of_the_command_is_a_file_and_the_checkout_goes_to_measuring() -> None:
    given = runner.parser().parse_args(["--quick", "--flowandprune", "there"])
    assert runner.options_of("measuring", given) == ["--quick", "--flowandprune", "there"]
    assert runner.options_of("memory", given) == ["--quick"]
    assert [name for name in runner.MODULES if not (BENCHMARKS / f"{name}.py").is_file()] == []


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmarks' images are the digits, whatever else is available."""
    data = load_dataset("digits")
    monkeypatch.setattr(subjects, "available_images", lambda: data)


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize(
    ("images", "sizes"), [(60, [30, 30]), (250, [25] * 10), (500, [50] * 10), (10, [10])]
)
def test_a_smaller_sample_has_fewer_mini_batches_of_a_class_not_smaller_ones(
    images: int, sizes: list[int]
) -> None:
    measured = subject("vgg13", 1 / 32, images, torch.device("cpu"))
    assert [len(y) for _, y in measured.class_batches()] == sizes
    assert sum(len(x) for x, _ in measured.batches(7)) == images
    assert not measured.model.training


def float64_subject(network: str) -> tuple[nn.Module, Batches, Batches]:
    """A narrow network, and twelve images in unequal mini-batches and by class."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(12, 3, 32, 32, generator=generator, dtype=torch.float64)
    labels = torch.arange(12) % 3
    torch.manual_seed(0)
    model = build_network(network, num_classes=3, width=1 / 16).double()
    torch.optim.swa_utils.update_bn([images], model)
    by_class = [(images[labels == label], labels[labels == label]) for label in range(3)]
    return model.eval(), list(zip(images.split(5), labels.split(5), strict=True)), by_class


@pytest.mark.parametrize("network", NETWORKS)
def test_the_published_procedure_computes_the_columns_of_a_snapshot(network: str) -> None:
    model, batches, by_class = float64_subject(network)
    theirs = peers.published_columns(model, batches, by_class)
    ours = pv.measure(model, batches, columns=peers.PUBLISHED_COLUMNS).groupby("layer", sort=False)
    assert list(theirs) == [layer for layer, _ in ours]
    for layer, table in ours:
        for column in peers.PUBLISHED_COLUMNS:
            expected = torch.tensor(table[column].to_numpy())
            torch.testing.assert_close(
                theirs[str(layer)][column],
                expected,
                rtol=1e-8,
                atol=1e-10 * float(expected.abs().max()),
            )


@pytest.mark.usefixtures("digits")
def test_drawn_from_a_loader_the_procedure_is_the_same() -> None:
    measured = subject("vgg13", 1 / 32, 10, torch.device("cpu"))
    theirs = peers.published_columns_from(measured.batches(3), measured)
    same(
        theirs,
        peers.published_columns(measured.model, measured.batches(3), measured.class_batches()),
    )


def same(theirs: peers.Columns, ours: peers.Columns) -> None:
    """Assert that two tables of columns are equal."""
    for layer, columns in ours.items():
        for column, expected in columns.items():
            torch.testing.assert_close(theirs[layer][column], expected, rtol=0, atol=0)


@pytest.mark.usefixtures("digits")
def test_the_loader_gives_augmented_images_of_the_classes_of_the_sample() -> None:
    measured = subject("vgg13", 1 / 32, 50, torch.device("cpu"))
    loader = peers.published_loader(measured)
    images, label = loader.dataset[0]
    assert images.shape == (3, 32, 32)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    labels = {loader.dataset[at][1] for at in range(0, len(loader.dataset), 10)}
    assert label in labels
    assert labels == {0, 1}


@pytest.mark.parametrize("peer", peers.HESSIAN_PRODUCTS)
@pytest.mark.filterwarnings("default")  # the other tools warn
def test_hessian_products_of_the_peers_are_ours(peer: str) -> None:
    pytest.importorskip(peer.lower())
    model, batches, _ = float64_subject("mobilenet_v1")
    g, ours = measuring.our_product(model, batches)
    theirs = peers.HESSIAN_PRODUCTS[peer](model, batches)(g)
    assert measuring.difference(theirs, ours()) < 1e-10
    assert all(p.grad is None for p in model.parameters())


CHECKOUT = """
def measured(model, batches, n_samples=0, n_classes=0, T=0, num_stop=0):
    assert num_stop in (0, 50) and sum(len(x) for x, _ in batches) == (50 if num_stop else 100)
    return []
cal_importance_loss_based = cal_importance_grasp = cal_importance_grad_preserve = measured
"""


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "not measured: FileNotFoundError"),
        ({"imp_estimator.py": "import absent_one"}, "not measured: ModuleNotFoundError: No module"),
    ],
)
def test_a_checkout_that_cannot_be_imported_is_told(
    files: Mapping[str, str], told: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    [figure] = measuring.checkout_figures(
        subject("vgg13", 1 / 32, 10, torch.device("cpu")), tmp_path, 1
    )
    assert figure.note.startswith(told)
    assert math.isnan(figure.value)


@pytest.mark.usefixtures("digits")
def test_a_checkout_is_offered_the_sample_by_its_own_functions(tmp_path: Path) -> None:
    (tmp_path / "imp_estimator.py").write_text(CHECKOUT)
    [figure] = measuring.checkout_figures(
        subject("vgg13", 1 / 32, 50, torch.device("cpu")), tmp_path, 1
    )
    assert figure.value > 0
    assert figure.note == "50 images of digits, offered from memory"


@pytest.mark.usefixtures("digits")
def test_a_peer_that_does_not_work_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: nn.Module, batches: Batches) -> peers.Product:
        raise ImportError("there is no such package")

    monkeypatch.setitem(measuring.HESSIAN_PRODUCTS, "PyHessian", broken)
    [figure] = measuring.product_figures_of(
        "PyHessian", subject("vgg13", 1 / 32, 10, torch.device("cpu")), 1
    )
    assert figure.note == "not measured: ImportError: there is no such package"
