"""theta_g and theta_hg of filters by plain double backward of any loss, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tests.support.double_backward import derivatives


def assert_as_plain(
    frame: pd.DataFrame,
    model: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    tolerance: float = 1e-9,
    columns: Sequence[str] = ("theta_g", "theta_hg"),
) -> None:
    """Check columns of every filter in a table against plain autograd.

    Args:
        frame: Rows of filters, each a row of a parameter.
        model: Any network; a float64 copy in evaluation mode is differentiated.
        loss: The loss of the whole sample, as a function of the network.
        tolerance: Largest distance of a column, relative to its norm.
        columns: "theta_g", and "theta_hg" where the loss can be differentiated twice.
    """
    layers = list(dict.fromkeys(frame["layer"]))
    found = derivatives(model, loss, second="theta_hg" in columns)
    weights = [layer if layer in found.theta else f"{layer}.weight" for layer in layers]
    assert layers
    for column in columns:
        parts = found.g if column == "theta_g" else found.hg
        sums = [(found.theta[w] * parts[w]).flatten(1).sum(1) for w in weights]
        want = torch.cat(sums).numpy()
        assert np.linalg.norm(want) > 0
        apart = np.linalg.norm(frame[column].to_numpy() - want)
        assert apart <= tolerance * np.linalg.norm(want), (column, apart, np.linalg.norm(want))
