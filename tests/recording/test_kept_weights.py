"""Kept weights: a round trip keeps them exact and pruned entries held; errors name the repair."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from pruneviz.errors import LogError
from pruneviz.pruning.held_entries import kept_entries, prune_entries
from pruneviz.pruning.pruner import Pruner
from pruneviz.recording import kept_weights
from pruneviz.recording.kept_weights import (
    drop_kept_after,
    keep_weights,
    kept_epochs,
    load_kept_weights,
    load_tensors,
    save_tensors,
)
from tests.support.cases import BY_NAME
from tests.support.file_sizes import largest_file
from tests.support.removed_twins import IMAGES, TWINS

CASE = BY_NAME["conv_bn_relu"]


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = CASE.model(dtype=torch.float32)
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            if value.is_floating_point():
                value.add_(torch.rand_like(value))
    return model


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_weights_and_buffers_come_back_to_the_bit_at_each_epoch(tmp_path: Path) -> None:
    kept = {epoch: network(epoch) for epoch in (10, 0, 100)}
    for epoch, model in kept.items():
        assert keep_weights(model, tmp_path, epoch).parent == tmp_path / "weights"
    assert kept_epochs(tmp_path) == [0, 10, 100]
    other = network(7)
    for epoch, model in kept.items():
        load_kept_weights(other, tmp_path, epoch)
        assert all(torch.equal(value, state(other)[name]) for name, value in state(model).items())
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_was_pruned_is_held_at_zero_again(tmp_path: Path) -> None:
    model = network()
    kept = torch.ones_like(model.get_parameter("0.weight"), dtype=torch.bool)
    kept[1] = False
    prune_entries(model, {"0.weight": kept})
    keep_weights(model, tmp_path, 3)
    other = network(7)
    load_kept_weights(other, tmp_path, 3)
    assert torch.equal(kept_entries(other)["0.weight"], kept)
    weight = other.get_parameter("0.weight")
    (weight.sum() * 2).backward()
    assert weight.grad is not None
    assert not weight.grad[1].any()
    assert weight.grad[0].all()


@pytest.mark.parametrize("name", ["conv bn relu", "tied weights"])
def test_a_pruned_network_with_norms_or_tied_weights_comes_back(tmp_path: Path, name: str) -> None:
    twin = next(twin for twin in TWINS if twin.name == name)
    model, other = twin.whole(), twin.whole()
    Pruner(model, IMAGES).prune_filters(twin.prune)
    keep_weights(model, tmp_path, 1)
    load_kept_weights(other, tmp_path, 1)
    found, expected = state(other), state(model)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_an_epoch_that_was_not_kept_is_told_with_those_that_were(tmp_path: Path) -> None:
    assert kept_epochs(tmp_path) == []
    with pytest.raises(
        LogError,
        match=r"no weights of epoch 1; it holds epochs \[none\]; "
        "record it with `pruneviz record --keep-weights`",
    ):
        load_kept_weights(network(), tmp_path, 1)
    keep_weights(network(), tmp_path, 2)
    with pytest.raises(LogError, match=r"no weights of epoch 1; it holds epochs \[2\]"):
        load_kept_weights(network(), tmp_path, 1)


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:100], lambda raw: b"no tensors", lambda raw: b""],
    ids=["cut", "other", "empty"],
)
def test_a_corrupt_file_is_told(tmp_path: Path, damage: object) -> None:
    file = keep_weights(network(), tmp_path, 0)
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(LogError, match=r"00000\.safetensors is corrupt"):
        load_kept_weights(network(), tmp_path, 0)


def damage_is_noticed(tmp_path: Path, every: int, **facts: str) -> None:
    """Flip every so manyth bit of a file, each alone."""
    file = tmp_path / "w.safetensors"
    tensors = {"b": torch.arange(3.0), "a_kept": torch.tensor([True, False]), "n": torch.tensor(7)}
    save_tensors(tensors, file, facts)
    whole = file.read_bytes()
    assert all(torch.equal(value, tensors[name]) for name, value in load_tensors(file).items())
    for bit in range(0, 8 * len(whole), every):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        with pytest.raises(LogError, match=r"w\.safetensors is corrupt"):
            load_tensors(file)


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    damage_is_noticed(tmp_path, 29)  # all bits of a byte in turn
    damage_is_noticed(tmp_path, 29, run="a", epoch="3")


@pytest.mark.soak
def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    damage_is_noticed(tmp_path, 1)
    damage_is_noticed(tmp_path, 1, run="a", epoch="3")


def test_any_tensor_has_a_digest(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    parts = {
        "empty": torch.zeros(0, 3),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "complex": torch.ones(2, 2, dtype=torch.complex64).T,
        "spread": torch.ones(1).expand(4),
    }
    save_tensors(parts | {"shared": parts["half"]}, file)
    found = load_tensors(file)
    assert all(torch.equal(found[name], value) for name, value in parts.items())
    assert torch.equal(found["shared"], parts["half"])


def test_a_file_of_an_earlier_version_has_no_digest_and_is_read(tmp_path: Path) -> None:
    file = keep_weights(network(), tmp_path, 0)
    save_file(load_tensors(file), file)
    load_kept_weights(other := network(7), tmp_path, 0)
    assert torch.equal(other.get_parameter("0.weight"), network().get_parameter("0.weight"))


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    content = [keep_weights(network(), tmp_path / name, 3).read_bytes() for name in "ab"]
    assert content[0] == content[1]


def test_a_file_under_another_name_is_refused(tmp_path: Path) -> None:
    keep_weights(network(), tmp_path, 2).rename(tmp_path / "weights" / "00003.safetensors")
    said = r"00003\.safetensors holds the weights of epoch 2 of None, not of epoch 3"
    with pytest.raises(LogError, match=said.replace(" of None", r" of \w+")):
        load_kept_weights(network(), tmp_path, 3)


def test_files_of_a_person_are_no_weights_and_stay(tmp_path: Path) -> None:
    kept = keep_weights(network(), tmp_path, 2)
    own = [kept.with_name(f"{name}.safetensors") for name in ("best", "2", "000002", "00003-a")]
    for file in own:
        shutil.copy(kept, file)
    assert kept_epochs(tmp_path) == [2]
    drop_kept_after(tmp_path, -1)
    assert sorted(kept.parent.iterdir()) == sorted(own)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    keep_weights(network(), tmp_path, 0)
    with pytest.raises(LogError, match="of another network than Linear"):
        load_kept_weights(nn.Linear(3, 2), tmp_path, 0)


def test_a_place_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("a file in the way")
    with pytest.raises(LogError, match="cannot write to"):
        keep_weights(network(), tmp_path, 0)


@pytest.mark.parametrize(
    "said",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        'IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })',
        "something else: No space left on device",
    ],
    ids=["now", "before", "unknown"],
)
def test_a_full_disk_is_told_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    def full(state: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError(said)

    monkeypatch.setattr(kept_weights, "save_file", full)
    repair = "check the disk" if "else" in said else "free some space"
    with pytest.raises(LogError, match=rf"cannot write to .*No space left on device.*; {repair}"):
        keep_weights(network(), tmp_path, 0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_limit_on_file_sizes_is_told_wherever_it_strikes(tmp_path: Path) -> None:
    size = keep_weights(network(), tmp_path, 0).stat().st_size
    for limit in range(0, size, size // 40):
        said = rf"cannot write to .*{1:05d}\.safetensors: File too large; raise the limit"
        with largest_file(limit), pytest.raises(LogError, match=said):
            keep_weights(network(), tmp_path, 1)
    assert [file.name for file in (tmp_path / "weights").iterdir()] == ["00000.safetensors"]


def test_weights_of_epochs_after_a_checkpoint_are_deleted_and_no_others(tmp_path: Path) -> None:
    for epoch in range(4):
        keep_weights(nn.Linear(2, 2), tmp_path, epoch)
    drop_kept_after(tmp_path, 1)
    assert kept_epochs(tmp_path) == [0, 1]
    drop_kept_after(tmp_path, -1)
    assert kept_epochs(tmp_path) == []
