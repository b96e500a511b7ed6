"""Which errors say that memory ran out, and how much they say was asked for."""

from __future__ import annotations

import errno

import pytest

from pruneviz.errors import MeasureError
from pruneviz.model.out_of_memory import bytes_asked, is_out_of_memory
from tests.support.scarce_memory import ERRORS

OTHERS = {
    "no such primitive": RuntimeError(
        "could not create a primitive descriptor for a convolution forward propagation primitive"
    ),
    "device": RuntimeError("CUDA error: device-side assert triggered"),
    "shapes": RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    "cuDNN": RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    "file": FileNotFoundError(errno.ENOENT, "No such file or directory", "out of memory.pt"),
    "library": ImportError("libx.so: cannot allocate memory in static TLS block"),
    "key": KeyError("out of memory"),
    "own": MeasureError("memory ran out: can't allocate memory; use smaller batches"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_lack_of_memory_is_known_by_what_each_library_says(kind: str) -> None:
    error = ERRORS[kind]()
    assert is_out_of_memory(error)
    says_how_much = kind not in (
        *("oneDNN", "oneDNN, execution", "C++", "Python", "CUDA, driver", "cuDNN", "cuBLAS"),
    )
    assert bytes_asked(error) == (32 * 1024**2 if says_how_much else None)


def test_a_process_that_cannot_be_started_lacks_memory() -> None:
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert is_out_of_memory(
        ImportError("libx.so: failed to map segment from shared object: Cannot allocate memory")
    )


@pytest.mark.parametrize("kind", OTHERS)
def test_other_errors_are_no_lack_of_memory(kind: str) -> None:
    assert not is_out_of_memory(OTHERS[kind])


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("you tried to allocate 1234 bytes. Error code 12", 1234),
        ("Tried to allocate 1.50 GiB. GPU 0 has", 3 * 1024**3 // 2),
        ("Tried to allocate 2 KB on", 2048),
        ("Unable to allocate 3.00 TiB for", 3 * 1024**4),
        ("could not create a primitive", None),
    ],
)
def test_the_amount_is_read_in_every_unit(text: str, amount: int | None) -> None:
    assert bytes_asked(RuntimeError(text)) == amount
