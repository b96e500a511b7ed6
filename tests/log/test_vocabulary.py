"""Names have one meaning wherever they are read."""

from __future__ import annotations

import pytest

from pruneviz.errors import LogError
from pruneviz.log.vocabulary import is_accuracy
from pruneviz.plot.epoch_axes import epoch_axis
from pruneviz.recording.epoch_facts import checked_facts
from tests.support.synthetic_runs import make_runs

ACCURACIES = ("acc", "Accuracy", "val_acc", "test_accuracy", "val/acc", "top1acc", "eval.acc")


@pytest.mark.parametrize("column", ACCURACIES)
def test_an_accuracy_is_one_in_the_log_and_in_plots(column: str) -> None:
    assert is_accuracy(column)
    with pytest.raises(LogError, match="divide it by 100"):
        checked_facts({column: 55.0})
    epochs = make_runs({"mine": (2,)}, seeds=(0,), epochs=1).epochs.assign(**{column: 0.5})
    assert epoch_axis(epochs, [column]).scale == 100


@pytest.mark.parametrize("column", ["val_loss", "acc5", "train_acc5", "vacc", "accuracies", ""])
def test_other_columns_are_none(column: str) -> None:
    assert not is_accuracy(column)
    assert checked_facts({column or "other": 55.0}) == {column or "other": 55.0}
