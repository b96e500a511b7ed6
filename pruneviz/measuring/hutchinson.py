"""The column `obd`: half of theta^2 times the diagonal of the Hessian, by random probes.

With D = diag(theta) and random signs v, E[(D v) * (H D v)] is the diagonal of D H D, which is
theta_j^2 H_jj. The rest of the sums over other weights averages out over the probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from pruneviz.measuring.chunking import halved_on_out_of_memory
from pruneviz.measuring.derivatives import hessian_products
from pruneviz.measuring.objective import NamedTensors, Objective
from pruneviz.measuring.options import Options
from pruneviz.measuring.rows import AnyLayer, parameters_of, reduced
from pruneviz.measuring.standard_errors import RunningSpread


def obd_columns(
    sample: Objective, layers: Sequence[AnyLayer], chunk: int, options: Options
) -> dict[str, NamedTensors]:
    """Optimal brain damage of every row, 1/2 sum_j theta_j^2 H_jj, at the first temperature.

    Args:
        sample: The loss on the sample.
        layers: Layers of the table.
        chunk: Examples differentiated at once.
        options: `probes` is the number of Hessian-vector products, `seed` draws their signs.

    Returns:
        {"obd" and "obd_se": {layer: one number per row}}. The standard error is over the probes,
        NaN for one probe.

    References:
        LeCun et al., "Optimal Brain Damage", NIPS 1989. Hutchinson, "A stochastic estimator of the
        trace of the influence matrix", 1990. Bekas et al., "An estimator for the diagonal of a
        matrix", 2007.
    """
    sample = replace(sample, temperatures=sample.temperatures[:1])
    generator = torch.Generator().manual_seed(int(options.seed))
    spreads = {layer.name: RunningSpread() for layer in layers}
    names = parameters_of(layers)
    for _ in range(options.probes):
        probe = _signed_weights(sample, names, generator)
        measure = partial(hessian_products, sample, [probe])
        (product,), chunk = halved_on_out_of_memory(measure, chunk, sample.model, sample.whole)
        terms = {name: 0.5 * probe[name] * product[name] for name in names}
        for layer in layers:
            row = reduced(layer, terms.__getitem__, options.row_kind)
            spreads[layer.name].add(row[None])
    means = {name: _mean(spread) for name, spread in spreads.items()}
    errors = {name: spread.standard_error(len(means[name])) for name, spread in spreads.items()}
    return {"obd": means, "obd_se": errors}


def _signed_weights(
    sample: Objective, names: Sequence[str], generator: torch.Generator
) -> NamedTensors:
    """Weights with random signs, float64; zero for parameters without rows."""
    found = {
        name: torch.zeros_like(p, dtype=torch.float64).detach()
        for name, p in sample.parameters.items()
    }
    for name in names:
        theta = sample.parameters[name].detach().double()
        # on the CPU, so that every device draws the same
        signs = torch.randint(0, 2, theta.shape, generator=generator).mul_(2).sub_(1)
        found[name] = theta * signs.to(theta.device)
    return found


def _mean(spread: RunningSpread) -> Tensor:
    assert spread.mean is not None
    return spread.mean.cpu()
