"""The Lightning callback writes the log that a plain loop writes, and training does not notice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import pytest
import pytorch_lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pruneviz as pv
from pruneviz.errors import LogError
from pruneviz.loops.lightning import PruningDynamics
from tests.support.short_recordings import SAMPLE, assert_same_tables, at, network

# Lightning advises on workers, devices and logging intervals; torch warns inside its checkpoints.
pytestmark = pytest.mark.filterwarnings("ignore")

RATE, EPOCHS = 0.1, 3


def module_of(library: Any) -> type:
    """A LightningModule that logs in all the usual places."""

    class Lit(library.LightningModule):  # type: ignore[misc]
        def __init__(self, *, seeded: bool = False) -> None:
            super().__init__()
            self.model = network()
            self.seeded = seeded  # checkpoints of Lightning hold no generator for dropout

        def forward(self, images: Tensor) -> Tensor:
            return self.model(images)

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            if self.seeded:
                torch.manual_seed(self.global_step)
            loss = F.cross_entropy(self(batch[0]), batch[1])
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
            right = (self(batch[0]).argmax(1) == batch[1]).float().mean()
            self.log("val_acc", right)

        def on_train_epoch_end(self) -> None:
            self.log("late", float(self.current_epoch))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=RATE, momentum=0.9)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    return Lit


Lit = module_of(pl)


def loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(*SAMPLE), batch_size=len(SAMPLE[0]) // 3)


def fit(
    folder: Path,
    *callbacks: Any,
    epochs: int = EPOCHS,
    ckpt: str | Path | None = None,
    library: Any = pl,
    lit: Any = None,
    **options: Any,
) -> Any:
    """Train from the same start; returns the LightningModule."""
    torch.manual_seed(0)
    given = {"enable_checkpointing": False, **options}
    trainer = library.Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        callbacks=list(callbacks),
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **given,
    )
    lit = module_of(library)() if lit is None else lit
    trainer.fit(lit, loader(), loader(), ckpt_path=ckpt)
    return lit


def plain_loop(out: Path, name: Callable[[Any], nn.Module]) -> nn.Module:
    """The same training in plain torch."""
    torch.manual_seed(0)
    lit = Lit()
    optimizer = torch.optim.SGD(lit.parameters(), lr=RATE, momentum=0.9)
    with pv.Recorder(name(lit), SAMPLE, out, every=2) as recorder:
        recorder.after_epoch(0)
        for epoch in range(1, EPOCHS + 1):
            losses = []
            for images, labels in loader():
                optimizer.zero_grad()
                loss = F.cross_entropy(lit.train()(images), labels)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            with torch.no_grad():
                lit.eval()
                right = torch.cat([lit(x).argmax(1) == y for x, y in loader()]).float().mean()
            rate = optimizer.param_groups[0]["lr"]
            recorder.after_epoch(
                epoch, lr=rate, train_loss=torch.stack(losses).mean(), test_acc=right
            )
            optimizer.param_groups[0]["lr"] *= 0.5
    return lit


def assert_equal_weights(found: nn.Module, expected: nn.Module) -> None:
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[pv.Runs, nn.Module]:
    out = tmp_path_factory.mktemp("plain") / "run"
    lit = plain_loop(out, lambda lit: lit)
    return pv.load(out), lit


@pytest.mark.parametrize("library", [pl, pytorch_lightning], ids=lambda library: library.__name__)
def test_the_log_and_the_weights_are_those_of_a_plain_loop(
    tmp_path: Path, plain: tuple[pv.Runs, nn.Module], library: Any
) -> None:
    dynamics = PruningDynamics(SAMPLE, tmp_path / "run", every=2)
    lit = fit(tmp_path, dynamics, library=library)
    assert_equal_weights(lit, plain[1])
    found = pv.load(tmp_path / "run")
    averages = ["train_loss", "test_acc"]
    expected = plain[0].epochs[averages]
    pd.testing.assert_frame_equal(found.epochs[averages], expected, check_exact=False, rtol=1e-6)
    found.epochs[averages] = expected  # equal up to the order of Lightning's sums
    assert_same_tables(found, plain[0])


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_training_in_any_precision_is_bit_equal_with_and_without_the_callback(
    tmp_path: Path, precision: str
) -> None:
    how = {"precision": precision}
    lit = fit(tmp_path, PruningDynamics(SAMPLE, tmp_path / "run", every=1), **how)
    assert_equal_weights(lit, fit(tmp_path, **how))
    measured = pv.measure(lit, SAMPLE)["theta_hg"].astype("float32")
    assert at(pv.load(tmp_path / "run"), EPOCHS)["theta_hg"].equals(measured)


@pytest.mark.parametrize("cut", ["killed", "finished", "at validation"])
def test_a_resumed_training_has_the_log_of_an_uninterrupted_one(tmp_path: Path, cut: str) -> None:
    how: dict[str, Any] = {"every_n_epochs": 1}
    if cut == "at validation":
        how |= {"save_on_train_epoch_end": False}

    whole = fit(
        tmp_path,
        PruningDynamics(SAMPLE, tmp_path / "whole", every=2, measure_last=False),
        lit=Lit(seeded=True),
    )
    checkpoint = ModelCheckpoint(tmp_path / "kept", save_top_k=-1, **how)
    # Otherwise the epoch at which a run was finished is measured too, and stays so.
    how_measured: dict[str, Any] = {"every": 2, "measure_last": False}
    first = PruningDynamics(SAMPLE, tmp_path / "cut", **how_measured)
    if cut == "finished":
        how = {"epochs": 1, "lit": Lit(seeded=True), "enable_checkpointing": True}
        fit(tmp_path, first, checkpoint, **how)
    else:
        with pytest.raises(KeyError, match="power cut"):
            how = {"lit": Lit(seeded=True), "enable_checkpointing": True}
            fit(tmp_path, first, checkpoint, PowerCut(at=5), **how)
    kept = min((tmp_path / "kept").glob("*.ckpt"))
    second = PruningDynamics(SAMPLE, tmp_path / "cut", **how_measured)
    resumed = fit(tmp_path, second, ckpt=kept, lit=Lit(seeded=True))
    assert_equal_weights(resumed, whole)
    assert_same_tables(pv.load(tmp_path / "cut"), pv.load(tmp_path / "whole"))


def test_a_training_resumed_inside_an_epoch_records_every_epoch_once(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=4)  # of 3 in an epoch
    first = PruningDynamics(SAMPLE, tmp_path / "run", every=1)
    with pytest.raises(KeyError, match="power cut"):
        fit(tmp_path, first, checkpoint, PowerCut(at=8), enable_checkpointing=True)
    kept = next((tmp_path / "kept").glob("*.ckpt"))
    resumed = fit(tmp_path, PruningDynamics(SAMPLE, tmp_path / "run", every=1), ckpt=kept)
    runs = pv.load(tmp_path / "run")
    assert runs.epochs["epoch"].tolist() == [0, 1, 2, 3]
    measured = pv.measure(resumed, SAMPLE)["theta_g"].astype("float32")
    assert at(runs, EPOCHS)["theta_g"].equals(measured), "of the weights after resuming"
    lost = PruningDynamics(SAMPLE, tmp_path / "elsewhere" / "run")
    with pytest.raises(LogError, match="put the run directory back"):
        fit(tmp_path, lost, ckpt=kept)


def test_a_training_that_counts_steps_records_its_last_part_of_an_epoch(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "kept")
    first = PruningDynamics(SAMPLE, tmp_path / "run")
    fit(tmp_path, first, checkpoint, epochs=-1, max_steps=4, enable_checkpointing=True)
    assert pv.load(tmp_path / "run").epochs["epoch"].tolist() == [0, 1, 2]
    kept = next((tmp_path / "kept").glob("*.ckpt"))
    fit(tmp_path, PruningDynamics(SAMPLE, tmp_path / "run"), epochs=-1, max_steps=9, ckpt=kept)
    epochs = pv.load(tmp_path / "run").epochs["epoch"].tolist()
    assert epochs == list(range(epochs[-1] + 1)) and epochs[-1] > 2


def test_a_training_that_was_not_recorded_before_is_recorded_from_where_it_resumes(
    tmp_path: Path,
) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "kept")
    fit(tmp_path, checkpoint, epochs=1, enable_checkpointing=True)
    kept = next((tmp_path / "kept").glob("*.ckpt"))
    fit(tmp_path, PruningDynamics(SAMPLE, tmp_path / "run"), ckpt=kept)
    assert pv.load(tmp_path / "run").epochs["epoch"].tolist() == [1, 2, 3]


class PowerCut(pl.Callback):
    """Fails after a number of steps."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == self.at:
            raise KeyError("power cut")


def test_metrics_are_named_and_stale_ones_are_null(tmp_path: Path) -> None:
    dynamics = PruningDynamics(
        SAMPLE, tmp_path / "run", metrics={"test_acc": "val_acc", "test_loss": "late"}
    )
    fit(tmp_path, dynamics, epochs=4, check_val_every_n_epoch=2)
    epochs = pv.load(tmp_path / "run").epochs
    assert epochs["test_acc"].notna().tolist() == [False, False, True, False, True]
    assert epochs["test_loss"].tolist()[1:] == [0, 1, 2, 3], "logged after callbacks have run"
    assert epochs["train_loss"].isna().all()
    assert epochs["lr"].tolist()[1:] == [0.1, 0.05, 0.025, 0.0125]


def test_a_submodule_is_recorded_under_its_own_names(tmp_path: Path) -> None:
    fit(tmp_path, PruningDynamics(SAMPLE, tmp_path / "run", network="model"), epochs=1)
    layers = set(pv.load(tmp_path / "run").filters["layer"])
    assert layers == set(pv.measure(network(), SAMPLE)["layer"])


def test_a_fast_dev_run_leaves_nothing_behind(tmp_path: Path) -> None:
    sent: list[int] = []
    sink = Epochs(sent)
    options: dict[str, Any] = {"sinks": [sink], "figures_at": 1}
    fit(tmp_path, PruningDynamics(SAMPLE, tmp_path / "run", **options), fast_dev_run=True)
    assert not (tmp_path / "run").exists()
    assert sent == []


class Epochs:
    """A sink that keeps the epochs that it gets."""

    def __init__(self, sent: list[int]) -> None:
        self._sent = sent

    def epoch(self, run: str, epoch: int, aggregates: dict[str, float]) -> None:
        assert aggregates["epoch/lr" if epoch else "epoch/kept_fraction"] > 0
        self._sent.append(epoch)

    def figure(self, run: str, epoch: int, figure: Any) -> None:
        self._sent.append(-epoch)


def test_sinks_get_epochs_with_their_metrics_and_none_twice(tmp_path: Path) -> None:
    sent: list[int] = []
    out = tmp_path / "run"
    options: dict[str, Any] = {"every": 1, "sinks": [Epochs(sent)], "figures_at": [2]}
    keep = ModelCheckpoint(tmp_path / "kept", save_top_k=-1, filename="{epoch}")
    checkpoints = {"enable_checkpointing": True}
    fit(tmp_path, PruningDynamics(SAMPLE, out, **options), keep, epochs=2, **checkpoints)
    first = tmp_path / "kept" / "epoch=0.ckpt"
    fit(tmp_path, PruningDynamics(SAMPLE, out, **options), epochs=3, ckpt=first)
    assert sent == [0, 1, 2, -2, 3]


def test_wrong_use_is_refused_with_its_repair(tmp_path: Path) -> None:
    def fails(said: str, *args: Any, **options: Any) -> None:
        with pytest.raises(LogError, match=said):
            fit(tmp_path, PruningDynamics(*args, **options), epochs=1)

    fit(tmp_path, PruningDynamics(SAMPLE, tmp_path / "run"), epochs=1)
    fails("pass ckpt_path to trainer.fit", SAMPLE, tmp_path / "run")
    fails("resume is no option here", SAMPLE, tmp_path / "run", resume=True)
    fails("no submodule 'net'; it has model", SAMPLE, tmp_path / "b", network="net")
    fails("takes no fact ghg", SAMPLE, tmp_path / "c", metrics={"ghg": "val_acc"})

    class NoForward(pl.LightningModule):
        training_step = Lit.training_step
        configure_optimizers = Lit.configure_optimizers

        def __init__(self) -> None:
            super().__init__()
            self.model = network()

    with pytest.raises(LogError, match="NoForward has no forward"):
        fit(tmp_path, PruningDynamics(SAMPLE, tmp_path / "d"), lit=NoForward(), limit_val_batches=0)


@pytest.mark.parametrize("library", ["lightning", "transformers"])
def test_without_the_library_the_error_names_the_extra(library: str) -> None:
    code = (
        "import sys\n"
        "for name in ('lightning', 'lightning.pytorch', 'pytorch_lightning', 'transformers'):\n"
        "    sys.modules[name] = None\n"
        f"import pruneviz.loops.{library}"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"pip install 'pruneviz[{library}]'" in shown.stderr
