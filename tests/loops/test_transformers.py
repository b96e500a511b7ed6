"""The Transformers callback writes the log of a plain loop, and training does not notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import SequentialSampler
from transformers import (
    Trainer,
    TrainerCallback,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.log.spec_file import is_sealed
from pruneviz.loops.transformers import PruningDynamics, mean_loss
from tests.support.short_recordings import SAMPLE, assert_same_tables, at, network

# Trainer and Accelerate warn about pinned memory and about torch's own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")

RATE, EPOCHS, BATCHES = 0.1, 3, 3


class Classifier(nn.Module):
    """A network in the form that the Trainer calls."""

    def __init__(self) -> None:
        super().__init__()
        self.model = network()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.model(pixel_values)
        if labels is None:
            return logits
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Examples(TorchDataset[dict[str, Tensor]]):
    """The sample, example by example."""

    def __len__(self) -> int:
        return len(SAMPLE[0])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"pixel_values": SAMPLE[0][index], "labels": SAMPLE[1][index]}


class InOrder(Trainer):
    """A Trainer that does not shuffle."""

    def _get_train_sampler(self, *args: Any) -> SequentialSampler:
        return SequentialSampler(Examples())


def accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def transformer() -> nn.Module:
    """A small vision transformer with dropout."""
    torch.manual_seed(0)
    channels, size = SAMPLE[0].shape[1:3]
    config = ViTConfig(
        image_size=size,
        patch_size=size // 2,
        num_channels=channels,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=int(SAMPLE[1].max()) + 1,
        hidden_dropout_prob=0.1,
    )
    return ViTForImageClassification(config)


def train(
    folder: Path, *callbacks: Any, resume: Any = None, model: Any = None, **options: Any
) -> nn.Module:
    """Train from the same start; returns the network."""
    given: dict[str, Any] = {
        "num_train_epochs": EPOCHS,
        "eval_strategy": "epoch",
        "logging_strategy": "epoch",
        "save_strategy": "no",
        **options,
    }
    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=len(SAMPLE[0]) // BATCHES,
        per_device_eval_batch_size=len(SAMPLE[0]),
        learning_rate=RATE,
        lr_scheduler_type="linear",
        optim="sgd",
        max_grad_norm=0.0,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        seed=0,
        **given,
    )
    data, model = Examples(), model or Classifier()
    trainer = InOrder(
        model,
        arguments,
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=accuracy,
        callbacks=list(callbacks),
    )
    trainer.train(resume_from_checkpoint=resume)
    return model


def plain_loop(out: Path) -> nn.Module:
    """The same training in plain torch."""
    model = Classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    size, done, total = len(SAMPLE[0]) // BATCHES, 0, EPOCHS * BATCHES
    with pv.Recorder(model, SAMPLE, out, every=2) as recorder:
        recorder.after_epoch(0)
        for epoch in range(1, EPOCHS + 1):
            losses = []
            for start in range(0, BATCHES * size, size):
                images, labels = (part[start : start + size] for part in SAMPLE)
                optimizer.param_groups[0]["lr"] = rate = RATE * (total - done) / total
                torch.manual_seed(done)
                optimizer.zero_grad()
                loss = F.cross_entropy(model.train()(images), labels)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
                done += 1
            with torch.no_grad():
                logits = model.eval()(SAMPLE[0])
            recorder.after_epoch(
                epoch,
                lr=rate,
                train_loss=torch.stack(losses).mean(),
                test_loss=F.cross_entropy(logits, SAMPLE[1]),
                test_acc=(logits.argmax(1) == SAMPLE[1]).double().mean(),
            )
    return model


def assert_equal_weights(found: nn.Module, expected: nn.Module) -> None:
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


def test_the_log_and_the_weights_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    model = train(tmp_path, PruningDynamics(SAMPLE, tmp_path / "run", every=2), Seeded())
    assert_equal_weights(model, plain_loop(tmp_path / "plain"))
    found, expected = pv.load(tmp_path / "run"), pv.load(tmp_path / "plain")
    rounded = ["train_loss", "test_loss"]  # in float32, by other sums
    assert found.epochs[rounded].to_numpy() == pytest.approx(
        expected.epochs[rounded].to_numpy(), rel=1e-6, nan_ok=True
    )
    found.epochs[rounded] = expected.epochs[rounded]
    assert_same_tables(found, expected)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
def test_training_in_mixed_precision_is_bit_equal_with_and_without_the_callback(
    tmp_path: Path, checkpointing: bool
) -> None:
    how = {"bf16": True, "gradient_checkpointing": checkpointing}
    sample = {"pixel_values": SAMPLE[0]}, SAMPLE[1]
    dynamics = PruningDynamics(sample, tmp_path / "run", every=1)
    model = train(tmp_path, dynamics, model=transformer(), **how)
    assert_equal_weights(model, train(tmp_path, model=transformer(), **how))
    exact = transformer()
    exact.load_state_dict(model.state_dict())
    measured = pv.measure(exact, sample)
    logged = at(pv.load(tmp_path / "run"), EPOCHS)
    for column in ("theta_g", "theta_hg"):
        assert logged[column].equals(measured[column].astype("float32")), column


class Seeded(TrainerCallback):  # type: ignore[misc]
    """Seeds dropout at every step: resuming does not restore it exactly."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        torch.manual_seed(state.global_step)


class PowerCut(TrainerCallback):  # type: ignore[misc]
    """Fails after a number of steps."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 8:
            raise KeyError("power cut")


@pytest.mark.parametrize("how", ["epochs", "steps", "inside"])
def test_a_resumed_training_has_the_log_of_an_uninterrupted_one(tmp_path: Path, how: str) -> None:
    saving = {"save_strategy": "steps", "save_steps": {"epochs": 3, "steps": 4, "inside": 5}[how]}
    options: dict[str, Any] = {"every": 2, "steps": 2 if how == "steps" else None}
    if how != "epochs":
        saving |= {"logging_strategy": "steps", "logging_steps": 1}
    dynamics = PruningDynamics(SAMPLE, tmp_path / "whole", **options)
    whole = train(tmp_path / "whole run", dynamics, Seeded(), **saving)
    dynamics = PruningDynamics(SAMPLE, tmp_path / "cut", **options)
    with pytest.raises(KeyError, match="power cut"):
        train(tmp_path / "kept", dynamics, Seeded(), PowerCut(), **saving)
    kept = min((tmp_path / "kept").glob("checkpoint-*"))
    if how == "inside":
        state = (kept / "pruneviz-cut.json").rename(tmp_path / "state.json")
        with pytest.raises(LogError, match="inside epoch 2 without the place of the recording"):
            train(tmp_path / "kept", dynamics, Seeded(), resume=str(kept), **saving)
        state.rename(kept / "pruneviz-cut.json")
    dynamics = PruningDynamics(SAMPLE, tmp_path / "cut", **options)
    resumed = train(tmp_path / "kept", dynamics, Seeded(), resume=str(kept), **saving)
    assert_equal_weights(resumed, whole)
    assert_same_tables(pv.load(tmp_path / "cut"), pv.load(tmp_path / "whole"))


def test_steps_are_recorded_as_intervals(tmp_path: Path) -> None:
    train(tmp_path, PruningDynamics(SAMPLE, tmp_path / "run", steps=4), logging_steps=1)
    runs = pv.load(tmp_path / "run")
    assert runs.epochs["epoch"].tolist() == [0, 1, 2]
    assert runs.spec["steps"].item() == 4


def test_a_finished_training_can_be_made_longer(tmp_path: Path) -> None:
    saving = {"save_strategy": "epoch", "lr_scheduler_kwargs": {}}
    train(tmp_path / "t", PruningDynamics(SAMPLE, tmp_path / "run"), num_train_epochs=1, **saving)
    other = SAMPLE[0] + 1, SAMPLE[1]
    with pytest.raises(LogError, match="was started with another sample"):
        train(tmp_path / "t", PruningDynamics(other, tmp_path / "run"), resume=True, **saving)
    assert is_sealed(tmp_path / "run")
    dynamics = PruningDynamics(SAMPLE, tmp_path / "run")
    train(tmp_path / "t", dynamics, resume=True, **saving)
    assert pv.load(tmp_path / "run").epochs["epoch"].tolist() == [0, 1, 2, 3]
    with pytest.raises(LogError, match=r"pass resume_from_checkpoint to trainer\.train"):
        train(tmp_path, PruningDynamics(SAMPLE, tmp_path / "run"))


class OutOfMemoryOnce(TrainerCallback):  # type: ignore[misc]
    """Runs out of memory in the second epoch of the first try."""

    failed = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == BATCHES + 1 and not self.failed:
            self.failed = True
            raise torch.OutOfMemoryError("CUDA out of memory.")


def test_a_trainer_that_starts_again_with_smaller_batches_starts_the_log_again(
    tmp_path: Path,
) -> None:
    sent: list[int] = []
    sink = lambda run, epoch, aggregates: sent.append(epoch)  # noqa: E731
    dynamics = PruningDynamics(SAMPLE, tmp_path / "run", every=1, sinks=[sink])
    how = {"auto_find_batch_size": True, "num_train_epochs": 2}
    model = train(tmp_path, dynamics, OutOfMemoryOnce(), **how)
    runs = pv.load(tmp_path / "run")
    assert runs.epochs["epoch"].tolist() == [0, 1, 2]
    measured = pv.measure(model, SAMPLE)["theta_g"].astype("float32")
    assert at(runs, 2)["theta_g"].equals(measured)
    assert sent == [0, 1, 2], "the initialisation once"


def test_metrics_are_named_and_a_wrong_interval_is_refused(tmp_path: Path) -> None:
    dynamics = PruningDynamics(SAMPLE, tmp_path / "run", metrics={"train_acc": "eval_accuracy"})
    train(tmp_path, dynamics, num_train_epochs=1)
    epochs = pv.load(tmp_path / "run").epochs
    assert epochs["train_acc"].notna().tolist() == [False, True]
    assert epochs[["test_acc", "test_loss"]].isna().all(axis=None)
    with pytest.raises(LogError, match="steps=0; give a whole number"):
        PruningDynamics(SAMPLE, tmp_path / "other", steps=0)


@pytest.mark.parametrize(
    ("steps", "resumed", "mean"),
    [
        ([2, 4, 6], 0, (2 * 4 + 2 * 6) / 4),  # exactly the steps 3 to 6
        ([3, 6], 0, None),  # the first interval begins before
        ([2, 5], 0, None),  # the last steps are not logged
        ([2, 5, 7], 0, None),  # the last interval ends after
        ([2, 6], 4, None),  # steps 3 and 4 were lost with the interruption
        ([2, 4, 6], 4, 5.0),
        ([], 0, None),
    ],
)
def test_the_mean_loss_covers_its_steps_exactly(
    steps: list[int], resumed: int, mean: float | None
) -> None:
    history = [{"step": 0, "eval_loss": 9.0}, *({"step": s, "loss": float(s)} for s in steps)]
    assert mean_loss(history, 2, 6, resumed) == mean
