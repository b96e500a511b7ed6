"""The first layer that is not finite, in execution order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pruneviz.model.finite import first_nonfinite_layer
from tests.support.cases import BY_NAME, digit_batches

X = digit_batches((4,))[0][0]


def found(model: nn.Module, *batches: Tensor) -> str | None:
    return first_nonfinite_layer(model, model.eval(), batches)


def test_a_finite_network_has_none_and_keeps_no_hooks() -> None:
    model = BY_NAME["conv_relu_bn"].model()
    assert found(model, X, X) is None
    assert not any(module._forward_hooks for module in model.modules())


def test_a_broken_weight_and_a_broken_output_are_found_in_execution_order() -> None:
    model = BY_NAME["conv_relu_bn"].model()  # registers its layers backwards
    model.conv2.weight.data[0, 0, 0, 0] = torch.inf
    assert found(model, X) == "conv2"
    model.bn1.running_var.fill_(-1.0)
    assert found(model, X) == "bn1"


def test_a_later_batch_is_looked_at_and_the_rest_is_not() -> None:
    seen: list[int] = []

    def batches():  # type: ignore[no-untyped-def]
        for number, batch in enumerate((X, X * torch.nan, X)):
            seen.append(number)
            yield batch

    model = BY_NAME["conv_relu_bn"].model().eval()
    assert first_nonfinite_layer(model, model, batches()) == "conv1"
    assert seen == [0, 1]
