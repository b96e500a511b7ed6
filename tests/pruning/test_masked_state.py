"""Masks as further keys of a state dict, and in its metadata."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.pruning.held_entries import kept_entries, prune_entries
from pruneviz.pruning.masked_state import load_with_masks, state_with_masks

X = torch.arange(8.0).view(2, 4)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).eval()


def masked(rows: list[int]) -> nn.Module:
    model = network()
    keep = torch.ones(3, dtype=torch.bool)
    keep[rows] = False
    prune_entries(model, {"0.weight": keep[:, None].expand(3, 4), "0.bias": keep})
    return model


def by_torch(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    state: dict[str, Tensor] = torch.load(stream, weights_only=True)
    return state


def by_keys(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    save_file(state_with_masks(model), folder / "state.safetensors")
    return load_file(folder / "state.safetensors")


@pytest.mark.parametrize("way", [by_torch, by_keys], ids=lambda way: way.__name__)
@pytest.mark.parametrize("into", [[], [0], [1, 2]], ids=str)
def test_a_loaded_network_has_the_masks_of_the_saved_one_and_no_others(
    way: Callable[[nn.Module, Path], dict[str, Tensor]], into: list[int], tmp_path: Path
) -> None:
    saved, loaded = masked([1]), masked(into)
    load_with_masks(loaded, way(saved, tmp_path))
    assert torch.equal(loaded(X), saved(X))
    assert {name: keep.tolist() for name, keep in kept_entries(loaded).items()} == {
        name: keep.tolist() for name, keep in kept_entries(saved).items()
    }
    optimizer = torch.optim.SGD(loaded.parameters(), 0.1, weight_decay=0.1)
    loaded(X).sum().backward()
    optimizer.step()
    assert not loaded[0].weight[1].any() and loaded[0].weight[0].any()


def test_keys_of_an_older_checkpoint_load_into_a_pruned_network_without_further_ado() -> None:
    saved, loaded = masked([1]), masked([0])
    state = state_with_masks(saved)
    assert set(state) - set(saved.state_dict()) == {"0.weight_kept", "0.bias_kept"}
    loaded.load_state_dict(state)
    assert kept_entries(loaded)["0.bias"].tolist() == [True, False, True]


def test_the_state_of_an_unpruned_network_is_its_state_dict_and_takes_masks_away() -> None:
    plain, pruned = network(), masked([1])
    state = state_with_masks(plain)
    assert state.keys() == plain.state_dict().keys()
    load_with_masks(pruned, state)
    assert not kept_entries(pruned) and torch.equal(pruned(X), plain(X))


def test_a_state_of_another_network_is_refused_and_a_buffer_named_kept_is_no_mask() -> None:
    with pytest.raises(RuntimeError, match=r"5\.weight_kept"):
        state = {**network().state_dict(), "5.weight_kept": torch.ones(2, dtype=torch.bool)}
        load_with_masks(network(), state)
    model = network()
    model[0].register_buffer("weight_kept", torch.ones(3, 4, dtype=torch.bool))
    load_with_masks(copy.deepcopy(model), model.state_dict())
    assert not kept_entries(model)


def test_both_functions_are_public() -> None:
    assert pv.state_with_masks is state_with_masks and pv.load_with_masks is load_with_masks
