"""Shares of a sample: every example once, about equally many, and no piece of a single example."""

from __future__ import annotations

import pytest
import torch

from pruneviz.measuring.shares import pieces, share_of


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("sizes", [(97,), (5, 1, 9, 2, 4), (3,), (1, 1, 1), (64, 64)])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_example_is_in_one_share(sizes: tuple[int, ...], count: int, whole: bool) -> None:
    shares = [share_of(sizes, number, count, whole=whole) for number in range(count)]
    assert [place for share in shares for place in share] == list(range(sum(sizes)))


def test_shares_are_about_equal() -> None:
    assert [len(share_of([97], n, 3, whole=False)) for n in range(3)] == [32, 32, 33]
    assert [len(share_of([4] * 9, n, 3, whole=True)) for n in range(3)] == [12, 12, 12]


def test_no_share_has_a_single_example_of_a_larger_batch() -> None:
    for sizes in ((5,), (5, 1, 9, 2, 4), (7, 7)):
        batches = [(torch.arange(n), torch.arange(n)) for n in sizes]
        for count in (2, 3, 4, 5):
            for number in range(count):
                own = share_of(sizes, number, count, whole=False)
                for x, _ in pieces(batches, own):
                    assert len(x) > 1 or any(len(x) == n for n in sizes)


def test_pieces_are_the_examples_of_a_share() -> None:
    inputs = torch.arange(10)
    batch = {"ids": inputs, "labels": inputs}
    (found,) = pieces([(batch, batch)], range(2, 5))
    assert found[0] is found[1], "a mapping is inputs and target at once"
    assert found[0]["ids"].tolist() == [2, 3, 4]
    assert list(pieces([(batch, batch)], range(0, 0))) == []
