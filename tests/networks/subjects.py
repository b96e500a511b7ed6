"""What the table is made of: a network with random weights, a sample and a loss.

Every network is built small, from its library's own classes: nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from tests.support.double_backward import call

CLASSES = 5


@dataclass(frozen=True)
class Subject:
    """A public architecture on a sample.

    Attributes:
        name: Name of the architecture as its library has it.
        library: Where its classes come from.
        build: The network, with random weights.
        inputs: A tensor, or positional or keyword arguments.
        target: Targets of these inputs.
        loss: Mean loss from output and target.
        options: Further options of `pv.measure`.
        quick: Whether `make test` checks it too.
        single: Largest error of `theta_hg` in float32, where it is not that of all networks.
    """

    name: str
    library: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    target: Callable[[], Any]
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    options: Mapping[str, Any] | None = None
    quick: bool = False
    single: float | None = None

    @property
    def title(self) -> str:
        """Library and name, by which the table knows it."""
        return f"{self.library}: {self.name}"

    def network(self) -> nn.Module:
        """The network with seeded weights, in training mode; no norm and no scale is trivial."""
        torch.manual_seed(0)
        model = lively(self.build().train())
        norms = [m for m in model.modules() if isinstance(m, BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = None
        with torch.no_grad():
            call(model, self.inputs())  # running statistics that fit
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.running_var.clamp_(min=0.1)  # of three examples it can be nearly zero
        return model


def lively(model: nn.Module) -> nn.Module:
    """Draw scales of norms and zero-initialised weights, so that all of them matter."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, BatchNorm) and module.affine:
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.3, 0.3, generator=generator)
    for parameter in model.parameters():
        if parameter.numel() and parameter.detach().abs().max() < 1e-3:
            parameter.data.normal_(0, 0.05, generator=generator)
    return model


def pictures(size: int = 32, n: int = 3, channels: int = 3) -> Callable[[], Tensor]:
    """Seeded images [n, channels, size, size]."""
    return lambda: torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(2))


def labels(n: int = 3, classes: int = CLASSES) -> Callable[[], Tensor]:
    """Labels 0, 1, ... [n]."""
    return lambda: torch.arange(n) % classes


def token_ids(n: int = 3, length: int = 9, vocabulary: int = 50) -> Tensor:
    """Seeded token numbers [n, length], none of them 0, 1 or 2."""
    generator = torch.Generator().manual_seed(2)
    return torch.randint(3, vocabulary, (n, length), generator=generator)


def padding(n: int = 3, length: int = 9) -> Tensor:
    """An attention mask [n, length]: each sequence is two tokens shorter than the one before."""
    return (torch.arange(length) < length - 2 * torch.arange(n)[:, None]).long()


def text() -> dict[str, Tensor]:
    """Keyword arguments of a language model: token numbers and a mask."""
    return {"input_ids": token_ids(), "attention_mask": padding()}


def next_tokens() -> Tensor:
    """The next token at every place; -100 at the last and where the mask hides it."""
    shifted = token_ids().roll(-1, 1)
    shown = padding().roll(-1, 1).bool()
    shown[:, -1] = False
    return torch.where(shown, shifted, -100)


def logits_of(output: Any) -> Tensor:
    """The logits in an output of any library."""
    if isinstance(output, Mapping):
        output = output.get("logits", output.get("out"))
    if isinstance(output, tuple | list):
        output = output[0]
    return getattr(output, "logits", output)


def classified(output: Any, target: Tensor) -> Tensor:
    """Cross-entropy of the logits."""
    return F.cross_entropy(logits_of(output), target)


def every_token(output: Any, target: Tensor) -> Tensor:
    """Mean over examples of each one's mean over its tokens, which is a mean in every chunk."""
    logits = logits_of(output)
    each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
    shown = (target != -100).to(each.dtype)
    return ((each * shown).sum(1) / shown.sum(1)).mean()


def squared(output: Any, target: Tensor) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(output, target)
