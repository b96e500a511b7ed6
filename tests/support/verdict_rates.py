"""How often the rules give each verdict, on recordings made up so that the truth is known.

`python -m tests.support.verdict_rates` prints the table of docs/claims.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from pruneviz.analysis.claims import RULES
from pruneviz.analysis.lead_tests import lead
from pruneviz.analysis.multiple import holm
from pruneviz.analysis.rules_convergence import ROUNDING, Pair, judge_pairs
from pruneviz.analysis.rules_curve import association
from pruneviz.analysis.rules_curve import decide as decide_curve
from pruneviz.analysis.rules_ratios import Ahead, judge_leads
from pruneviz.analysis.rules_scatter import agreements
from pruneviz.analysis.rules_scatter import decide as decide_scatter

SCATTER, CURVE = RULES["high correlation"], RULES["association with masks"]
CONVERGENCE, RATIOS = RULES["order of convergence"], RULES["first layers"]
PANELS = 3  # networks of a figure of curves


@dataclass(frozen=True)
class Agreeing:
    """Correlations of seeds: normal on the scale of atanh.

    Attributes:
        r: tanh of the mean of atanh r.
        ranks: The same of Spearman's coefficient.
        clear: Share of the points that is clear of noise.
        spread: Standard deviation of atanh r between seeds.
        seeds: Number of seeds.
    """

    rule: ClassVar[str] = "high correlation"
    r: float
    ranks: float = 0.75
    clear: float = 0.8
    spread: float = 0.25
    seeds: int = 3

    def verdicts(self, repeats: int, seed: int) -> list[str]:
        """The verdict on each of many sets of recordings."""
        random = np.random.default_rng(seed)
        shape = (repeats, self.seeds)
        names = [f"s{number}" for number in range(self.seeds)]

        def drawn(centre: float) -> np.ndarray:
            noise = self.spread * random.standard_normal(shape)
            return np.tanh(np.arctanh(centre) + noise).ravel()

        found = pd.DataFrame(
            {
                "run": names * repeats,
                "epoch": np.repeat(np.arange(repeats), self.seeds),
                "pearson": drawn(self.r),
                "spearman": drawn(self.ranks),
                "clear": self.clear,
                "clear_in": "theta_g and theta_hg",
            }
        )
        spec = pd.DataFrame({"run": names})
        return [decide_scatter(one, SCATTER)[0] for one in agreements(found, spec).values()]


@dataclass(frozen=True)
class Moving:
    """Curves and mask distances over epochs, the networks of a figure at a time.

    Each has the trend that all seeds share, and a part of its own, an AR(1) series.

    Attributes:
        own: How far a curve follows the own part of its run's distances, downwards.
        trend: Rise of the curve, and fall of the distances, over the training.
        memory: Correlation of the own parts between neighbouring epochs.
        noise: Size of the part of a curve that has to do with nothing.
        seeds: Number of seeds.
        epochs: Number of epochs.
    """

    rule: ClassVar[str] = "association with masks"
    own: float
    trend: float = 2.0
    memory: float = 0.5
    noise: float = 1.0
    seeds: int = 5
    epochs: int = 15

    def verdicts(self, repeats: int, seed: int) -> list[str]:
        """The verdict on each of many sets of recordings."""
        random = np.random.default_rng(seed)
        words = []
        for _ in range(repeats // PANELS):
            found = [association(*self.drawn(random)) for _ in range(PANELS)]
            corrected = holm([one.p for one in found])
            both = zip(found, corrected, strict=True)
            words += [decide_curve(one, float(p), CURVE)[0] for one, p in both]
        return words

    def drawn(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Curves and distances of one network."""
        time = np.linspace(0, 1, self.epochs)
        moved, unrelated = self._series(random), self._series(random)
        distances = -self.trend * time + moved
        return self.trend * time - self.own * moved + self.noise * unrelated, distances

    def _series(self, random: np.random.Generator) -> np.ndarray:
        steps = random.standard_normal((self.epochs, self.seeds))
        steps[1:] *= np.sqrt(1 - self.memory**2)
        for epoch in range(1, self.epochs):
            steps[epoch] += self.memory * steps[epoch - 1]
        return steps.T


@dataclass(frozen=True)
class Leading:
    """Leads in convergence of one figure, paired by seed.

    Attributes:
        lead: Mean lead, in points or epochs.
        sd: Its standard deviation between seeds.
        seeds: Number of seeds.
        unit: "points", or "epochs", which are counted in whole ones.
        leads: Number of leads in a figure: pairs of measures and data sets.
        skewed: Whether leads scatter like an exponential in the place of a normal.
    """

    rule: ClassVar[str] = "order of convergence"
    lead: float
    sd: float = 1.0
    seeds: int = 5
    unit: str = "points"
    leads: int = 2
    skewed: bool = False

    def verdicts(self, repeats: int, seed: int) -> list[str]:
        """The verdict on each of many leads."""
        random = np.random.default_rng(seed)
        words = []
        for _ in range(repeats // self.leads):
            words += self.of_figure(random)
        return words

    def of_figure(self, random: np.random.Generator) -> list[str]:
        """The verdicts on the leads of one figure."""
        least = ROUNDING if self.unit == "epochs" else 0.0
        pairs = [
            Pair("a", "b", self.unit, lead(self._drawn(random), least), seeds=self.seeds)
            for _ in range(self.leads)
        ]
        return [verdict for verdict, _, _ in judge_pairs(pairs, CONVERGENCE)]

    def _drawn(self, random: np.random.Generator) -> np.ndarray:
        if self.unit == "epochs":  # the first epoch at or above an accuracy
            each = self.sd / np.sqrt(2)
            slow = random.normal(20 + self.lead, each, self.seeds)
            return np.ceil(slow) - np.ceil(random.normal(20, each, self.seeds))
        if self.skewed:
            return self.lead - self.sd * (random.exponential(1, self.seeds) - 1)
        return random.normal(self.lead, self.sd, self.seeds)


@dataclass(frozen=True)
class Pruning:
    """Leads in the pruned share of the first layers, after 5 and after 25 rounds.

    Attributes:
        lead: Mean lead over the next measure, in percentage points.
        sd: Its standard deviation between seeds.
        seeds: Number of seeds.
    """

    rule: ClassVar[str] = "first layers"
    lead: float
    sd: float = 5.0
    seeds: int = 5

    def verdicts(self, repeats: int, seed: int) -> list[str]:
        """The verdict on each of many panels."""
        random = np.random.default_rng(seed)
        words = []
        for _ in range(repeats // 2):
            words += self.of_figure(random)
        return words

    def of_figure(self, random: np.random.Generator) -> list[str]:
        """The verdicts on the two panels of one figure."""
        found = [Ahead(lead(random.normal(self.lead, self.sd, self.seeds))) for _ in range(2)]
        return [verdict for verdict, _, _ in judge_leads(found, RATIOS)]


Case = Agreeing | Moving | Leading | Pruning

# Cases by what the right verdict is; "undecided" is never wrong.
TRUE: Mapping[str, Case] = {
    "r 0.95 in 3 seeds": Agreeing(0.95),
    "r 0.9 in 3 seeds": Agreeing(0.9),
    "r 0.9 in 5 seeds": Agreeing(0.9, seeds=5),
    "own association, 5 seeds": Moving(1.0, noise=0.3),
    "own association of half the noise, 5 seeds": Moving(0.5),
    "the same, 8 seeds": Moving(0.5, seeds=8),
    "lead of 2 sd (4 points), 3 seeds": Leading(4, 2, seeds=3),
    "lead of 2 sd (4 points), 5 seeds": Leading(4, 2),
    "lead of 2 sd (4 points), 10 seeds": Leading(4, 2, seeds=10),
    "lead of 4 epochs, sd 2, 5 seeds": Leading(4, 2, unit="epochs"),
    "lead just at the zone, 5 seeds": Leading(1),
    "lead of 30 points, 3 seeds": Pruning(30, seeds=3),
    "lead of 30 points, 5 seeds": Pruning(30),
    "lead just above 20 points, 5 seeds": Pruning(20.001),
}
FALSE: Mapping[str, Case] = {
    "r 0.3 in 3 seeds": Agreeing(0.3),
    "r just below 0.7 in 3 seeds": Agreeing(0.6999),
    "r just below 0.7 in 5 seeds": Agreeing(0.6999, seeds=5),
    "r 0.95, but ranks 0.2": Agreeing(0.95, ranks=0.2),
    "shared trend, nothing else": Moving(0.0, trend=4.0),
    "shared trend, 8 seeds": Moving(0.0, trend=4.0, seeds=8),
    "unrelated series, AR(1) 0.95": Moving(0.0, trend=0.0, memory=0.95),
    "shared trend and AR(1) 0.95": Moving(0.0, memory=0.95),
    "no lead, 3 seeds": Leading(0, seeds=3),
    "no lead, 5 seeds": Leading(0),
    "no lead, sd 0.3, 5 seeds": Leading(0, 0.3),
    "no lead in epochs, sd 0.5, 5 seeds": Leading(0, 0.5, unit="epochs"),
    "no lead, exponential, 5 seeds": Leading(0, skewed=True),
    "other way round by 2 sd, 5 seeds": Leading(-4, 2),
    "lead of 10 points, 5 seeds": Pruning(10),
    "lead just below 20 points, 3 seeds": Pruning(19.999, seeds=3),
    "lead just below 20 points, 5 seeds": Pruning(19.999),
}
OPEN: Mapping[str, Case] = {
    "r 0.95 of which 40 % is clear of noise": Agreeing(0.95, clear=0.4),
    "r 0.3 of which 40 % is clear of noise": Agreeing(0.3, clear=0.4),
    "lead of 0.5 points, sd 5, 3 seeds": Leading(0.5, 5, seeds=3),
}


def rates(case: Case, repeats: int = 300, seed: int = 0) -> Mapping[str, float]:
    """Share of each verdict."""
    words = case.verdicts(repeats, seed)
    return {word: count / len(words) for word, count in Counter(words).items()}


def table(repeats: int = 1500) -> str:
    """All rates as Markdown."""
    lines = ["| rule | truth | case | supported | not supported | undecided |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for truth, cases in (("true", TRUE), ("false", FALSE), ("noise", OPEN)):
        for name, case in cases.items():
            found = rates(case, repeats)
            shares = " | ".join(
                f"{100 * found.get(word, 0):.1f} %"
                for word in ("supported", "not supported", "undecided")
            )
            lines.append(f"| {case.rule} | {truth} | {name} | {shares} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(table())
