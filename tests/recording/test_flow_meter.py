"""Steps of optimisers against gradient flow: exact identities, and what a meter leaves alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import MeasureError
from pruneviz.log.thinning import thin

SGD_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "momentum": {"momentum": 0.9, "weight_decay": 1e-2},
    "dampening": {"momentum": 0.5, "dampening": 0.3},
    "nesterov": {"momentum": 0.8, "nesterov": True, "weight_decay": 1e-2},
    "maximize": {"maximize": True, "momentum": 0.5, "weight_decay": 1e-2},
    "foreach nesterov": {"momentum": 0.8, "nesterov": True, "foreach": True},
}
PREDICTED = ["flow", "gradient", "update", "decay", "second"]


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5), nn.Tanh(), nn.Flatten(), nn.Linear(80, 4)
    ).to(dtype)


def batches(count: int, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(1)
    return [
        (torch.randn(8, 2, 6, 6, generator=random, dtype=dtype), torch.arange(8) % 4)
        for _ in range(count)
    ]


SAMPLE = batches(1)[0]


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]]
) -> None:
    for x, y in data:
        optimizer.zero_grad()
        F.cross_entropy(model(x) / 5, y).backward()
        optimizer.step()


def metered(data: list[tuple[Tensor, Tensor]], lr: float = 0.1, **options: Any) -> pd.DataFrame:
    """Rows of a meter with one epoch per batch, so that no sum hides a term."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr, **options)
    with pv.FlowMeter(model, optimizer, SAMPLE, sample_every=1, temperatures=5.0) as meter:
        for epoch, batch in enumerate(data, 1):
            train(model, optimizer, [batch])
            meter.take(epoch)
    return meter.table


def close(one: Any, other: Any, tolerance: float = 1e-12) -> None:
    one, other = np.asarray(one, float), np.asarray(other, float)
    assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


@pytest.mark.parametrize("name", SGD_OPTIONS)
def test_the_step_of_the_buffer_is_the_change_for_every_kind_of_sgd(name: str) -> None:
    table = metered(batches(4), **SGD_OPTIONS[name])
    close(table["update"], table["change"])
    assert len(table) == 4 * 5


@pytest.mark.parametrize("name", ["plain", "decay"])
def test_without_momentum_the_gradient_of_the_mini_batch_predicts_every_step(name: str) -> None:
    table = metered(batches(4), **SGD_OPTIONS[name])
    close(table["gradient"], table["change"])
    regression = pv.flow_table(table, "gradient", by=["layer"], over="step").iloc[0]
    assert [regression["slope"], regression["r2"], regression["explained"]] == pytest.approx(
        [1, 1, 1], abs=1e-10
    )


def plain(data: list[tuple[Tensor, Tensor]], lr: float, momentum: float, decay: float) -> Any:
    """Change and predictions of every step [step, filter], by plain autograd and the formulas."""
    model = network()
    weight, rate = model[0].weight, lr / (1 - momentum)
    buffers: dict[int, Tensor] = {}
    steps = []
    for x, y in data:
        gradients = torch.autograd.grad(F.cross_entropy(model(x) / 5, y), list(model.parameters()))
        theta, g = weight.detach().clone().flatten(1), gradients[0].flatten(1)
        with torch.no_grad():
            for index, (p, gradient) in enumerate(zip(model.parameters(), gradients, strict=True)):
                d = gradient + decay * p
                before = buffers.get(index)
                buffers[index] = d if before is None else momentum * before + d
                p -= lr * buffers[index]
        d = g + decay * theta
        s = weight.detach().flatten(1) - theta
        steps.append(
            {
                "change": ((theta + s) ** 2).sum(1) - (theta**2).sum(1),
                "flow": -2 * rate * (theta * g).sum(1),
                "gradient": -2 * rate * (theta * d).sum(1) + rate**2 * (d**2).sum(1),
                "update": 2 * (theta * s).sum(1) + (s**2).sum(1),
                "decay": -2 * rate * decay * (theta**2).sum(1),
                "second": rate**2 * (d**2).sum(1),
            }
        )
    return {name: torch.stack([step[name] for step in steps]).numpy() for name in steps[0]}


def test_sums_squares_and_products_agree_with_plain_autograd() -> None:
    data = batches(6)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-2)
    with pv.FlowMeter(model, optimizer, SAMPLE) as meter:
        train(model, optimizer, data)
        table = meter.take(1)
    want = plain(data, 0.1, 0.9, 1e-2)
    assert (table["steps"] == 6).all()
    for name in ("change", *PREDICTED):
        close(table[name], want[name].sum(0), 1e-10)
    close(table["change_squares"], (want["change"] ** 2).sum(0), 1e-10)
    for name in ("flow", "gradient", "update"):
        close(table[f"{name}_squares"], (want[name] ** 2).sum(0), 1e-10)
        close(table[f"{name}_by_change"], (want[name] * want["change"]).sum(0), 1e-10)
        slope, _ = np.polyfit(want[name].ravel(), want["change"].ravel(), 1)
        r = np.corrcoef(want[name].ravel(), want["change"].ravel())[0, 1]
        found = pv.flow_table(table, name, by="layer", over="step").iloc[0]
        assert found["slope"] == pytest.approx(slope, rel=1e-7)
        assert found["r2"] == pytest.approx(r**2, rel=1e-7)


def error_of(prediction: str, lr: float) -> float:
    """Distance of one step on the sample itself from a prediction of gradient flow."""
    table = metered([SAMPLE], lr)
    change = "change" if prediction == "flow" else "theta_g_change"
    return float(np.linalg.norm(table[change] - table[prediction]))


@pytest.mark.parametrize("prediction", ["flow", "curvature", "displacement"])
def test_half_the_step_has_a_quarter_of_the_error(prediction: str) -> None:
    errors = [error_of(prediction, lr) for lr in (4e-3, 2e-3, 1e-3)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_on_a_quadratic_loss_the_slope_of_theta_g_is_exact_up_to_one_known_term(
    decay: float,
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4, bias=False)).double()
    sample = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    theta, lr = model[0].weight.detach().clone(), 0.05
    hessian = 2 / 24 * sample[0].T @ sample[0]  # of the mean of squares; one block per neuron
    g = theta @ hessian - 2 / 24 * sample[1].T @ sample[0]
    optimizer = torch.optim.SGD(model.parameters(), lr, weight_decay=decay)
    with pv.FlowMeter(
        model, optimizer, sample, loss=F.mse_loss, classifier=True, sample_every=1
    ) as meter:
        F.mse_loss(model(sample[0]), sample[1]).backward()
        optimizer.step()
        table = meter.take(1)
    v = g + decay * theta
    close(table["curvature"], -lr * ((g * v).sum(1) + (theta * (v @ hessian)).sum(1)))
    rest = table["theta_g_change"] - table["curvature"]
    close(rest, lr**2 * (v * (v @ hessian)).sum(1), 1e-10)
    close(table["sample_flow"], table["flow"])  # the mini-batch is the sample
    # the step that was taken, from the other end: the same term with the other sign
    other = table["displacement"] - table["theta_g_change"]
    close(other, rest, 1e-10)
    found = pv.flow_table(table, "sample", by="layer").iloc[0]
    assert [found["slope"], found["explained"]] == pytest.approx([1, 1])


def test_batch_norm_in_training_mode_leaves_gradient_flow_nothing_to_change() -> None:
    model = network()
    model[1].eps = 1e-12
    optimizer = torch.optim.SGD(model.parameters(), 0.1, weight_decay=1e-2)
    with pv.FlowMeter(model, optimizer, SAMPLE) as meter:
        train(model, optimizer, batches(3))
        table = meter.take(1)
    close(table["change"], table["decay"] + table["second"], 1e-9)
    assert table["flow"].abs().max() < 1e-9 * table["change"].abs().max()
    assert (table["second"] > 0).all()


def test_with_momentum_an_effective_step_predicts_noise_over_many_steps() -> None:
    random = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(50, 40, bias=False)).double()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    sample = torch.ones(2, 50, dtype=torch.float64), torch.zeros(2).long()
    with pv.FlowMeter(model, optimizer, sample, classifier=True) as meter:
        for epoch in (1, 2):
            for _ in range(300):
                model[0].weight.grad = torch.randn(40, 50, generator=random, dtype=torch.float64)
                optimizer.step()
            meter.take(epoch)
    found = pv.flow_table(meter.table, "gradient", by="layer").iloc[0]
    assert found["slope"] == pytest.approx(1, abs=0.05)
    assert found["explained"] > 0.9
    # norm(s)^2 of the steps taken is 19 times smaller than what noise adds to a norm in the end
    second, moved = meter.table["second"].mean(), 600 / 2 * 50 * 1e-6 / (1 - 0.81)
    assert second / moved == pytest.approx(19, rel=0.05)
    assert meter.table["change"].mean() == pytest.approx(second, rel=0.3)


@pytest.mark.parametrize("name", SGD_OPTIONS)
def test_the_averaged_iterate_takes_effective_steps_for_every_kind_of_sgd(name: str) -> None:
    options, lr = SGD_OPTIONS[name], 0.1
    mu, nesterov = options.get("momentum", 0.0), options.get("nesterov", False)
    c = lr * mu / (1 - mu) * (mu if nesterov else 1)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr, **options)

    def norms() -> Tensor:
        weight = model[0].weight
        buffer = optimizer.state.get(weight, {}).get("momentum_buffer", torch.zeros_like(weight))
        return (weight - c * buffer).detach().flatten(1).square().sum(1)

    with pv.FlowMeter(model, optimizer, SAMPLE) as meter:
        train(model, optimizer, batches(1))  # the first step has no dampening
        meter.take(1)
        start = norms()
        train(model, optimizer, batches(5))
        table = meter.take(2)
    close(table["momentum"], norms() - start, 1e-9)
    assert (table["memory"] != 0).any() == bool(mu)


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9, "weight_decay": 0.01},
        {"momentum": 0.9, "dampening": 0.4},
        {"momentum": 0.8, "nesterov": True},
    ],
)
def test_the_averaged_iterate_is_exact_while_rates_and_momentum_change(
    options: dict[str, Any],
) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, **options)
    (group,), weight = optimizer.param_groups, model[0].weight

    def norms() -> Tensor:
        mu, buffer = group["momentum"], optimizer.state.get(weight, {}).get("momentum_buffer", 0.0)
        c = group["lr"] * mu / (1 - mu) * (mu if group["nesterov"] else 1)
        return (weight - c * buffer).detach().flatten(1).square().sum(1)

    start, table = norms(), []
    with pv.FlowMeter(model, optimizer, SAMPLE) as meter:
        for epoch, (rate, momentum) in enumerate([(0.1, 0.9), (0.02, 0.5), (0.3, 0.7)], 1):
            group["lr"], group["momentum"] = rate, momentum
            train(model, optimizer, batches(3))
            table.append(meter.take(epoch)["momentum"].to_numpy())
    close(sum(table), norms() - start, 1e-9)


def test_a_fused_step_divides_gradients_by_the_scale_and_may_be_skipped() -> None:
    def rows(scale: float | None) -> tuple[pd.DataFrame, Tensor]:
        model = network(torch.float32)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        with pv.FlowMeter(model, optimizer, (SAMPLE[0].float(), SAMPLE[1])) as meter:
            for step, (x, y) in enumerate(batches(4, torch.float32)):
                optimizer.zero_grad()
                scaler.scale(F.cross_entropy(model(x), y)).backward()
                if step == 2:
                    if scale is None:
                        continue
                    model[0].weight.grad[0, 0, 0, 0] = torch.inf
                scaler.step(optimizer)
                scaler.update()
            return meter.take(1), model[0].weight.detach()

    (scaled, one), (plain, other) = rows(1024.0), rows(None)
    assert torch.allclose(one, other, atol=1e-6)
    assert (scaled["steps"] == 3).all()
    for name in ("flow", "gradient", "momentum", "update", "change"):
        close(scaled[name], plain[name], 1e-3)


class Halved(torch.optim.SGD):
    """Steps by half of the learning rate."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter -= 0.5 * self.param_groups[0]["lr"] * parameter.grad


@pytest.mark.parametrize("kind", ["subclass", "hook", "momentum of 1"])
def test_steps_that_sgd_would_not_take_have_no_prediction_of_sgd(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = network(torch.float32)
    optimizer = (Halved if kind == "subclass" else torch.optim.SGD)(
        model.parameters(), 0.1, momentum=0.0 if kind == "subclass" else 0.5
    )
    data = batches(3, torch.float32)
    with pv.FlowMeter(model, optimizer, (SAMPLE[0].float(), SAMPLE[1])) as meter:
        if kind == "hook":
            optimizer.register_step_pre_hook(
                lambda *_: nn.utils.clip_grad_norm_(model.parameters(), 1e-3) and None
            )
        if kind == "momentum of 1":
            train(model, optimizer, data[:1])
            optimizer.param_groups[0]["momentum"] = 1.0
        train(model, optimizer, data)
        table = meter.take(1)
    assert not {"gradient", "momentum", "update", "memory", "update_by_change"} & set(table)
    assert table[["change", "flow"]].notna().all(axis=None)
    said = "momentum of 1 or more" if kind == "momentum of 1" else "otherwise than torch.optim.SGD"
    assert [said in message for message in caplog.messages] == [True]


class Renamed(torch.optim.SGD):
    """SGD under another name."""


def test_a_subclass_that_steps_as_sgd_keeps_its_predictions() -> None:
    model = network(torch.float32)
    optimizer = Renamed(model.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    with pv.FlowMeter(model, optimizer, (SAMPLE[0].float(), SAMPLE[1])) as meter:
        train(model, optimizer, batches(4, torch.float32))
        table = meter.take(1)
    close(table["update"], table["change"], 1e-4)


def test_a_sample_that_diverges_does_not_break_the_training_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 1e300)
    with pv.FlowMeter(model, optimizer, SAMPLE, sample_every=1) as meter:
        train(model, optimizer, batches(4))
        table = meter.take(1)
    assert table["displacement"].isna().all()
    assert sum("the flow of the sample is null" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("sample_every", [None, 2])
def test_training_with_a_meter_gives_the_same_weights(sample_every: int | None) -> None:
    data = batches(5, torch.float32)

    def trained(with_meter: bool) -> tuple[dict[str, Tensor], dict[str, Any], Tensor]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Dropout(0.2), *network(torch.float32)).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-3)
        if not with_meter:
            train(model, optimizer, data)
        else:
            sample = tuple(part.clone() for part in data[0])
            with pv.FlowMeter(model, optimizer, sample, sample_every=sample_every) as meter:
                train(model, optimizer, data)
            assert len(meter.take(1)) == 5
        assert model.training
        return model.state_dict(), optimizer.state_dict(), torch.rand(3)

    one, other = trained(False), trained(True)
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])
    assert one[1]["param_groups"] == other[1]["param_groups"]
    buffers = [[s["momentum_buffer"] for s in found[1]["state"].values()] for found in (one, other)]
    assert all(map(torch.equal, *buffers))
    assert torch.equal(one[2], other[2])


def test_hooks_are_gone_after_the_end_and_an_error() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    meter = pv.FlowMeter(model, optimizer, SAMPLE)
    with pytest.raises(RuntimeError, match="mine"), meter:
        meter.start()  # twice is once
        train(model, optimizer, batches(1))
        raise RuntimeError("mine")
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    train(model, optimizer, batches(2))
    assert (meter.take(1)["steps"] == 1).all()
    assert meter.take(2).empty


def test_every_meters_some_steps() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pv.FlowMeter(model, optimizer, SAMPLE, every=3, sample_every=2) as meter:
        train(model, optimizer, batches(7))
        table = meter.take(1)
    assert (table["steps"] == 3).all()
    assert (table["sample_steps"] == 2).all()
    close(table["gradient"], table["change"])


def test_other_optimisers_are_compared_with_the_direction_of_the_flow_alone() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with pv.FlowMeter(model, optimizer, SAMPLE, sample_every=1) as meter:
        train(model, optimizer, batches(2))
        meter.take(1)
    assert meter.table[["flow", "displacement", "sample_flow"]].notna().all(axis=None)
    assert meter.table[["gradient", "momentum", "update", "curvature"]].isna().all(axis=None)
    change, predicted = (meter.table[name] for name in ("theta_g_change", "displacement"))
    assert np.linalg.norm(change - predicted) < 0.1 * np.linalg.norm(change)
    with pytest.raises(pv.errors.AnalysisError, match=r"no run has the flow prediction 'gradient'"):
        pv.flow_table(meter.table, "gradient")


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5}])
def test_a_gradient_computed_inside_the_step_counts_too(options: dict[str, float]) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, **options)
    (x, y), _ = batches(2)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    with pv.FlowMeter(model, optimizer, SAMPLE) as meter:
        for _ in range(2):
            optimizer.step(closure)
        table = meter.take(1)
    close(table["update"], table["change"])
    assert (table["steps"] == 2).all()


def test_pruned_and_frozen_filters_are_left_out() -> None:
    model = network()
    model.insert(3, nn.Conv2d(5, 5, 1, bias=False).double())
    model[3].weight.requires_grad_(False)
    table = pv.measure(model, SAMPLE)
    pruner = pv.Pruner(model, SAMPLE[0][:2])
    pruner.prune(table, "magnitude", 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    with pv.FlowMeter(model, optimizer, SAMPLE, sample_every=1) as meter:
        train(model, optimizer, batches(2))
        rows = meter.take(1)
    assert meter.layers == ("0", "3")
    kept = pv.measure(model, SAMPLE, columns=["theta_norm2"]).query("kept and layer == '0'")
    assert set(rows["layer"]) == {"0"}
    assert list(rows["filter"]) == list(kept["filter"])
    assert len(rows) < 5 or not pruner.counts().query("layer == '0' and kept < filters").size


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Path]:
    model = network(torch.float32)
    sample = SAMPLE[0].float(), SAMPLE[1]
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    with pv.Recorder(model, sample, tmp_path / "run", every=1, spec={"seed": 7}) as recorder:
        recorder.after_epoch(0)
        with pv.FlowMeter(model, optimizer, sample, recorder=recorder) as meter:
            for epoch in (1, 2, 3):
                train(model, optimizer, batches(2, torch.float32))
                meter.take(epoch)
                recorder.after_epoch(epoch)
                if epoch == 2:
                    saved = copy.deepcopy(model.state_dict())
            model.load_state_dict(saved)
            recorder.rewind(2)
            recorder.after_epoch(3)
        pd.testing.assert_frame_equal(
            pv.load(tmp_path / "run").flow,
            meter.table.query("epoch < 3"),
            check_dtype=False,
            check_categorical=False,
        )
    yield tmp_path / "run"


def test_meters_of_one_recorder_share_an_epoch_and_no_layer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = network(torch.float32)
    model.insert(3, nn.Conv2d(5, 5, 1))
    sample = SAMPLE[0].float(), SAMPLE[1]
    optimizers = [torch.optim.SGD(model[at].parameters(), 0.1) for at in (0, 3)]
    recorder = pv.Recorder(model, sample, tmp_path / "run")
    recorder.after_epoch(0)
    meters = [pv.FlowMeter(model, one, sample, recorder=recorder) for one in optimizers]
    for epoch in (1, 7):
        for meter, optimizer in zip(meters, optimizers, strict=True):
            with meter:
                train(model, optimizer, batches(1, torch.float32))
            meter.take(epoch)
        with meters[0], pytest.raises(pv.errors.LogError, match=r"holds the flow of 0 at epoch"):
            train(model, optimizers[0], batches(1, torch.float32))
            meters[0].take(epoch)
        if epoch == 1:
            recorder.after_epoch(1)
    recorder.close()
    assert sum("the flow of epoch 7 is left out" in message for message in caplog.messages) == 1
    held = pv.load(tmp_path / "run").flow
    assert held[["epoch", "layer"]].drop_duplicates().to_numpy().tolist() == [[1, "0"], [1, "3"]]
    with pytest.raises(pv.errors.LogError, match=r"is closed"):
        meters[0].take(8)


def test_an_epoch_is_taken_once() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pv.FlowMeter(model, optimizer, SAMPLE) as meter:
        train(model, optimizer, batches(1))
        meter.take(1)
        train(model, optimizer, batches(1))
        with pytest.raises(MeasureError, match=r"epoch=1 was taken before"):
            meter.take(1)
        assert (meter.take(2)["steps"] == 1).all()


def test_a_recorder_keeps_the_flow_beside_its_run(recorded: Path, tmp_path: Path) -> None:
    runs = pv.load(recorded)
    assert (recorded / "flow.parquet").exists()
    assert sorted(set(runs.flow["epoch"])) == [1, 2]
    found = pv.flow_table(runs, "update", by=["seed", "epoch"])
    assert found["seed"].tolist() == [7, 7]
    assert found["slope"].to_numpy() == pytest.approx(1, abs=1e-3)
    copied = thin(recorded, tmp_path / "thin").path
    pd.testing.assert_frame_equal(pv.load(copied).flow, runs.flow)


def test_runs_without_flow_have_no_file_and_say_how_to_record_it(tmp_path: Path) -> None:
    with pv.Recorder(network(), SAMPLE, tmp_path / "run") as recorder:
        recorder.after_epoch(0)
    assert not (tmp_path / "run" / "flow.parquet").exists()
    runs = pv.load(tmp_path / "run")
    assert runs.flow.empty
    thin(tmp_path / "run", tmp_path / "thin")
    with pytest.raises(pv.errors.AnalysisError, match=r"pruneviz record --flow"):
        pv.flow_table(runs)


BAD: list[tuple[Callable[[nn.Module], Any], str]] = [
    (lambda m: pv.FlowMeter(m, m, SAMPLE), r"Sequential, not a torch.optim.Optimizer"),
    (lambda m: pv.FlowMeter(m, torch.optim.LBFGS(m.parameters()), SAMPLE), r"LBFGS takes several"),
    (lambda m: pv.FlowMeter(m, sgd(m), SAMPLE, every=0), r"every=0; give a number of steps"),
    (lambda m: pv.FlowMeter(m, sgd(m), SAMPLE, sample_every=0.5), r"sample_every=0.5; give"),
    (lambda m: pv.FlowMeter(m, sgd(m), SAMPLE, temperatures=(1, 5)), r"training has one"),
    (lambda m: pv.FlowMeter(m, sgd(m), SAMPLE, unit="weight"), r"follows filters"),
    (lambda m: pv.FlowMeter(m, sgd(m, momentum=1.0), SAMPLE), r"momentum=1.0 never forgets"),
    (lambda m: pv.FlowMeter(m, sgd(m), SAMPLE).take(-1), r"epoch=-1; give"),
]


def sgd(model: nn.Module, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), 0.1, **options)


@pytest.mark.parametrize(("call", "said"), BAD)
def test_what_cannot_be_metered_is_an_error(call: Callable[[nn.Module], Any], said: str) -> None:
    with pytest.raises(MeasureError, match=said):
        call(copy.deepcopy(network()))
