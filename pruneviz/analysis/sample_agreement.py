"""How well a measurement on a sample ranks filters as one on all data does."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pruneviz.analysis.coefficients import coefficients
from pruneviz.analysis.masks import check_ratio, keep_mask
from pruneviz.analysis.measures import AnyMeasure
from pruneviz.analysis.pairs import values_of
from pruneviz.errors import AnalysisError
from pruneviz.log.arguments import exactly
from pruneviz.log.vocabulary import MASK_RATIO


def agreement(
    sample: pd.DataFrame, whole: pd.DataFrame, what: AnyMeasure, ratio: float = MASK_RATIO
) -> dict[str, float]:
    """Compare the ranking of a table with that of another table of the same filters.

    Filters without a value in either table, such as pruned ones, do not count. All layers are
    ranked together.

    Args:
        sample: Table of `pruneviz.measure`.
        whole: Table of the same network, on more data.
        what: Pruning measure, or a column, whose lowest values are pruned first.
        ratio: Fraction of the filters that the masks prune.

    Returns:
        spearman: rank correlation over all filters, null if either is constant. shared: fraction
        of the pruned filters that both tables prune. chance: `shared` of two random masks.

    Raises:
        AnalysisError: If the tables are not of the same filters, or `ratio` prunes none or all.

    Example:
        >>> few, many = pv.measure(model, sample), pv.measure(model, everything)
        >>> agreement(few, many, "loss_preservation")
    """
    check_ratio(ratio)
    keys = ["layer", "filter"]
    if not sample[keys].equals(whole[keys]):
        raise AnalysisError(
            "the two tables hold other filters; measure the same network twice, with equal options"
        )
    x, y = values_of(sample, what), values_of(whole, what)
    both = ~(np.isnan(x) | np.isnan(y))
    x, y = x[both], y[both]
    pruned = round(exactly(ratio) * len(x))
    if not 0 < pruned < len(x):
        raise AnalysisError(
            f"ratio={ratio} prunes {pruned} of {len(x)} filters, so masks cannot differ; "
            "give another ratio"
        )
    one, other = (~keep_mask(pd.Series(values), ratio).to_numpy(dtype="bool") for values in (x, y))
    return {
        "spearman": float(coefficients(x, y, np.array([0]), "spearman")[0][0]),
        "shared": float((one & other).sum() / pruned),
        "chance": pruned / len(x),
    }
