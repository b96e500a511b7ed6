from __future__ import annotations

import base64
import gzip

import numpy as np
import pytest

from pruneviz.report.blocks import ROUNDING, Block, block_of

TYPES = {"f4": "<f4", "f8": "<f8", "u1": "<u1", "u2": "<u2", "u4": "<u4", "b3": "<f4", "d4": "<f8"}


def unpacked(block: Block) -> np.ndarray:
    """The numbers of a block, by an independent way: column by column of a table of bytes."""
    planes = gzip.decompress(base64.b64decode(block.text))
    size, held = np.dtype(TYPES[block.kind]).itemsize, int(block.kind[1])
    columns = [bytes(block.length)] * (size - held)
    columns += [planes[at * block.length : (at + 1) * block.length] for at in range(held)]
    return np.frombuffer(
        bytes(b for row in zip(*columns, strict=True) for b in row), TYPES[block.kind]
    )


@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "uint16", "uint32"])
def test_arrays_come_back_bit_for_bit(kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 250, (3, 41)).astype(kind)
    if kind.startswith("float"):
        values = (values - 100) / 7
        values[0, :4] = np.nan, np.inf, -np.inf, -0.0
        values = values.astype(kind)
    block = block_of(values)
    assert unpacked(block).tobytes() == values.reshape(-1).tobytes()
    assert block.length == values.size


def test_an_empty_array_comes_back() -> None:
    assert not len(unpacked(block_of(np.zeros(0, "float32"))))


@pytest.mark.parametrize(("kind", "bits"), [("float32", 16), ("float64", 21)])
def test_rounded_values_are_the_nearest_of_so_many_significant_bits(kind: str, bits: int) -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=5000) * 10.0 ** generator.integers(-30, 30, 5000)
    values = values.astype(kind)
    held = unpacked(block_of(values, rounded=True)).astype("float64")
    exact = values.astype("float64")
    step = 2.0 ** (np.floor(np.log2(np.abs(exact))) - bits + 1)
    nearest = np.round(exact / step) * step  # to even, as the block's
    assert np.array_equal(held, nearest)
    assert (np.abs(held - exact) <= ROUNDING * np.abs(exact)).all()


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_rounding_keeps_what_is_no_number_and_the_sign_of_zero(kind: str) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0], kind)
    held = unpacked(block_of(values, rounded=True))
    assert np.isnan(held[0])
    assert held[1:].tobytes() == values[1:].tobytes()


def test_whole_numbers_are_not_rounded() -> None:
    values = np.array([1, 70001, 2**32 - 1], "uint32")
    assert unpacked(block_of(values, rounded=True)).tolist() == values.tolist()
