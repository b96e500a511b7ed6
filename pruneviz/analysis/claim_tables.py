"""Tables of docs/findings.md as Markdown: what recordings say about the captions' claims."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

import pandas as pd

from pruneviz.analysis.agreement import (
    SETTING,
    agreement_over_seeds,
    derivative_facts,
    own_association,
)
from pruneviz.analysis.chosen_epochs import shown_epochs
from pruneviz.analysis.claim_texts import markdown_table, verdict_table
from pruneviz.analysis.claims import claims as judged
from pruneviz.analysis.final_accuracy import Costs, final_accuracy_table, recorded_costs
from pruneviz.analysis.initialisation import OF_TRAINING, initialisation_table
from pruneviz.analysis.oracle_table import oracle_table
from pruneviz.analysis.over_runs import with_facts
from pruneviz.analysis.pruned_tables import convergence_table, ratio_table
from pruneviz.analysis.robustness import robustness
from pruneviz.analysis.rules import panels_by_setting, told_apart, told_pooled, unpruned
from pruneviz.analysis.table_texts import (
    APART,
    NotedTable,
    by_mode,
    over_several,
    percent,
    ranges,
    rounded,
    telling,
    texts,
    without_empty,
)
from pruneviz.console.shown_text import in_markdown, short
from pruneviz.errors import AnalysisError, unknown_name
from pruneviz.log.runs import Runs

_BLOCK = re.compile(r"(<!-- table: (?P<name>\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

_WIDTH = 100  # characters of a line in the docs
CURVES = tuple(map(str, range(4, 13)))  # figures with accuracy curves, besides Figure 1

# Options of `pruneviz record` that make the runs of a table.
_OPTIONS: Mapping[str, str] = {
    "figure-1": "--figures 1",
    "figure-4-12": f"--figures {' '.join(CURVES)}",
    "figure-16-17": "--figures 16 17",
    "final-accuracy": f"--figures {' '.join(CURVES)}",
    "delta-loss": "--oracle 200",
    "initialisation": "--preset paper-init",
    "recordings": "--figures 3",
    "claims": "--figures 3",
    **dict.fromkeys(("figure-3", "figure-3-curve", "signal"), "--figures 3 13 14"),
    **dict.fromkeys(("figure-2", "figure-2-association", "figure-2-curve"), "--figures 2"),
    "single-weights": "--figures H1a",
}

# What a table shows; runs may lack it, as those measured before training alone, or thin copies.
_SHOWN: Mapping[str, str] = {
    **dict.fromkeys(
        ("figure-2", "figure-2-association", "figure-2-curve"),
        "sigma_delta and abs_theta_g of unpruned filters after epoch 0",
    ),
    **dict.fromkeys(
        ("figure-3", "figure-3-curve", "signal"), "theta_g and theta_hg of unpruned filters"
    ),
}

# Tables that show how something changes in training; runs that were never trained add nothing.
_OF_TRAINING = frozenset(
    ("figure-3", "figure-3-curve", "signal", "figure-2", "figure-2-association", "figure-2-curve")
)

# Tables with a part of its own for each network: side by side they would be too wide to read.
_BY_NETWORK = frozenset(("figure-3-curve", "figure-2-curve"))

_FIGURE_2, _FIGURE_3 = ("sigma_change", "loss_preservation"), ("theta_g", "theta_hg")

_PLACE = ["network", "epoch"]  # of a row where settings stand side by side

# Columns of agreement tables, and their headings.
_AGREEMENT = {
    **{name: name for name in SETTING},
    "epoch": "epoch",
    "seeds": "seeds",
    "pearson": "Pearson",
    "interval": "95 %",
    "spread": "over seeds",
    "n_eff": "n_eff",
    "spearman": "Spearman",
    "trimmed": "without 1 %",
    "left_out": "without a layer",
    "within_layers": "within layers",
    "layer_mean": "mean of layers",
}


def recordings(runs: Runs) -> pd.DataFrame:
    """One row per run: its facts and final accuracy."""
    by_run = runs.epochs.sort_values("epoch").groupby("run", observed=True)
    last = by_run[["epoch", "train_acc", "test_acc"]].last().reset_index()
    found = with_facts(last, runs.spec, ["bn", "unit", "dtype", "sample_size"])
    for name in ("train_acc", "test_acc"):
        found[name] = list(map(percent, found[name]))
    found["sample_size"] = texts(found["sample_size"], digits=0)
    return found.rename(columns={"epoch": "epochs"})


def figure_2(runs: Runs) -> pd.DataFrame:
    """Correlation of `sigma_change` with `loss_preservation`, at some epochs."""
    return _agreement(runs, *_FIGURE_2)


def figure_2_curve(runs: Runs) -> pd.DataFrame:
    """Pearson's r over all filters, its mean over layers, and the mask distance, at every epoch.

    Correlations between `sigma_change` and `loss_preservation`, averaged over seeds.
    """
    found = agreement_over_seeds(runs, *_FIGURE_2)
    keys = [*SETTING, "epoch"]
    filters = unpruned(runs)
    pairs = robustness(filters.filters, *_FIGURE_2)[["run", "epoch"]].astype({"run": "str"})
    chosen, spec = told_apart(runs, pairs["run"])
    epochs = chosen.epochs.astype({"run": "str"}).merge(pairs, on=["run", "epoch"])
    by_epoch = with_facts(epochs, spec, SETTING).groupby(keys, observed=True, dropna=False)
    distances = by_epoch["mask_distance"].mean().reset_index()
    columns = {"pearson": "r", "layer_mean": "mean of layers", "mask_distance": "mask distance"}
    return _side_by_side(found.merge(distances, on=keys), columns, digits={"mask_distance": 3})


def figure_2_association(runs: Runs) -> pd.DataFrame:
    """Association of that correlation with the mask distances of its own and of other seeds."""
    found = by_mode(own_association(runs))
    found["95 %"] = ranges(found["low"], found["high"])
    found["p"] = ["" if pd.isna(p) else f"{p:.2g}" for p in found["p"]]
    found = rounded(found, ["own", "other", "d", "partial", "differences"])
    found = found.rename(columns={"d": "D", "partial": "given epoch"})
    kept = [*SETTING, "coefficient", "seeds", "epochs", "own", "other", "D", "95 %", "p"]
    return telling(found[[*kept, "given epoch", "differences"]])


def figure_3(runs: Runs) -> pd.DataFrame:
    """Correlation of `theta_hg` with `theta_g`, at some epochs."""
    return _agreement(runs, *_FIGURE_3)


def figure_3_curve(runs: Runs) -> pd.DataFrame:
    """Pearson's r of `theta_hg` with `theta_g` at every epoch, mean over seeds."""
    found = agreement_over_seeds(runs, *_FIGURE_3)
    return _side_by_side(found, {"pearson": "r"}, digits={})


def signal(runs: Runs) -> pd.DataFrame:
    """Facts about the derivatives (`derivative_facts`), at some epochs."""
    found = _at_some_epochs(by_mode(derivative_facts(runs)), SETTING)
    found["clear"] = [percent(share, digits=0) for share in found["clear"]]
    for name in ("cosine", "scale", "eigen"):
        found[name] = [f"{value:.3g}" for value in found[name]]
    found["share"] = texts(found["share"], digits=2)
    found["df"] = ["" if pd.isna(df) else f"{df:.0f}" for df in found["df"]]
    return telling(found[[*SETTING, "epoch", "clear", "df", "cosine", "scale", "eigen", "share"]])


def single_weights(runs: Runs) -> pd.DataFrame:
    """Correlations over all single weights, at some epochs."""
    chosen = runs.select(unit="weight").correlations.dropna(subset=["r"])
    if chosen.empty:
        return chosen
    wide = chosen.astype({"x": "str", "y": "str", "method": "str"}).pivot_table(
        index=["run", "epoch", "n"], columns=["x", "y", "method"], values="r", observed=True
    )
    pairs = [tuple(column) for column in wide.columns]
    names = [f"{y}, {x}: {method}" for x, y, method in pairs]
    table = wide.set_axis(names, axis=1).reset_index()
    return rounded(_at_some_epochs(table, ["run"]), names)


def claims(runs: Runs) -> pd.DataFrame:
    """The verdicts on the claims that these recordings can be asked about, as records."""
    found = judged(runs)
    return found[[len(names) > 0 for names in found["runs"]]]


CLAIM_TABLES: Mapping[str, Callable[[Runs], pd.DataFrame]] = {
    "recordings": recordings,
    "claims": claims,
    "figure-3": figure_3,
    "figure-3-curve": figure_3_curve,
    "initialisation": initialisation_table,
    "signal": signal,
    "figure-2": figure_2,
    "figure-2-association": figure_2_association,
    "figure-2-curve": figure_2_curve,
    "single-weights": single_weights,
}


# Tables of pruned runs and of removed filters, from all runs of a set.
PRUNED_TABLES: Mapping[str, Callable[[Runs], NotedTable]] = {
    "figure-1": partial(convergence_table, ("1",)),
    "figure-4-12": partial(convergence_table, (*CURVES, "")),
    "figure-16-17": ratio_table,
    "final-accuracy": final_accuracy_table,
    "delta-loss": oracle_table,
}

TABLES = (*CLAIM_TABLES, *PRUNED_TABLES)


def table_of(name: str, runs: Runs, costs: Costs = recorded_costs) -> str:
    """Make one table from recordings.

    Args:
        name: One of `TABLES`.
        runs: Recordings, of any settings. Pruned runs count only in `claims` and `PRUNED_TABLES`.
        costs: Gives parameters and MACs of runs, for `final-accuracy`.

    Returns:
        The table as Markdown; below it, sentences on what it leaves out.

    Raises:
        AnalysisError: If the name is unknown, or the runs that the table needs are lacking.
    """
    _check_names([name])
    if name == "final-accuracy":
        found = final_accuracy_table(runs, costs)
    elif name in PRUNED_TABLES:
        found = PRUNED_TABLES[name](runs)
    else:
        found = NotedTable(_unpruned(name, runs), tuple(_pooled(name, runs)))
    if found.table.empty:
        why = "".join(f"; {note}" for note in found.notes)
        shown = f" (it shows {_SHOWN[name]})" if name in _SHOWN else ""
        raise AnalysisError(
            f"table {name} needs runs that these recordings lack{shown}; record them with "
            f"`pruneviz record {_OPTIONS[name]}`{why}"
        )
    notes = "".join(f"\n{_sentence(note)}\n" for note in found.notes)
    whole = _of_networks(found.table) if name in _BY_NETWORK else markdown_table(found.table)
    return f"{whole}{notes}"


def all_tables(runs: Runs, costs: Costs = recorded_costs, only: Collection[str] = ()) -> str:
    """All tables as one Markdown text, with a sentence in the place of those without runs.

    Args:
        runs: As for `table_of`.
        costs: As for `table_of`.
        only: Tables to make. Default: all.

    Raises:
        AnalysisError: If a name is unknown.
    """
    _check_names(only)

    def text(name: str) -> str:
        try:
            return table_of(name, runs, costs)
        except AnalysisError as error:
            return _sentence(error) + "\n"

    return "\n".join(f"{name}\n\n{text(name)}" for name in only or TABLES)


def filled_in(
    text: str,
    runs: Runs,
    costs: Costs = recorded_costs,
    only: Collection[str] = (),
) -> str:
    """Replace the tables of a Markdown text by newly made ones; the rest stays.

    Args:
        text: Markdown with tables between `<!-- table: NAME -->` and `<!-- end of table -->`.
        runs: As for `table_of`.
        costs: As for `table_of`.
        only: Tables to replace; others stay too. Default: all.

    Returns:
        The text with its new tables.

    Raises:
        AnalysisError: If the text has no place for a table, or not for one of `only`; as for
            `table_of`.
    """
    _check_names(only)
    places = {block["name"] for block in _BLOCK.finditer(text)}
    for name in (name for name in only if places and name not in places):
        raise AnalysisError(
            f"the text has no place for table {name}; write <!-- table: {name} --> and "
            "<!-- end of table --> on two lines"
        )
    if not places:
        raise AnalysisError(
            "the text has no place for a table; write <!-- table: figure-3 --> and "
            "<!-- end of table --> on two lines"
        )

    def new(block: re.Match[str]) -> str:
        if only and block["name"] not in only:
            return block[0]
        return f"{block[1]}\n{table_of(block['name'], runs, costs)}\n{block[3]}"

    return _BLOCK.sub(new, text)


def _sentence(words: object) -> str:
    return textwrap.fill(in_markdown(f"{words}.", with_code=True), _WIDTH)


def _check_names(names: Collection[str]) -> None:
    for name in names:
        if name not in TABLES:
            raise AnalysisError(unknown_name("table", name, TABLES))


def _unpruned(name: str, runs: Runs) -> pd.DataFrame:
    if name == "claims":
        found = claims(runs)
        return verdict_table(found) if len(found) else found
    runs = runs.select(rounds=0)
    if name in _OF_TRAINING:
        runs = runs.named(runs.spec.loc[runs.spec["epochs"].ne(0), "run"])
    return CLAIM_TABLES[name](runs) if len(runs) else pd.DataFrame()


def _pooled(name: str, runs: Runs) -> Iterator[str]:
    """Sentences on numbers in which runs that a table averages differ."""
    if name in ("recordings", "claims", "single-weights"):
        return
    ignored = OF_TRAINING if name == "initialisation" else ()
    for panel in panels_by_setting(runs, ("unpruned",), (), ignored):
        if panel.pooled:
            named = " on ".join(filter(None, [panel.network, panel.dataset]))
            words = ", ".join(filter(None, [named, panel.bn, panel.what]))
            yield told_pooled(panel, words)


def _agreement(runs: Runs, x: str, y: str) -> pd.DataFrame:
    found = _at_some_epochs(by_mode(agreement_over_seeds(runs, x, y)), SETTING)
    found["spread"] = over_several(found["seeds"], found["pearson_min"], found["pearson_max"])
    found["interval"] = ranges(found["low"], found["high"])
    found["n_eff"] = texts(found["n_eff"], digits=0)
    found["left_out"] = ranges(found["loo_min"], found["loo_max"])
    numbers = ["pearson", "spearman", "trimmed", "within_layers", "layer_mean"]
    return telling(rounded(found, numbers)[list(_AGREEMENT)].rename(columns=_AGREEMENT))


def _side_by_side(
    found: pd.DataFrame, columns: Mapping[str, str], digits: Mapping[str, int]
) -> pd.DataFrame:
    """One row per network and epoch; columns of every setting and bn next to each other."""
    found = by_mode(found.sort_values(APART, kind="stable"))
    facts = [name for name in SETTING if name in telling(found) and name != "network"]
    parts = []
    for key, rows in found.groupby(facts, observed=True, dropna=False, sort=False):
        words = ", ".join(word for word in key if isinstance(word, str) and word)
        cells = {
            f"{words}: {heading}": texts(rows[name], digits.get(name, 2))
            for name, heading in columns.items()
        }
        first, most = next(iter(cells)), rows["seeds"].max()
        cells[first] = [
            text if seeds == most or not text else f"{text} ({seeds} of {most} seeds)"
            for text, seeds in zip(cells[first], rows["seeds"], strict=True)
        ]
        parts.append(pd.DataFrame(cells, index=pd.MultiIndex.from_frame(rows[_PLACE])))
    if not parts:
        return pd.DataFrame()
    return pd.concat(parts, axis=1).sort_index().fillna("").reset_index()


def _of_networks(found: pd.DataFrame) -> str:
    """A table for each network, with the columns that it has, below its name."""
    parts = []
    for network, own in found.groupby("network", observed=True, dropna=False):
        name = network if isinstance(network, str) and network else "network without a name"
        cells = own.drop(columns="network")
        table = markdown_table(without_empty(cells, map(str, cells)))
        parts.append(f"{in_markdown(short(name))}:\n\n{table}")
    return "\n".join(parts)


def _at_some_epochs(table: pd.DataFrame, by: Collection[str]) -> pd.DataFrame:
    """The rows of the epochs that are shown of each setting."""
    parts = [
        rows[rows["epoch"].isin(shown_epochs(sorted(rows["epoch"].unique())))]
        for _, rows in table.groupby(list(by), observed=True, dropna=False, sort=False)
    ]
    return pd.concat(parts, ignore_index=True) if parts else table
