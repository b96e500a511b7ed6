"""Pictures of masks: blocks of layers, the share that is kept, and large networks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pruneviz.errors import FigureError
from pruneviz.log.runs import Runs
from pruneviz.plot.mask_plot import masks
from tests.support.readable import assert_readable
from tests.support.synthetic_runs import SMALL, make_runs


@pytest.fixture(scope="module")
def runs() -> Runs:
    return make_runs(SMALL, epochs=4, every=2)


def pruned(layers: int = 2, filters: int = 4, epochs: tuple[int, ...] = (0, 1, 2)) -> pd.DataFrame:
    """The first filter of each layer goes after epoch 0, the second after epoch 1."""
    keys = [(e, f"conv{i}", p) for e in epochs for i in range(layers) for p in range(filters)]
    rows = pd.DataFrame(keys, columns=["epoch", "layer", "filter"])
    return rows.assign(kept=rows["filter"] >= rows["epoch"].map(epochs.index))


def blocks(axes: Axes) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in axes.get_images()]


def shares(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_a_layer_is_a_block_of_its_filters_by_epochs() -> None:
    picture = masks(pruned(), order="filter")
    assert blocks(picture.axes[0])[0].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert shares(picture.axes[0]) == ["50 %", "50 %", "kept"]
    assert [label.get_text() for label in picture.axes[0].get_yticklabels()] == ["conv0", "conv1"]
    assert_readable(picture)


def test_filters_that_are_kept_longest_come_first() -> None:
    (axes,) = masks(pruned()).axes
    assert blocks(axes)[1].tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 0, 0]]


def test_columns_are_as_wide_as_the_time_between_epochs() -> None:
    (axes,) = masks(pruned(epochs=(0, 1, 9)), order="filter").axes
    last = blocks(axes)[0][1]
    assert axes.get_xlim() == (-0.5, 9.5)
    assert last.mean() == pytest.approx(5.5 / 10.0, abs=0.01)


def test_a_picture_without_a_ranking_says_why() -> None:
    (axes,) = masks(pruned().assign(kept=True, mine=1.0), score="mine", ratio=0.5).axes
    assert any("all filters score alike" in text.get_text() for text in axes.texts)


def test_a_large_network_stays_readable_and_light() -> None:
    table = pruned(layers=60, filters=180)
    picture = masks(table)
    assert_readable(picture)
    assert len(blocks(picture.axes[0])) == 60
    assert sum(block.size for block in blocks(picture.axes[0])) < len(table) / 5
    assert blocks(picture.axes[0])[0].mean() == pytest.approx(table["kept"].mean(), abs=0.01)
    assert_readable(masks(pruned(layers=200)))


def test_masks_of_a_measure_are_named_with_their_seed(runs: Runs) -> None:
    picture = masks(runs)
    titles = [axes.get_title(loc="left") for axes in picture.axes]
    assert len(titles) == len(SMALL)
    words = " ".join(titles[0].split())
    assert words == "VGG-13, one of 3 runs, masks of bn_scale, 20 % pruned"
    entries = [text.get_text() for text in picture.legends[0].get_texts()]
    assert entries == ["kept", "pruned", "no ranking"]
    assert_readable(picture)


def test_given_axes_are_drawn_into(runs: Runs) -> None:
    axes = Figure(figsize=(4, 2)).subplots()
    assert masks(pruned(layers=30), ax=axes) is axes
    assert 1 < len(axes.get_yticks()) < 30
    with pytest.raises(FigureError, match=r"has 3: .*choose one with runs="):
        masks(runs, ax=Figure().subplots())


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(FigureError, match="no order 'size'; choose one of kept, filter"):
        masks(pruned(), order="size")  # type: ignore[arg-type]
