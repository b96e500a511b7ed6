"""Data sets are read as their files say; missing and damaged files are named."""

from __future__ import annotations

import copyreg
import hashlib
import os
import pickle
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from pruneviz.errors import DataError, MissingExtraError, PresetError
from pruneviz.experiment.datasets import DATASETS, find_dataset, load_dataset
from pruneviz.experiment.images import ImageData, balanced_sample
from tests.support.attack_pickles import EXTENSION, attacks
from tests.support.generators import untouched


@pytest.fixture(autouse=True)
def global_generators_stay_untouched() -> Iterator[None]:
    with untouched():
        yield


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_dataset("digits")


def write_image(
    file: Path, colour: tuple[int, ...] | int, size: tuple[int, int] = (8, 8), mode: str = "RGB"
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(file, quality=95)


def test_digits_are_scikit_learns(digits: ImageData) -> None:
    assert digits.train_images.shape == (1437, 3, 32, 32)
    assert digits.test_images.shape == (360, 3, 32, 32)
    assert digits.num_classes == 10
    labels = torch.cat([digits.train_labels, digits.test_labels])
    assert torch.bincount(labels).tolist() == np.bincount(load_digits().target).tolist()
    share = torch.bincount(digits.test_labels) / torch.bincount(labels)
    assert (share - 0.2).abs().max() < 0.006


def test_without_scikit_learn_digits_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    told = r"digits needs sklearn, .*: pip install 'pruneviz\[measure\]'"
    with pytest.raises(MissingExtraError, match=told):
        find_dataset("digits")
    with pytest.raises(MissingExtraError, match=told):
        load_dataset("digits")


def test_digits_split_is_fixed_and_disjoint(digits: ImageData) -> None:
    again = load_dataset("digits")
    for part in ("train_images", "train_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(digits, part), getattr(again, part))
    train, test = (
        {image.numpy().tobytes() for image in images}
        for images in (digits.train_images, digits.test_images)
    )
    assert (len(train), len(test), len(train & test)) == (1437, 360, 0)
    # changing the split changes every recording made with it
    assert digits.test_labels[:12].tolist() == [1, 4, 8, 6, 5, 9, 9, 1, 3, 2, 2, 2]


def test_digits_pixels_are_bilinear(digits: ImageData) -> None:
    place = np.clip(
        (np.arange(32) + 0.5) / 4 - 0.5, 0, 7
    )  # of each new pixel among the eight old ones
    weights = np.clip(1 - np.abs(place[:, None] - np.arange(8)), 0, 1)
    expected = np.round(
        np.einsum("yr,nrc,xc->nyx", weights, load_digits().images, weights) * 255 / 16
    ).astype(np.uint8)
    images = torch.cat([digits.train_images, digits.test_images])
    assert torch.equal(images[:, 0], images[:, 1]) and torch.equal(images[:, 0], images[:, 2])
    assert sorted(image.tobytes() for image in images[:, 0].numpy()) == sorted(
        image.tobytes() for image in expected
    )


@pytest.mark.parametrize("size", [8, 28, 64])
def test_digits_come_in_other_sizes(size: int) -> None:
    assert load_dataset("digits", image_size=size).test_images.shape == (360, 3, size, size)


@pytest.mark.parametrize("size", [0, -1, 32.5, "32", True, 2**15 + 1, 10**30, float("nan")])
def test_image_size_is_a_whole_number_of_pixels(size: int) -> None:
    with pytest.raises(DataError, match=rf"image_size is {size!r}, expected .* 1 to 32,768"):
        load_dataset("digits", image_size=size)


def test_digits_that_no_memory_holds_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. can't allocate memory")

    monkeypatch.setattr("torch.nn.functional.interpolate", no_memory)
    with pytest.raises(DataError, match=r"1,797 images of 32,768 x 32,768 pixels take 5,788\.5 GB"):
        load_dataset("digits", image_size=2**15)


@pytest.mark.parametrize(
    ("name", "classes", "first_labels", "means"),
    [
        ("cifar10", 10, [6, 9, 9, 4, 1], (0.49140, 0.48216, 0.44653)),
        ("cifar100", 100, [19, 29, 0, 11, 1], (0.50707, 0.48655, 0.44092)),
    ],
)
def test_real_cifar(
    cifar_root: Path, name: str, classes: int, first_labels: list[int], means: tuple[float, ...]
) -> None:
    data = load_dataset(name, root=cifar_root)
    assert data.train_images.shape == (50_000, 3, 32, 32)
    assert data.test_images.shape == (10_000, 3, 32, 32)
    assert torch.bincount(data.train_labels).tolist() == [50_000 // classes] * classes
    assert torch.bincount(data.test_labels).tolist() == [10_000 // classes] * classes
    assert data.train_labels[:5].tolist() == first_labels
    assert (
        data.class_names[:2]
        == {10: ("airplane", "automobile"), 100: ("apple", "aquarium_fish")}[classes]
    )
    assert data.train_images.numpy().mean((0, 2, 3)) / 255 == pytest.approx(means, abs=1e-5)
    assert (
        data.train_images[0, :, 0, 0].tolist() == {10: [59, 62, 63], 100: [255, 255, 255]}[classes]
    )
    images, labels = balanced_sample(data, 250 // classes)
    assert torch.bincount(labels).tolist() == [250 // classes] * classes
    assert -1 <= float(images.min()) < float(images.max()) <= 1


@pytest.mark.parametrize(
    ("name", "folder"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")]
)
def test_missing_cifar_names_the_folder_and_the_flag(
    tmp_path: Path, name: str, folder: str
) -> None:
    with pytest.raises(
        DataError, match=rf"{name} cannot be read from .*{folder} \(missing: .*--download"
    ) as caught:
        load_dataset(name, root=tmp_path)
    assert str(tmp_path / folder) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_damaged_cifar_names_the_file(cifar_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file in (cifar_root / folder.name).iterdir():
        (folder / file.name).symlink_to(file.resolve())
    (folder / "test_batch").unlink()
    (folder / "test_batch").write_bytes(b"half a file")
    with pytest.raises(
        DataError, match=r"\(damaged \(wrong checksum\): test_batch\); download it with --download"
    ):
        load_dataset("cifar10", root=tmp_path)


def test_missing_and_damaged_files_are_told_apart(tmp_path: Path) -> None:
    for file in ("train", "meta"):
        (tmp_path / "cifar-100-python").mkdir(exist_ok=True)
        (tmp_path / "cifar-100-python" / file).write_bytes(b"not a pickle of theirs")
    with pytest.raises(DataError, match=r"missing: test; damaged \(wrong checksum\): train, meta"):
        load_dataset("cifar100", root=tmp_path)


def write_small_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that torchvision takes for CIFAR-100, by the checksums of four images in it."""
    folder = root / "cifar-100-python"
    folder.mkdir()
    part = {"data": np.full((4, 3 * 32 * 32), 7, np.uint8), "fine_labels": [0, 1, 0, 1]}
    contents = {"train": part, "test": part, "meta": {"fine_label_names": ["cat", "dog"]}}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
    sums = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in contents}
    official = "torchvision.datasets.CIFAR100"
    for name in ("train", "test"):
        monkeypatch.setattr(f"{official}.{name}_list", [[name, sums[name]]])
    meta = {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]}
    monkeypatch.setattr(f"{official}.meta", meta)
    return folder


@pytest.mark.parametrize("attack", list(attacks(Path())))
def test_no_pickle_is_read_before_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    folder, mark = write_small_cifar(tmp_path, monkeypatch), tmp_path / "mark"
    assert load_dataset("cifar100", root=tmp_path).train_labels.tolist() == [0, 1, 0, 1]
    content = attacks(mark)[attack]
    for name in ("train", "test", "meta"):
        shutil.copytree(folder, tmp_path / name / folder.name)
        (tmp_path / name / folder.name / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"\(damaged \(wrong checksum\): {name}\)"):
            load_dataset("cifar100", root=tmp_path / name)
        assert not mark.exists()
    with suppress(pickle.UnpicklingError):
        pickle.loads(content, encoding="latin1")
    assert mark.exists()  # it was no empty threat
    if EXTENSION in copyreg._inverted_registry:  # type: ignore[attr-defined]
        copyreg.remove_extension("os", "system", EXTENSION)


def test_only_download_reaches_for_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def unreachable(url: str, *_: object, **__: object) -> None:
        calls.append(url)
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", unreachable)
    with pytest.raises(DataError):
        load_dataset("cifar10", root=tmp_path)
    assert calls == []
    with pytest.raises(DataError, match=r"the download failed .*no route to host"):
        load_dataset("cifar10", root=tmp_path, download=True)
    assert len(calls) == 1


def test_default_root_is_the_variable_then_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRUNEVIZ_IMAGES", raising=False)
    with pytest.raises(DataError, match=r"read from images/cifar-10-batches-py"):
        load_dataset("cifar10")
    monkeypatch.setenv("PRUNEVIZ_IMAGES", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match="elsewhere/cifar-10-batches-py"):
        load_dataset("cifar10")


def write_folder(root: Path, held_out: str = "val") -> None:
    for part, count in (("train", 3), (held_out, 2)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                write_image(root / part / name / f"{i}.png", (10 * i, 100 * label, 200))


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_folder_layout(tmp_path: Path, held_out: str) -> None:
    write_folder(tmp_path, held_out)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / ".cache").mkdir()
    data = load_dataset("folder", root=tmp_path)
    assert data.train_images.shape == (6, 3, 32, 32) and data.test_images.shape == (4, 3, 32, 32)
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1] and data.test_labels.tolist() == [
        0,
        0,
        1,
        1,
    ]
    assert data.class_names == ("cat", "dog")
    assert data.train_images[:, :, 5, 5].tolist() == [
        [10 * i, 100 * label, 200] for label in (0, 1) for i in range(3)
    ]
    assert load_dataset("folder", root=tmp_path, image_size=64).train_images.shape == (6, 3, 64, 64)


def test_folder_takes_val_before_test(tmp_path: Path) -> None:
    write_folder(tmp_path, "val")
    for name in ("cat", "dog"):
        write_image(tmp_path / "test" / name / "0.png", 0)
    assert len(load_dataset("folder", root=tmp_path).test_images) == 4


def test_every_kind_of_image_becomes_rgb(tmp_path: Path) -> None:
    write_folder(tmp_path)
    cat = tmp_path / "train" / "cat"
    write_image(cat / "a.png", 77, size=(13, 40), mode="L")
    write_image(cat / "b.png", (1, 2, 3, 128), mode="RGBA")
    write_image(cat / "c.PNG", 1, mode="1")
    image = Image.new("P", (8, 8), 0)
    image.putpalette([9, 8, 7, 0, 0, 0])
    image.save(cat / "d.png", transparency=b"\x00\xff")
    pixels = load_dataset("folder", root=tmp_path).train_images[3:7, :, 16, 16].tolist()
    assert pixels == [[77] * 3, [1, 2, 3], [255] * 3, [9, 8, 7]]


def test_corrupt_images_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    corrupt = tmp_path / "val" / "dog" / "1.png"
    whole = corrupt.read_bytes()
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        corrupt.write_bytes(content)
        with pytest.raises(
            DataError,
            match=r"val/dog/1\.png cannot be read as an image: .*; repair, replace or remove it",
        ):
            load_dataset("folder", root=tmp_path)


def test_sixteen_bit_images_are_not_silently_clipped(tmp_path: Path) -> None:
    write_folder(tmp_path)
    Image.fromarray(np.full((8, 8), 30_000, dtype=np.uint16)).save(
        tmp_path / "train" / "cat" / "deep.png"
    )
    with pytest.raises(DataError, match=r"deep\.png .* expected 8 bits"):
        load_dataset("folder", root=tmp_path)


def test_folder_without_its_parts_says_what_it_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load_dataset("folder", root=tmp_path / "nowhere")
    with pytest.raises(DataError, match="found: nothing"):
        load_dataset("folder", root=tmp_path)
    write_image(tmp_path / "train" / "cat" / "0.png", 0)
    with pytest.raises(DataError, match="found: train"):
        load_dataset("folder", root=tmp_path)


def test_folder_classes_must_agree_and_hold_images(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_image(tmp_path / "train" / "emu" / "0.png", 0)
    with pytest.raises(DataError, match="differ in emu"):
        load_dataset("folder", root=tmp_path)
    (tmp_path / "val" / "emu").mkdir()
    with pytest.raises(DataError, match="val has no images for the classes emu"):
        load_dataset("folder", root=tmp_path)


def test_folder_of_images_without_classes_is_refused(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_image(tmp_path / part / "0.png", 0)
    with pytest.raises(DataError, match="train has no sub-folders"):
        load_dataset("folder", root=tmp_path)


def write_tiny_imagenet(root: Path) -> Path:
    folder = root / "tiny-imagenet-200"
    wnids = ("n01443537", "n01629819")
    for label, wnid in enumerate(wnids):
        for i in range(3):
            write_image(
                folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG",
                (100 * label, 0, 0),
                (64, 64),
            )
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("boxes")
    write_image(folder / "val" / "images" / "val_0.JPEG", (100, 0, 0), (64, 64))
    write_image(folder / "val" / "images" / "val_1.JPEG", 50, (64, 64), "L")
    lines = [f"val_0.JPEG\t{wnids[1]}\t0\t32\t44\t62", f"val_1.JPEG\t{wnids[0]}\t0\t0\t63\t63"]
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_tiny_imagenet_layout(tmp_path: Path) -> None:
    folder = write_tiny_imagenet(tmp_path)
    data = load_dataset("tiny-imagenet", root=tmp_path)
    assert data.train_images.shape == (6, 3, 64, 64) and data.num_classes == 2
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1] and data.test_labels.tolist() == [1, 0]
    assert (
        data.test_images[:, 0, 30, 30].int() - torch.tensor([100, 50])
    ).abs().max() <= 2  # JPEG is lossy
    assert load_dataset("tiny-imagenet", root=folder, image_size=32).test_images.shape == (
        2,
        3,
        32,
        32,
    )


def test_broken_tiny_imagenet_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"tiny-imagenet is not in .*; --download does not fetch it: unpack http"
    ):
        load_dataset("tiny-imagenet", root=tmp_path, download=True)
    folder = write_tiny_imagenet(tmp_path)
    (folder / "val" / "images" / "val_1.JPEG").unlink()
    with pytest.raises(DataError, match=r"val_1\.JPEG cannot be read"):
        load_dataset("tiny-imagenet", root=tmp_path)
    with (folder / "val" / "val_annotations.txt").open("a") as file:
        file.write("val_2.JPEG\tn99\t0\t0\t1\t1\n")
    with pytest.raises(DataError, match=r"'val_2\.JPEG' the class 'n99', which has no folder"):
        load_dataset("tiny-imagenet", root=tmp_path)


def annotated(root: Path, content: bytes) -> Path:
    """The annotations of a whole Tiny-ImageNet, with other content."""
    file = write_tiny_imagenet(root) / "val" / "val_annotations.txt"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"val_1.JPEG\tn01443537 \xe9", r"cannot be read as UTF-8 text: .*position 53"),
        (b"val_1.JPEG", r"line 2 of .* is 'val_1\.JPEG', expected a file, a tab and its class"),
        (b"", r"line 2 of .* is '', expected a file"),
        (b"../../secret.png\tn01443537", "which is not the name of a file"),
        (b"..\tn01443537", "which is not the name of a file"),
        (b"\tn01443537", "which is not the name of a file"),
        (b"/etc/secret.png\tn01443537", "which is not the name of a file"),
        (b"more/val_1.JPEG\tn01443537", "which is not the name of a file"),
        (b"..\\secret.png\tn01443537", "which is not the name of a file"),
        (b"C:secret.png\tn01443537", "which is not the name of a file"),
        (b"val_1\0.JPEG\tn01443537", "which is not the name of a file"),
        (b"val_0.JPEG\tn01443537", r"names 'val_0\.JPEG', twice"),
        (b"val_1.JPEG\t../train", r"the class '\.\./train', which has no folder"),
    ],
)
def test_annotations_name_files_beside_them_and_classes(
    tmp_path: Path, line: bytes, told: str
) -> None:
    annotated(tmp_path, b"val_0.JPEG\tn01629819\t0\t32\t44\t62\n" + line + b"\n")
    write_image(tmp_path / "secret.png", 0)
    with pytest.raises(DataError, match=told) as caught:
        find_dataset("tiny-imagenet", root=tmp_path)
    assert "val_annotations.txt" in str(caught.value)
    assert str(caught.value).endswith("unpack the data set again")


@pytest.mark.parametrize("content", [b"", b"val_0.JPEG\tn01629819\n"])
def test_cut_annotations_are_not_taken_for_fewer_images(tmp_path: Path, content: bytes) -> None:
    annotated(tmp_path, content)
    left = 2 - len(content.splitlines())
    with pytest.raises(DataError, match=rf"gives no class to {left} of the images in .*val_"):
        load_dataset("tiny-imagenet", root=tmp_path)


def test_hidden_images_of_tiny_imagenet_need_no_class(tmp_path: Path) -> None:
    folder = write_tiny_imagenet(tmp_path)
    write_image(folder / "val" / "images" / "._val_0.JPEG", 0)
    write_image(folder / "train" / "n01443537" / "images" / ".ipynb_checkpoints" / "0.JPEG", 0)
    data = load_dataset("tiny-imagenet", root=tmp_path)
    assert (len(data.train_images), len(data.test_images)) == (6, 2)


def test_a_pipe_in_a_data_set_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_imagenet(tmp_path)
    image = folder / "val" / "images" / "val_1.JPEG"
    image.unlink()
    os.mkfifo(image)
    with pytest.raises(DataError, match=r"val_1\.JPEG is a named pipe, expected an image file"):
        load_dataset("tiny-imagenet", root=tmp_path)
    (folder / "val" / "val_annotations.txt").unlink()
    os.mkfifo(folder / "val" / "val_annotations.txt")
    with pytest.raises(DataError, match="tiny-imagenet is not in"):
        load_dataset("tiny-imagenet", root=tmp_path)


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", denied)
    with pytest.raises(DataError, match=r"folder cannot be read from .*: .*Permission denied"):
        find_dataset("folder", root=tmp_path)


def test_unknown_data_set_lists_those_that_exist() -> None:
    with pytest.raises(
        PresetError,
        match="no data set 'mnist'; choose one of digits, cifar10, cifar100, tiny-imagenet, folder",
    ):
        load_dataset("mnist")
    assert list(DATASETS) == ["digits", "cifar10", "cifar100", "tiny-imagenet", "folder"]
