"""Image files: what belongs to a class, what is refused before it is opened, what is never run."""

from __future__ import annotations

import io
import logging
import os
import socket
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pruneviz.errors import DataError
from pruneviz.experiment import image_files
from pruneviz.experiment.image_files import class_folders, read_images


def write_image(file: Path, colour: int = 7, size: tuple[int, int] = (8, 8)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 100, 200)).save(file)
    return file


def names(folder: Path) -> dict[str, list[str]]:
    return {
        name: [file.relative_to(folder / name).as_posix() for file in files]
        for name, files in class_folders(folder).items()
    }


@pytest.mark.parametrize(
    "hidden",
    [
        "cat/.ipynb_checkpoints/0-checkpoint.png",
        "cat/deep/.trash/more/0.png",
        "cat/._0.png",
        "cat/__MACOSX/0.png",
        ".ipynb_checkpoints/0.png",
        "__MACOSX/cat/0.png",
        ".0.png",
    ],
)
def test_hidden_images_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, hidden: str
) -> None:
    for seen in ("cat/0.png", "cat/deep/1.PNG", "dog/0.png"):
        write_image(tmp_path / seen)
    write_image(tmp_path / hidden)
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING, "pruneviz"):
        assert names(tmp_path) == {"cat": ["0.png", "deep/1.PNG"], "dog": ["0.png"]}
    [told] = caplog.messages
    assert told.startswith(f"1 image of {tmp_path} left out as hidden, such as {hidden}; remove")


def test_many_hidden_images_are_told_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / "cat" / "0.png")
    assert names(tmp_path) == {"cat": ["0.png"]} and caplog.messages == []
    for i in range(3):
        write_image(tmp_path / "cat" / ".cache" / f"{i}.png")
    (tmp_path / "cat" / ".cache" / "loop").symlink_to(tmp_path)  # nothing hidden is followed
    (tmp_path / "cat" / ".0.png").symlink_to("nowhere")
    with caplog.at_level(logging.WARNING, "pruneviz"):
        class_folders(tmp_path)
    assert [told.partition(" of ")[0] for told in caplog.messages] == ["4 images"]


def test_a_class_of_hidden_images_alone_has_none(tmp_path: Path) -> None:
    write_image(tmp_path / "cat" / ".hidden" / "0.png")
    with pytest.raises(DataError, match="no images for the classes cat"):
        class_folders(tmp_path)


def test_links_are_followed_wherever_they_lead(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for file in ("0.png", "more/1.png"):
        write_image(elsewhere / file)
    folder = tmp_path / "train"
    write_image(folder / "dog" / "0.png")
    (folder / "cat").symlink_to(elsewhere)
    (folder / "dog" / "1.png").symlink_to(elsewhere / "0.png")
    (folder / "dog" / "linked").symlink_to(elsewhere / "more")
    assert names(folder) == {
        "cat": ["0.png", "more/1.png"],
        "dog": ["0.png", "1.png", "linked/1.png"],
    }


@pytest.mark.parametrize("link", ["cat/up", "cat/deep/up", "up"])
def test_a_folder_is_never_read_within_itself(tmp_path: Path, link: str) -> None:
    write_image(tmp_path / "train" / "cat" / "deep" / "0.png")
    (tmp_path / "train" / link).symlink_to(tmp_path / "train")
    with pytest.raises(DataError, match=rf"{link} leads back to a folder above it; remove"):
        class_folders(tmp_path / "train")


def test_a_folder_counts_once_in_its_class_however_many_ways_lead_there(tmp_path: Path) -> None:
    folders = [tmp_path / "elsewhere" / str(place) for place in range(26)]
    for folder in folders:
        write_image(folder / "0.png")
    for here, next_one in pairwise(folders):
        for name in ("left", "right"):
            (here / name).symlink_to(next_one)
    (tmp_path / "train").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).symlink_to(folders[-1])
    assert names(tmp_path / "train") == {"cat": ["0.png"], "dog": ["0.png"]}
    (tmp_path / "train" / "emu").symlink_to(folders[0])
    with pytest.raises(DataError, match=r"is the same folder as .*; remove one of the two links"):
        class_folders(tmp_path / "train")


@pytest.mark.parametrize("link", ["cat/9.png", "cat/more", "emu"])
@pytest.mark.parametrize("target", ["nowhere", "itself"])
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, link: str, target: str) -> None:
    write_image(tmp_path / "cat" / "0.png")
    (tmp_path / link).symlink_to(tmp_path / link if target == "itself" else target)
    with pytest.raises(DataError, match=rf"{link} is a link that leads nowhere: .*; repair"):
        class_folders(tmp_path)


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = write_image(tmp_path / "cat" / "closed" / "0.png").parent
    whole = os.scandir

    def scandir(folder: Path) -> object:
        if folder == closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return whole(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="closed cannot be listed: Permission denied; repair"):
        class_folders(tmp_path)


def device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def listening(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(file))


NO_FILES: dict[str, Callable[[Path], None]] = {
    "a named pipe": os.mkfifo,
    "a device": device,
    "a socket": listening,
}


@pytest.mark.parametrize("what", list(NO_FILES))
def test_only_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    write_image(tmp_path / "cat" / "0.png")
    NO_FILES[what](tmp_path / "cat" / "9.png")
    with pytest.raises(DataError, match=rf"cat/9\.png is {what}, expected an image file; remove"):
        class_folders(tmp_path)
    with pytest.raises(DataError, match=rf"cat/9\.png is {what}, expected an image file; remove"):
        read_images([tmp_path / "cat" / "9.png"], 8)
    with pytest.raises(DataError, match=r"cat is a folder, expected an image file"):
        read_images([tmp_path / "cat"], 8)


def test_a_file_that_went_meanwhile_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0\.png cannot be read as an image: No such file"):
        read_images([tmp_path / "0.png"], 8)


def test_content_that_pillow_runs_is_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, program = tmp_path / "mark", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nmkdir -p {mark}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # as before the first image
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "9.png").write_bytes(eps)
    with pytest.raises(DataError, match=r"9\.png cannot be read as an image: cannot identify"):
        read_images([tmp_path / "9.png"], 8)
    assert not mark.exists()
    with pytest.raises(OSError), Image.open(tmp_path / "9.png") as image:
        image.load()
    assert mark.exists()  # so Pillow alone runs it


@pytest.mark.parametrize("form", ["png", "bmp", "ppm", "tiff", "webp", "gif", "jpeg"])
def test_cut_images_are_whole_or_refused(tmp_path: Path, form: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form)
    file, whole = tmp_path / "0.png", content.getvalue()
    file.write_bytes(whole)
    expected, refused = read_images([file], 8), 0
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        file.write_bytes(whole[:length])
        try:
            assert torch.equal(read_images([file], 8), expected), f"{length} of {len(whole)}"
        except DataError as error:
            assert "0.png cannot be read as an image: " in str(error)
            refused += 1
    assert refused >= 30


def test_decompression_bombs_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_image(tmp_path / "0.png", size=(40, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_199)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow only warns
        with pytest.raises(DataError, match=r"40 x 30 pixels, expected at most 1,199 in all"):
            read_images([file], 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_200)
    assert read_images([file], 8).shape == (1, 3, 8, 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_images([file], 8).shape == (1, 3, 8, 8)


def png(depth: int, kind: int, samples: bytes) -> bytes:
    """A PNG file of 1 x 1 pixel."""
    header = struct.pack(">IIBBBBB", 1, 1, depth, kind, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(b"\0" + samples), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )


@pytest.mark.parametrize(
    "content",
    [
        png(16, 2, b"\1\2" * 3),
        png(16, 4, b"\1\2" * 2),
        png(16, 6, b"\1\2" * 4),
        b"P6 1 1 65535\n" + b"\1\2" * 3,
        b"P3 1 1 65535\n1 2 3\n",
    ],
    ids=("RGB", "LA", "RGBA", "PPM", "plain PPM"),
)
def test_sixteen_bits_in_colour_are_refused_as_in_grey(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.png").write_bytes(content)
    with pytest.raises(DataError, match=r"0\.png .* have 16 bits, expected 8 bits"):
        read_images([tmp_path / "0.png"], 8)


def test_eight_bits_are_read_however_they_are_stored(tmp_path: Path) -> None:
    bitmap = io.BytesIO()
    Image.new("RGB", (300, 1), (1, 2, 3)).save(bitmap, "BMP")  # its rows have more than 255 bytes
    small = (png(8, 2, b"\1\2\3"), b"P6 1 1 255\n\1\2\3", b"P3 1 1 255\n1 2 3\n")
    for content in (*small, bitmap.getvalue()):
        (tmp_path / "0.png").write_bytes(content)
        assert read_images([tmp_path / "0.png"], 1).flatten().tolist() == [1, 2, 3]


def test_no_warning_of_pillow_reaches_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_image(tmp_path / "0.png", size=(40, 30))
    content = io.BytesIO()
    Image.open(file).save(content, "TIFF")
    # a note of 100 bytes in the place of a number: it lies behind the end of the file
    held = content.getvalue()
    entry = struct.pack("<HHII", 305, 2, 100, 1 << 20)
    first = struct.unpack("<I", held[4:8])[0]
    count = struct.unpack("<H", held[first : first + 2])[0]
    entries = held[first + 2 : first + 2 + 12 * count]
    table = struct.pack("<H", count + 1) + entries + entry + bytes(4)
    odd = tmp_path / "1.tiff"
    odd.write_bytes(held[:4] + struct.pack("<I", len(held)) + held[8:] + table)
    with pytest.warns(UserWarning), Image.open(odd) as image:
        image.load()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert torch.equal(read_images([odd], 8), read_images([file], 8))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_199)
        with pytest.raises(DataError, match="expected at most"):
            read_images([file], 8)
    assert not seen


def test_large_images_are_decoded_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [write_image(tmp_path / f"{place}.png", size=(40, 30)) for place in range(12)]
    running, most, whole = [], [], image_files._decoded

    def decoded(image: Image.Image, size: int) -> Image.Image:
        running.append(image)
        most.append(len(running))
        time.sleep(0.005)
        running.remove(image)
        return whole(image, size)

    monkeypatch.setattr(image_files, "_decoded", decoded)
    for at_once, allowed in ((1_199, 1), (2_400, 2)):
        most.clear()
        monkeypatch.setattr(image_files, "_AT_ONCE", at_once)
        assert read_images(files, 8).shape == (12, 3, 8, 8)
        assert max(most) <= allowed


def test_more_images_than_memory_holds_are_told(tmp_path: Path) -> None:
    file = write_image(tmp_path / "0.png")
    told = r"100,000 images of 32,768 x 32,768 pixels take 322,122\.5 GB, more memory than"
    with pytest.raises(DataError, match=told):
        read_images([file] * 100_000, 2**15)
