"""Example recordings that are installed with pruneviz: `pv.load_example`."""

from __future__ import annotations

from pathlib import Path

from pruneviz.errors import LogError, unknown_name
from pruneviz.log.runs import Runs, load

FOLDER = Path(__file__).with_name("example_runs")
EXAMPLES = ("cifar-mini",)


def load_example(name: str) -> Runs:
    """Load a small recording that is installed with pruneviz, to try pictures and analyses on.

    "cifar-mini" holds two unpruned runs on 10,000 images of CIFAR-100: ResNet-56 and VGG-13 at a
    half and a quarter of the paper's width, trained for 16 epochs, with all filters at epochs 0, 1,
    2, 4, 8, 12 and 16. `runs.spec` says how they were recorded, and `runs.spec["thinned"]` what
    these thin copies leave out. They contain neither images nor weights.

    Args:
        name: Name of the example, "cifar-mini".

    Returns:
        The runs as tables, as `pruneviz.load` returns them.

    Raises:
        LogError: If there is no example of this name; lists those that there are.

    References:
        A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical report,
        University of Toronto, 2009 (CIFAR-100).

    Example:
        >>> pv.plot.scatter(pv.load_example("cifar-mini"), "theta_g", "theta_hg")
    """
    if name not in EXAMPLES:
        hint = "load recordings of your own with pruneviz.load"
        raise LogError(unknown_name("example", name, EXAMPLES, hint))
    return load(FOLDER / name)
