"""What runs differ in, besides their seed: the facts that make a setting of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pruneviz.log.arguments import is_number
from pruneviz.log.pruning_options import OPTION_NAMES
from pruneviz.log.run_spec import SPEC_FACTS

SEED = "seed"
# Facts that do not make two runs two settings: what a run is called, where and when it was made,
# what was stored of it, and what came out.
_NOT_SETTINGS = frozenset(
    {"run", SEED, "weight_rows", "weight_rows_seed", "weights", "columns", "every"}
    | {"device", "device_name", "threads", "command", "created"}
    | {"versions", "schema_version", "sealed", "thinned", "rows", "kept", "coverage", "left_out"}
    | {"se_df", "se_df_drawn", "strata", "samples", "half_size", "flow", "oracle", "draw_seed"}
    | {"population", "sample_counted", "request_at", "probes", "errors", "sample_digest"}
    | {"wall_seconds", "selected_epoch", "not_removed", "remeasured_from", "preset", "path"}
    | {"measure_last", "train_images_sha256", "test_images_sha256", "recorded_with"}
    | {"parameters_before", "parameters_after", "macs_before", "macs_after", "filters_removed"}
    | {"filters_masked", "forward_seconds_before", "forward_seconds_after", "forward_examples"}
)
# Facts of how the rows of a training were measured.
_MEASURING = frozenset(
    {"unit", "bn", "temperatures", "lag", "sample_size", "sample_seed", "sample_batches", "dtype"}
    | {"sample_batch_size"}
)
_LEADING = ("network", "dataset", "measure", "rounds", "target", "bn")


def settings_of(spec: pd.DataFrame, results: Collection[str] | None = None) -> list[str]:
    """Facts that tell runs apart, besides their seed, in the order in which a label names them.

    A fact that follows from those before it, such as the width of a network, is left out, and so is
    a further seed that goes with the seed. Facts that a person added count, except results. The
    order of runs and facts in the table does not matter.

    Args:
        spec: One row per run.
        results: Facts that are results. Default: `results_of` these runs.
    """
    results = results_of(spec) if results is None else results
    numbers = set(_own_numbers(spec))
    own = sorted(map(str, spec.columns), key=lambda name: (name in numbers, name))
    names = [name for name in (*_LEADING, *SPEC_FACTS, *own) if name in spec]
    kept = [name for name in dict.fromkeys(names) if can_be_setting(name) and name not in results]
    told: list[str] = []
    for name in (name for name in kept if _differs(spec[name]) and not _is_seed(spec, name)):
        if _count(spec, [*told, name]) > _count(spec, told):
            told.append(name)
    return told


def results_of(spec: pd.DataFrame) -> list[str]:
    """Facts that a person added and that came out of a run, such as a best accuracy.

    They are numbers of which, among runs that are equal in everything else, each seed has one of
    its own: a setting would be shared by seeds, or vary within one. Where every value has a single
    seed both look alike, and count as results. Where two numbers could each be the setting that
    explains the other, both are settings, so that nothing is averaged that may differ.

    Args:
        spec: One row per run. A run without a seed counts as a seed of its own.
    """
    own = _own_numbers(spec)
    columns = {str(name): list(map(present, spec[name])) for name in spec}
    runs = columns.get("run", list(range(len(spec))))
    known = zip(runs, columns.get(SEED, [None] * len(spec)), strict=True)
    seeds = [run if seed is None else seed for run, seed in known]
    alike = [name for name in columns if can_be_setting(name) and name not in own]

    def broken(candidates: Sequence[str], settings: Sequence[str]) -> list[str]:
        groups = _grouped(columns, settings)
        return [name for name in candidates if not _is_by_seed(columns[name], seeds, groups)]

    while left := broken(own, alike):
        # That which explains most of the others, by fewest values; all where several do alike.
        ranks = {}
        for name in left:
            others = [one for one in left if one != name]
            ranks[name] = (len(broken(others, [*alike, name])), len(set(columns[name])))
        settings = [name for name in left if ranks[name] == min(ranks.values())]
        own = [name for name in own if name not in settings]
        alike += settings
    return own


def can_be_setting(name: str) -> bool:
    """Whether a fact may tell settings apart; others say how a run was made and stored."""
    return name not in _NOT_SETTINGS


def pooled_numbers(spec: pd.DataFrame) -> list[str]:
    """Numbers that a person added and in which runs of one setting differ: taken for results."""
    return sorted(name for name in _own_numbers(spec) if not _is_seed(spec, name))


def telling_facts(spec: pd.DataFrame) -> list[str]:
    """`settings_of` the runs, and their name where two have the same setting and seed.

    Runs of one setting without a seed count as repeats.
    """
    facts = settings_of(spec)
    return facts if _are_apart(spec, facts) else [*facts, "run"]


def training_facts(spec: pd.DataFrame) -> list[str]:
    """Facts of the training of a run: its settings and seed, not how it was measured."""
    return [str(name) for name in spec if name not in _NOT_SETTINGS - {SEED} | _MEASURING]


def kinds_of(spec: pd.DataFrame) -> pd.Series:
    """The kind of each run in a spec table, such as "unpruned" or "prune_phase".

    Args:
        spec: One row per run.

    Returns:
        "unpruned", "weights" (unpruned, a row per single weight), "pruned", "prune_phase" or
        "pruned weights".
    """
    pruned = (spec["rounds"].fillna(0) > 0) | (spec["target"].fillna(0) > 0)
    only_rounds = spec["prune_phase_only"].eq(True)
    by_filter = np.select([pruned & only_rounds, pruned], ["prune_phase", "pruned"], "unpruned")
    by_weight = np.where(pruned, "pruned weights", "weights")  # the former make no figure
    return pd.Series(np.where(spec["unit"] == "weight", by_weight, by_filter), index=spec.index)


def different(values: pd.Series) -> list[object]:
    """Distinct present values of a column in their order; lists are compared as tuples."""
    return list(dict.fromkeys(key for key in map(present, values) if key is not None))


def present(value: Any) -> Hashable:
    """A value that can be compared and counted: collections as tuples, None for an absent value."""
    if isinstance(value, Mapping):
        return tuple(sorted((str(name), present(each)) for name, each in value.items()))
    if isinstance(value, (set, frozenset)):
        return tuple(sorted(map(present, value), key=str))
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(map(present, value))
    return None if pd.isna(value) else value


def _differs(values: pd.Series) -> bool:
    """Whether a fact has two values; an absent one, as of an unpruned run, counts as one."""
    return len(set(map(present, values))) > 1


def _count(spec: pd.DataFrame, facts: Sequence[str]) -> int:
    """Number of groups that facts tell apart."""
    return len(set(zip(*(map(present, spec[name]) for name in facts), strict=True))) if facts else 1


def _are_apart(spec: pd.DataFrame, facts: Sequence[str]) -> bool:
    """Whether facts and seeds tell all runs apart that have a seed."""
    if SEED not in spec:
        return True
    seeded = spec[spec[SEED].notna()]
    return _count(seeded, [*facts, SEED]) == len(seeded)


def _own_numbers(spec: pd.DataFrame) -> list[str]:
    """Facts that a person added, that differ, and whose values are numbers."""
    known = {*SPEC_FACTS, *OPTION_NAMES, *_MEASURING}
    names = [str(name) for name in spec if can_be_setting(str(name)) and name not in known]
    return [
        name
        for name in names
        if _differs(spec[name]) and all(map(is_number, different(spec[name])))
    ]


def _grouped(columns: Mapping[str, Sequence[Hashable]], names: Sequence[str]) -> list[list[int]]:
    """Places of the runs that are equal in some facts."""
    count = len(next(iter(columns.values()), []))
    keys = zip(*(columns[name] for name in names), strict=True) if names else [()] * count
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    return list(places.values())


def _is_by_seed(
    values: Sequence[Hashable], seeds: Sequence[Hashable], groups: Sequence[Sequence[int]]
) -> bool:
    """Whether in every group each seed has one value, or none, and each value one seed."""
    for group in groups:
        both = {(seeds[at], values[at]) for at in group}
        known = [value for _, value in both if value is not None]
        if len(both) != len({seed for seed, _ in both}) or len(known) != len(set(known)):
            return False
    return True


def _is_seed(spec: pd.DataFrame, name: str) -> bool:
    """Whether a fact is a seed that every value of the seed has one of its own of."""
    if "seed" not in name or SEED not in spec:
        return False
    both, seeds = _count(spec, [SEED, name]), _count(spec, [SEED])
    return both == seeds == _count(spec, [name])
