"""What the table says of one network: each check gives one cell.

A cell is good if what pruneviz says is right, or if it refuses by an error of its own, which names
the reason, where tests/networks/refused.py allows that. All else is bad.
"""

from __future__ import annotations

import copy
import functools
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import PrunevizError
from tests.networks.refused import ALLOWED
from tests.networks.subjects import Subject
from tests.support.double_backward import call, in_float64, products, weight_of, worst_error
from tests.support.time_limits import at_most

EXACT = 3e-6  # largest error of float64, relative to a layer's largest value
SINGLE = 2e-3  # largest error of float32, relative to the norm of the column
SAME = 1e-6  # largest difference of outputs, relative to the largest output
PRUNED_SHARE = 0.3
SLOWEST = 60.0  # seconds of processor time that a removal may take


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Attributes:
        text: What it shows.
        good: Whether nothing is wrong.
        why: The whole message of an error.
    """

    text: str
    good: bool = True
    why: str = ""


@dataclass(frozen=True)
class Row:
    """All cells of one network."""

    name: str
    library: str
    cells: Mapping[str, Cell]
    seconds: float

    @property
    def good(self) -> bool:
        """Whether no cell is bad."""
        return all(cell.good for cell in self.cells.values())


def check(subject: Subject, limit: int = 0) -> Row:
    """All cells of a subject; a check that takes more than `limit` seconds is bad."""
    start = time.process_time()
    context, cells = Context(subject), {}
    for name, found in CHECKS.items():
        with at_most(limit):
            cells[name] = cell_of(found, context)
        if cells[name].text == "refused" and name not in ALLOWED.get(subject.title, ()):
            cells[name] = Cell("refused", False, f"must not be refused: {cells[name].why}")
    return Row(subject.name, subject.library, cells, time.process_time() - start)


def cell_of(found: Callable[[Context], Cell], context: Context) -> Cell:
    """The cell of a check; errors become cells too."""
    try:
        return found(context)
    except PrunevizError as error:
        return Cell("refused", True, str(error))
    except Exception as error:  # bare: torch's own, or a check that took too long
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
        return Cell(type(error).__name__, False, f"{type(error).__name__} at {place}: {error}")


class Context:
    """What the checks of one subject share: its network, sample and measured columns."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.model = subject.network()
        self.inputs, self.target = subject.inputs(), subject.target()

    @property
    def sample(self) -> tuple[Any, Any]:
        return self.inputs, self.target

    def measure(self, model: nn.Module, **options: Any) -> pd.DataFrame:
        """A snapshot of all layers with the subject's loss, at one temperature."""
        given = {"loss": self.subject.loss, "classifier": True, **(self.subject.options or {})}
        return pv.measure(model, self.sample, temperatures=1.0, **{**given, **options})

    @functools.cached_property
    def truth(self) -> dict[str, dict[str, Tensor]]:
        """Products of all parameters with g and Hg, by plain autograd."""
        return products(self.model, self.inputs, self.target, self.subject.loss)

    @functools.cached_property
    def exact(self) -> pd.DataFrame:
        """Columns in float64."""
        columns = ["theta_norm2", "theta_g", "theta_hg"]
        return self.measure(self.model, columns=columns, dtype=torch.float64)

    @functools.cached_property
    def masked(self) -> Masked:
        """A copy of the network with groups pruned by weight norm, after a step of Adam."""
        model = copy.deepcopy(self.model)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
        _step(self, model, optimizer)
        pruner = pv.Pruner(model, self.inputs)
        table = self.measure(model, columns=["theta_l1"], classifier=False)
        before = {name: p != 0 for name, p in model.named_parameters()}
        pruner.prune(table, "l1_norm", int(PRUNED_SHARE * pruner.groups))
        pruned = {name: (p == 0) & before[name] for name, p in model.named_parameters()}
        return Masked(model, optimizer, pruner, pruned)


@dataclass(frozen=True)
class Masked:
    """A pruned network, the optimiser that was there before, its pruner and pruned entries."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    pruner: pv.Pruner
    pruned: Mapping[str, Tensor]


def theta_g(context: Context) -> Cell:
    """Worst error of theta_g in float64."""
    return _error(worst_error(context.model, context.exact, context.truth["theta_g"], "theta_g"))


def theta_hg(context: Context) -> Cell:
    """Worst error of theta_hg in float64."""
    return _error(worst_error(context.model, context.exact, context.truth["theta_hg"], "theta_hg"))


def _error(error: float, allowed: float = EXACT) -> Cell:
    return Cell("exact" if error == 0 else f"{error:.0e}", error <= allowed, f"{error:.3g} off")


def float32(context: Context) -> Cell:
    """Error of theta_hg in the default precision, relative to the norm of the column."""
    exact = context.exact["theta_hg"].to_numpy()
    got = context.measure(context.model, columns=["theta_hg"])["theta_hg"].to_numpy()
    scale = float((exact**2).sum() ** 0.5) or 1.0
    return _error(float(abs(got - exact).max()) / scale, context.subject.single or SINGLE)


def coverage(context: Context) -> Cell:
    """Share of the entries of all matrices that rows of the table cover, as `pv.coverage` says."""
    matrices = {n: p.numel() for n, p in context.model.named_parameters() if p.ndim > 1}
    layers = context.exact["layer"].astype(str).unique()
    measured = {weight_of(context.model, layer) for layer in layers}
    share = sum(size for n, size in matrices.items() if n in measured) / sum(matrices.values())
    told = pv.coverage(context.model, context.sample, classifier=True).of_matrices
    return Cell(f"{share:.0%}", abs(told - share) < 1e-9, f"pv.coverage says {told:.4%}")


def training(context: Context) -> Cell:
    """Whether two steps of training are bit-equal with and without measuring around them."""
    alone = _trained(context, lambda model: None)
    refusals: list[str] = []

    def measure(model: nn.Module) -> None:
        try:
            context.measure(model, columns=["theta_g", "theta_hg"])
        except PrunevizError as error:
            refusals.append(str(error))

    beside = _trained(context, measure)
    wrong = [name for name, value in alone.items() if not torch.equal(value, beside[name])]
    if wrong:
        return Cell("moved", False, f"{len(wrong)} tensors differ, such as {wrong[0]}")
    return Cell("refused", True, refusals[0]) if refusals else Cell("equal")


def _trained(context: Context, between: Callable[[nn.Module], None]) -> dict[str, Tensor]:
    model = copy.deepcopy(context.model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)
    torch.manual_seed(3)
    between(model)
    for _ in range(2):
        optimizer.zero_grad()
        output = call(model, context.inputs)
        context.subject.loss(output, context.target).backward()
        optimizer.step()
        between(model)
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _step(context: Context, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    context.subject.loss(call(model.train(), context.inputs), context.target).backward()
    optimizer.step()


def pruner(context: Context) -> Cell:
    """Share of the groups pruned; a step of Adam moves no pruned entry, and the table agrees."""
    masked = context.masked
    gone, groups = masked.pruner.gone, masked.pruner.groups
    if gone != int(PRUNED_SHARE * groups):
        return Cell(f"{gone} of {groups}", False, f"{int(PRUNED_SHARE * groups)} were asked for")
    _step(context, masked.model, masked.optimizer)
    moved = [n for n, p in masked.model.named_parameters() if (p[masked.pruned[n]] != 0).any()]
    if moved:
        return Cell("revived", False, f"pruned entries of {moved[0]} moved in a step of Adam")
    table = context.measure(masked.model, columns=["theta_norm2"], classifier=False)
    dead = table.loc[~table["kept"], "theta_norm2"]
    if not (dead == 0).all() or len(dead) < gone:
        return Cell("kept differs", False, f"{len(dead)} rows are pruned, {gone} groups")
    return Cell(f"{gone} of {groups}")


def removal(context: Context) -> Cell:
    """Share of the parameters that removal takes out; the outputs are equal."""
    masked = context.masked.model
    start = time.process_time()  # whatever else the machine does
    removed = pv.remove(masked, context.inputs)
    seconds = time.process_time() - start
    smaller = removed.network
    share = 1 - _size(smaller) / _size(masked)
    for training in (False, True):
        difference = _difference(masked, smaller, context.inputs, training)
        if not difference <= SAME:
            mode = "training" if training else "evaluation"
            return Cell("differs", False, f"outputs differ by {difference:.2g} in {mode} mode")
    if seconds > SLOWEST:
        return Cell("slow", False, f"{seconds:.0f} s")
    return Cell(f"{share:.0%}")


def _size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _difference(one: nn.Module, other: nn.Module, inputs: Any, training: bool) -> float:
    """Largest difference of the outputs in float64, relative to the largest output."""
    outputs = []
    for model in (one, other):
        twin = copy.deepcopy(model).double().train(training)
        for module in twin.modules():
            if "Drop" in type(module).__name__:
                module.eval()
        torch.manual_seed(4)
        with torch.no_grad():
            outputs.append(call(twin, in_float64(inputs)))
    pairs = zip(*(torch.utils._pytree.tree_leaves(_plain(out)) for out in outputs), strict=True)
    differences = [
        float((a - b).abs().max() / b.abs().max().clamp(min=1e-9))
        for a, b in pairs
        if isinstance(a, Tensor) and a.is_floating_point() and a.numel()
    ]
    return max(differences)


def _plain(output: Any) -> Any:
    """Outputs of transformers as dictionaries."""
    return dict(output) if isinstance(output, Mapping) else output


CHECKS: Mapping[str, Callable[[Context], Cell]] = {
    "theta_g": theta_g,
    "theta_hg": theta_hg,
    "float32": float32,
    "coverage": coverage,
    "training": training,
    "pruner": pruner,
    "removal": removal,
}
