"""Pictures as they should look, at few pixels; see `assert_as_before`.

After a wanted change, renew them with `PRUNEVIZ_NEW_BASELINES=1 python -m pytest tests -k
baseline`, look at every new file, and commit it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pruneviz.plot import style

FOLDER = Path(__file__).parent / "baselines"
DPI = 60
# Grey levels, root mean square over all pixels: more than another font renderer changes.
TOLERANCE = 4.0


def assert_as_before(figure: Figure, name: str, scratch: Path) -> None:
    """Compare a picture with the file `name` in tests/support/baselines.

    Where they differ, the new picture is left in `scratch` and named.
    """
    drawn = scratch / f"{name}.png"
    with style.paper():
        figure.savefig(drawn, dpi=DPI, metadata={"Software": None})
    kept = FOLDER / drawn.name
    if os.environ.get("PRUNEVIZ_NEW_BASELINES") == "1":
        FOLDER.mkdir(exist_ok=True)
        kept.write_bytes(drawn.read_bytes())
    assert kept.is_file(), f"there is no {kept}; see the head of {__file__}"
    difference = rms(drawn, kept)
    assert difference < TOLERANCE, (
        f"{drawn} differs from {kept} by {difference:.1f} grey levels; if that is wanted, see "
        f"the head of {__file__}"
    )


def rms(one: Path, other: Path) -> float:
    """Root mean square difference of two pictures, from 0 to 255; infinite if sizes differ."""
    a, b = (np.asarray(Image.open(path).convert("RGB"), dtype=float) for path in (one, other))
    return float(np.sqrt(((a - b) ** 2).mean())) if a.shape == b.shape else float("inf")
