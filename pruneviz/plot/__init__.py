"""Pictures of recordings and tables: `pruneviz.plot`, without torch.

The functions load on first use, as the public names of `pruneviz` do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pruneviz.plot.accuracy_plot import accuracy as accuracy
    from pruneviz.plot.canvas import Picture as Picture
    from pruneviz.plot.correlation_plot import correlation as correlation
    from pruneviz.plot.flow_plot import flow as flow
    from pruneviz.plot.heatmap_plot import heatmap as heatmap
    from pruneviz.plot.layer_ratio_plot import layer_ratios as layer_ratios
    from pruneviz.plot.mask_plot import masks as masks
    from pruneviz.plot.scatter_plot import scatter as scatter
    from pruneviz.plot.trajectory_plot import trajectory as trajectory

_HOMES = {
    "Picture": "pruneviz.plot.canvas",
    "accuracy": "pruneviz.plot.accuracy_plot",
    "correlation": "pruneviz.plot.correlation_plot",
    "flow": "pruneviz.plot.flow_plot",
    "heatmap": "pruneviz.plot.heatmap_plot",
    "layer_ratios": "pruneviz.plot.layer_ratio_plot",
    "masks": "pruneviz.plot.mask_plot",
    "scatter": "pruneviz.plot.scatter_plot",
    "trajectory": "pruneviz.plot.trajectory_plot",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from pruneviz.errors import unknown_name

        raise AttributeError(f"pruneviz.plot: {unknown_name('plot', name, __all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
