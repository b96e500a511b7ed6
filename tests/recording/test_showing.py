"""`Recorder.show` displays and refreshes in a notebook, and returns a picture elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.figure
import nbclient
import nbformat
import pytest
import torch

import pruneviz as pv
from tests.support.short_recordings import SAMPLE, network, train_epoch

ROOT = Path(__file__).parents[2]


def executed(*cells: str, folder: Path) -> list[nbformat.NotebookNode]:
    """Outputs of the cells of a notebook, all in one list."""
    first = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
    first += "import pruneviz as pv\nfrom tests.support.short_recordings import *"
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(text) for text in (first, *cells)]
    client = nbclient.NotebookClient(
        notebook, timeout=240, resources={"metadata": {"path": folder}}
    )
    client.execute()
    return [output for cell in notebook.cells for output in cell.outputs]


# Event loops and sockets of the kernel emit warnings of their own.
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_shows_one_picture_that_follows_the_run(tmp_path: Path) -> None:
    start = (
        "model = network()\nrecorder = pv.Recorder(model, SAMPLE, '{}', every=1)\nrecorder.show()"
    )
    train = "for epoch in range(3):\n    train_epoch(model, epoch)\n    recorder.after_epoch(epoch)"
    cells = [start.format("fresh"), start.format("trained"), train, "recorder.close()"]
    shown = executed(*cells, folder=tmp_path)
    # One picture for each recorder: that of the training is updated in its place.
    assert [output.output_type for output in shown] == ["display_data", "display_data"]
    before, after = (output.data["image/png"] for output in shown)
    assert before != after


def test_elsewhere_the_picture_is_returned_at_any_time(tmp_path: Path) -> None:
    model = network()
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    with pv.Recorder(model, SAMPLE, tmp_path / "run", every=2) as recorder:
        titles = [recorder.show().get_suptitle()]
        for epoch in range(3):
            recorder.after_epoch(epoch)
            titles.append(recorder.show().get_suptitle())
    picture = recorder.show()
    assert isinstance(picture, matplotlib.figure.Figure)
    titles.append(picture.get_suptitle())
    assert titles == [
        *("run, before the first epoch", "run, epoch 0", "run, epoch 1", "run, epoch 2"),
        "run, epoch 2",
    ]
    assert torch.equal(torch.random.get_rng_state(), state)


class Handle:
    """A display that fails, as one of a notebook that was closed."""

    def __init__(self, displayed: object, **options: object) -> None:
        assert options == {"display_id": True}

    def update(self, picture: object) -> None:
        torch.manual_seed(9)
        raise ConnectionError("the notebook is gone")


def test_a_display_that_fails_is_told_once_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shell: Any = type("Shell", (), {"kernel": object()})()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    monkeypatch.setattr("IPython.display.display", Handle)
    model = network()
    with pv.Recorder(model, SAMPLE, tmp_path / "run", every=1) as recorder:
        assert recorder.show() is None
        for epoch in range(3):
            train_epoch(model, epoch)
            state = torch.random.get_rng_state()
            recorder.after_epoch(epoch)
            assert torch.equal(torch.random.get_rng_state(), state)
    told = [line for line in caplog.messages if "picture" in line]
    assert told == ["the picture of run is not current: ConnectionError: the notebook is gone"]
    assert recorder.finished
