"""A person's path: a network and a loop of their own, recorded, and a picture right after `load`.

No spec names a network or a data set, and `pruneviz` alone is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import PrunevizError

IMAGES = torch.randn(48, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = (IMAGES[:, 0].mean((1, 2)) > 0).long() + 2 * (IMAGES[:, 1].mean((1, 2)) > 0).long()


def own_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        *[nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()],
        *[nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.ReLU()],
        *[nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)],
    )


def train_an_epoch(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
    """One epoch; returns the last loss, as a tensor."""
    model.train()
    for batch in torch.randperm(len(LABELS)).split(16):
        loss = nn.functional.cross_entropy(model(IMAGES[batch]), LABELS[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.detach()


def record(folder: Path, seed: int = 0, epochs: int = 3) -> None:
    model = own_network(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with pv.Recorder(model, (IMAGES, LABELS), folder, every=1, spec={"seed": seed}) as recorder:
        recorder.after_epoch(0)
        for epoch in range(1, epochs + 1):
            recorder.after_epoch(epoch, train_loss=train_an_epoch(model, optimizer))


def shows(picture: Any) -> bool:
    """Whether a notebook shows the picture."""
    return bool(picture._repr_png_().startswith(b"\x89PNG"))


def pearson(table: pd.DataFrame) -> float:
    return float(np.corrcoef(table["theta_g"], table["theta_hg"])[0, 1])


def test_a_picture_is_one_line_after_load(tmp_path: Path) -> None:
    record(tmp_path / "run0")
    runs = pv.load(tmp_path)
    picture = pv.plot.scatter(runs, "theta_g", "theta_hg")
    assert shows(picture)

    drawn = pv.plot.scatter.table(runs, "theta_g", "theta_hg")
    filters = runs.filters
    assert sorted(drawn["epoch"].unique()) == [0, 1, 3]
    for epoch, points in drawn.groupby("epoch"):
        there = filters[filters["epoch"] == epoch]
        assert len(points) == len(there) == 20
        np.testing.assert_allclose(np.sort(points["theta_g"]), np.sort(there["theta_g"]))
        assert f"r {pearson(there):.2f}".replace("-", "−") in panel_titles(picture)


def panel_titles(picture: Any) -> str:
    """All that is written at the panels of a picture."""
    texts = [text.get_text() for axes in picture.axes for text in (axes.title, *axes.texts)]
    texts += [axes.get_title(loc) for axes in picture.axes for loc in ("left", "center", "right")]
    return "\n".join(texts)


def test_two_runs_with_different_seeds_are_averaged(tmp_path: Path) -> None:
    for seed in (0, 1):
        record(tmp_path / f"run{seed}", seed)
    runs = pv.load(tmp_path)
    curve = pv.plot.correlation.table(runs, "theta_g", "theta_hg")
    expected = runs.filters.groupby(["run", "epoch"], observed=True)[["theta_g", "theta_hg"]].apply(
        pearson
    )
    mean = expected.groupby("epoch").mean()
    at = curve[curve["epoch"].isin(mean.index)].set_index("epoch")
    np.testing.assert_allclose(at["pearson"], mean[at.index], rtol=1e-6)
    assert set(at["seeds"]) == {2} and len(at) == 4
    assert shows(pv.plot.correlation(runs, "theta_g", "theta_hg"))


class Trainer:
    """A loop that calls back, as trainers do, with the metrics that it logged."""

    def fit(self, model: nn.Module, epochs: int, callback: Any) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        callback.on_fit_start(model)
        for epoch in range(1, epochs + 1):
            loss = train_an_epoch(model, optimizer)
            model.eval()
            right = model(IMAGES).argmax(1) == LABELS
            logged = {"val_acc": right.float().mean(), "loss/aux": loss, "note": "fine"}
            callback.on_epoch_end(epoch, logged)
        callback.on_fit_end()


class Callback:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_fit_start(self, model: nn.Module) -> None:
        self.recorder = pv.Recorder(model, (IMAGES, LABELS), self.folder, every=2)
        self.recorder.after_epoch(0)

    def on_epoch_end(self, epoch: int, logged: dict[str, Any]) -> None:
        self.recorder.after_epoch(epoch, **logged)

    def on_fit_end(self) -> None:
        self.recorder.close()


def test_a_loop_that_calls_back_logs_facts_of_its_own(tmp_path: Path) -> None:
    Trainer().fit(own_network(0), 4, Callback(tmp_path / "run0"))
    runs = pv.load(tmp_path)
    facts = runs.epochs.set_index("epoch")
    assert facts.loc[1:, "val_acc"].between(0, 1).all() and np.isnan(facts.loc[0, "val_acc"])
    assert (facts.loc[1:, "loss/aux"] > 0).all() and set(facts.loc[1:, "note"]) == {"fine"}
    drawn = pv.plot.accuracy.table(runs, "val_acc").set_index("epoch")
    np.testing.assert_allclose(drawn.loc[1:, "val_acc"], facts.loc[1:, "val_acc"])
    assert shows(pv.plot.accuracy(runs, "val_acc"))


def test_what_is_not_there_is_told_with_what_is(tmp_path: Path) -> None:
    record(tmp_path / "run0", epochs=1)
    runs = pv.load(tmp_path)
    with pytest.raises(PrunevizError, match="theta_g"):
        pv.plot.scatter(runs, "theta_gg", "theta_hg")
