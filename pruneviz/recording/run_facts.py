"""Run facts that a recorder finds by itself: measuring options, machine and versions."""

from __future__ import annotations

import hashlib
import logging
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from pruneviz.analysis.formulas import SAMPLE_SIZE
from pruneviz.analysis.noise import stated_degrees
from pruneviz.analysis.run_facts import BATCH_SIZE, BATCHES, COUNTED
from pruneviz.errors import LogError, closest
from pruneviz.log import limits
from pruneviz.log.fact_kinds import FACT_KINDS
from pruneviz.log.run_spec import SPEC_FACTS, RunSpec
from pruneviz.log.schema import is_filter_column
from pruneviz.measuring.building import SHARED
from pruneviz.measuring.coverage import Coverage
from pruneviz.measuring.half_samples import half_size
from pruneviz.measuring.options import Options
from pruneviz.measuring.rows import AnyLayer
from pruneviz.measuring.strata import stated_weights, strata_of_batches
from pruneviz.model.filters import Layer
from pruneviz.model.sample import Batch, measuring_dtype, model_device, sample_size
from pruneviz.model.theta import theta_of
from pruneviz.recording.measured_epochs import Every, in_spec

_ALMOST = 0.8  # similarity of a misspelt name: "netwrok" and "network"
PARAMETERS_FOUND = "parameters_found"  # facts: what options meant for the network at first
NORMS_FOUND = "norms_found"
_logger = logging.getLogger("pruneviz")
# Facts that are checked as they are given; others as they are stored.
_ASKED = frozenset(
    (
        *("seed", "sample_seed", "epochs", "num_classes", "image_size", "batch_size"),
        *("train_images", "run", "network", "dataset", "preset"),
        *("width", "lr", "momentum", "weight_decay", "train_temperature"),
        "wall_seconds",
    )
)
# Facts that the recorder alone knows, or that readers of a run state. They tell no runs apart.
STATED = (
    *(BATCHES, COUNTED, "half_size", "se_df", "se_df_drawn", "strata", "population"),
    *(PARAMETERS_FOUND, NORMS_FOUND, "mask_score_code"),
    *("rows", "kept", "coverage", "left_out", "errors", "flow", "parameters"),
    *("weights", "weight_rows", "weight_rows_seed"),
    *("oracle", "draw_seed", "probes", "request_at", "sample_digest"),
    *("path", "sealed", "table_files", "thinned", "schema_version"),
)
_PACKAGES = ("pruneviz", "torch", "torchvision", "numpy", "pandas", "pyarrow")


def spec_of(
    run: str, measured: Mapping[str, Any], found: Mapping[str, Any], given: Mapping[str, Any]
) -> RunSpec:
    """Merge measured, found and user-given facts into the spec of a run.

    Warns of a name that is almost one that every spec has.

    Args:
        run: Run name.
        measured: Facts of measuring, which no other fact may contradict.
        found: Facts that were found out, such as the command; given ones replace them.
        given: Facts that a user gave.

    Raises:
        LogError: If a given fact contradicts a measured one; as for `check_given`.
    """
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise LogError(f"spec is {given!r}; give a dict of facts by name, such as {{'seed': 0}}")
    check_given({name: value for name, value in given.items() if name not in measured})
    for name in given:
        known = closest(name, SPEC_FACTS, _ALMOST)
        ours = name in SPEC_FACTS or name == BATCH_SIZE  # of `pruneviz remeasure`
        if not ours and known and known not in name:
            _logger.warning("spec has the fact %r; did you mean %r?", name, known)
    named = {"run": given.get("run") or run}
    spec = RunSpec.from_dict({**measured, **found, **given, **named})
    true = RunSpec.from_dict({"run": run, **measured})
    for name in measured:
        said, is_so = (one.to_dict().get(name) for one in (spec, true))
        if said != is_so:
            raise LogError(
                f"spec says {name}={said!r}, but the recorder measures with {is_so!r}; "
                f"leave {name} out of spec, and pass it to the recorder instead"
            )
    return spec


def check_given(given: Mapping[str, Any]) -> None:
    """Check the facts that a user gives.

    Raises:
        LogError: If one has a name of what pruneviz states by itself or of a column of the filters
            table, or is not of the kind that readers of a spec expect.
    """
    known = {name: value for name, value in given.items() if value is not None}
    own = "leave it out, or call a fact of your own by another name"
    if stated := [name for name in known if name in STATED]:
        said = ", ".join(f"{name}={known[name]!r}" for name in stated)
        what = "a name" if len(stated) == 1 else "names"
        own = own if len(stated) == 1 else own.replace("it", "them", 1)
        raise LogError(f"spec says {said}, {what} of what pruneviz states by itself; {own}")
    for name, value in known.items():
        if is_filter_column(name) and name != "run":
            raise LogError(
                f"spec says {name}={value!r}, the name of a column of the filters table; {own}"
            )
        _check_kind(name, value)


def _check_kind(name: str, value: object) -> None:
    kind = FACT_KINDS.get(name)
    if kind is not None and name in _ASKED and not kind.holds(value):
        raise LogError(
            f"spec says {name}={value!r}, expected {kind.expected}; give it so, or under a name of "
            "your own"
        )


def measured_facts(model: nn.Module, options: Options, every: Every) -> dict[str, Any]:
    """Facts about how a network is measured, under their names in the spec."""
    dtype = measuring_dtype(model, options.dtype)
    return {
        "unit": options.row_kind,
        "bn": options.bn,
        "temperatures": options.temperatures,
        "columns": options.wanted(),
        "every": in_spec(every),
        "dtype": str(dtype).removeprefix("torch."),
        "samples": options.samples,
        "device": model_device(model).type,
    }


def found_facts(
    model: nn.Module,
    coverage: Coverage,
    layers: Sequence[AnyLayer],
    options: Options,
    measuring: Mapping[str, Any],
) -> dict[str, Any]:
    """Facts about a network, the machine and what is measured.

    Args:
        model: The network.
        coverage: Which of its parameters are measured.
        layers: Its layers.
        options: How it is measured.
        measuring: The same, as given to the recorder.
    """
    found = {**machine_facts(model), **coverage_facts(coverage), **rows_facts(layers, options)}
    return found | norms_facts(layers) | theta_facts(model, options, measuring)


def theta_facts(model: nn.Module, options: Options, measuring: Mapping[str, Any]) -> dict[str, Any]:
    """Which parameters Theta holds, as asked for and as found; nothing for all of them.

    Args:
        model: The network.
        options: How it is measured, with the parameters that were trainable at first by name.
        measuring: The same, as given to the recorder.
    """
    asked = measuring.get("parameters", "all")
    if asked == "all":
        return {}
    found, known = theta_of(model, options.parameters), theta_of(model, "all")
    return {
        "parameters": asked if isinstance(asked, str) else list(asked),
        PARAMETERS_FOUND: f"{len(found)} of {len(known)} ({_digest(';'.join(found))})",
    }


def norms_facts(layers: Sequence[AnyLayer]) -> dict[str, Any]:
    """Which batch norms gave the rows their scales, as found by tracing."""
    text = "".join(f"{layer.name} {layer.norms} {layer.numbers};" for layer in layers)
    number = sum(norm is not None for layer in layers for norm in layer.norms)
    return {NORMS_FOUND: f"{number} channels ({_digest(text)})"}


def coverage_facts(coverage: Coverage) -> dict[str, Any]:
    """Measured fraction of the matrix weights, and what is left out of them."""
    left_out = [f"{name}: {reason}" for name, reason in coverage.left_out.items()]
    return {"coverage": coverage.of_matrices, "left_out": left_out}


def sampling_facts(batches: Sequence[Batch], options: Options, whole: str) -> dict[str, Any]:
    """How the sample was drawn, which its standard errors depend on.

    Args:
        batches: The sample.
        options: Measuring options.
        whole: Why batches cannot be split; "" if they may be.

    Returns:
        The number of examples, and that of batches, if errors are over these instead; the number of
        examples with a weight in the loss, if not all have one; the size of the half samples, if
        any; and of what is measured with standard errors their degrees of freedom, strata and
        population.

    Raises:
        MeasureError: As for `pruneviz.measuring.strata.strata_of_batches`.
    """
    together = whole or (SHARED if options.bn == "batch" else "")
    facts: dict[str, Any] = {SAMPLE_SIZE: sample_size(batches)}
    if together:
        facts[BATCHES] = len(batches)
    if options.samples == 2:
        facts["half_size"] = half_size(batches, options, whole)
    weights = stated_weights(batches, options)
    if weights is not None and not bool((weights > 0).all()):
        facts[COUNTED] = int((weights > 0).sum())
    strata = strata_of_batches(batches, together, options.loss, options, weights)
    if any("_se" in name for name in options.wanted()):
        facts |= stated_degrees(strata.degrees, options.wanted(), options.row_kind)
        facts["strata"] = "classes" if strata.drawn > 1 else "none"
        if options.population is not None:
            facts["population"] = options.population
    return facts


def rows_facts(layers: Sequence[AnyLayer], options: Options) -> dict[str, Any]:
    """What the rows of the log are, in a form that tells other choices of them apart."""
    digest = _digest("".join(map(_described, layers)))
    rows = sum(layer.filters for layer in layers)
    what = "filter" if options.row_kind == "weight" else options.row_kind
    return {"rows": f"{rows} x {what} in {len(layers)} layers ({digest})", "kept": options.kept}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:8]


def check_layer_names(names: Iterable[str]) -> None:
    """Check that the names of layers can be stored and read.

    Raises:
        LogError: If one is no Unicode, or far too long.
    """
    for name in names:
        if limits.readable(str(name)) != str(name):
            raise LogError(f"the layer {name!r} has a name that is no Unicode; give it another one")
        if len(str(name)) > limits.MOST_LETTERS:
            raise LogError(
                f"the layer {str(name)[:60]}... has a name of {len(name):,} letters, at most "
                f"{limits.MOST_LETTERS:,} can be read; give it a shorter one"
            )


def _described(layer: AnyLayer) -> str:
    """A layer and the entries of its rows as text."""
    if isinstance(layer, Layer):
        return f"{layer.name} {layer.weight} {layer.filters} {layer.dims} {layer.groups};"
    parts = [(p.parameter, p.dim, p.index.tolist(), p.unit.tolist()) for p in layer.slices]
    return f"{layer.name} {layer.filters} {parts};"


def machine_facts(model: nn.Module) -> dict[str, Any]:
    """Facts that a user may override: network name, machine, command and versions."""
    return {
        "network": type(model).__name__,
        "device_name": _device_name(model_device(model)),
        "threads": torch.get_num_threads(),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python, CUDA and the packages that affect the numbers, by name."""
    found = {"python": platform.python_version(), "cuda": torch.version.cuda or "none"}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
