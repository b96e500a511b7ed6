"""A picture and its texts become files of one name."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pruneviz.figures.alt_text import AltText
from pruneviz.figures.caption import Caption
from pruneviz.figures.composed import Composed, save_composed


def test_all_files_stand_side_by_side_under_a_name_with_dots(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [0.1, None]})
    composed = Composed(
        picture=Figure(figsize=(1, 1)),
        numbers=table,
        tables={"more": table},
        words=Caption("Title.", "Drawn.", "Found."),
        alt=AltText("Title.", "Drawn."),
        details={"a": [{"b": None}], "c": {}, "d": {"e": [1, 2]}},
    )
    paths = save_composed(composed, tmp_path / "net1.5-scatter", ["svg"])
    ends = (".svg", ".csv", "_more.csv", ".txt", ".json")
    assert [path.name for path in paths] == [f"net1.5-scatter{end}" for end in ends]
    assert paths[3].read_text() == (
        "Title.\nDrawn.\nFound.\nAll options, runs and numbers: net1.5-scatter.json\n"
    )
    assert composed.caption == "Title.\nDrawn.\nFound.\n"
    assert pd.read_json(paths[4], typ="series").to_dict() == composed.details
