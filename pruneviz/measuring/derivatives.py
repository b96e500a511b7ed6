"""The gradient g and Hessian-gradient products Hg of the loss on a whole sample: chunked, exact, free of side effects.

The network is called through `torch.func.functional_call` on its parameters, as they are or laid out anew, and copies of its buffers, and
differentiated with `torch.autograd.grad`: `.grad`, running statistics and requires_grad flags are never touched. A chunk
is the number of examples differentiated at once, so it bounds the memory. g is accumulated over all chunks before any
Hg is formed: Hg = sum over chunks of H_chunk g with g the gradient on the whole sample, reverse mode over reverse mode along the
direction g (`pruneviz.measuring.directional`). The temperatures share the forward pass of a chunk.

Why this way: counted in products of a layer, a forward pass is 1. The gradients at two temperatures are 5. Hg at both is 17 by
plain double backward, which forms every gradient by a weight twice, 15 along a direction, and 11 for the filters' inner products
theta_p^T (Hg)_p alone. Keeping the activations of the first for the second would save 1 more and hold the whole sample in memory. On CPUs
four-dimensional tensors are laid out channels last, which the convolutions of narrow layers are up to several times faster in; on GPUs
never: their exact float32 convolutions, with the kernels that cuDNN's heuristics choose, took more than twice as long that way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from pruneviz.measuring.directional import Followed
from pruneviz.measuring.objective import Named, Objective


class Listener:
    """Hears of what filters contribute to a derivative, chunk by chunk, while it is formed; this one ignores it.

    `filters` are the weights [filters, ...] of which it wants to hear.
    """

    filters: Collection[str] = ()

    def gather(self, weight: str, terms: Tensor) -> None:
        """The layer of this weight has contributed `terms` [examples, filters] to the inner products with the weight."""

    def end_chunk(self, examples: int, part: Named) -> None:
        """A chunk of that many examples is done; `part` is its share of the derivative, by parameter, as far as it was formed."""


def gradients(
    sample: Objective, chunk: int, listener: Listener | None = None
) -> tuple[list[float], list[Named]]:
    """Loss and gradient on the whole sample, one each per temperature; the listener hears of the first.

    Returns: losses (float) and gradients {parameter: tensor of its shape, float64}.
    """
    listener = listener or Listener()
    totals = [_zeros(sample.parameters) for _ in sample.temperatures]
    loss_totals = torch.zeros(len(totals), dtype=torch.float64, device=sample.device)
    for x, y in sample.chunks(chunk):
        with Followed(sample.parameters, filters=listener.filters) as followed:
            losses = sample.losses(x, y)
            loss_totals += (
                torch.stack(losses).detach().double().to(sample.device)
            )  # a loss may be computed elsewhere
            for i, (loss, total) in enumerate(zip(losses, totals, strict=True)):
                followed.gather = listener.gather if i == 0 else None
                part = _grad(loss, sample.parameters, retain_graph=i + 1 < len(losses))
                _add(total, part)
                if i == 0:
                    listener.end_chunk(len(x), part)
    return loss_totals.tolist(), [_without_pruned(sample, total) for total in totals]


def hessian_products(sample: Objective, vectors: Sequence[Named], chunk: int) -> list[Named]:
    """The Hessian of the loss at every temperature times that temperature's vector, on the whole sample.

    Returns: {parameter: tensor of its shape, float64} per temperature.
    """
    totals = [_zeros(sample.parameters) for _ in vectors]
    for x, y in sample.chunks(chunk):
        with Followed(sample.parameters, whole=sample.parameters) as followed:
            losses = sample.losses(x, y)
            for i, (loss, vector, total) in enumerate(zip(losses, vectors, totals, strict=True)):
                _add(
                    total,
                    _second_derivative(
                        followed, sample, loss, vector, retain_graph=i + 1 < len(losses)
                    ),
                )
    return [_without_pruned(sample, total) for total in totals]


def filter_products(
    sample: Objective, vectors: Sequence[Named], chunk: int, listeners: Sequence[Listener]
) -> float:
    """What `hessian_products` gives of filters: the inner products of weights with H v, told to a listener for each temperature.

    The parts that the listeners are told of are H v as far as it comes from other uses of a parameter than those whose terms they gather.
    Returns: v^T H v at the first temperature. Takes 11 products a layer where H v takes 15.
    """
    bend = torch.zeros((), dtype=torch.float64, device=sample.device)
    for x, y in sample.chunks(chunk):
        with Followed(sample.parameters, filters=listeners[0].filters) as followed:
            losses = sample.losses(x, y)
            for i, (loss, vector, listener) in enumerate(
                zip(losses, vectors, listeners, strict=True)
            ):
                followed.gather = listener.gather
                followed.bend = bend if i == 0 else None
                part = _second_derivative(
                    followed, sample, loss, vector, retain_graph=i + 1 < len(losses)
                )
                listener.end_chunk(len(x), part)
                if i == 0:
                    for name, d in part.items():
                        bend += (vector[name] * d).sum()
    return float(bend)


def _second_derivative(
    followed: Followed, sample: Objective, loss: Tensor, vector: Named, *, retain_graph: bool
) -> Named:
    """The part of H v that the followed layers do not keep to themselves; without the parameters that it has nothing of."""
    parameters = sample.parameters
    followed.phase = "slope"
    cast = {name: v.to(parameters[name].dtype) for name, v in vector.items()}
    followed.direction = {name: sample.laid_out(v) for name, v in cast.items()}
    first = torch.autograd.grad(
        loss, [followed.step, *parameters.values()], create_graph=True, allow_unused=True
    )
    others = {name: g for name, g in zip(parameters, first[1:], strict=True) if g is not None}
    slopes = [(g * followed.direction[name]).sum() for name, g in others.items()] + (
        [] if first[0] is None else [first[0]]
    )
    along = torch.stack(slopes).sum() if slopes else followed.step.detach()
    followed.phase = "curvature"
    if not along.requires_grad:
        return {}
    second = torch.autograd.grad(
        along, list(parameters.values()), retain_graph=retain_graph, allow_unused=True
    )
    return {name: d for name, d in zip(parameters, second, strict=True) if d is not None}


def _grad(loss: Tensor, parameters: Named, *, retain_graph: bool) -> Named:
    parts = torch.autograd.grad(
        loss, list(parameters.values()), retain_graph=retain_graph, materialize_grads=True
    )
    return dict(zip(parameters, parts, strict=True))


def _zeros(like: Named) -> Named:
    # float64 totals: the sum over thousands of chunks must not depend on the chunk
    return {name: torch.zeros_like(t, dtype=torch.float64) for name, t in like.items()}


def _without_pruned(sample: Objective, total: Named) -> Named:
    return {
        name: t.masked_fill(~sample.kept[name], 0.0) if name in sample.kept else t
        for name, t in total.items()
    }


def _add(total: Named, part: Named) -> None:
    for name, tensor in part.items():
        total[name] += tensor.detach()
