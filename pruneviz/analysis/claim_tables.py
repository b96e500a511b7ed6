"""The tables of docs/findings.md: what recordings say of the captions' claims."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pandas as pd

from pruneviz.analysis.claims import (
    SETTING,
    agreement_over_seeds,
    derivative_facts,
    mask_distance_association,
    shown_epochs,
)
from pruneviz.analysis.over_runs import with_facts
from pruneviz.errors import AnalysisError
from pruneviz.log.runs import Runs

_BLOCK = re.compile(r"(<!-- table: (?P<name>\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


_FIGURE_2, _FIGURE_3 = ("sigma_change", "loss_preservation"), ("theta_g", "theta_hg")


def recordings(runs: Runs) -> pd.DataFrame:
    """One row per unpruned run: what it is, and how well it had learnt at the end."""
    last = (
        runs.epochs.sort_values("epoch")
        .groupby("run", observed=True)[["epoch", "train_acc", "test_acc"]]
        .last()
        .reset_index()
    )
    found = with_facts(last, runs.spec, ["bn", "unit", "dtype", "sample_size"])
    accuracies = {
        name: [f"{100 * value:.1f} %" for value in found[name]]
        for name in ("train_acc", "test_acc")
    }
    return found.rename(columns={"epoch": "epochs"}).assign(**accuracies)


def figure_2(runs: Runs) -> pd.DataFrame:
    """`sigma_change` with `loss_preservation`, at some epochs."""
    return _agreement(runs, *_FIGURE_2)


def figure_2_curve(runs: Runs) -> pd.DataFrame:
    """The same at every measured epoch: Pearson's r over all filters and as a mean of layers, and the mask distance; means over seeds."""
    found = agreement_over_seeds(_filters(runs), *_FIGURE_2)
    distances = (
        with_facts(_filters(runs).epochs, runs.spec, SETTING)
        .groupby([*SETTING, "epoch"], observed=True)["mask_distance"]
        .mean()
    )
    both = found.merge(distances.reset_index(), on=[*SETTING, "epoch"])
    return _side_by_side(
        both,
        {"pearson": "r", "layer_mean": "mean of layers", "mask_distance": "mask distance"},
        {"mask_distance": 3},
    )


def figure_2_association(runs: Runs) -> pd.DataFrame:
    """Whether that correlation rises as the mask distance falls, run by run."""
    found = mask_distance_association(_filters(runs))
    return _rounded(found, ["first", "last", "pearson", "spearman", "layer_mean"])


def figure_3(runs: Runs) -> pd.DataFrame:
    """`theta_hg` with `theta_g`, at some epochs."""
    return _agreement(runs, *_FIGURE_3)


def figure_3_curve(runs: Runs) -> pd.DataFrame:
    """The same at every measured epoch: Pearson's r, mean over seeds."""
    return _side_by_side(agreement_over_seeds(_filters(runs), *_FIGURE_3), {"pearson": "r"}, {})


def signal(runs: Runs) -> pd.DataFrame:
    """How much of the derivatives is signal, and how near they are to two cases that would explain a correlation, at some epochs."""
    found = _at_some_epochs(derivative_facts(_filters(runs)))
    told = found.drop(columns="dataset").assign(
        clear=[f"{100 * share:.0f} %" for share in found["clear"]]
    )
    return told.assign(
        **{name: [f"{value:.3g}" for value in found[name]] for name in ("cosine", "scale", "eigen")}
    )


def single_weights(runs: Runs) -> pd.DataFrame:
    """The correlations over all single weights, at some epochs."""
    chosen = runs.select(unit="weight").correlations.dropna(subset=["r"])
    if chosen.empty:
        return chosen
    wide = chosen.astype({"x": "str", "y": "str", "method": "str"}).pivot_table(
        index=["run", "epoch", "n"], columns=["x", "y", "method"], values="r", observed=True
    )
    names = {column: f"{column[1]}, {column[0]}: {column[2]}" for column in wide.columns}
    table = wide.set_axis(list(names.values()), axis=1).reset_index()
    return _rounded(_at_some_epochs(table), list(names.values()))


TABLES: Mapping[str, Callable[[Runs], pd.DataFrame]] = {
    "recordings": recordings,
    "figure-3": figure_3,
    "figure-3-curve": figure_3_curve,
    "signal": signal,
    "figure-2": figure_2,
    "figure-2-association": figure_2_association,
    "figure-2-curve": figure_2_curve,
    "single-weights": single_weights,
}


def table_of(name: str, sets: list[Runs]) -> str:
    """One of `TABLES` over several sets of recordings, as Markdown; `AnalysisError` for an unknown name, or where no set has its runs."""
    if name not in TABLES:
        raise AnalysisError(f"there is no table {name!r}; choose among {', '.join(TABLES)}")
    parts = [part for part in (TABLES[name](_unpruned(runs)) for runs in sets) if len(part)]
    if not parts:
        raise AnalysisError(
            f"table {name} is of runs that these recordings lack; record them with python -m pruneviz.record"
        )
    if name.endswith("curve"):
        indexed = [part.set_index("epoch") for part in parts]
        return _markdown(pd.concat(indexed, axis=1).sort_index().reset_index())
    return _markdown(pd.concat(parts, ignore_index=True))


def filled_in(text: str, sets: list[Runs]) -> str:
    """A Markdown text with its tables made anew: each between `<!-- table: NAME -->` and `<!-- end of table -->`.

    Errors: `AnalysisError` for a text without such places, and those of `table_of`.
    """
    if not _BLOCK.search(text):
        raise AnalysisError(
            "the text has no place for a table; write <!-- table: figure-3 --> and <!-- end of table --> on two lines"
        )
    return _BLOCK.sub(
        lambda found: f"{found[1]}\n{table_of(found['name'], sets)}\n{found[3]}", text
    )


def _agreement(runs: Runs, x: str, y: str) -> pd.DataFrame:
    found = _at_some_epochs(agreement_over_seeds(_filters(runs), x, y))
    spread = [
        f"{low:.2f} to {high:.2f}"
        for low, high in zip(found["pearson_min"], found["pearson_max"], strict=True)
    ]
    left_out = [
        f"{low:.2f} to {high:.2f}"
        for low, high in zip(found["loo_min"], found["loo_max"], strict=True)
    ]
    told = _rounded(
        found, ["pearson", "spearman", "trimmed", "within_layers", "layer_mean"]
    ).assign(spread=spread, left_out=left_out)
    columns = {
        "network": "network", "bn": "bn", "epoch": "epoch", "seeds": "seeds", "pearson": "Pearson", "spread": "over seeds",
        "spearman": "Spearman", "trimmed": "without 1 %", "left_out": "without a layer", "within_layers": "within layers",
        "layer_mean": "mean of layers",
    }  # fmt: skip
    return told[list(columns)].rename(columns=columns)


def _side_by_side(
    found: pd.DataFrame, columns: Mapping[str, str], digits: Mapping[str, int]
) -> pd.DataFrame:
    """A row per epoch, and for each network and bn the given columns."""
    parts = []
    for (network, bn), rows in found.groupby(["network", "bn"], observed=True):
        texts = {
            f"{network}, {bn}: {word}": _text(rows[name], digits.get(name, 2))
            for name, word in columns.items()
        }
        parts.append(pd.DataFrame(texts, index=pd.Index(rows["epoch"].to_numpy(), name="epoch")))
    return pd.concat(parts, axis=1).sort_index().reset_index() if parts else pd.DataFrame()


def _unpruned(runs: Runs) -> Runs:
    return runs.select(rounds=0)


def _filters(runs: Runs) -> Runs:
    return runs.select(unit="filter")


def _at_some_epochs(table: pd.DataFrame) -> pd.DataFrame:
    return (
        table[table["epoch"].isin(shown_epochs(sorted(table["epoch"].unique())))].reset_index(
            drop=True
        )
        if len(table)
        else table
    )


def _rounded(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return table.assign(**{name: _text(table[name], 2) for name in columns})


def _text(values: pd.Series, digits: int) -> list[str]:
    return ["" if pd.isna(value) else f"{value:.{digits}f}" for value in values]


def _markdown(table: pd.DataFrame) -> str:
    rows = [
        list(map(str, table.columns)),
        ["---"] * len(table.columns),
        *table.fillna("").astype("str").to_numpy().tolist(),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
