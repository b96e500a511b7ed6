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
    from pruneviz.analysis.masks import keep_mask as keep_mask
    from pruneviz.analysis.masks import mask_distance as mask_distance
    from pruneviz.analysis.matrix import correlation_matrix as correlation_matrix
    from pruneviz.analysis.scores import score as score
    from pruneviz.log.runs import Runs as Runs
    from pruneviz.log.runs import load as load
    from pruneviz.log.scan import scan as scan
    from pruneviz.log.schema import RunSpec as RunSpec
    from pruneviz.measuring.snapshot import measure as measure
    from pruneviz.pruning.pruner import Pruner as Pruner
    from pruneviz.pruning.removal import remove as remove
    from pruneviz.recording.recorder import Recorder as Recorder

__version__ = "0.1.0"

_HOMES = {
    "Pruner": "pruneviz.pruning.pruner",
    "Recorder": "pruneviz.recording.recorder",
    "RunSpec": "pruneviz.log.schema",
    "Runs": "pruneviz.log.runs",
    "convergence": "pruneviz.analysis.convergence",
    "correlate": "pruneviz.analysis.correlation",
    "correlation_matrix": "pruneviz.analysis.matrix",
    "keep_mask": "pruneviz.analysis.masks",
    "load": "pruneviz.log.runs",
    "mask_distance": "pruneviz.analysis.masks",
    "measure": "pruneviz.measuring.snapshot",
    "over_seeds": "pruneviz.analysis.correlation",
    "remove": "pruneviz.pruning.removal",
    "scan": "pruneviz.log.scan",
    "score": "pruneviz.analysis.scores",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(
            f"module 'pruneviz' has no attribute {name!r}; it has {', '.join(__all__)}"
        )
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
