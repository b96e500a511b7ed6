"""Cost of a snapshot, in forward passes and beside other tools: `python -m benchmarks.measuring`.

A pass is the network's own forward pass over the same sample, timed in the same process at the
fastest of several batch sizes, in the network's own memory format and in the faster of two. Calls
take turns in every round; each value is the median over rounds of a ratio within one round. All
arithmetic, also of other tools, is float32 without reduced-precision matrix units. On a GPU cuDNN
has tried its kernels before anything is timed, as in a recording.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from benchmarks.common import (
    Result,
    at_least,
    at_most,
    command,
    finish,
    not_measured,
    seconds,
    side_by_side,
)
from benchmarks.peers import (
    HESSIAN_PRODUCTS,
    LOADER_BATCH,
    PUBLISHED_COLUMNS,
    Product,
    checkout_columns,
    checkout_estimators,
    published_columns,
    published_columns_from,
    published_loader,
)
from benchmarks.subjects import Batches, Subject, subject
from pruneviz.measuring.building import objective
from pruneviz.measuring.derivatives import gradients, hessian_products
from pruneviz.measuring.options import Options
from pruneviz.measuring.snapshot import take_snapshot
from pruneviz.model.filters import find_layers
from pruneviz.model.isolation import exact_float32, tried_kernels

PART = "measuring"
SNAPSHOT_GOALS = {"resnet56": 20.0, "vgg13": 20.0, "mobilenet_v1": 30.0}  # passes
PUBLISHED_GOALS = {"cpu": 1.5, "cuda": 15.0}  # times as fast
AGREEMENT_GOAL = 1e-10
IMAGES = {"cpu": 250, "cuda": 2500}
PASS_SIZES = {"cpu": (16, 32, 64, 128), "cuda": (128, 256, 512, 1280, 2560)}
# Examples that each Hessian-vector product differentiates at once.
PRODUCT_BATCH = {"cpu": 64, "cuda": 512}
EXACT_BATCH = 25  # examples on which numbers are compared with other tools
FORMS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
Run = Callable[[], Any]


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        width: Width of the network, as a fraction of the published channels.
        images: Size of the sample. Default: `IMAGES` of the device.
        rounds: Number of rounds.
        peer_rounds: Number of rounds of other tools, which take many times as long.
        peers: Whether to measure other tools.
        loader: Whether to time the published procedure with its data loader as well.
        checkout: Checkout of the published code, to be timed as well.
    """

    width: float = 1.0
    images: int | None = None
    rounds: int = 3
    peer_rounds: int = 3
    peers: bool = True
    loader: bool = True
    checkout: Path | None = None


QUICK = Extent(width=0.125, images=50, rounds=1, peer_rounds=1)


def results(quick: bool) -> list[Result]:
    """All results, for every network."""
    extent = QUICK if quick else Extent()
    return [result for network in SNAPSHOT_GOALS for result in figures_of(network, extent)]


def figures_of(network: str, extent: Extent) -> Iterator[Result]:
    """Results of one network, as they arrive."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measured = subject(network, extent.width, extent.images or IMAGES[device.type], device)
    with exact_float32(), tried_kernels(device):
        yield from own_figures(measured, extent.rounds)
        if extent.peers:
            yield from published_figures(measured, extent.peer_rounds, extent.loader)
            yield from product_figures(measured, extent.peer_rounds)
        if extent.checkout:
            yield from checkout_figures(measured, extent.checkout, extent.peer_rounds)


def own_figures(measured: Subject, rounds: int) -> list[Result]:
    """A whole snapshot and the gradient alone, in passes of both layouts."""
    plain, plain_words = best_pass(measured, ["contiguous"])
    fastest, fastest_words = best_pass(measured, list(FORMS))
    snapshot, gradient = partial(snapshot_of, measured), partial(gradient_of, measured)
    runs: list[Run] = [plain, fastest, snapshot, gradient]
    if measured.images.is_cuda:  # on a CPU, finding the layers takes no measurable time
        runs.append(recorded_snapshot(measured))
    one_pass, fast_pass, whole, first, *recorded = side_by_side(runs, rounds)
    name, goal = measured.network, SNAPSHOT_GOALS[measured.network]
    note = f"{measured.description}; a pass is {plain_words}"

    def passes(what: str, ratio: list[float], goal: float | None, note: str) -> Result:
        return at_most(PART, f"{name}: {what}", ratio, "passes", goal, note)

    found = [passes("a whole snapshot", ratios(whole, one_pass), goal, note)]
    for spent in recorded:
        what = "a whole snapshot in a recording"
        found.append(passes(what, ratios(spent, one_pass), goal, "its layers are known"))
    what = "a whole snapshot, in passes of the fastest layout"
    fast_note = f"{measured.description}; a pass is {fastest_words}"
    found.append(passes(what, ratios(whole, fast_pass), goal, fast_note))
    found.append(passes("the gradient alone", ratios(first, one_pass), None, note))
    return found


def snapshot_of(measured: Subject) -> object:
    """All columns at both temperatures."""
    return pv.measure(measured.model, (measured.images, measured.labels))


def recorded_snapshot(measured: Subject) -> Run:
    """A snapshot as in a recording, which found the layers at its start."""
    layers = find_layers(measured.model, measured.images)
    sample = (measured.images, measured.labels)
    return lambda: take_snapshot(measured.model, sample, Options(), layers)


def gradient_of(measured: Subject) -> object:
    """One column of the gradient."""
    return pv.measure(
        measured.model, (measured.images, measured.labels), temperatures=(1.0,), columns=["theta_g"]
    )


def same_columns(measured: Subject) -> object:
    """The columns that the published code computes as well."""
    return pv.measure(measured.model, (measured.images, measured.labels), columns=PUBLISHED_COLUMNS)


def best_pass(measured: Subject, forms: Sequence[str]) -> tuple[Run, str]:
    """The fastest forward pass over the sample in these memory formats, and its description."""
    possible = PASS_SIZES[measured.images.device.type]
    sizes = [size for size in possible if size < 2 * len(measured.images)]
    passes = {
        (size, form): forward_pass(measured, size, FORMS[form]) for size in sizes for form in forms
    }
    spent = {which: min(seconds(run) for _ in range(3)) for which, run in passes.items()}
    size, form = min(spent, key=spent.__getitem__)
    return passes[size, form], f"{spent[size, form]:.3g} s at {size} images, {form}"


def forward_pass(measured: Subject, size: int, form: torch.memory_format) -> Run:
    """A forward pass in mini-batches; weights take the memory format before it is timed."""
    parts = [x.contiguous(memory_format=form) for x, _ in measured.batches(size)]
    weights = {
        n: p.detach().contiguous(memory_format=form) if p.ndim == 4 else p.detach()
        for n, p in measured.model.named_parameters()
    }

    @torch.no_grad()
    def run() -> None:
        for part in parts:
            torch.func.functional_call(measured.model, weights, (part,))

    return run


def published_figures(measured: Subject, rounds: int, with_loader: bool) -> list[Result]:
    """How many times as fast a snapshot is as the published procedure."""
    batches, by_class = measured.batches(LOADER_BATCH), measured.class_batches()
    runs: list[Run] = [
        partial(same_columns, measured),
        partial(snapshot_of, measured),
        lambda: published_columns(measured.model, batches, by_class),
    ]
    if with_loader:
        loader = published_loader(measured)
        runs.append(lambda: published_columns_from(loader, measured))
    part_of_theirs = partial(published_columns, measured.model, batches[-2:], by_class[:1])
    for warm_up in (*runs[:2], part_of_theirs):
        warm_up()
    ours, whole, theirs, *loaded = side_by_side(runs, rounds, warm_up=False)
    goal = PUBLISHED_GOALS[measured.images.device.type]
    note = f"{measured.description}, {len(by_class)} mini-batches of a class"
    procedure = f"{measured.network}: the published procedure"
    return [
        at_least(
            PART,
            f"{procedure} / our snapshot of its columns",
            ratios(theirs, ours),
            "times",
            goal,
            note,
        ),
        *(
            at_least(
                PART,
                f"{procedure} with its loader / the same",
                ratios(spent, ours),
                "times",
                note=note,
            )
            for spent in loaded
        ),
        at_least(
            PART, f"{procedure} / our whole snapshot", ratios(theirs, whole), "times", note=note
        ),
    ]


def product_figures(measured: Subject, rounds: int) -> list[Result]:
    """Our Hg at one temperature against the Hessian-vector products of other tools, same vector."""
    return [
        figure for peer in HESSIAN_PRODUCTS for figure in product_figures_of(peer, measured, rounds)
    ]


def product_figures_of(peer: str, measured: Subject, rounds: int) -> list[Result]:
    """Time and agreement of one tool's product; if it does not work here, the result says why."""
    what, build = f"{measured.network}: Hg of {peer} / ours", HESSIAN_PRODUCTS[peer]
    batches = measured.batches(PRODUCT_BATCH[measured.images.device.type])
    g, ours = our_product(measured.model, batches)
    try:
        product = build(measured.model, batches)
        own, theirs = side_by_side([ours, lambda: product(g)], rounds)
        apart = exact_difference(build, measured)
    except Exception as error:  # a broken package must not end this run
        return [not_measured(PART, what, "times", reason(error))]
    note = f"{measured.description}, {len(batches[0][0])} at once"
    agreement = f"{measured.network}: difference of {peer}'s Hg from ours"
    return [
        at_least(PART, what, ratios(theirs, own), "times", note=note),
        at_most(
            PART,
            agreement,
            [apart],
            "of the norm",
            AGREEMENT_GOAL,
            f"in float64, {EXACT_BATCH} images",
        ),
    ]


def our_product(model: nn.Module, batches: Batches) -> tuple[list[Tensor], Run]:
    """g, and a call that computes Hg."""
    dtype, chunk = batches[0][0].dtype, len(batches[0][0])
    sample = objective(
        model, batches, temperatures=(1.0,), loss=F.cross_entropy, whole="", dtype=dtype
    )
    _, g = gradients(sample, chunk)
    return [part.to(dtype) for part in g[0].values()], lambda: list(
        hessian_products(sample, g, chunk)[0].values()
    )


def exact_difference(build: Callable[[nn.Module, Batches], Product], measured: Subject) -> float:
    """Relative difference of another tool's Hg from ours, in float64, on part of the sample.

    Float32 would be meaningless: with ReLUs, rounding of the weights alone changes Hg.
    """
    model = copy.deepcopy(measured.model).double()
    batches = [(x.double(), y) for x, y in measured.batches(EXACT_BATCH)[:1]]
    g, ours = our_product(model, batches)
    return difference(build(model, batches)(g), ours())


def checkout_figures(measured: Subject, checkout: Path, rounds: int) -> list[Result]:
    """Three columns by a checkout of the published code, against our snapshot of them."""
    what = f"{measured.network}: the published code's checkout / our snapshot of its three columns"
    measure = partial(
        pv.measure,
        measured.model,
        (measured.images, measured.labels),
        columns=["abs_theta_g", "theta_hg", "theta_hg_t200"],
    )
    try:
        estimators = checkout_estimators(checkout)
        ours, theirs = side_by_side(
            [measure, lambda: checkout_columns(estimators, measured)], rounds
        )
    except Exception as error:  # it may fail to import for many reasons
        return [not_measured(PART, what, "times", reason(error))]
    return [
        at_least(
            PART,
            what,
            ratios(theirs, ours),
            "times",
            note=f"{measured.description}, offered from memory",
        )
    ]


def reason(error: Exception) -> str:
    """An error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def difference(theirs: Sequence[Tensor], ours: Sequence[Tensor]) -> float:
    """norm(theirs - ours) / norm(ours) over two lists of tensors."""
    first, second = (
        torch.cat([part.detach().double().cpu().flatten() for part in side])
        for side in (theirs, ours)
    )
    return float((first - second).norm() / second.norm())


def ratios(times: Sequence[float], unit: Sequence[float]) -> list[float]:
    """One ratio per round."""
    return [spent / one for spent, one in zip(times, unit, strict=True)]


def parser() -> argparse.ArgumentParser:
    """The options of this module."""
    built = command(__doc__ or "")
    built.add_argument(
        "--networks", nargs="+", choices=list(SNAPSHOT_GOALS), default=list(SNAPSHOT_GOALS)
    )
    built.add_argument(
        "--images",
        type=int,
        help="Maximum size of the sample. Default: {cpu} on a CPU, {cuda} on a GPU.".format(
            **IMAGES
        ),
    )
    built.add_argument("--rounds", type=int, help=f"Number of rounds. Default: {Extent.rounds}.")
    built.add_argument(
        "--peer-rounds",
        type=int,
        help=f"Number of rounds of other tools. Default: {Extent.peer_rounds}.",
    )
    built.add_argument(
        "--no-loader",
        action="store_true",
        help="Do not time the published procedure with its loader.",
    )
    built.add_argument(
        "--no-peers", action="store_true", help="Measure only the snapshot and the gradient."
    )
    built.add_argument(
        "--flowandprune",
        type=Path,
        metavar="PATH",
        help="Checkout of the published code, to be timed as well.",
    )
    return built


def main() -> None:
    """Measure the networks asked for."""
    given = parser().parse_args()
    asked = {
        "images": given.images,
        "rounds": given.rounds,
        "peer_rounds": given.peer_rounds,
        "checkout": given.flowandprune,
    }
    usual = replace(
        QUICK if given.quick else Extent(), peers=not given.no_peers, loader=not given.no_loader
    )
    extent = replace(usual, **{name: value for name, value in asked.items() if value is not None})
    finish(
        (figure for network in given.networks for figure in figures_of(network, extent)), given.json
    )


if __name__ == "__main__":
    main()
