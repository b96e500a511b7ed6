"""The digest of a measurement sample, by which a resume recognises it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from pruneviz.model.sample import Batch

_BLOCK = 1 << 24  # bytes that leave a device at once
_PLAIN = (str, bytes, bool, int, float, complex, type(None))


def sample_digest(batches: Sequence[Batch]) -> str:
    """SHA-256 of inputs and targets, batch by batch, as they are measured.

    Names, types and shapes count, so that the same images in other batches are another sample. What
    is neither a tensor nor a number or text counts by its type alone.

    Args:
        batches: The sample, as read for measuring.

    Returns:
        64 hexadecimal digits.
    """
    sha = hashlib.sha256()
    for x, y in batches:
        # a target that is in the inputs is read once
        for piece in _pieces((x, None if y is x else y)):
            sha.update(piece)
    return sha.hexdigest()


def _pieces(tree: Any) -> Iterator[bytes | memoryview]:
    if isinstance(tree, Tensor):
        yield from _of_tensor(tree)
    elif isinstance(tree, Mapping):
        yield f"{{{len(tree)}".encode()
        for name, value in tree.items():
            yield repr(name).encode("utf-8", "backslashreplace")
            yield from _pieces(value)
    elif isinstance(tree, (tuple, list)):
        yield f"[{len(tree)}".encode()
        for value in tree:
            yield from _pieces(value)
    elif is_dataclass(tree) and not isinstance(tree, type):
        yield from _pieces({field.name: getattr(tree, field.name) for field in fields(tree)})
    else:
        said = repr(tree) if isinstance(tree, _PLAIN) else type(tree).__qualname__
        yield f"<{said}>".encode("utf-8", "backslashreplace")


def _of_tensor(tensor: Tensor) -> Iterator[bytes | memoryview]:
    yield f"({tensor.dtype} {tuple(tensor.shape)}".encode()
    dense = tensor.detach()
    if dense.is_quantized:
        dense = dense.dequantize()
    if dense.layout != torch.strided:
        dense = dense.to_dense()
    flat = dense.resolve_conj().resolve_neg().reshape(-1)
    for block in flat.split(max(1, _BLOCK // flat.element_size())):
        yield block.cpu().contiguous().view(torch.uint8).numpy().data
