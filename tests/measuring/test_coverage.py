"""`pv.coverage`: shares of measured entries, and a reason with a repair for each that is not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pruneviz as pv
from tests.model.test_unit_kinds import Block, Separate

SAMPLE = (torch.tensor([[1, 2], [3, 0], [4, 4]]), torch.tensor([0, 1, 2]))


class Words(nn.Module):
    """An embedding, a linear layer, one without use, a normed one, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mid, self.idle = nn.Embedding(5, 4), nn.Linear(4, 6), nn.Linear(4, 4)
        self.normed = parametrizations.weight_norm(nn.Linear(6, 4))
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.normed(self.mid(self.table(x)).tanh()).mean(1))


def test_every_parameter_has_a_row_with_its_reason() -> None:
    found = pv.coverage(Words(), SAMPLE)
    table = found.table.set_index("parameter")
    assert list(table.index) == [name for name, _ in Words().named_parameters()]
    assert table.loc["mid.weight", ["layer", "measured", "reason"]].tolist() == ["mid", 24, ""]
    begins = {
        "table.weight": "not multiplied with an activation; layers=('*', 'table.weight') adds it",
        "mid.bias": "a vector, not a matrix; layers=('*', 'mid.bias') adds it",
        "idle.weight": "the loss on this sample, in evaluation mode, does not depend on it",
        "normed.parametrizations.weight.original1": "the weight of normed is computed from it",
        "fc.weight": "the classifier; classifier=True adds it",
    }
    for name, reason in begins.items():
        assert table.loc[name, "reason"].startswith(reason)
        assert table.loc[name, "measured"] == 0
    matrices = {20: "table", 24: "mid", 16: "idle", 24 + 4: "normed", 12: "fc"}
    assert found.of_matrices == pytest.approx(24 / sum(matrices))
    assert found.of_all == pytest.approx(24 / table["entries"].sum())


def test_the_option_in_a_reason_adds_the_parameter() -> None:
    for reason, options in {
        "classifier=True": {"classifier": True},
        "'table.weight'": {"layers": ("*", "table.weight")},
        "'mid.bias'": {"layers": ("*", "mid.bias")},
    }.items():
        table = pv.coverage(Words(), SAMPLE).table
        names = set(table[table["reason"].str.contains(reason, regex=False)]["parameter"])
        after = pv.coverage(Words(), SAMPLE, **options).table
        assert names == set(after[after["measured"] > 0]["parameter"]) - {"mid.weight"}


def test_the_summary_names_shares_gaps_and_repairs() -> None:
    text = str(pv.coverage(Words(), SAMPLE))
    assert text.startswith("24.0% of the matrix weights and")
    assert "  fc.weight: the classifier; classifier=True adds it" in text
    assert "6 vectors, such as mid.bias" in text or "vectors, such as" in text


def test_units_cover_parts_of_parameters() -> None:
    model = Block(Separate(2))
    sample = (torch.randn(4, 5, 8), torch.arange(4) % 3)
    table = pv.coverage(model, sample, unit="head").table.set_index("parameter")
    assert table.loc["attention.o.weight", ["layer", "measured"]].tolist() == ["attention", 64]
    assert table.loc["up.weight", "reason"] == "no head holds entries of it"
    some = {"part": [("up.weight", 0, [0, 1]), ("up.weight", 1, [0])]}
    table = pv.coverage(model, sample, unit=some).table.set_index("parameter")
    assert table.loc["up.weight", "measured"] == 20
    assert table.loc["up.weight", "reason"] == "28 entries belong to no unit"


@pytest.mark.parametrize("gap", [True, False])
def test_a_recorder_tells_gaps_that_nobody_chose(
    gap: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pruneviz")
    model, x = (Words(), SAMPLE[0]) if gap else (nn.Linear(3, 3), torch.randn(3, 3))
    model = model if gap else nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))
    with pv.Recorder(model, (x, SAMPLE[1]), tmp_path / "run") as recorder:
        recorder.after_epoch(0)
    (record,) = (r for r in caplog.records if "of the matrix weights" in r.getMessage())
    assert record.levelno == (logging.WARNING if gap else logging.INFO)
    spec = pv.load(tmp_path).spec.iloc[0]
    assert spec["coverage"] == recorder.coverage.of_matrices
    assert len(spec["left_out"]) == len(recorder.coverage.left_out)
