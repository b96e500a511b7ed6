"""Which parameters of a network are measured as filters, and why the others are not.

By default every weight that acts as a linear map is measured: those of `pruneviz.model.weights` and
any parameter that a forward pass multiplies with an activation. `layers` and `skip` choose by name
or pattern, among all parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from pruneviz.errors import MeasureError, unknown_name
from pruneviz.model.filters import Layer, Trace, layers_of, no_filters
from pruneviz.model.weights import LinearMap, computes_weight, linear_maps

_WILD = "*?["


@dataclass(frozen=True)
class Selection:
    """The layers to measure, and the parameters that are left out.

    Attributes:
        layers: Layers in execution order.
        left_out: {parameter: reason} for all other parameters.
        uncalled: Weights of layers that the traced forward pass did not use, such as those of
            experts that other examples choose.
    """

    layers: tuple[Layer, ...]
    left_out: Mapping[str, str]
    uncalled: frozenset[str] = frozenset()


def choose_layers(
    model: nn.Module,
    trace: Trace,
    *,
    classifier: bool = False,
    layers: Sequence[str] | None = None,
    skip: Sequence[str] = (),
) -> Selection:
    """Choose the layers of a traced network.

    Args:
        model: The network.
        trace: Its trace.
        classifier: Whether to include the last layer.
        layers: Names or patterns of layers or parameters; None for all linear maps. A name chooses
            its layer even if it is the classifier. A pattern that matches no layer is matched with
            all parameters.
        skip: Names or patterns of layers or parameters to leave out.

    Raises:
        MeasureError: If a name or pattern matches nothing, or no layer is left.
    """
    maps = {layer.weight: layer for layer in _all_maps(model, trace)}
    others = {
        name: _other_layer(model, name)
        for name, p in model.named_parameters()
        if name not in maps and p.numel() and p.is_floating_point()
    }
    pool = {**maps, **others}
    last = {layer.weight for layer in maps.values() if _is_last(layer, trace)}
    chosen = _chosen(maps, others, last if not classifier else set(), layers)
    skipped = {
        weight: f"left out by skip={pattern!r}"
        for pattern in skip
        for weight in _matched("skip", pattern, maps, others, _computed_paths(model))
    }
    kept = [layer for weight, layer in pool.items() if weight in chosen - set(skipped)]
    if not kept:
        raise MeasureError(_nothing_left(model, maps, layers, skip))
    reasons = {
        name: _reason(name, parameter.ndim, maps, last)
        for name, parameter in model.named_parameters()
    }
    reasons.update(_computed(model))
    reasons.update({weight: why for weight, why in skipped.items() if weight in chosen})
    for layer in kept:
        del reasons[layer.weight]
    return Selection(tuple(kept), reasons, _uncalled(maps, trace))


def matches(pattern: str, name: str) -> bool:
    """Whether a name is the pattern, or matches it as file names do, with `*`, `?` and `[...]`."""
    return name == pattern or fnmatchcase(name, pattern)


def _all_maps(model: nn.Module, trace: Trace) -> list[Layer]:
    """Layers of all linear maps, in order of their first use."""
    called = layers_of(model, trace, classifier=True) if trace.order else []
    plain = {layer.weight: layer for layer in called}
    found = {
        **{map_.parameter: map_ for map_ in trace.uses.matrices.values()},
        **{map_.parameter: map_ for _, map_ in linear_maps(model)},
    }
    names = {map_.parameter: path for path, map_ in linear_maps(model)}
    layers = dict(plain)
    for parameter, map_ in found.items():
        p = model.get_parameter(parameter)
        if parameter not in layers and p.ndim > 1 and p.is_floating_point():
            layers[parameter] = _layer_of(model, map_, names.get(parameter))
    return _in_order(model, list(layers.values()), plain, list(trace.uses.matrices))


def _in_order(
    model: nn.Module, layers: list[Layer], plain: Mapping[str, Layer], used: list[str]
) -> list[Layer]:
    """Called layers in order, others after the called layer that precedes their first use.

    Layers that were not used follow the parameter before them.
    """
    rank = {weight: i for i, weight in enumerate(plain)}
    keys: dict[str, tuple[int, int]] = {weight: (i, -1) for weight, i in rank.items()}
    latest = -1
    for i, weight in enumerate(used):
        latest = max(latest, rank.get(weight, -1))
        keys.setdefault(weight, (latest, i))
    before = (len(rank), 0)
    for weight, _ in model.named_parameters():
        before = keys.setdefault(weight, (before[0], len(used)))
    return sorted(layers, key=lambda layer: keys[layer.weight])


def _layer_of(model: nn.Module, map_: LinearMap, path: str | None = None) -> Layer:
    """The layer of a parameter that is not the weight of a called convolution or linear layer."""
    weight = map_.parameter
    owner, _, own = weight.rpartition(".")
    name = weight if own != "weight" else owner if path is None else path
    shape = model.get_parameter(weight).shape
    filters = map_.groups * math.prod(shape[dim] for dim in map_.dims)
    return Layer(
        name or weight,
        weight,
        filters,
        (None,) * filters,
        examples_first=False,
        numbers=tuple(range(filters)),
        dims=map_.dims,
        groups=map_.groups,
        is_gathered=map_.dims == (0,) and len(shape) > 1,
    )


def _other_layer(model: nn.Module, name: str) -> Layer:
    """Any other parameter: its rows run along the first dimension with more than one entry."""
    shape = model.get_parameter(name).shape
    dim = next((dim for dim, size in enumerate(shape) if size > 1), 0)
    return _layer_of(model, LinearMap(name, (dim,) if shape else ()))


def _is_last(layer: Layer, trace: Trace) -> bool:
    return bool({layer.name, layer.weight, layer.weight.rpartition(".")[0]} & trace.output_layers)


def _chosen(
    maps: Mapping[str, Layer],
    others: Mapping[str, Layer],
    last: set[str],
    patterns: Sequence[str] | None,
) -> set[str]:
    if patterns is None:
        return set(maps) - last
    chosen: set[str] = set()
    for pattern in patterns:
        found = _matched("layers", pattern, maps, others)
        is_name = not any(sign in pattern for sign in _WILD)
        chosen |= found if is_name else found - last
    return chosen


def _matched(
    option: str,
    pattern: str,
    maps: Mapping[str, Layer],
    others: Mapping[str, Layer],
    unmeasured: Sequence[str] = (),
) -> set[str]:
    """Weights whose layer or parameter matches; other parameters only if no layer does.

    Args:
        option: The option's name.
        pattern: A name or pattern.
        maps: Layers of the linear maps, by weight.
        others: Layers of all other parameters.
        unmeasured: Layers that may be named although they have no weight to measure.

    Raises:
        MeasureError: If nothing matches.
    """
    for pool in (maps, others):
        found = {
            weight
            for weight, layer in pool.items()
            if matches(pattern, layer.name) or matches(pattern, weight)
        }
        if found or any(matches(pattern, name) for name in unmeasured):
            return found
    names = [layer.name for layer in maps.values()]
    known = list(dict.fromkeys([*names, *others, *maps]))
    kind = f"layer or parameter for {option}"
    raise MeasureError(unknown_name(kind, pattern, known if len(known) < 60 else names))


def _computed_paths(model: nn.Module) -> list[str]:
    """Layers with a computed weight, which are never measured."""
    return [path for path, module in model.named_modules() if computes_weight(module)]


def _reason(name: str, ndim: int, maps: Mapping[str, Layer], last: set[str]) -> str:
    """Why a parameter is not measured, with the option that adds it."""
    if name in last:
        return "the classifier; classifier=True adds it"
    if name in maps:
        return f"not among the layers that were asked for; layers={name!r} adds it"
    what = "a vector, not a matrix" if ndim < 2 else "not multiplied with an activation"
    return f"{what}; layers=('*', {name!r}) adds it"


def _computed(model: nn.Module) -> dict[str, str]:
    """Reasons for the parameters that weights are computed from."""
    return {
        name: f"the weight of {path or 'the network'} is computed from it; remove the "
        f"parametrization or pruning wrapper, or layers=('*', {name!r}) adds it"
        for path, module in model.named_modules()
        if computes_weight(module)
        for name in (f"{path}.{own}" if path else own for own, _ in module.named_parameters())
        if not name.endswith("bias")
    }


def _nothing_left(
    model: nn.Module,
    maps: Mapping[str, Layer],
    layers: Sequence[str] | None,
    skip: Sequence[str],
) -> str:
    name = type(model).__name__
    if skip or layers is not None:
        return (
            f"layers={layers!r} and skip={skip!r} leave no layer of {name}; "
            f"its layers are {', '.join(layer.name for layer in maps.values())}"
        )
    return no_filters(model, classifier=bool(maps))


def _uncalled(maps: Mapping[str, Layer], trace: Trace) -> frozenset[str]:
    used = {*trace.order, *trace.uses.matrices}
    return frozenset(weight for weight, layer in maps.items() if not used & {weight, layer.name})
