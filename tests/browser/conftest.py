"""One browser for all tests of a process, and the pages that they look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pruneviz as pv
from pruneviz.log.runs import Runs
from tests.support.browser import Shown

DATA = Path(__file__).resolve().parents[2] / "data"
EVAL = DATA / "cifar-mini" / "resnet56-cifar100-unpruned-s0"
BATCH = DATA / "cifar-mini-batch" / "resnet56-cifar100-unpruned-bnbatch-s0"

Written = Callable[[str, Callable[[], Runs]], Path]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A browser, for the whole session."""
    shown = Shown(tmp_path_factory.mktemp("downloads"))
    yield shown
    shown.quit()


@pytest.fixture
def shown(browser: Shown) -> Iterator[Shown]:
    """The browser at 1280 pixels and in light colours; the page may cause no trouble in it."""
    browser.troubles()
    yield browser
    found = browser.troubles()
    browser.resize(1280, 900)
    browser.prefer("light")
    assert not found


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Writes the page of some recordings once, under a name."""
    folder = tmp_path_factory.mktemp("pages")

    def write(name: str, make: Callable[[], Runs]) -> Path:
        path = folder / f"{name}.html"
        return path if path.exists() else pv.report(make(), path)

    return write


@pytest.fixture(scope="session")
def shipped() -> Runs:
    """ResNet-56 on CIFAR-100 measured in two batch-norm modes, as it ships."""
    return pv.load([EVAL, BATCH])


@pytest.fixture(scope="session")
def shipped_page(written: Written, shipped: Runs) -> Path:
    """Their page."""
    return written("shipped", lambda: shipped)
