"""The gradient g and Hessian-gradient products Hg of the loss on a whole sample, chunk by chunk.

The network is called through `torch.func.functional_call` on copies of its buffers and
differentiated with `torch.autograd.grad`, so that `.grad`, running statistics and requires_grad
flags are never touched. g is accumulated over all chunks before any Hg is formed: Hg = sum over
chunks of H_chunk g, with g the gradient on the whole sample, by reverse mode over reverse mode
along the direction g (`pruneviz.measuring.directional`). The temperatures share the forward pass of
a chunk.

Cost in layer products (forward pass: 1): gradients at two temperatures take 5. Hg at both takes 17
by plain double backward, which forms every weight gradient twice, 15 along a direction, and 11 for
the filters' inner products theta_p^T (Hg)_p alone. Reusing the activations of the gradient for Hg
would save 1 but keep the whole sample in memory.

Layout: on a CPU four-dimensional tensors are channels last, which makes convolutions of narrow
layers up to several times faster. On a GPU they are not: exact float32 convolutions with the
kernels that cuDNN's heuristics choose took more than twice as long.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from pruneviz.measuring.directional import Followed
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.ranks import Ranks
from pruneviz.measuring.underivable import check_differentiable_twice, derivatives_explained
from pruneviz.model.sample import examples_in


class Listener:
    """Receives the filters' contributions to a derivative, chunk by chunk; the base ignores them.

    Attributes:
        filters: Weights [filters, ...] whose contributions are gathered.
    """

    filters: Collection[str] = ()

    def gather(self, weight: str, terms: Tensor) -> None:
        """Receive `terms` [examples, filters] of the inner products with a weight."""

    def end_chunk(self, examples: int, part: NamedTensors) -> None:
        """Finish a chunk.

        Args:
            examples: Number of examples in the chunk.
            part: The chunk's part of the derivative, by parameter, as far as it was formed.
        """

    def end_share(self, ranks: Ranks) -> None:
        """Finish this rank's share of the sample; add up those of all ranks."""


def gradients(
    sample: Objective, chunk: int, listener: Listener | None = None
) -> tuple[list[float], list[NamedTensors]]:
    """Loss and gradient on the whole sample, per temperature.

    Args:
        sample: The loss to differentiate.
        chunk: Examples per pass.
        listener: Receives the contributions at the first temperature.

    Returns:
        Losses (float) and gradients {parameter: float64 tensor}.
    """
    listener = listener or Listener()
    totals = [_zeros(sample.parameters) for _ in sample.temperatures]
    loss_totals = torch.zeros(len(totals), dtype=torch.float64, device=sample.device)
    for x, y in sample.own_chunks(chunk):
        with Followed(sample.parameters, filters=listener.filters) as followed:
            losses = sample.losses(x, y)
            # moved, because a loss may be computed on another device
            loss_totals += torch.stack(losses).detach().double().to(sample.device)
            for i, (loss, total) in enumerate(zip(losses, totals, strict=True)):
                with derivatives_explained(sample, 1):
                    part = followed.gradient(
                        loss,
                        gather=listener.gather if i == 0 else None,
                        retain_graph=i + 1 < len(losses),
                    )
                _add(total, part)
                if i == 0:
                    listener.end_chunk(examples_in(x), part)
    _add_up(sample, "the gradient", totals, loss_totals)
    listener.end_share(sample.ranks)
    return loss_totals.tolist(), [_without_pruned(sample, total) for total in totals]


def hessian_products(
    sample: Objective,
    vectors: Sequence[NamedTensors],
    chunk: int,
    listener: Listener | None = None,
) -> list[NamedTensors]:
    """Hessian-vector product on the whole sample, per temperature.

    Args:
        sample: The loss to differentiate.
        vectors: One vector per temperature.
        chunk: Examples per pass.
        listener: Receives the contributions at the first temperature; `part` is complete.

    Returns:
        {parameter: float64 tensor} per temperature.
    """
    totals = [_zeros(sample.parameters) for _ in vectors]
    gathered = listener.filters if listener else ()
    for n, (x, y) in enumerate(sample.own_chunks(chunk)):
        with Followed(sample.parameters, filters=gathered, whole=sample.parameters) as followed:
            losses = sample.losses(x, y)
            if n == 0:
                check_differentiable_twice(sample, losses[0])
            for i, (loss, vector, total) in enumerate(zip(losses, vectors, totals, strict=True)):
                heard = listener if i == 0 else None
                with derivatives_explained(sample, 2):
                    slope = followed.slope(loss, _direction(sample, vector))
                    part = slope.curvature(
                        gather=heard.gather if heard else None, retain_graph=i + 1 < len(losses)
                    )
                _add(total, part)
                if heard:
                    heard.end_chunk(examples_in(x), part)
    _add_up(sample, "the Hessian-vector product", totals)
    if listener:
        listener.end_share(sample.ranks)
    return [_without_pruned(sample, total) for total in totals]


def filter_products(
    sample: Objective,
    vectors: Sequence[NamedTensors],
    chunk: int,
    listeners: Sequence[Listener],
    whole: NamedTensors | None = None,
) -> float:
    """Inner products of filters with H v, without forming H v: 11 products per layer, not 15.

    Args:
        sample: The loss to differentiate.
        vectors: One v per temperature.
        chunk: Examples per pass.
        listeners: One per temperature; gathers the inner products. The `part` in its `end_chunk` is
            the rest of H v, from uses of a parameter that are not gathered.
        whole: Tensors by parameter to which H v at the first temperature is added; the `part` of
            the first listener is then complete. It takes 2 more products per layer.

    Returns:
        v^T H v at the first temperature.
    """
    bend = torch.zeros((), dtype=torch.float64, device=sample.device)
    for n, (x, y) in enumerate(sample.own_chunks(chunk)):
        formed = () if whole is None else sample.parameters
        with Followed(sample.parameters, filters=listeners[0].filters, whole=formed) as followed:
            losses = sample.losses(x, y)
            if n == 0:
                check_differentiable_twice(sample, losses[0])
            jobs = zip(losses, vectors, listeners, strict=True)
            for i, (loss, vector, listener) in enumerate(jobs):
                with derivatives_explained(sample, 2):
                    slope = followed.slope(loss, _direction(sample, vector))
                    part = slope.curvature(
                        gather=listener.gather,
                        bend=bend if i == 0 and whole is None else None,
                        retain_graph=i + 1 < len(losses),
                        forms_whole=i == 0,
                    )
                listener.end_chunk(examples_in(x), part)
                if i == 0:
                    for name, d in part.items():
                        bend += (vector[name] * d).sum()
                    if whole is not None:
                        _add(whole, part)
    _add_up(sample, "the products with H", [] if whole is None else [whole], bend)
    for listener in listeners:
        listener.end_share(sample.ranks)
    if whole is not None:
        whole.update(_without_pruned(sample, whole))
    return float(bend)


def _add_up(sample: Objective, what: str, totals: Sequence[NamedTensors], *numbers: Tensor) -> None:
    """Add up what the ranks found on their shares of the sample, in place."""
    tensors = [tensor for total in totals for tensor in total.values()]
    sample.ranks.total(f"{what} on {sample.examples} examples", [*numbers, *tensors])


def _direction(sample: Objective, vector: NamedTensors) -> NamedTensors:
    """The vector in the dtype and memory layout of the parameters."""
    cast = {name: v.to(sample.parameters[name].dtype) for name, v in vector.items()}
    return {name: sample.laid_out(v) for name, v in cast.items()}


def _zeros(like: NamedTensors) -> NamedTensors:
    # float64 totals: the sum over thousands of chunks must not depend on the chunk
    return {name: torch.zeros_like(t, dtype=torch.float64) for name, t in like.items()}


def _without_pruned(sample: Objective, total: NamedTensors) -> NamedTensors:
    """The derivative with zeros at pruned entries."""
    return {
        name: t.masked_fill(~sample.kept[name], 0.0) if name in sample.kept else t
        for name, t in total.items()
    }


def _add(total: NamedTensors, part: NamedTensors) -> None:
    for name, tensor in part.items():
        total[name] += tensor.detach()
