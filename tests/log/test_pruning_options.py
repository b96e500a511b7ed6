"""One list of pruning options serves the commands, the spec, the fixed facts and captions."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
import typer.main

from pruneviz import record
from pruneviz.analysis.settings import settings_of
from pruneviz.errors import LogError, PresetError
from pruneviz.figures.long_caption import PRUNING_FACTS
from pruneviz.log.pruning_options import PruningOptions, kind_of, option_help
from pruneviz.log.run_directory import RunLog, check_same_options
from pruneviz.log.run_spec import RunSpec

OPTIONS = {field.name: field for field in fields(PruningOptions)}
FULL = PruningOptions(
    measure="grasp",
    target=0.3,
    rounds=7,
    schedule="linear",
    prune_at_start=True,
    carry_momentum=True,
    keep_at_least=0.125,
    prune_phase_only=True,
    flowandprune=True,
)
# Of a run that never prunes, as `spec.json` has always held it.
UNPRUNED = {
    "measure": None,
    "target": 0.0,
    "rounds": 0,
    "schedule": None,
    "prune_at_start": None,
    "carry_momentum": None,
    "keep_at_least": None,
    "prune_phase_only": False,
    "flowandprune": False,
}


def test_every_option_is_one_option_of_the_record_command_with_its_help() -> None:
    command = typer.main.get_command(record.app)
    for name in OPTIONS:
        (parameter,) = (found for found in command.params if found.name == name)
        assert parameter.opts == [f"--{name.replace('_', '-')}"]
        assert option_help(name) in (parameter.help or ""), name


def test_every_option_stands_flat_in_the_spec_and_is_read_back() -> None:
    spec = RunSpec("r", pruning=FULL)
    told = spec.to_dict()
    assert {name: told[name] for name in OPTIONS} == vars(FULL)
    assert "pruning" not in told
    assert RunSpec.from_dict(told) == spec
    for name in OPTIONS:
        partial = {"run": "r", name: told[name]}
        again = RunSpec.from_dict(partial).to_dict()
        assert {option: again[option] for option in OPTIONS} == {**UNPRUNED, name: told[name]}


def test_a_run_that_never_prunes_has_the_facts_it_always_had() -> None:
    spec = RunSpec("r")
    facts = spec.to_dict()
    assert {name: facts[name] for name in OPTIONS} == UNPRUNED
    assert list(facts)[list(facts).index("measure") :][: len(UNPRUNED)] == list(UNPRUNED)
    for told in (facts, {"run": "r"}):
        assert RunSpec.from_dict(told).pruning is None


def test_every_option_is_fixed_once_a_run_is_begun(tmp_path: Path) -> None:
    log = RunLog.create(tmp_path / "r", RunSpec("r", pruning=FULL))
    told = log.spec.to_dict()
    assert check_same_options(log.path, told) == log.spec
    for name in OPTIONS:
        with pytest.raises(LogError, match=rf"other options: {name} was {told[name]!r}, now "):
            check_same_options(log.path, {name: UNPRUNED[name]})


def test_runs_that_are_averaged_share_every_option_and_captions_tell_those_with_a_label() -> None:
    for name in OPTIONS:
        assert settings_of(pd.DataFrame({name: [UNPRUNED[name], getattr(FULL, name)]})) == [name]
    unlabelled = {name for name in OPTIONS if not PRUNING_FACTS[name]}
    assert unlabelled == {"measure", "prune_phase_only"}


def test_every_option_is_described() -> None:
    assert [name for name in OPTIONS if not option_help(name).endswith(".")] == []
    assert option_help("keep_at_least").endswith("Default: 0.05.")
    assert "Default" not in option_help("target") + option_help("flowandprune")


@pytest.mark.parametrize("options", [{"target": 1.0}, {"target": -0.1}, {"rounds": -1}], ids=str)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(PresetError, match=rf"^{name} is .*, expected "):
        PruningOptions("magnitude", **options)  # type: ignore[arg-type]


def test_kinds() -> None:
    alone, whole = FULL, PruningOptions("grasp", 0.3)
    assert [kind_of("filter", pruning) for pruning in (None, whole, alone)] == [
        "unpruned",
        "pruned",
        "prune_phase",
    ]
    assert kind_of("weight", None) == RunSpec("r", unit="weight").kind == "weights"
    assert RunSpec("r", pruning=alone).kind == "prune_phase"
