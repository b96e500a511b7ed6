"""pruneviz: measure and draw the dynamics of neural-network pruning.

Names load on first use, so that `import pruneviz` is quick and the drawing side never loads torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruneviz.analysis.convergence import convergence as convergence
    from pruneviz.analysis.correlation import correlate as correlate
    from pruneviz.analysis.correlation import over_seeds as over_seeds
    from pruneviz.analysis.matrix import correlation_matrix as correlation_matrix
    from pruneviz.masks import keep_mask as keep_mask
    from pruneviz.masks import mask_distance as mask_distance
    from pruneviz.pruning import Pruner as Pruner
    from pruneviz.pruning import remove as remove
    from pruneviz.recorder import Recorder as Recorder
    from pruneviz.runlog import Runs as Runs
    from pruneviz.runlog import load as load
    from pruneviz.scanning import scan as scan
    from pruneviz.schema import RunSpec as RunSpec
    from pruneviz.scores import score as score
    from pruneviz.snapshot import measure as measure

__version__ = "0.1.0"

_HOMES = {
    "Pruner": "pruneviz.pruning",
    "Recorder": "pruneviz.recorder",
    "RunSpec": "pruneviz.schema",
    "Runs": "pruneviz.runlog",
    "convergence": "pruneviz.analysis.convergence",
    "correlate": "pruneviz.analysis.correlation",
    "correlation_matrix": "pruneviz.analysis.matrix",
    "keep_mask": "pruneviz.masks",
    "load": "pruneviz.runlog",
    "mask_distance": "pruneviz.masks",
    "measure": "pruneviz.snapshot",
    "over_seeds": "pruneviz.analysis.correlation",
    "remove": "pruneviz.pruning",
    "scan": "pruneviz.scanning",
    "score": "pruneviz.scores",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pruneviz' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
