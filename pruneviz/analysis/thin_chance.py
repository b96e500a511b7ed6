"""The chance level of mask distances of thin copies, from the counts that are known exactly.

A thin copy lacks the filters at most epochs, but its rounds table says how many each layer keeps
after every round. Where that is not enough, the level is left out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pruneviz.analysis.mask_chance import chance_distance
from pruneviz.log.arguments import exactly
from pruneviz.log.thin_copies import ThinCopy


def thin_chance(
    rows: pd.DataFrame, scores: pd.Series, rounds: pd.DataFrame, copy: ThinCopy, ratio: float
) -> pd.Series:
    """The chance level of the distance of each recorded epoch from the one before.

    Args:
        rows: The filters that the copy holds: epoch, layer and kept.
        scores: Their scores, null for filters that no mask holds.
        rounds: Its rounds table; may be empty.
        copy: What the copy holds.
        ratio: Fraction of the filters that masks prune.

    Returns:
        By epoch; null for the first one and where it is not known how many filters of the mask were
        pruned at both epochs.
    """
    scored = scores.notna().groupby(rows["layer"].astype(str)).agg(["any", "all"])
    masked = scored.index[scored["any"]]
    sizes = rows[rows["layer"].isin(masked)].groupby(["epoch", "layer"], observed=True).size()
    n = int(sizes.groupby("epoch").sum().max()) if len(sizes) else 0
    gone = _gone(rows[rows["layer"].isin(masked)], rounds, copy)
    if not n or not scored.loc[masked, "all"].all():  # not known which filters of a layer count
        gone = gone.where(gone.eq(0).all(axis="columns"))
    before = gone.shift()
    regrown = (gone < before).any(axis="columns")  # other filters may be gone
    pruned, earlier = (each.sum(axis="columns", min_count=1) for each in (gone, before))
    known = (gone.notna() & before.notna()).all(axis="columns") & ~regrown
    both = np.minimum(pruned, earlier)
    least = round(exactly(ratio) * n)
    masks = (each.clip(lower=least) / max(n, 1) for each in (earlier, pruned))
    shares = (each / max(n, 1) for each in (earlier, pruned, both))
    return chance_distance(*masks, *shares).where(known & (n > 0))


def _gone(rows: pd.DataFrame, rounds: pd.DataFrame, copy: ThinCopy) -> pd.DataFrame:
    """Number of pruned filters [epoch, layer]; null where it is not known."""
    layers = list(dict.fromkeys(rows["layer"].astype(str)))
    epochs = pd.Index(copy.recorded, name="epoch")
    pruned = rows["kept"].eq(False).fillna(False).astype("int64")
    seen = pruned.groupby([rows["epoch"], rows["layer"].astype(str)]).sum().unstack()  # noqa: PD010
    seen = seen.reindex(columns=layers).astype("float64")
    unpruned = [epoch for epoch in copy.recorded if epoch not in copy.pruned]
    found = pd.DataFrame(np.nan, epochs, layers, dtype="float64")
    if len(rounds):
        after = rounds.assign(
            layer=rounds["layer"].astype(str), gone=rounds["filters"] - rounds["kept"]
        )
        by_round = after.pivot_table(index="epoch", columns="layer", values="gone", aggfunc="max")
        told = by_round.reindex(columns=layers, fill_value=0).reindex(epochs, method="ffill")
        told = told.fillna(0.0).astype("float64")
        if told.reindex(seen.index).eq(seen).all(axis=None):  # all pruning was in these rounds
            found = told
    found.loc[unpruned] = 0.0
    found.loc[seen.index] = seen
    return found
