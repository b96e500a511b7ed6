"""The digest of a network is that of what a checkpoint holds, and of nothing else."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import nn

from pruneviz.measuring.bits import bit_sums, differing_parts, network_digest
from pruneviz.pruning.held_entries import prune_entries
from tests.support.short_recordings import SAMPLE, network


def test_a_copy_and_a_loaded_network_have_the_same_digest() -> None:
    model, loaded = network(), network()
    model(SAMPLE[0])
    loaded.load_state_dict(model.state_dict())
    digest = network_digest(model)()
    assert digest == network_digest(copy.deepcopy(model))() == network_digest(loaded)()
    assert digest is not None and [len(part) for part in digest.split("-")] == [16] * 3


def test_every_flipped_bit_of_a_network_changes_its_digest() -> None:
    model, draw = network(), random.Random(0)
    before = network_digest(model)()
    for _ in range(60):
        _, tensor = draw.choice([*model.named_parameters(), *model.named_buffers()])
        words = tensor.detach().reshape(-1).view(torch.uint8)
        place, bit = draw.randrange(len(words)), 1 << draw.randrange(8)
        words[place] ^= bit
        assert network_digest(model)() != before
        words[place] ^= bit
    assert network_digest(model)() == before


def test_parameters_and_the_rest_have_a_half_each() -> None:
    model = network()
    before = str(network_digest(model)()).split("-")
    model.get_buffer("1.running_var").mul_(2)
    after = str(network_digest(model)()).split("-")
    assert after[0] == before[0] and after[1] != before[1]
    mask = torch.ones(4, 3, 2, 2, dtype=torch.bool)
    prune_entries(model, {"4.weight": mask})
    assert str(network_digest(model)()).split("-")[1] != after[1], "masks count"


def test_buffers_that_are_not_saved_do_not_count() -> None:
    model = network()
    before = network_digest(model)()
    model.register_buffer("cache", torch.zeros(3), persistent=False)
    model.seen = torch.ones(2)  # type: ignore[assignment]
    assert network_digest(model)() == before


def test_a_network_whose_bits_cannot_be_read_has_no_digest() -> None:
    model = network()
    model.register_buffer("q", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8))
    assert network_digest(model)() is None


@pytest.mark.parametrize("n", [1, 1 << 14, (1 << 14) + 1, 5 << 14])
def test_rows_of_large_tensors_have_keys_of_their_own(n: int) -> None:
    torch.manual_seed(0)
    values = torch.randn(n)

    def total(tensor: torch.Tensor) -> list[int]:
        (found,) = bit_sums({"own": tensor}).values()
        return found.tolist()

    assert total(values) == total(values.clone())
    for change in (values.flip(0), values.roll(1 << 14), -values):
        if not torch.equal(change, values):
            assert total(change) != total(values)


class Told(nn.Module):
    def __init__(self, told: object) -> None:
        super().__init__()
        self.told = told

    def extra_repr(self) -> str:
        return repr(self.told) if self.told else str(1 / 0)


def test_modules_with_equal_tensors_are_told_apart_by_what_they_print() -> None:
    made: list[nn.Module] = [
        *(nn.ReLU(), nn.GELU(), nn.Dropout(0.1), nn.Dropout(0.2), Told(1), Told(2), Told(None)),
        *(nn.Conv2d(1, 1, 3, stride=stride) for stride in (1, 2)),
        *(nn.BatchNorm2d(2, eps=eps) for eps in (1e-5, 1e-3)),
    ]
    last = {str(network_digest(module)()).split("-")[2] for module in made}
    assert len(last) == len(made)
    told = [network_digest(Told(object()))() for _ in range(2)]
    assert told[0] == told[1], "addresses do not count"
    where = [network_digest(Told(type("T", (), {"__repr__": lambda _, d=d: d})())) for d in DEVICES]
    assert where[0]() == where[1]()
    found = str(network_digest(made[0])())
    assert differing_parts(found, str(network_digest(made[1])())) == ["modules"]
    assert differing_parts(found[:33], found) == [], "older versions wrote no third part"


DEVICES = ("tensor([1.])", "tensor([1.], device='cuda:0')")
