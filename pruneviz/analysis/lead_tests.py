"""Mean leads over seeds: their interval, tests that they exceed or miss a bound, and power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special  # not scipy.stats, whose import takes half a second

from pruneviz.analysis.checks import check_level
from pruneviz.analysis.multiple import holm
from pruneviz.errors import AnalysisError

LEVEL = 0.95  # default confidence level
EFFECT = 2.0  # lead over its standard deviation at which power is told in words


@dataclass(frozen=True)
class Lead:
    """A lead of one thing over another, paired by seed.

    Attributes:
        mean: Mean over seeds; NaN for none.
        sd: Standard deviation between seeds, at least the given one; NaN for fewer than two.
        low: Lower end of Student's t interval of the mean; NaN for fewer than two seeds.
        high: Upper end.
        seeds: Number of seeds.
    """

    mean: float
    sd: float
    low: float
    high: float
    seeds: int

    def p_above(self, bound: float) -> float:
        """p-value of "the mean lead is at most `bound`"; small if it is above.

        It is twice the one-sided p of Student's t, so that 0.05 goes with a 95 % interval whose
        lower end is at `bound`.
        """
        return self._p(self.mean - bound)

    def p_below(self, bound: float) -> float:
        """p-value of "the mean lead is at least `bound`"; small if it is below."""
        return self._p(bound - self.mean)

    def p_within(self, zone: float) -> float:
        """p-value of "the mean lead is `zone` or more in either direction"; small if it is not.

        References:
            Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 1987: two one-sided tests.
        """
        return float(np.maximum(self.p_above(-zone), self.p_below(zone)))

    def _p(self, distance: float) -> float:
        if self.seeds < 2:
            return np.nan
        error = self.sd / np.sqrt(self.seeds)
        if error == 0:  # no spread at all: only a distance of 0 leaves any doubt
            return 0.0 if distance > 0 else 1.0
        return float(min(1.0, 2 * special.stdtr(self.seeds - 1, -distance / error)))


def lead(values: np.ndarray, least_sd: float = 0.0, level: float = LEVEL) -> Lead:
    """Average differences between two things over seeds.

    Args:
        values: One difference per seed.
        least_sd: Standard deviation that is assumed if the values vary less, as values that are
            counted in whole steps can.
        level: Confidence level of the interval, between 0 and 1.

    Raises:
        AnalysisError: If `level` is outside (0, 1).

    Example:
        >>> lead(np.array([2.0, 3.0, 2.5]))
    """
    check_level(level)
    found = np.asarray(values, dtype="float64")
    seeds = len(found)
    mean = float(np.mean(found)) if seeds else np.nan
    if seeds < 2:
        return Lead(mean, np.nan, np.nan, np.nan, seeds)
    sd = max(float(np.std(found, ddof=1)), least_sd)
    half = float(special.stdtrit(seeds - 1, (1 + level) / 2)) * sd / np.sqrt(seeds)
    return Lead(mean, sd, mean - half, mean + half, seeds)


def corrected_tests(
    leads: Sequence[Lead | None], above: float, below: float
) -> list[tuple[float, float]]:
    """Test whether leads of one family exceed a bound, and whether they miss another.

    Args:
        leads: The leads; None for those that cannot be tested, which do not count.
        above: A lead that is larger is above.
        below: A lead that is smaller is below.

    Returns:
        For each lead the p-values of `Lead.p_above` and `Lead.p_below`, each corrected by Holm over
        the family; NaN for None.
    """
    p_above = holm([np.nan if one is None else one.p_above(above) for one in leads])
    p_below = holm([np.nan if one is None else one.p_below(below) for one in leads])
    return list(zip(p_above.tolist(), p_below.tolist(), strict=True))


def power(seeds: int, effect: float, level: float = LEVEL) -> float:
    """Chance that the whole interval of a mean lead lies above zero.

    Args:
        seeds: Number of seeds, at least 2.
        effect: True mean lead over the true standard deviation between seeds.
        level: Confidence level of the interval, between 0 and 1.

    Returns:
        The power of Student's paired t test against the one direction, for normal leads.

    Raises:
        AnalysisError: If `seeds` is below 2; if `level` is outside (0, 1).

    References:
        Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, chapter 2.
    """
    check_level(level)
    if seeds < 2:
        raise AnalysisError(f"seeds is {seeds}; an interval over seeds needs 2 or more")
    critical = special.stdtrit(seeds - 1, (1 + level) / 2)
    # Of the mirrored statistic: the distribution function of noncentral t is precise there.
    return float(special.nctdtr(seeds - 1, -effect * np.sqrt(seeds), -critical))


def told_power(seeds: int) -> str:
    """How likely so few seeds show a lead, in words.

    Args:
        seeds: Number of seeds, at least 2.
    """
    return (
        f"{seeds} seeds show a lead of {EFFECT:g} sd in {100 * power(seeds, EFFECT):.0f} % of cases"
    )
