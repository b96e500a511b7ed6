"""Captions are short: whole sentences are left out at the end; title, runs and file stay."""

from __future__ import annotations

import pytest

from pruneviz.figures.caption import LINES, WIDTH, Caption, cut
from pruneviz.figures.draw import compose
from pruneviz.plot.words import mean_and_sd
from tests.support.synthetic_runs import SMALL, make_pruned_runs, make_runs, runs_of_every_kind

SENTENCE = "The words of a sentence in a caption that goes on and on. "


def test_a_caption_carries_the_numbers_the_claim_and_the_file_of_the_long_form() -> None:
    composed = compose("3", make_runs({"resnet56": SMALL["resnet56"]}))
    written = composed.words.text("figure03.json")
    text = " ".join(written.split())
    panels = composed.numbers.drop_duplicates("epoch")
    for _, row in panels.iterrows():
        assert f"{mean_and_sd(row['pearson'], row['pearson_sd'])} (" in text
    for part in ("Figure 3. theta_hg", "highly correlated", "3 runs: preset digits, seeds 0, 1, 2"):
        assert part in text
    assert written.splitlines()[-1] == "All options, runs and numbers: figure03.json"
    assert composed.caption == "".join(written.splitlines(keepends=True)[:-1])


@pytest.mark.parametrize("figure", ["2", "3", "5", "16"])
def test_every_kind_of_caption_is_short(figure: str) -> None:
    words = compose(figure, runs_of_every_kind()).words
    lines = words.text(f"figure{figure}.json").splitlines()
    assert 6 <= len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH


def test_many_measures_and_seeds_stay_within_the_lines() -> None:
    runs = make_pruned_runs({"vgg13": SMALL["vgg13"]}, seeds=tuple(range(40)))
    assert len(compose("5", runs).words.text("figure05.json").splitlines()) <= LINES


@pytest.mark.parametrize("part", ["title", "drawn", "found", "claim", "absent", "made"])
def test_no_part_makes_a_caption_long_or_drives_another_out(part: str) -> None:
    short = {name: f"{name} here." for name in Caption.__dataclass_fields__}
    text = Caption(**{**short, part: SENTENCE * 30}).text("figure.json")
    assert len(text.splitlines()) <= LINES
    assert "sentence" in text and " ..." in text
    assert all(words in text for name, words in short.items() if name != part)


def test_whole_sentences_are_left_out() -> None:
    assert cut(SENTENCE * 3, 1) == [f"{SENTENCE.strip()} ..."]
    assert cut(SENTENCE * 3, 9)[-1].endswith("on and on.")
    assert cut("word " * 60, 2)[-1].endswith("word ...") and len(cut("word " * 60, 2)) == 2
    assert max(map(len, cut("x" * 250, 2))) <= WIDTH
