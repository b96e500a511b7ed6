"""The digest of a measurement sample, by which a resume recognises it."""

from __future__ import annotations

import hashlib
import operator
import re
import uuid
from array import array
from collections import UserList, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from types import GeneratorType, MemberDescriptorType, ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pruneviz.model.contents import is_iterator
from pruneviz.model.sample import Batch

# values whose text says all of them
PLAIN = (
    *(str, bytes, bytearray, bool, int, float, complex, type(None), type(...), array),
    *(range, slice, Fraction, Decimal, date, time, timedelta, PurePath, uuid.UUID, re.Pattern),
    *(Enum, torch.dtype, torch.device, torch.layout, torch.memory_format),
    *(operator.itemgetter, operator.attrgetter, operator.methodcaller),
)
_BLOCK = 1 << 24  # bytes that leave a device at once
_LARGE = 1 << 64  # whole numbers from here on are written in hexadecimal digits, of any number
_UNREAD = (GeneratorType, ModuleType, nn.Module, torch.Generator)


def sample_digest(batches: Sequence[Batch]) -> str:
    """SHA-256 of inputs and targets, batch by batch, as they are measured.

    Names, types and shapes count, so that the same images in other batches are another sample.
    Numbers, texts, arrays and the attributes of objects count too, whatever holds them. What
    `not_compared` names counts by its type alone.

    Args:
        batches: The sample, as read for measuring.

    Returns:
        64 hexadecimal digits.
    """
    sha = hashlib.sha256()
    for x, y in batches:
        # a target that is in the inputs is read once
        for piece in _Pieces().of((x, None if y is x else y)):
            sha.update(piece)
    return sha.hexdigest()


def not_compared(batches: Sequence[Batch]) -> list[str]:
    """Names of types in a sample whose values cannot be read, such as a function or generator."""
    pieces = _Pieces()
    for x, y in batches:
        for _ in pieces.of((x, None if y is x else y), tensors=False):
            pass
    return list(pieces.unread)


def plain_text(value: Any) -> str:
    """A value of `PLAIN` as text."""
    if isinstance(value, Enum):
        return f"{type(value).__qualname__}.{value.name}={value.value!r}"
    large = isinstance(value, int) and abs(value) >= _LARGE
    return hex(value) if large else repr(value)


def table_of(value: pd.Series | pd.DataFrame | pd.Index) -> list[Any]:
    """What a table, or column, of pandas holds."""
    if isinstance(value, pd.DataFrame):
        columns = [str(dtype) for dtype in value.dtypes], value.columns.tolist()
        return [*columns, value.index.tolist(), value.astype(object).to_numpy().tolist()]
    index = value.index.tolist() if isinstance(value, pd.Series) else []
    return [str(value.dtype), value.name, index, value.tolist()]


class _Pieces:
    """Reads trees as bytes.

    Attributes:
        unread: Names of types that were met and could not be read.
    """

    def __init__(self) -> None:
        self.unread: dict[str, None] = {}
        self._within: set[int] = set()

    def of(self, tree: Any, *, tensors: bool = True) -> Iterator[bytes | memoryview]:
        """The bytes of a tree.

        Args:
            tree: Anything that a sample holds.
            tensors: Whether to read tensors.
        """
        if isinstance(tree, Tensor):
            yield from _of_tensor(tree) if tensors else ()
        elif isinstance(tree, (np.ndarray, np.generic)):
            yield from self._of_array(np.asanyarray(tree), tensors)
        elif isinstance(tree, PLAIN):
            yield _coded(f"<{plain_text(tree)}>")
        elif id(tree) in self._within:
            yield _coded(f"<{type(tree).__qualname__}>")
        else:
            self._within.add(id(tree))
            yield from self._of_several(tree, tensors)
            self._within.discard(id(tree))

    def _of_several(self, tree: Any, tensors: bool) -> Iterator[bytes | memoryview]:
        if isinstance(tree, Mapping):
            yield f"{{{len(tree)}".encode()
            for name, value in tree.items():
                yield _coded(repr(name))
                yield from self.of(value, tensors=tensors)
        elif isinstance(tree, (tuple, list, deque, UserList)):
            yield f"[{len(tree)}".encode()
            for value in tree:
                yield from self.of(value, tensors=tensors)
        elif isinstance(tree, (set, frozenset)):
            yield from sorted(b"".join(self.of(value, tensors=tensors)) for value in tree)
        elif isinstance(tree, (pd.Series, pd.DataFrame, pd.Index)):
            yield from self.of(table_of(tree), tensors=tensors)
        elif is_dataclass(tree) and not isinstance(tree, type):
            named = {field.name: getattr(tree, field.name, None) for field in fields(tree)}
            yield from self.of(named, tensors=tensors)
        else:
            yield _coded(f"<{type(tree).__qualname__}>")
            yield from self._of_attributes(tree, tensors)

    def _of_attributes(self, tree: Any, tensors: bool) -> Iterator[bytes | memoryview]:
        held = _attributes(tree)
        if held is None:
            self.unread[type(tree).__qualname__] = None
        else:
            yield from self.of(held, tensors=tensors)

    def _of_array(self, values: np.ndarray, tensors: bool) -> Iterator[bytes | memoryview]:
        yield _coded(f"(array {values.dtype} {values.shape}")
        if isinstance(values, np.ma.MaskedArray):
            yield np.ma.getmaskarray(values).tobytes()
            values = values.data
        if values.dtype.hasobject:
            yield from self.of(values.tolist(), tensors=tensors)
        elif tensors:
            yield np.ascontiguousarray(values).tobytes()


def _attributes(value: Any) -> dict[str, Any] | None:
    """The attributes of an object by name; None if it has none, or does not say all by them."""
    if isinstance(value, _UNREAD) or is_iterator(value) or hasattr(value, "__qualname__"):
        return None
    slots = {
        name: getattr(value, name)
        for kind in type(value).__mro__
        for name, slot in vars(kind).items()
        if isinstance(slot, MemberDescriptorType) and hasattr(value, name)
    }
    if not slots and not hasattr(value, "__dict__"):
        return None
    return {**slots, **getattr(value, "__dict__", {})}


def _coded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


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
