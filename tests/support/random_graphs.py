"""Random small networks, and what pruning is to do to them, worked out channel by channel.

A channel is told by what it is made of, as an expression over filters. From this follow the groups,
what is pruned with a filter, and the outputs without it, independent of how the package finds them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from hypothesis.strategies import SearchStrategy, builds, integers, lists, sampled_from, tuples
from torch import Tensor, nn

from tests.support.cases import norm2d, randomise

Filter = tuple[str, int]
Made = tuple[str, frozenset["Made"]] | Filter | None  # a sum or product, a filter, or the input
KINDS = ("conv", "depthwise", "grouped", "norm", "relu", "sigmoid", "add", "cat", "gate")
MOST_CHANNELS = 6


@dataclass(frozen=True)
class Step:
    """A module or operation, the values that it reads, and its module's name ("" without one)."""

    kind: str
    reads: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True)
class Plan:
    """Steps, each of which makes one value; value 0 is the input of one channel."""

    steps: tuple[Step, ...]
    channels: tuple[int, ...]
    flat: bool

    @property
    def ends(self) -> list[int]:
        """Values that no step reads; all of them are read by the classifier."""
        read = {value for step in self.steps for value in step.reads}
        return [value for value in range(len(self.channels)) if value not in read]


Drawn = tuple[str, int, int, int]


def plan_of(drawn: Sequence[Drawn], flat: bool) -> Plan:
    """A plan from numbers; what does not fit is left out."""
    steps: list[Step] = []
    channels = [1]
    for kind, i, j, k in [("conv", 0, 0, 2), *drawn]:
        a, b = i % len(channels), j % len(channels)
        name = f"{kind}{len(steps)}" if kind in ("conv", "depthwise", "grouped", "norm") else ""
        size, reads = channels[a], (a,)
        if kind in ("add", "gate", "cat"):
            reads = (a, b)
            if a == b or (kind != "cat" and channels[b] != size):
                continue
            size += channels[b] if kind == "cat" else 0
        elif kind == "conv":
            size = 1 + k
        elif kind == "depthwise":
            size *= 1 + k % 2
        elif kind == "grouped":
            if size % 2:
                continue
            size = 2 * (1 + k % 2)
        if size <= MOST_CHANNELS:
            steps.append(Step(kind, reads, name))
            channels.append(size)
    return Plan(tuple(steps), tuple(channels), flat)


PLANS: SearchStrategy[Plan] = builds(
    plan_of,
    lists(tuples(sampled_from(KINDS), *[integers(0, 9)] * 2, integers(0, 3)), max_size=9),
    sampled_from([False, True]),
)


class Graph(nn.Module):
    """The network of a plan, with random weights and statistics in float64."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        for value, step in enumerate(plan.steps, start=1):
            inputs, outputs = plan.channels[step.reads[0]], plan.channels[value]
            groups = {"depthwise": inputs, "grouped": 2}.get(step.kind, 1)
            if step.kind == "norm":
                self.add_module(step.name, norm2d(outputs))
            elif step.name:
                self.add_module(
                    step.name,
                    nn.Conv2d(inputs, outputs, 1 + value % 2 * 2, padding=value % 2, groups=groups),
                )
        read = sum(plan.channels[end] for end in plan.ends)
        self.fc = nn.Linear(read * (9 if plan.flat else 1), 3)
        randomise(self)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, lambda value, of: of)

    def run(self, x: Tensor, seen: Callable[[int, Tensor], Tensor]) -> Tensor:
        """The outputs, where every value is changed by `seen` of its number and itself."""
        values = [x]
        for step in self.plan.steps:
            read = [values[value] for value in step.reads]
            values.append(seen(len(values), self._made(step, read)))
        ends = torch.cat([values[end] for end in self.plan.ends], 1)
        return self.fc(ends.flatten(1) if self.plan.flat else ends.mean((2, 3)))

    def _made(self, step: Step, read: list[Tensor]) -> Tensor:
        if step.name:
            return self.get_submodule(step.name)(read[0])
        return {
            "relu": lambda a: a.relu(),
            "sigmoid": lambda a: a.sigmoid(),
            "add": lambda a, b: a + b,
            "gate": lambda a, b: a * b.sigmoid(),
            "cat": lambda a, b: torch.cat([a, b], 1),
        }[step.kind](*read)


def made_of(plan: Plan) -> list[list[Made]]:
    """What each channel of each value is made of."""
    found: list[list[Made]] = [[None]]
    for value, step in enumerate(plan.steps, start=1):
        read = [found[each] for each in step.reads]
        if step.kind in ("conv", "depthwise", "grouped"):
            found.append([(step.name, p) for p in range(plan.channels[value])])
        elif step.kind == "cat":
            found.append([*read[0], *read[1]])
        elif step.kind in ("add", "gate"):
            found.append([(step.kind, frozenset(two)) for two in zip(*read, strict=True)])
        else:
            found.append(read[0])
    return found


def is_gone(made: Made, pruned: Collection[Filter]) -> bool:
    """Whether a channel is made of pruned filters alone; a product, if one factor is."""
    if made is None:
        return False
    if isinstance(made[1], frozenset):
        return (any if made[0] == "gate" else all)(is_gone(part, pruned) for part in made[1])
    return made in pruned


def feeds(plan: Plan) -> list[tuple[list[Filter], list[Made]]]:
    """Filters that read the same channels, and these channels."""
    found, made = [], made_of(plan)
    for value, step in enumerate(plan.steps, start=1):
        if step.kind in ("conv", "depthwise", "grouped"):
            inputs, outputs = made[step.reads[0]], plan.channels[value]
            groups = {"depthwise": len(inputs), "grouped": 2}.get(step.kind, 1)
            for group in range(groups):
                filters = [(step.name, p) for p in range(outputs)][
                    group * outputs // groups : (group + 1) * outputs // groups
                ]
                found.append(
                    (
                        filters,
                        inputs[group * len(inputs) // groups : (group + 1) * len(inputs) // groups],
                    )
                )
    return found


def filters_in(made: Made) -> frozenset[Filter]:
    if made is None:
        return frozenset()
    if isinstance(made[1], frozenset):
        return frozenset().union(*map(filters_in, made[1]))
    return frozenset([made])


def groups_of(plan: Plan, filters: Collection[Filter]) -> dict[Filter, set[Filter]]:
    """The group of every filter: the two factors of a product, and a filter with its only input.

    A factor of several products decides for itself, as does a factor of several filters.
    """
    groups = {own: {own} for own in filters}

    def join(own: Filter, other: Filter) -> bool:
        if own not in groups or other not in groups or groups[own] is groups[other]:
            return False
        groups[own] |= groups[other]
        groups.update(dict.fromkeys(groups[own], groups[own]))
        return True

    pairs = products(plan)
    times = Counter(factor for pair in pairs for factor in pair)
    for pair in pairs:
        if all(times[factor] == 1 for factor in pair):
            join(*pair)
    depends = [
        (own, sorted(frozenset().union(*map(filters_in, inputs))))
        for filters, inputs in feeds(plan)
        if not is_plain(plan, filters[0][0]) and all(map(filters_in, inputs))
        for own in filters
    ]
    while any(
        join(own, sources[0])
        for own, sources in depends
        if all(source in groups and groups[source] is groups[sources[0]] for source in sources)
    ):
        pass
    return groups


def products(plan: Plan) -> set[tuple[Filter, Filter]]:
    """Filters that are multiplied with each other, as parts of the two factors of a gate."""
    made = made_of(plan)
    return {
        (min(one, other), max(one, other))
        for step in plan.steps
        if step.kind == "gate"
        for two in zip(*(made[value] for value in step.reads), strict=True)
        for one in filters_in(two[0])
        for other in filters_in(two[1])
        if one != other
    }


def is_plain(plan: Plan, name: str) -> bool:
    """Whether a convolution has a single group, as one of one channel also has."""
    (step,) = [step for step in plan.steps if step.name == name]
    return step.kind == "conv" or plan.channels[step.reads[0]] == 1


def closed(
    plan: Plan, groups: Mapping[Filter, Collection[Filter]], pruned: Collection[Filter]
) -> set[Filter]:
    """Pruned filters with their groups, and with all that read nothing else."""
    gone: set[Filter] = set()
    more = set(pruned)
    while more:
        gone |= more
        more = {member for own in gone for member in groups.get(own, [own])}
        for filters, inputs in feeds(plan):
            if all(is_gone(made, gone) for made in inputs):
                more |= set(filters)
        more -= gone
    return gone


def outputs_without(network: Graph, pruned: Collection[Filter], x: Tensor) -> Tensor:
    """Outputs as if what is made of pruned filters alone were not there: it adds nothing."""
    made = made_of(network.plan)

    def seen(value: int, of: Tensor) -> Tensor:
        there = [not is_gone(channel, pruned) for channel in made[value]]
        return of * torch.tensor(there, dtype=of.dtype)[:, None, None]

    return network.run(x, seen)
