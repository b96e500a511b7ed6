"""What a person types at a prompt is answered in a line, not in pages of numbers."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator

import torch
from torch import nn

import pruneviz
import pruneviz as pv

BIG = re.compile(r"\bTensor\b|NamedTensors|ndarray|DataFrame|nn\.Module\b")
NOT_A_VALUE = re.compile(r"Callable\[.*\]|type\[.*\]|TypeAlias")


def dataclasses_of_the_package() -> Iterator[type]:
    for found in pkgutil.walk_packages(pruneviz.__path__, "pruneviz."):
        if found.name == "pruneviz.__main__":
            continue
        try:
            module = importlib.import_module(found.name)
        except ModuleNotFoundError as error:  # an extra that is not installed
            assert not str(error.name).startswith("pruneviz")
            continue
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == found.name
            public = own and not value.__name__.startswith("_")
            if public and dataclasses.is_dataclass(value):
                yield value


def test_no_dataclass_prints_tensors_tables_or_networks() -> None:
    wrong = []
    for kind in dataclasses_of_the_package():
        if not kind.__dataclass_params__.repr or "__repr__" not in vars(kind):  # type: ignore[attr-defined]
            continue
        if not hasattr(vars(kind)["__repr__"], "__wrapped__"):  # one of its own
            continue
        wrong += [
            f"{kind.__module__}.{kind.__name__}.{field.name}: {field.type}"
            for field in dataclasses.fields(kind)
            if field.repr and BIG.search(NOT_A_VALUE.sub("", str(field.type)))
        ]
    assert not wrong, "\n".join(wrong)


def test_objects_that_people_hold_say_what_they_are() -> None:
    data = pv.load_dataset("digits")
    sample = pv.balanced_sample(data, per_class=1)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    )
    shown = {
        "data": repr(data),
        "coverage": repr(pv.coverage(model, sample)),
        "removed": repr(pv.remove(model, sample[0])),
    }
    assert shown["data"] == (
        "<digits: 1437 training and 360 test images of 3 x 32 x 32, 10 classes, on cpu>"
    )
    assert shown["coverage"] == pv.coverage(model, sample).summary()
    assert all(len(text) < 500 for text in shown.values()), shown
