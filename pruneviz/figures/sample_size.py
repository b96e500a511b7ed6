"""The picture of `pruneviz samplesize` with its numbers and caption, as files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pruneviz.figures.alt_text import AltText
from pruneviz.figures.write import write_picture, write_table, write_text
from pruneviz.plot.sample_size_plot import draw_sample_sizes
from pruneviz.plot.words import measure_title


def write_sample_sizes(table: pd.DataFrame, out: Path) -> list[Path]:
    """Write a table of `pruneviz.sample_sizes` as CSV, PNG and caption.

    Args:
        table: Rows of one run and epoch.
        out: Folder for the files, which are named after the run and the epoch.

    Raises:
        FigureError: If a file cannot be written.
    """
    first = table.iloc[0]
    stem = out / f"samplesize-{first['run']}-epoch{first['epoch']}"
    caption = sample_size_caption(table)
    title = f"Agreement of samples with all images, {first['run']}, epoch {first['epoch']}."
    alt = AltText(title, caption, ("samplesize", str(first["run"])))
    return [
        write_picture(draw_sample_sizes(table), stem.with_suffix(".png"), alt),
        write_table(table, stem.with_suffix(".csv")),
        write_text(f"{caption}\n", stem.with_suffix(".txt")),
    ]


def sample_size_caption(table: pd.DataFrame) -> str:
    """What the picture shows, with the agreement at the size nearest to the recorded sample."""
    first = table.iloc[0]
    below = table[table["images"] < first["of_images"]]
    wanted = first["recorded_images"] if pd.notna(first["recorded_images"]) else 0
    sizes = sorted(below["images"].unique(), key=lambda size: abs(size - wanted))
    at = below[below["images"] == sizes[0]]
    means = at.groupby("measure", sort=False)[["spearman", "shared"]].mean()
    told = "; ".join(
        f"{measure_title(str(name))} {row['spearman']:.2f} and {row['shared']:.0%}"
        for name, row in means.iterrows()
    )
    largest = below["images"].max()
    return (
        f"{first['run']}, epoch {first['epoch']}: agreement of class-balanced samples with the "
        f"answer on {first['of_images']:,} images. (a) Rank correlation over all filters; (b) "
        f"share of the filters in common among the {first['ratio']:.0%} that are pruned, by chance "
        f"{first['chance']:.0%}. Means over {below['draw'].nunique()} draws, bands from the lowest "
        f"to the highest. With {sizes[0]:,} images: {told}. The {first['of_images']:,} images hold "
        f"the samples ({largest / first['of_images']:.0%} of them the largest), so large samples "
        "agree by being a part of the answer."
    )
