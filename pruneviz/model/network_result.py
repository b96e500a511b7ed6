"""Results that hold a network and can be used in its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import nn


@dataclass(frozen=True)
class NetworkResult:
    """A result about a network, which acts as this network too.

    It is called as the network is, and gives its methods and submodules: `result(x)`,
    `result.eval()`, `result.parameters()`, `result.state_dict()`. Functions of pruneviz take it
    where they take a network. What asks for an `nn.Module` by type, such as `nn.Sequential`, needs
    `result.network`.

    Attributes:
        network: The network.
    """

    network: nn.Module = field(repr=False)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Run the network."""
        return self.network(*inputs, **named)

    def __getattr__(self, name: str) -> Any:
        # Special names are asked for by copy and pickle, before there is a network.
        if name == "network" or name.startswith("__"):
            raise AttributeError(name)
        try:
            return getattr(self.network, name)
        except AttributeError:
            kind = type(self).__name__
            raise AttributeError(f"neither {kind} nor its network has {name!r}") from None


AnyNetwork: TypeAlias = nn.Module | NetworkResult
