"""The rows of one measurement: which layers, or which units, of a network are measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import nn

from pruneviz.errors import MeasureError, unknown_name
from pruneviz.measuring.chunking import automatic_chunk, halved_on_out_of_memory
from pruneviz.measuring.objective import Objective
from pruneviz.measuring.options import Options
from pruneviz.measuring.rows import AnyLayer
from pruneviz.measuring.underivable import derivatives_explained
from pruneviz.model.coverage import choose_layers, matches
from pruneviz.model.filters import Trace
from pruneviz.model.sample import Inputs
from pruneviz.model.theta import theta_of
from pruneviz.model.unit_kinds import find_units
from pruneviz.model.units import Units, grouped

NOT_REACHED = "the loss on this sample, in evaluation mode, does not depend on it"
_OUTSIDE = {"trainable": "frozen; parameters='all' adds it"}
_UNMATCHED = "not in parameters={!r}"


@dataclass(frozen=True)
class Rows:
    """What the rows of a table describe.

    Attributes:
        layers: Layers with filters or with units, in the order of the table.
        left_out: {parameter: reason} for parameters without measured entries.
    """

    layers: tuple[AnyLayer, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


def choose_rows(
    model: nn.Module, example: Inputs, options: Options, build: Callable[[], Objective]
) -> Rows:
    """Choose the layers or units that `options` ask for.

    Weights that the traced examples do not use, such as those of experts, are measured if the loss
    on the sample depends on them.

    Args:
        model: The network.
        example: Inputs of a batch, to trace the network with.
        options: Measuring options.
        build: Builds the loss on the sample; called only if it is needed.

    Raises:
        MeasureError: If a name matches nothing, or nothing is left to measure.
    """
    if options.grouping is not None:
        return _of_units(model, grouped(model, options.grouping), options)
    trace = Trace.of(model, example, options.forward, options.trace_examples)
    if options.row_kind not in ("filter", "weight"):
        return _of_units(model, find_units(model, options.row_kind, trace), options)
    chosen = choose_layers(
        model, trace, classifier=options.classifier, layers=options.layers, skip=options.skip
    )
    theta, why = _theta(model, options)
    dropped = {layer.weight: why for layer in chosen.layers if layer.weight not in theta}
    doubtful = {layer.weight for layer in chosen.layers} & chosen.uncalled - set(dropped)
    if doubtful:
        dropped |= dict.fromkeys(doubtful - reached(build(), doubtful), NOT_REACHED)
    layers = tuple(layer for layer in chosen.layers if layer.weight not in dropped)
    if not layers:
        reasons = "; ".join(f"{weight}: {why}" for weight, why in dropped.items())
        raise MeasureError(f"no layer is left to measure ({reasons})")
    return Rows(layers, {**chosen.left_out, **dropped})


def reached(sample: Objective, parameters: Collection[str]) -> set[str]:
    """The parameters on which the loss depends on some example; one gradient over the sample."""
    find = partial(_reached, sample, set(parameters) & set(sample.parameters))
    return halved_on_out_of_memory(find, automatic_chunk(sample), sample.model, sample.whole)[0]


def _reached(sample: Objective, missing: set[str], chunk: int) -> set[str]:
    found: set[str] = set()
    for x, y in sample.chunks(chunk):
        names = sorted(missing - found)
        if not names:
            break
        loss = sample.losses(x, y)[0]
        chosen = [sample.parameters[name] for name in names]
        with derivatives_explained(sample, 1):
            parts = torch.autograd.grad(loss, chosen, allow_unused=True)
        found |= {name for name, part in zip(names, parts, strict=True) if part is not None}
    return found


def _of_units(model: nn.Module, units: Sequence[Units], options: Options) -> Rows:
    names = [layer.name for layer in units]
    wanted = set(names) if options.layers is None else _named(options.layers, names, "layers")
    wanted -= _named(options.skip, names, "skip")
    theta, _ = _theta(model, options)
    layers = [_within(theta, layer) for layer in units if layer.name in wanted]
    layers = [layer for layer in layers if layer.slices]
    if not layers:
        raise MeasureError(
            f"layers={options.layers!r}, skip={options.skip!r} and "
            f"parameters={options.parameters!r} leave no {options.row_kind}; there are those of "
            f"{', '.join(names)}"
        )
    held = {name for layer in layers for name in layer.parameters}
    why = f"no {options.row_kind} holds entries of it"
    left_out = {name: why for name, _ in model.named_parameters() if name not in held}
    return Rows(tuple(layers), left_out)


def _named(patterns: Sequence[str], names: Sequence[str], option: str) -> set[str]:
    """The names that match a pattern.

    Raises:
        MeasureError: If a pattern matches none.
    """
    found: set[str] = set()
    for pattern in patterns:
        matching = {name for name in names if matches(pattern, name)}
        if not matching:
            raise MeasureError(unknown_name(f"layer of units for {option}", pattern, names))
        found |= matching
    return found


def _theta(model: nn.Module, options: Options) -> tuple[set[str], str]:
    """The parameters in Theta, and why others are not."""
    asked = options.parameters
    why = _OUTSIDE.get(asked) if isinstance(asked, str) else None
    return set(theta_of(model, asked)), why or _UNMATCHED.format(asked)


def _within(theta: Collection[str], layer: Units) -> Units:
    """The units without entries of parameters outside Theta."""
    return replace(layer, slices=tuple(p for p in layer.slices if p.parameter in theta))
