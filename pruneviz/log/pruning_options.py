"""Pruning options, shared by command line, plans, specs and captions.

Every list of these options is derived from the fields of `PruningOptions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from pruneviz.errors import PresetError
from pruneviz.log.arguments import is_number, is_whole
from pruneviz.log.vocabulary import Kind, PruningSchedule


def _about(help: str, *, caption: str = "", unknown: Any = None) -> dict[str, Any]:
    """Metadata of an option: help text, label in captions, and its value in specs that lack it."""
    return {"help": help, "caption": caption, "unknown": unknown}


@dataclass(frozen=True)
class PruningOptions:
    """Options of pruning in rounds; the metadata of each field describes it.

    The spec of a custom training loop may lack some options; these have the value of their metadata
    `unknown`, None for most. Plans are complete, see `check_complete`.

    Raises:
        PresetError: If `target` or `rounds` is out of range; names the option, its value and the
            range.

    References:
        Lubana and Dick, ICLR 2021, and its published code.
    """

    measure: str = field(
        metadata=_about("Pruning measure; the filters with the lowest scores are pruned first.")
    )
    target: float | None = field(
        default=None,
        metadata=_about(
            "Fraction of all filters to prune.",
            caption="fraction of filters to prune",
            unknown=0.0,
        ),
    )
    rounds: int = field(
        default=1,
        metadata=_about(
            "Number of pruning rounds, one per epoch.", caption="pruning rounds", unknown=0
        ),
    )
    schedule: PruningSchedule = field(
        default="published",
        metadata=_about(
            "Filters per round: most in early rounds, as in the published code (published), "
            "or the same number in each round (linear).",
            caption="schedule of the rounds",
        ),
    )
    prune_at_start: bool = field(
        default=False,
        metadata=_about(
            "Prune before the first epochs instead of after them, "
            "so that the first round prunes the untrained network.",
            caption="rounds before their epochs instead of after them",
        ),
    )
    carry_momentum: bool = field(
        default=False,
        metadata=_about(
            "Keep the optimiser's momentum at a pruning round instead of resetting it.",
            caption="momentum carried over a round",
        ),
    )
    keep_at_least: float = field(
        default=0.05,
        metadata=_about(
            "Fraction of the filters in each layer that is never pruned, plus one filter; "
            "0 for no minimum.",
            caption="fraction of every layer that stays (and one filter)",
        ),
    )
    prune_phase_only: bool = field(
        default=False,
        metadata=_about("Stop training after the last round, without fine-tuning.", unknown=False),
    )
    flowandprune: bool = field(
        default=False,
        metadata=_about(
            "Imitate the known faults of the published code, for comparisons.",
            caption="faults of the published code imitated",
            unknown=False,
        ),
    )

    def __post_init__(self) -> None:
        if self.target is not None and not (is_number(self.target) and 0 <= self.target < 1):
            raise PresetError(self._wrong_target())
        if not is_whole(self.rounds) or self.rounds < 0:
            raise PresetError(f"rounds is {self.rounds!r}, expected a whole number from 0")

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> PruningOptions | None:
        """Read the options from the flat facts of a spec; None without pruning."""
        found = {name: facts.get(name, value) for name, value in UNKNOWN.items()}
        return None if found == UNKNOWN else cls(**found)

    def check_complete(self) -> None:
        """Check that a run can be pruned with these options.

        Raises:
            PresetError: If an option is missing or out of range, or if two contradict each other.
        """
        if self.rounds < 1:
            raise PresetError(f"{self.rounds} rounds prune nothing; give 1 round or more")
        if not self.target:
            raise PresetError(self._wrong_target())
        if not (is_number(self.keep_at_least) and 0 <= self.keep_at_least < 1):
            raise PresetError(
                f"keep_at_least is {self.keep_at_least!r}, expected a fraction of a layer "
                "from 0 to below 1"
            )
        if self.measure is None:
            raise PresetError(
                f"{self.rounds} pruning rounds but no measure to rank filters by; "
                "name one, such as magnitude"
            )
        self._check_schedule()
        self._check_momentum()

    def _wrong_target(self) -> str:
        return (
            f"target is {self.target!r}, expected the fraction of filters to prune, "
            "above 0 and below 1, such as 0.6"
        )

    def _check_schedule(self) -> None:
        if self.schedule == "linear" and self.rounds == 1:
            raise PresetError(
                "one round prunes the same by every schedule; "
                "give more rounds, or leave out the linear schedule"
            )
        if self.schedule == "linear" and self.flowandprune:
            raise PresetError(
                "flowandprune imitates the published code, which has no linear schedule; "
                "leave out one of the two"
            )

    def _check_momentum(self) -> None:
        one_sided = self.prune_at_start or self.prune_phase_only
        if self.carry_momentum and self.rounds == 1 and one_sided:
            when = "before" if self.prune_at_start else "after"
            raise PresetError(
                f"nothing is trained {when} the only round, so there is no momentum to carry "
                "over it; leave out carry_momentum"
            )


OPTION_NAMES = tuple(option.name for option in fields(PruningOptions))

# Facts in the spec of a run that never prunes.
UNKNOWN: Mapping[str, Any] = {
    option.name: option.metadata["unknown"] for option in fields(PruningOptions)
}


def pruning_facts(pruning: PruningOptions | None) -> dict[str, Any]:
    """Flat facts for a spec, with or without pruning."""
    if pruning is None:
        return dict(UNKNOWN)
    facts = {name: getattr(pruning, name) for name in OPTION_NAMES}
    return {name: UNKNOWN[name] if value is None else value for name, value in facts.items()}


def option_help(name: str) -> str:
    """Help text of an option, with its default if it has one."""
    (option,) = (option for option in fields(PruningOptions) if option.name == name)
    text, default = option.metadata["help"], option.default
    if default is MISSING or default is None or default is False:
        return text
    return f"{text} Default: {default}."


def kind_of(unit: str, pruning: PruningOptions | None) -> Kind:
    """The kind of a run, from its row kind and pruning."""
    if pruning is not None and pruning.rounds:
        return "prune_phase" if pruning.prune_phase_only else "pruned"
    return "weights" if unit == "weight" else "unpruned"
