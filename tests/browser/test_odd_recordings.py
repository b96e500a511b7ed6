"""Odd recordings: the page opens, shows what there is, and says what is absent."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pruneviz as pv
from pruneviz.errors import ReportError
from pruneviz.log.runs import Runs
from tests.browser.conftest import Written
from tests.log.test_older_columns import make_older, record
from tests.support import page_twins as twin
from tests.support.browser import Shown, as_numbers
from tests.support.odd_runs import beside, one_run, pruned_run
from tests.support.synthetic_runs import make_runs

PICTURES = ("scatter", "layers", "over-epochs", "trajectories", "side-a", "side-b", "overlap")


def opened(shown: Shown, page: Path) -> Shown:
    """A page that shows a view, with a caption under every picture."""
    shown.open(page)
    assert "wrong" not in shown.element("#state").get_attribute("class"), shown.text("#state")
    for picture in PICTURES:
        assert len(shown.caption(picture)) > 20, picture
        shown.table(picture)
    return shown


def empty(shown: Shown, picture: str) -> str:
    """What a picture says in the place of its contents."""
    return shown.text(f"#{picture} .empty")


class Own(nn.Module):
    """Two convolutions without batch norm, one of a single filter, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 1, 1))
        self.head = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores of images."""
        return self.head(self.body(images).flatten(1))


def test_a_persons_own_network(shown: Shown, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sample = (torch.randn(12, 1, 4, 4), torch.arange(12) % 2)
    model = Own()
    with pv.Recorder(model, sample, out=tmp_path / "run0", every=2) as recorder:
        for epoch in range(4):
            recorder.after_epoch(epoch, val_acc=0.5 + epoch / 10, loss=1.0 / (epoch + 1))
            with torch.no_grad():
                model.body[0].weight.mul_(0.9)
    runs = pv.load(tmp_path)
    page = opened(shown, pv.report(runs, tmp_path / "own.html"))
    assert "batch norm" in page.text("#facts") and "sigma" not in page.options("#x")
    assert page.text("#state").endswith("in 2 layers at 2 epochs") or "layer" in page.text("#state")
    assert "80.0 % (val_acc, epoch 3)" in page.text("#facts")
    assert page.table("layers")["layer"].tolist() == twin.layers_of(runs)
    page.choose("#curve", "accuracy")
    table = page.table("over-epochs")
    assert set(table["curve"]) == {"val_acc"}
    np.testing.assert_allclose(as_numbers(table.iloc[:, 2]), [0.5, 0.6, 0.7, 0.8], rtol=1e-4)
    last = runs.filters[runs.filters["epoch"] == 2]
    np.testing.assert_allclose(
        as_numbers(page.table("scatter")["theta_g"]), last["theta_g"], rtol=1e-4
    )


def test_a_network_that_is_one_layer(shown: Shown, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sample = (torch.randn(9, 5), torch.arange(9) % 3)
    out = tmp_path / "run0"
    with pv.Recorder(nn.Linear(5, 3), sample, out=out, classifier=True) as recorder:
        recorder.after_epoch(0)
    runs = pv.load(tmp_path)
    assert twin.layers_of(runs) == [""]
    page = opened(shown, pv.report(runs, tmp_path / "one.html"))
    assert page.text("#epoch-shown") == "0 of 0"
    assert len(page.table("scatter")) == 3
    page.choose("#layer", "0")
    assert "of 3 filters of layer (the network itself) at epoch 0" in page.caption("scatter")
    page.choose("#layer", "-1")
    assert "of layer" not in page.caption("scatter")
    assert empty(page, "over-epochs") == ""
    page.choose("#curve", "masks")
    assert empty(page, "over-epochs")


def test_single_weights(shown: Shown, written: Written) -> None:
    networks = {"vgg13": (2, 3)}
    runs = make_runs(networks, seeds=(0,), epochs=2, every=1, unit="weight")
    filters = runs.filters.assign(weight=np.arange(len(runs.filters)) % 5)
    runs = Runs(runs.spec, runs.epochs, filters, runs.rounds)
    page = opened(shown, written("weights", lambda: runs))
    assert list(page.table("scatter").columns[:3]) == ["layer", "filter", "weight"]
    assert "5 weights" in page.text("#state")
    saved = page.csv_table("scatter")
    last = filters[filters["epoch"] == 2]
    assert saved["weight"].tolist() == last["weight"].tolist()
    page.choose("#choose", "x highest")
    assert ", weight " in page.table("trajectories")["curve"].iloc[0]


@pytest.mark.parametrize("unit", ["head", "neuron"])
def test_heads_and_neurons_are_called_so(shown: Shown, written: Written, unit: str) -> None:
    runs = one_run(
        {"block.0": 3, "block.1": 4},
        {"theta_g": np.linspace(-1, 1, 21).reshape(3, 7), "theta_norm2": 1.0},
        unit=unit,
    )
    page = opened(shown, written(unit, lambda: runs))
    noun = {"head": "attention head", "neuron": "neuron"}[unit]
    assert f"of 7 {noun}s at epoch 2" in page.caption("scatter")
    assert f"7 {noun}s in 2 layers" in page.text("#state") and f"{unit}s" in page.text("#facts")
    page.choose("#choose", "all")
    assert f"block.0, {noun} 0" in page.table("trajectories")["curve"].tolist()


def test_infinite_constant_and_absent_values(shown: Shown, written: Written) -> None:
    values = np.tile(np.linspace(-2, 2, 8), (3, 1))
    odd = values.copy()
    odd[1, :3] = np.inf, -np.inf, np.nan
    some = values.copy()
    some[2] = np.nan  # a column that the last epoch lacks
    columns = {
        "theta_g": odd,
        "theta_hg": values,
        "theta_norm2": 3.0,
        "sigma": 0.0,
        "abs_theta_g": some,
    }
    runs = one_run({"a": 4, "b": 4}, columns)
    page = opened(shown, written("values", lambda: runs))
    page.view(epoch=1)
    assert "of 5 filters at epoch 1" in page.caption("scatter")
    assert "2 infinite values are not drawn" in page.caption("scatter")
    r = np.corrcoef(odd[1, 3:], values[1, 3:])[0, 1]
    assert f"Pearson r = {r:.2f}" in page.caption("scatter")
    page.view(x="theta_norm2", y="sigma")
    assert "Pearson r = undefined" in page.caption("scatter") and empty(page, "scatter") == ""
    assert len(page.table("scatter")) == 8
    page.view(x="theta_norm2", y="sigma", scale="linear", curve="correlation")
    assert "has no values" in page.caption("over-epochs") and empty(page, "over-epochs")
    page.view(x="abs_theta_g", epoch=2)
    assert empty(page, "scatter") == "no filter has both abs_theta_g and theta_hg at epoch 2"
    page.view(bars="mean", quantity="abs_theta_g", epoch=2)
    assert empty(page, "layers") and page.table("layers").iloc[:, 3].eq("none").all()
    page.view(bars="share", measure="magnitude")
    assert "all filters score alike" in empty(page, "layers")


def test_columns_without_any_measure(shown: Shown, written: Written) -> None:
    runs = one_run({"a": 3}, {"theta_hg_t200": np.arange(3.0)}, epochs=(5,))
    page = opened(shown, written("no measure", lambda: runs))
    page.view(bars="correlation")
    assert page.element("#x").get_property("value") == "theta_hg_t200"
    page.view(curve="accuracy")
    assert empty(page, "over-epochs") == "no accuracy was recorded"


def test_pruned_rows_are_crosses_that_do_not_count(shown: Shown, written: Written) -> None:
    run = pruned_run()
    page = opened(shown, written("pruned", lambda: run))
    rows = run.filters[run.filters["epoch"] == 4]
    page.view(x="theta_norm2", y="theta_norm2", epoch=4, colour="by kept")
    gone = int((~rows["kept"]).sum())
    assert gone > 5
    assert f"of {40 - gone} filters at epoch 4" in page.caption("scatter")
    assert f"{gone} pruned filters are crosses" in page.caption("scatter")
    assert page.text("#scatter .legend") == "■ kept, ✕ pruned"
    table = page.table("scatter")
    assert (table["kept"] == "pruned").tolist() == (~rows["kept"]).tolist()
    page.view(x="theta_g", y="theta_hg", epoch=4)  # null where pruned
    r = twin.correlation(run, "theta_g", "theta_hg", 4)
    assert f"{r:.2f}".replace("-", "−") in page.caption("scatter")
    assert "pruned" not in page.caption("scatter")
    page.view(bars="kept", epoch=4)
    shares = (~rows["kept"]).groupby(rows["layer"], observed=True).mean()
    np.testing.assert_allclose(as_numbers(page.table("layers").iloc[:, 3]), shares, rtol=1e-4)
    page.view(bars="mean", quantity="theta_norm2", epoch=4)
    means = rows[rows["kept"]].groupby("layer", observed=True)["theta_norm2"].mean()
    np.testing.assert_allclose(as_numbers(page.table("layers").iloc[:, 3]), means, rtol=1e-4)


def test_kept_and_pruned_rows_have_their_own_marks(shown: Shown, written: Written) -> None:
    values = np.arange(6.0)[None] * np.ones((2, 1))
    kept = np.array([[True] * 6, [True, False] * 3])
    columns = {"theta_g": values, "theta_hg": values, "kept": kept}
    run = one_run({"a": 6}, columns, epochs=(0, 1))
    page = opened(shown, written("marks", lambda: run))
    page.view(colour="by kept", scale="linear")
    rows = twin.points(run, "theta_g", "theta_hg", 1, page.plot("scatter"), log=False)
    # beside the middle a square is filled, and a cross is empty
    right = [(row["left"] + 2, row["top"]) for _, row in rows.iterrows()]
    colours = np.array(page.colours("scatter", right))[:, :3]
    blue = colours[:, 2] - colours[:, 0] > 100
    assert blue.tolist() == rows["kept"].tolist()
    told = page.hover("scatter", *rows[["left", "top"]].iloc[1])
    assert told.splitlines()[-1] == "pruned"


def test_runs_of_different_layers_beside_each_other(shown: Shown, written: Written) -> None:
    one = one_run({"a": 4, "b": 3}, {"theta_g": np.arange(7.0), "theta_norm2": 2.0}, name="one")
    other = one_run(
        {"x": 5}, {"sigma": np.arange(5.0), "theta_norm2": np.arange(5.0)}, (0, 7), name="other"
    )
    page = opened(shown, written("different", lambda: beside(one, other)))
    assert "do not name the same filters" in empty(page, "overlap")
    assert "do not name the same filters" in page.caption("overlap")
    page.view(layer=1, chosen="5-6", x="theta_g", colour="theta_g", bars="mean", quantity="theta_g")
    page.choose("#run", "other")
    assert page.text("#layer option:checked") == "all" and "theta_g" not in page.options("#x")
    assert "of 5 filters at epoch" in page.caption("scatter")
    assert page.options("#layer") == ["all", "x"]
    page.choose("#run", "one")
    assert "of 7 filters at epoch" in page.caption("scatter")


def test_the_same_layers_in_another_order_are_matched_or_refused(
    shown: Shown, written: Written
) -> None:
    columns = {"theta_g": np.arange(5.0), "theta_norm2": np.arange(5.0)}
    runs = beside(
        one_run({"a": 2, "b": 3}, columns, name="one"),
        one_run({"b": 3, "a": 2}, columns, name="other"),
    )
    page = opened(shown, written("order", lambda: runs))
    assert "do not name the same filters" in empty(page, "overlap")


@pytest.mark.parametrize("version", [1, 2])
def test_recordings_of_older_schemas(shown: Shown, tmp_path: Path, version: int) -> None:
    record(tmp_path / "older")
    make_older(tmp_path / "older", version)
    page = opened(shown, pv.report(tmp_path, tmp_path / "older.html"))
    box = page.plot("scatter")
    told = page.hover("scatter", box.width / 2, box.height / 2).splitlines()
    assert told[1] == "θᵀHg = −2 ± 0.5 (standard error, g held fixed) nats²/weight²"
    assert told[2] == "θᵀg = 1 ± 0.5 (standard error) nats"


def test_a_recording_without_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no column"):
        pv.report(one_run({"a": 2}, {}), tmp_path / "none.html")


def test_a_damaged_file_says_so(shown: Shown, tmp_path: Path) -> None:
    run = one_run({"a": 40}, {"theta_g": np.arange(40.0), "sigma": np.arange(40.0)})
    text = pv.report(run, tmp_path / "whole.html").read_text(encoding="utf-8")
    damaged = re.sub(r'(id="block-0-\d+">)H4sI', r"\1H4sJ", text)
    (tmp_path / "damaged.html").write_text(damaged, encoding="utf-8")
    cut = text[: text.index('id="block-0-3"')]
    (tmp_path / "cut.html").write_text(cut, encoding="utf-8")
    shown.driver.get((tmp_path / "damaged.html").as_uri())
    shown.wait(lambda: "a column of this page is damaged" in shown.text("#state"))
    assert "wrong" in shown.element("#state").get_attribute("class")
    shown.driver.get((tmp_path / "cut.html").as_uri())
    assert "If this stays, the file is not complete" in shown.text("#state")


def test_a_run_that_goes_on_says_so(shown: Shown, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sample = (torch.randn(9, 5), torch.arange(9) % 3)
    recorder = pv.Recorder(
        nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), sample, out=tmp_path / "run0"
    )
    recorder.after_epoch(0)
    path = pv.report(tmp_path, tmp_path / "on.html")
    assert "this run is not finished" in opened(shown, path).text("#state")
    recorder.close()
