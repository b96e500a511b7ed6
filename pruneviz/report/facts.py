"""The facts of a run in the head of the page, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from pruneviz.console.words import counted
from pruneviz.log.runs import Runs
from pruneviz.log.vocabulary import BN_MODES
from pruneviz.plot.words import dataset_title, measure_title, network_title, percent

_ACCURACIES = {"test_acc": "test", "train_acc": "training"}


def facts_of(run: Runs) -> list[list[str]]:
    """Pairs of a name and a value in words; what is not known is left out.

    Args:
        run: One run.
    """
    spec = {str(name): value for name, value in run.spec.iloc[0].items() if _there(value)}
    return [[name, value] for name, value in _facts(spec, run) if value]


def _facts(spec: dict[str, Any], run: Runs) -> Iterator[tuple[str, str]]:
    yield "network", _network(spec)
    yield "data set", dataset_title(str(spec["dataset"])) if "dataset" in spec else ""
    yield "seed", _number(spec.get("seed"))
    yield "final accuracy", _final_accuracy(run.epochs)
    yield "batch norm", _batch_norm(spec)
    yield "trained on", _images(spec)
    yield "measured on", _sample(spec)
    yield "schedule", _schedule(spec)
    yield "pruning", _pruning(spec)
    yield "rows", _rows(spec)
    yield (
        "machine",
        ", ".join(
            str(spec[name]) for name in ("device_name", "device", "precision") if name in spec
        ),
    )
    yield "recorded", str(spec.get("created", ""))[:10]


def _network(spec: dict[str, Any]) -> str:
    if "network" not in spec:
        return ""
    title = network_title(str(spec["network"]))
    width = spec.get("width")
    if not isinstance(width, (int, float)) or width == 1:
        return title
    return f"{title}, {width:g} of the full width"


def _final_accuracy(epochs: pd.DataFrame) -> str:
    own = [str(name) for name in epochs if str(name).endswith(("acc", "accuracy"))]
    for column in ("test_acc", *(name for name in own if name not in _ACCURACIES), "train_acc"):
        if column not in own or not is_numeric_dtype(epochs[column]) or epochs[column].isna().all():
            continue
        known = epochs.dropna(subset=[column]).sort_values("epoch").iloc[-1]
        words = _ACCURACIES.get(column, column)
        return f"{percent(float(known[column]))} ({words}, epoch {int(known['epoch'])})"
    return ""


def _batch_norm(spec: dict[str, Any]) -> str:
    mode = str(spec.get("bn", ""))
    return f"{mode}: {BN_MODES[mode]}" if mode in BN_MODES else mode


def _images(spec: dict[str, Any]) -> str:
    return f"{int(spec['train_images']):,} images" if "train_images" in spec else ""


def _sample(spec: dict[str, Any]) -> str:
    return f"{int(spec['sample_size']):,} examples" if "sample_size" in spec else ""


def _schedule(spec: dict[str, Any]) -> str:
    parts = []
    if "epochs" in spec:
        parts.append(counted(int(spec["epochs"]), "epoch"))
    if "lr" in spec:
        parts.append(f"learning rate {_number(spec['lr'])}")
    drops = spec.get("lr_drops")
    if isinstance(drops, (list, tuple)) and drops:
        parts.append(f"falling at {', '.join(map(_number, drops))}")
    return ", ".join(parts)


def _pruning(spec: dict[str, Any]) -> str:
    says = spec.get("pruned")
    rounds = spec.get("rounds", 0)
    if "measure" in spec and rounds:
        target = spec.get("target")
        goal = (
            f", {percent(float(target), digits=0)}"
            if isinstance(target, float) and target > 0
            else ""
        )
        return f"{measure_title(str(spec['measure']))}, {counted(int(rounds), 'round')}{goal}"
    if says is None or says == "" or str(says) == "False":
        return "none"
    return "by a loop of one's own" if str(says) == "True" else str(says)


def _rows(spec: dict[str, Any]) -> str:
    unit = str(spec.get("unit", "filter"))
    return "" if unit == "filter" else f"{unit}s"


def _number(value: Any) -> str:
    if value is None:
        return ""
    try:
        return str(int(value)) if float(value).is_integer() else f"{float(value):g}"
    except (TypeError, ValueError, OverflowError):
        return str(value)


def _there(value: Any) -> bool:
    if isinstance(value, (list, tuple, dict)):
        return True
    return not pd.isna(value)
