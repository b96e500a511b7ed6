"""Whether kept weights and checkpoints are what was written; nothing in them is trusted or run.

A file of others may say anything of itself, so what it says is checked before it is followed: no
byte is read twice, and nothing is unpacked.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from pruneviz.log.arguments import is_whole
from pruneviz.log.kept_files import DIGEST, facts_text, stated_in

_BLOCK = 1 << 20  # bytes that are read at once
_MOST_HEADER = 16 << 20  # bytes, of over 100,000 tensors
_MOST_DIMENSIONS = 64  # of a tensor, as torch has it
_TYPES = {  # of tensors: as safetensors names them, how torch does, bytes of an element
    **{"F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2)},
    **{"BF16": ("bfloat16", 2), "C64": ("complex64", 8), "BOOL": ("bool", 1)},
    **{"I64": ("int64", 8), "I32": ("int32", 4), "I16": ("int16", 2), "I8": ("int8", 1)},
    **{"U64": ("uint64", 8), "U32": ("uint32", 4), "U16": ("uint16", 2), "U8": ("uint8", 1)},
    **{"F8_E4M3": ("float8_e4m3fn", 1), "F8_E5M2": ("float8_e5m2", 1)},
}


def check_tensors(file: Path) -> dict[str, Any]:
    """Check a file of safetensors: its header, and its tensors by the digest there.

    Returns:
        What its header says besides the tensors.

    Raises:
        Exception: Of any kind, if it is not what was written.
    """
    size = file.stat().st_size
    with file.open("rb") as content:
        header = int.from_bytes(content.read(8), "little")
        if not 2 <= header <= min(_MOST_HEADER, size - 8):
            raise ValueError("its header does not fit into it")
        tensors = json.loads(content.read(header))
        if not isinstance(tensors, dict):
            raise ValueError("its header names no tensors")
        stated = tensors.pop("__metadata__", {})
        if not isinstance(stated, dict):
            raise ValueError("its header holds no facts by name")
        start, stated = 8 + header, stated_in(stated)
        _check_places(tensors, size - start)
        expected = stated.get(DIGEST)
        if expected is not None and expected != _digest(content, tensors, start, stated):
            raise ValueError("its tensors are not those that were written")
    return stated


def check_archive(file: Path) -> None:
    """Check a file that torch saved, by the CRCs in it.

    Raises:
        Exception: Of any kind, if it is not what was written.
    """
    with zipfile.ZipFile(file) as archive:
        held = archive.infolist()
        packed = [one.filename for one in held if one.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise ValueError(f"{packed[0][:60]} in it is packed, which torch never does")
        if sum(max(one.file_size, one.compress_size) for one in held) > file.stat().st_size:
            raise ValueError("what it holds is larger than it")
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged[:60]} in it fails its checksum")


def _check_places(tensors: dict[str, Any], size: int) -> None:
    """Check that tensors lie one after the other and fill the file, each with its own bytes."""
    for name, one in tensors.items():
        if not _is_described(one):
            raise ValueError(f"its header does not say where {name[:60]} is")
    end = 0
    for name, one in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = one["data_offsets"]
        if first != end:
            raise ValueError(f"{name[:60]} does not begin where the tensor before it ends")
        if last - first != math.prod(one["shape"]) * _TYPES[one["dtype"]][1]:
            raise ValueError(f"{name[:60]} has not the bytes of its shape and type")
        end = last
    if end != size:
        raise ValueError("it does not end with its last tensor")


def _is_described(one: Any) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("dtype"), str):
        return False
    shape, offsets = one.get("shape"), one.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list) or one["dtype"] not in _TYPES:
        return False
    numbers = [*shape, *offsets]
    return (
        len(shape) <= _MOST_DIMENSIONS
        and len(offsets) == 2
        and all(is_whole(number) and 0 <= number < 1 << 63 for number in numbers)
    )


def _digest(content: BinaryIO, tensors: dict[str, Any], start: int, stated: dict[str, Any]) -> str:
    """SHA-256 of the names, types, shapes and bits of tensors, and of what is said of them."""
    digest = hashlib.sha256()
    for name, one in sorted(tensors.items()):
        dtype = f"torch.{_TYPES[one['dtype']][0]}"
        digest.update(f"{name}\n{dtype}\n{tuple(one['shape'])}\n".encode())
        first, last = one["data_offsets"]
        content.seek(start + first)
        left = last - first
        while left > 0 and (block := content.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
    digest.update(facts_text(stated))
    return digest.hexdigest()
