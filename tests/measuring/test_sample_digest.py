"""The digest of a sample is that of its inputs and targets, in any form and of any size."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pruneviz.measuring import sample_digest as module
from pruneviz.measuring.sample_digest import not_compared, sample_digest

X, Y = torch.arange(12.0).reshape(4, 3), torch.tensor([0, 1, 0, 2])


@dataclass
class Texts:
    ids: torch.Tensor
    lang: str = "en"


FORMS: dict[str, Any] = {
    "pair": (X, Y),
    "other dtype": (X.double(), Y),
    "other label": (X, Y.flip(0)),
    "other shape": (X.reshape(4, 1, 3), Y),
    "sign of zero": (torch.where(X == 0, -0.0, X), Y),
    "mapping": ({"a": X}, Y),
    "other name": ({"b": X}, Y),
    "two": ({"a": X, "b": X}, Y),
    "tuple": ((X, X), Y),
    "text": (({"a": X}, "en"), Y),
    "other text": (({"a": X}, "de"), Y),
    "dataclass": (Texts(X), Y),
    "of itself": (X, X),
    "sparse": (X.to_sparse(), Y),
    "complex": (X.to(torch.complex64), Y),
    "half": (X.bfloat16(), Y),
    "no dimension": ((X, torch.tensor(3.0)), Y),
}


def test_every_form_has_a_digest_of_its_own() -> None:
    found = {name: sample_digest([batch]) for name, batch in FORMS.items()}
    # a sparse tensor holds the values of the dense one
    assert len(set(found.values())) == len(FORMS) - (found["sparse"] == found["pair"])
    assert all(len(digest) == 64 for digest in found.values())
    assert sample_digest([(OrderedDict(a=X), Y)]) == found["mapping"]
    assert sample_digest([(X.T.contiguous().T, Y)]) == found["pair"], "the layout does not count"


def test_batches_count() -> None:
    halves = [(X[:2], Y[:2]), (X[2:], Y[2:])]
    assert len({sample_digest(b) for b in ([(X, Y)], halves, halves[::-1])}) == 3


@pytest.mark.parametrize("block", [1, 5, 16])
def test_a_large_sample_is_read_in_blocks(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    whole = sample_digest([(X, Y)])
    monkeypatch.setattr(module, "_BLOCK", block)
    assert sample_digest([(X, Y)]) == whole


class Slotted:
    __slots__ = ("scale",)

    def __init__(self, scale: float) -> None:
        self.scale = scale


def _scaled(k: int) -> list[Any]:
    around: list[Any] = [k]
    around.append(around)
    return [
        *(np.full(4, k), np.float64(k), np.array([k, "a"], object), np.array(["a" * k])),
        *(np.ma.masked_array([1, 2], [k == 1, False]), range(k), {k}, b"x" * k, 10**5000 + k),
        *(SimpleNamespace(k=SimpleNamespace(k=k)), Slotted(k), pd.Series([k]), around),
        *(pd.DataFrame({"a": [k]}), pd.DataFrame({"a": [1]}, index=[k])),
    ]


def test_all_that_reaches_the_network_counts_by_its_value() -> None:
    samples = [[[({"x": X, "scale": held}, Y)] for held in _scaled(k)] for k in (1, 1, 2)]
    one, same, other = ([sample_digest(batches) for batches in of_k] for of_k in samples)
    assert one == same
    assert [place for place, digest in enumerate(one) if digest == other[place]] == []
    assert [not_compared(batches) for batches in samples[0]] == [[]] * len(one)


def test_what_cannot_be_read_is_named() -> None:
    held = {"f": len, "g": (n for n in range(2)), "m": torch.nn.Linear(1, 1), "x": X}
    expected = ["builtin_function_or_method", "generator", "Linear"]
    assert not_compared([(held, Y)]) == expected
    assert sample_digest([(held, Y)]) == sample_digest([(dict(held), Y)])
