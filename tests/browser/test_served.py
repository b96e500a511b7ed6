"""The served page in a browser: it follows runs while they are recorded, and keeps its view."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.report.following import Followed
from pruneviz.report.server import PageServer
from tests.browser.conftest import BATCH, EVAL
from tests.support.browser import Shown


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for recordings."""
    return tmp_path / "runs"


@pytest.fixture
def server(folder: Path) -> Iterator[PageServer]:
    """A server of a folder that is not there yet."""
    made = PageServer(Followed([str(folder)]), 0)
    made.followed.look()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.stop()
    thread.join(20)


@pytest.fixture
def page(shown: Shown, server: PageServer) -> Iterator[Shown]:
    """Its page; it may ask the server, and nothing else."""
    shown.driver.get(server.address)
    yield shown
    assert shown.troubles(server.address) == []
    shown.driver.get("about:blank")  # before the server goes
    shown.troubles(server.address)


def test_a_page_follows_a_run_from_its_first_epoch(
    page: Shown, server: PageServer, folder: Path
) -> None:
    assert "Waiting for the first epoch" in page.text("p")
    torch.manual_seed(0)
    sample = (torch.randn(9, 5), torch.arange(9) % 3)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    with pv.Recorder(model, sample, out=folder / "run0", every=1) as recorder:
        recorder.after_epoch(0, val_acc=0.1)
        assert server.followed.look()
        page.wait(lambda: page.run("return Boolean(document.documentElement.dataset.drawn)"))
        page.settle()
        assert page.text("#epoch-shown") == "0 of 0"
        assert "this run is not finished" in page.text("#state")
        page.choose("#bars", "mean")
        page.run("window.same = true")  # the page is not loaded again
        recorder.after_epoch(1, val_acc=0.2)
        page.redraws(server.followed.look)
        assert page.text("#epoch-shown") == "1 of 1"  # who looks at the last epoch goes on with it
        page.slide("#epoch", 0)
        recorder.after_epoch(2, val_acc=0.3)
        page.redraws(server.followed.look)
        assert page.text("#epoch-shown") == "0 of 2"  # and who looks at another stays there
    page.redraws(server.followed.look)
    assert "not finished" not in page.text("#state")
    assert page.element("#bars").get_property("value") == "mean" and page.run("return window.same")
    assert len(page.table("over-epochs")) == 3


def test_a_second_run_joins_the_first(page: Shown, server: PageServer, folder: Path) -> None:
    shutil.copytree(EVAL, folder / EVAL.name)
    assert server.followed.look()
    page.wait(lambda: page.run("return Boolean(document.documentElement.dataset.drawn)"))
    page.choose("#x", "sigma")
    shutil.copytree(BATCH, folder / BATCH.name)
    page.redraws(server.followed.look)
    assert len(page.options("#run")) == 2
    assert page.element("#x").get_property("value") == "sigma"
    assert "against σ of 1,064 filters" in page.caption("scatter")


def test_a_page_says_that_the_server_has_stopped(
    shown: Shown, server: PageServer, folder: Path
) -> None:
    shutil.copytree(EVAL, folder / EVAL.name)
    server.followed.look()
    shown.driver.get(server.address)
    shown.wait(shown.drawn)
    server.stop()
    shown.wait(lambda: "the server has stopped" in shown.text("#trouble"))
    assert "of 1,064 filters at epoch 16" in shown.caption("scatter")
    shown.driver.get("about:blank")
    shown.driver.get_log("browser")  # the browser notes the closed connection
    shown.troubles(server.address)
