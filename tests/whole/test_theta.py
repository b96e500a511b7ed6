"""Theta restricted to chosen parameters: g and H by these alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import peft
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pruneviz as pv
from pruneviz.errors import MeasureError
from tests.support.double_backward import derivatives

torch.manual_seed(0)
X, Y = torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3
EXACT: dict[str, Any] = {"dtype": torch.float64, "temperatures": (1.0,)}


def network() -> nn.Module:
    torch.manual_seed(1)
    layers = (nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    return nn.Sequential(*layers).double()


def products(
    model: nn.Module, names: list[str], layers: list[str]
) -> tuple[np.ndarray, np.ndarray, float]:
    """theta^T g and theta^T H g of the layers' rows, and g^T H g, with Theta the named ones."""
    theta, g, hg = derivatives(model, lambda net: F.cross_entropy(net(X), Y), names)
    rows = [
        torch.cat([(theta[f"{layer}.weight"] * part[f"{layer}.weight"]).sum(1) for layer in layers])
        for part in (g, hg)
    ]
    return rows[0].numpy(), rows[1].numpy(), sum(float((g[n] * hg[n]).sum()) for n in names)


CHOICES: dict[str, tuple[Any, list[str], list[str]]] = {
    "one pattern": ("*.weight", ["0.weight", "2.weight", "4.weight"], ["0", "2"]),
    "one name": ("2.weight", ["2.weight"], ["2"]),
    "names and patterns": (["0.*", "4.bias"], ["0.weight", "0.bias", "4.bias"], ["0"]),
}


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("kind", CHOICES)
def test_g_and_h_are_those_of_the_chosen_parameters(kind: str, chunk: int | None) -> None:
    asked, names, layers = CHOICES[kind]
    frame = pv.measure(network(), (X, Y), parameters=asked, chunk=chunk, **EXACT)
    want_g, want_hg, _ = products(network(), names, layers)
    assert list(dict.fromkeys(frame["layer"])) == layers
    np.testing.assert_allclose(frame["theta_g"], want_g, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(frame["theta_hg"], want_hg, rtol=1e-9, atol=1e-14)
    everything = pv.measure(network(), (X, Y), **EXACT)
    assert not np.allclose(everything["theta_hg"][: len(frame)], frame["theta_hg"])


def test_the_trainable_parameters_are_read_from_the_flags() -> None:
    model = network()
    model[0].requires_grad_(False)
    frame = pv.measure(model, (X, Y), parameters="trainable", **EXACT)
    chosen = ["2.weight", "2.bias", "4.weight", "4.bias"]
    _, want_hg, _ = products(model, chosen, ["2"])
    np.testing.assert_allclose(frame["theta_hg"], want_hg, rtol=1e-9)
    assert not any(parameter.requires_grad for parameter in model[0].parameters())


def test_rows_and_theta_of_a_recording_stay_those_of_its_start(tmp_path: Any) -> None:
    model = network()
    model[0].requires_grad_(False)
    chosen = ["2.weight", "2.bias", "4.weight", "4.bias"]
    with pv.Recorder(
        model, (X, Y), tmp_path / "run", every=1, parameters="trainable", **EXACT
    ) as recorder:
        recorder.after_epoch(0)
        model.requires_grad_()
        recorder.after_epoch(1)
        assert recorder.spec.to_dict()["parameters"] == "trainable"
    runs = pv.load(tmp_path / "run")
    first, second = (runs.filters[runs.filters["epoch"] == epoch] for epoch in (0, 1))
    columns = ["layer", "filter", "theta_hg", "theta_g"]
    pd.testing.assert_frame_equal(
        first[columns].reset_index(drop=True), second[columns].reset_index(drop=True)
    )
    _, _, ghg = products(model, chosen, ["2"])
    np.testing.assert_allclose(runs.epochs["ghg"], ghg, rtol=1e-6)


def test_a_choice_without_parameters_is_refused() -> None:
    with pytest.raises(MeasureError, match=r"no parameter '2.wieght'; did you mean '2.weight'"):
        pv.measure(network(), (X, Y), parameters="2.wieght")
    with pytest.raises(MeasureError, match="every parameter is frozen"):
        pv.measure(network().requires_grad_(False), (X, Y), parameters="trainable")
    with pytest.raises(MeasureError, match="no layer is left to measure"):
        pv.measure(network(), (X, Y), parameters="*.bias")


def test_adapters_are_measured_alone() -> None:
    """LoRA: the frozen weights beside the adapters are constants."""
    config = peft.LoraConfig(target_modules=["0", "2"], r=2, init_lora_weights=False)
    torch.manual_seed(2)
    model = peft.get_peft_model(network(), config).double()
    frame = pv.measure(model, (X, Y), parameters="trainable", **EXACT)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    layers = list(dict.fromkeys(frame["layer"]))
    assert len(names) == len(layers) == 4 and all("lora" in layer for layer in layers)
    want_g, want_hg, _ = products(model.eval(), names, layers)
    np.testing.assert_allclose(frame["theta_g"], want_g, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(frame["theta_hg"], want_hg, rtol=1e-9, atol=1e-14)
