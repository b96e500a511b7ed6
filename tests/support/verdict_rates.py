"""How often the rules give each verdict, on recordings made up so that the truth is known.

`python -m tests.support.verdict_rates` prints the table of docs/claims.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pruneviz.analysis.claims import RULES
from pruneviz.analysis.multiple import holm
from pruneviz.analysis.rules_curve import association
from pruneviz.analysis.rules_curve import decide as decide_curve
from pruneviz.analysis.rules_scatter import agreements
from pruneviz.analysis.rules_scatter import decide as decide_scatter

SCATTER, CURVE = RULES["high correlation"], RULES["association with masks"]
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


Case = Agreeing | Moving

# Cases by what the right verdict is; "undecided" is never wrong.
TRUE: Mapping[str, Case] = {
    "r 0.95 in 3 seeds": Agreeing(0.95),
    "r 0.9 in 3 seeds": Agreeing(0.9),
    "r 0.9 in 5 seeds": Agreeing(0.9, seeds=5),
    "own association, 5 seeds": Moving(1.0, noise=0.3),
    "own association of half the noise, 5 seeds": Moving(0.5),
    "the same, 8 seeds": Moving(0.5, seeds=8),
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
}
OPEN: Mapping[str, Case] = {
    "r 0.95 of which 40 % is clear of noise": Agreeing(0.95, clear=0.4),
    "r 0.3 of which 40 % is clear of noise": Agreeing(0.3, clear=0.4),
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
            rule = "high correlation" if isinstance(case, Agreeing) else "association with masks"
            shares = " | ".join(
                f"{100 * found.get(word, 0):.1f} %"
                for word in ("supported", "not supported", "undecided")
            )
            lines.append(f"| {rule} | {truth} | {name} | {shares} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(table())
