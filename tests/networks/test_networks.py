"""Public architectures of the table; `make test-networks` checks all of it."""

from __future__ import annotations

import pytest

from tests.networks.checks import check
from tests.networks.registry import BY_NAME

QUICK = [name for name, subject in BY_NAME.items() if subject.quick]


@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("name", QUICK)
def test_a_public_network_is_right_or_refused_by_name(name: str) -> None:
    bad = {column: cell.why for column, cell in check(BY_NAME[name]).cells.items() if not cell.good}
    assert not bad


def test_the_table_has_sixty_networks_of_all_libraries_or_more() -> None:
    assert len(BY_NAME) >= 60
    libraries = {name.partition(":")[0] for name in BY_NAME}
    assert libraries == {"plain torch", "torchvision", "timm", "transformers"}
