"""Standard errors, compared with how much columns vary over fresh samples.

A ratio is the stated error, root mean square over some samples, over the actual standard deviation
over many others, row by row. Both are estimates: 12 samples with 8 draws tell the stated one to
7 %, 200 samples the actual one to 5 %.
"""

from __future__ import annotations

import pytest

from tests.support.fresh_samples import ratios

LOW, HIGH, SHARE = 0.8, 1.25, 0.9
# network, epochs, design, examples. The mean of |g| is left out where g is noise: `abs_theta_g` has
# no standard error near 0.
FEW = [
    ("mlp", 0, "balanced", 200),
    ("cnn", 0, "iid", 150),
    ("mlp", 3, "iid", 400),
    ("cnn", 2, "balanced", 200),
]
MANY = [
    (network, epochs, design, 400)
    for network in ("mlp", "cnn")
    for epochs in (0, 1, 3, 6)
    for design in ("iid", "balanced")
]


def columns_of(epochs: int) -> list[str]:
    return ["theta_g", "theta_hg", *(["abs_theta_g"] if epochs else [])]


@pytest.mark.parametrize(("network", "epochs", "design", "examples"), FEW)
def test_stated_errors_are_those_of_fresh_samples(
    network: str, epochs: int, design: str, examples: int
) -> None:
    found = ratios(network, epochs, design, examples, stated=12, actual=200)
    for column in columns_of(epochs):
        good = found[f"{column}_se"].between(LOW, HIGH).mean()
        assert good >= SHARE, f"{column}: {found[f'{column}_se'].describe()}"
    assert found["theta_hg_se_given_g"].median() < 0.8  # g varies too
