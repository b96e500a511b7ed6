"""Processes with little memory: what is measured in chunks works, what cannot be says why."""

from __future__ import annotations

import sys

import pytest

from tests.support.limited_jobs import JOBS, Rung, outcomes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits are set as on Linux")

SHORT: list[Rung] = [
    ("check", "RLIMIT_AS", 24),
    ("record", "RLIMIT_DATA", 24),
    ("delta_loss", "RLIMIT_AS", 24),
    ("too large", "RLIMIT_AS", 24),
]
# Megabytes. With less than 48 libraries may end the process: convolutions run kernels that could
# not be compiled, and Arrow ends a process that cannot make its threads. Where that begins depends
# on how the process took its memory before.
LADDER = (24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
ENOUGH = 48


def test_a_recorder_works_under_limits_of_its_process() -> None:
    *fit, large = outcomes(SHORT, 96)
    assert fit == ["right in 0 halvings"] * len(fit)
    assert large.startswith("MeasureError: memory ran out ")
    assert "asked for" in large and "where there is more memory" in large


@pytest.mark.soak
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
@pytest.mark.parametrize("job", JOBS)
def test_every_limit_gives_a_table_or_a_clear_error(job: str, limit: str) -> None:
    rungs = [(job, limit, more) for more in LADDER]
    found = dict(zip(LADDER, outcomes(rungs, 256), strict=True))
    for more, outcome in found.items():
        ends = () if more >= ENOUGH else ("the process died",)  # never with a wrong number
        assert outcome.startswith(("right in", "MeasureError: memory ran out", *ends)), more
    if job != "too large":
        assert all(text.startswith("right") for more, text in found.items() if more >= ENOUGH)
