"""The change of a sample's loss when filters are really removed, one group after another.

The network with a removed filter is the network with masks, as `pruneviz.pruning` sets them. Of its
forward pass only the part from the filter's layer on is computed, where that gives the same output
as the whole pass on a few examples; else the whole pass. The network itself is never written to.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pruneviz.errors import MeasureError, PrunevizError
from pruneviz.measuring.calibration import calibrated
from pruneviz.measuring.chunking import halved_on_out_of_memory
from pruneviz.measuring.losses import CrossEntropy
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.parts import REFUSALS, few_examples
from pruneviz.measuring.ranks import ALONE
from pruneviz.model.filters import FilterOf
from pruneviz.model.one_dtype import dtypes_explained
from pruneviz.model.out_of_memory import is_out_of_memory
from pruneviz.model.replayed import Replay
from pruneviz.model.sample import Batch, Inputs, call_with, mapped, tensors_in
from pruneviz.pruning.removals import Change, Removals

Group = frozenset[FilterOf]

_TRIED = 4  # examples
_ROUNDINGS = 50  # of an output, relative to its norm: a partial pass computes the same numbers


def removal_losses(
    sample: Objective, removals: Removals, groups: Collection[Group], chunk: int, *, anew: bool
) -> dict[Group, float]:
    """The loss without each group of filters, minus the loss with it; at the first temperature.

    Args:
        sample: The loss on the sample.
        removals: The network's removals.
        groups: Filters that go together, from `Removals.going_with`.
        chunk: Examples per forward pass; halved if memory runs out.
        anew: Whether running statistics are estimated anew without the filters.

    Raises:
        MeasureError: If a loss is not finite; names the filter.
    """
    losses = _with_new_statistics if anew else _by_partial_passes
    ranks, alone = sample.ranks, replace(sample, ranks=ALONE)
    own = list(groups)[ranks.number :: ranks.count]  # each rank removes some, on the whole sample
    with torch.no_grad():
        part, _ = halved_on_out_of_memory(
            lambda size: losses(alone, removals, own, size) if own else {},
            *(chunk, sample.model, sample.whole),
        )
    values = torch.tensor([part.get(group, 0.0) for group in groups], dtype=torch.float64)
    ranks.total("the losses without filters", [values])
    found = dict(zip(groups, values.tolist(), strict=True))
    for group, value in found.items():
        if not math.isfinite(value):
            layer, number = min(group)
            raise MeasureError(
                f"the loss without filter {number} of layer {layer} is not finite; "
                "measure with dtype=torch.float64, or leave out delta_loss"
            )
    return found


def _with_new_statistics(
    sample: Objective, removals: Removals, groups: Collection[Group], chunk: int
) -> dict[Group, float]:
    before = _whole_loss(sample, chunk)
    found = {}
    for group in groups:
        changed = _changed({**sample.parameters, **sample.buffers}, removals.changes(group))
        without = calibrated(_with(sample, changed))
        found[group] = _whole_loss(without, chunk) - before
    return found


def _with(sample: Objective, changed: NamedTensors) -> Objective:
    """The objective with other values of some parameters and buffers."""
    own = {name: changed.get(name, p) for name, p in sample.parameters.items()}
    others = {name: changed.get(name, b) for name, b in sample.buffers.items()}
    settled = {name: changed[name].clone() for name in changed if name in own}
    # versions belong to the parameters that they were read of
    return replace(
        sample,
        parameters=own,
        buffers=others,
        versions={},
        settled={**sample.settled, **settled},
    )


def _whole_loss(sample: Objective, chunk: int) -> float:
    return sum(_loss(sample, sample.output(batch[0]), batch) for batch in sample.chunks(chunk))


def _by_partial_passes(
    sample: Objective, removals: Removals, groups: Collection[Group], chunk: int
) -> dict[Group, float]:
    names = {group: tuple(removals.changes(group)) for group in groups}
    trusted, _ = halved_on_out_of_memory(
        lambda count: _exact_from(sample, removals, names, few_examples(sample, count)[0]),
        _TRIED,
        sample.model,
        sample.whole,
    )
    totals = dict.fromkeys(groups, 0.0)
    for batch in sample.chunks(chunk):
        if sample.share(batch):
            passes = _Passes(sample, removals, batch[0], names, trusted)
            before = _loss(sample, passes.output, batch)
            for group in groups:
                totals[group] += _loss(sample, passes.output_without(group), batch) - before
    return totals


def _exact_from(
    sample: Objective, removals: Removals, names: Mapping[Group, Sequence[str]], x: Inputs
) -> frozenset[str]:
    """Tensors from whose first use on partial passes are exact, tried on a few examples."""
    x = mapped(x, sample.laid_out)
    try:
        passes = _Passes(sample, removals, x, names, None)
    except (PrunevizError, *REFUSALS) as error:
        if is_out_of_memory(error):
            raise
        return frozenset()  # a network that needs more examples
    return frozenset(passes.exact_from())


class _Passes:
    """Forward passes of a network on some inputs, without one group of filters after another.

    Args:
        sample: The loss on the sample.
        removals: The network's removals.
        x: The inputs.
        names: The tensors that change with each group of filters.
        trusted: Tensors from whose first use on passes may be partial; None for all.

    Attributes:
        output: The output of the network as it is.
    """

    def __init__(
        self,
        sample: Objective,
        removals: Removals,
        x: Inputs,
        names: Mapping[Group, Sequence[str]],
        trusted: Collection[str] | None,
    ) -> None:
        self._sample, self._removals, self._x = sample, removals, x
        self._replay = Replay(sample.model, self._state({}), self._run)
        self.output = self._replay.output
        self._cuts = {}
        for group, changed in names.items() if trusted is None or trusted else ():
            cut, first = self._replay.cut(changed)
            if cut and (trusted is None or first in trusted):
                self._cuts[group] = cut, first
        if self._cuts:
            self._replay.record(self._state({}), {cut for cut, _ in self._cuts.values()})

    def output_without(self, group: Group) -> Any:
        """The output without a group of filters."""
        if group in self._cuts:
            try:
                return self._partial_output(group)
            except (PrunevizError, *REFUSALS) as error:
                if is_out_of_memory(error):
                    raise
                self._cuts.clear()  # what was recorded may be lost
        return self._run(self._state(self._removals.changes(group)))

    def _partial_output(self, group: Group) -> Any:
        state = self._state(self._removals.changes(group))
        return self._replay.output_from(self._cuts[group][0], state)

    def exact_from(self) -> list[str]:
        """Tensors from whose first use on the output of a partial pass is that of a whole one."""
        tried: dict[str, bool] = {}
        for group, (_, first) in self._cuts.items():
            if first not in tried:
                tried[first] = self._is_exact(group)
        return [name for name, exact in tried.items() if exact]

    def _is_exact(self, group: Group) -> bool:
        try:
            partial = self._partial_output(group)
        except (PrunevizError, *REFUSALS) as error:
            if is_out_of_memory(error):
                raise
            return False
        whole = self._run(self._state(self._removals.changes(group)))
        return _is_close(tensors_in(partial), tensors_in(whole))

    def _run(self, state: Mapping[str, Tensor]) -> Any:
        with dtypes_explained(self._sample.parameters):
            sample = self._sample
            return sample.read(call_with(sample.model, state, self._x, sample.forward))

    def _state(self, changes: Mapping[str, Change]) -> NamedTensors:
        """All parameters and buffers, as a pass may write into them."""
        sample = self._sample
        sample.undo_writing()
        changed = _changed({**sample.parameters, **sample.buffers}, changes)
        own = {name: changed.get(name, p) for name, p in sample.parameters.items()}
        others = {
            name: changed[name] if name in changed else b.clone()
            for name, b in sample.buffers.items()
        }
        return {**sample.as_called(own), **others}


def _changed(state: Mapping[str, Tensor], changes: Mapping[str, Change]) -> NamedTensors:
    """Copies of the tensors that change; a complex one may be real, [..., 2]."""
    found = {}
    for name, (gone, value) in changes.items():
        tensor = state[name].detach()
        gone = gone.to(tensor.device)
        found[name] = tensor.masked_fill(
            gone[..., None] if gone.ndim < tensor.ndim else gone, value
        )
        found[name].requires_grad_(state[name].requires_grad)
    return found


def _loss(sample: Objective, output: Any, batch: Batch) -> float:
    """A chunk's part of the loss; of logits in float64, since differences are small."""
    share = sample.share(batch)
    if not share:
        return 0.0
    y = batch[1]
    if isinstance(output, Tensor) and isinstance(sample.loss, CrossEntropy):
        output = output.double()
        y = mapped(y, lambda leaf: leaf.double() if leaf.is_floating_point() else leaf)
    # a copy, because a loss may write into its arguments in place
    output = mapped(output, Tensor.clone)
    return float(sample.loss_at(output, y, sample.temperatures[0])) * share


def _is_close(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    if len(first) != len(second) or any(
        a.shape != b.shape for a, b in zip(first, second, strict=True)
    ):
        return False
    for a, b in zip(first, second, strict=True):
        if not b.is_floating_point() and not b.is_complex():
            if not torch.equal(a, b):
                return False
        elif not (a - b).norm() <= _ROUNDINGS * torch.finfo(b.dtype).eps * b.norm():
            return False
    return True
