"""Properties that hold for every example: a few in each test run, many in `make soak`.

Examples follow from the test alone, so that every run tries the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

Check = Callable[..., None]


def for_all(*, few: int, many: int, **arguments: SearchStrategy[Any]) -> Callable[[Check], Check]:
    """Make a test of a check that holds for all arguments of these kinds.

    The check stands below, with an `@example` of each failure that it has found.

    Args:
        few: Examples in an ordinary run.
        many: Examples of the long test, marked `soak`.
        arguments: Strategy of each argument of the check.
    """

    def decorate(check: Check) -> Check:
        held = given(**arguments)(check)

        @pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.soak)])
        def test(examples: int) -> None:
            settings(
                max_examples=examples,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[phase for phase in Phase if phase != Phase.explain],  # slow, and wordy
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            )(held)()

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate
