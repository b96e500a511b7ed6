"""Images in memory: normalised, augmented and drawn as the slow twins do, and checked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torchvision
from torch import Tensor

from pruneviz.errors import DataError
from pruneviz.experiment.datasets import load_dataset
from pruneviz.experiment.images import ImageData, augment, balanced_sample, normalise, subset
from tests.support.generators import untouched


@pytest.fixture(autouse=True)
def global_generators_stay_untouched() -> Iterator[None]:
    with untouched():
        yield


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_dataset("digits")


def noise(count: int, height: int = 32, width: int = 32) -> Tensor:
    return torch.randint(1, 256, (count, 3, height, width), dtype=torch.uint8, generator=seeded(7))


def tiny_data(counts: tuple[int, ...] = (3, 5), names: tuple[str, ...] = ()) -> ImageData:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return ImageData(
        "toy",
        noise(len(labels), 4, 4),
        labels,
        noise(len(labels), 4, 4),
        labels,
        len(counts),
        names,
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_normalise_is_torchvisions_bit_for_bit() -> None:
    images = noise(5)
    expected = torchvision.transforms.functional.normalize(images / 255, [0.5] * 3, [0.5] * 3)
    assert torch.equal(normalise(images), expected)
    assert normalise(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


def slow_augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """The twin of `augment`: the same draws, then one image and one step at a time."""
    shifts = torch.randint(9, (2, len(images), 1), generator=generator)
    mirrors = torch.randint(2, (len(images), 1), generator=generator)
    height, width = images.shape[2:]
    moved = []
    for i, image in enumerate(images):
        canvas = torch.zeros(3, height + 8, width + 8, dtype=torch.uint8)
        canvas[:, 4:-4, 4:-4] = image
        top, left = int(shifts[0, i]), int(shifts[1, i])
        crop = canvas[:, top : top + height, left : left + width]
        moved.append(crop.flip(-1) if mirrors[i] else crop)
    return torch.stack(moved)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (5, 9)])
def test_augment_is_the_slow_twins(height: int, width: int) -> None:
    images = noise(60, height, width)
    before = images.clone()
    moved = augment(images, seeded(1))
    assert moved.dtype == torch.uint8
    assert torch.equal(moved, slow_augment(images, seeded(1)))
    assert torch.equal(images, before)


def test_augment_repeats_with_its_seed_alone() -> None:
    images = noise(40)
    assert torch.equal(augment(images, seeded(1)), augment(images, seeded(1)))
    assert not torch.equal(augment(images, seeded(1)), augment(images, seeded(2)))
    generator = seeded(1)
    assert not torch.equal(augment(images, generator), augment(images, generator))


def test_augment_uses_every_shift_and_both_mirrors_evenly() -> None:
    coordinates = torch.arange(1, 101, dtype=torch.uint8).reshape(
        1, 1, 10, 10
    )  # each pixel names its place
    moved = augment(coordinates.expand(9_000, 3, 10, 10), seeded())
    centre = moved[:, 0, 5, 4:6].to(torch.int64) - 1  # never in the padding
    mirrored = centre[:, 0] > centre[:, 1]
    rows, columns = centre[:, 0] // 10, torch.where(mirrored, centre[:, 1], centre[:, 0]) % 10
    counts = torch.bincount(((rows - 1) * 9 + columns) * 2 + mirrored, minlength=162)
    assert len(counts) == 162
    assert int(counts.min()) > 0 and int(counts.max()) < 111  # 55.6 expected, deviation 7.4


def test_augment_of_no_images_is_no_images() -> None:
    assert augment(noise(0), seeded()).shape == (0, 3, 32, 32)


def test_float_images_are_refused() -> None:
    with pytest.raises(DataError, match="augment first, normalise afterwards"):
        augment(noise(2).float(), seeded())
    with pytest.raises(DataError, match="normalised already"):
        normalise(noise(2).float())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_augment_on_the_gpu_never_waits_for_the_host() -> None:
    images, generator = noise(64).cuda(), torch.Generator("cuda").manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        moved = normalise(augment(images, generator))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(moved, normalise(augment(images, torch.Generator("cuda").manual_seed(0))))
    with pytest.raises(DataError, match="the generator lives on cpu"):
        augment(images, seeded())


def test_balanced_sample_is_balanced_normalised_and_from_the_training_images(
    digits: ImageData,
) -> None:
    images, labels = balanced_sample(digits, 25)
    assert images.shape == (250, 3, 32, 32) and images.dtype == torch.float32
    assert labels.reshape(25, 10).tolist() == [list(range(10))] * 25
    known = {
        image.numpy().tobytes(): int(label)
        for image, label in zip(normalise(digits.train_images), digits.train_labels, strict=True)
    }
    drawn = [image.numpy().tobytes() for image in images]
    assert [known[image] for image in drawn] == labels.tolist()
    assert len(set(drawn)) == 250


def test_balanced_sample_depends_on_its_seed_alone(digits: ImageData) -> None:
    first, _ = balanced_sample(digits, 5)
    assert torch.equal(first, balanced_sample(digits, 5, seed=0)[0])
    assert not torch.equal(first, balanced_sample(digits, 5, seed=1)[0])


def test_too_few_images_name_the_class_and_the_remedy() -> None:
    with pytest.raises(
        DataError,
        match="class 0 of toy has 3 training images, but 4 were asked for; "
        "ask for 3 or fewer per class",
    ):
        balanced_sample(tiny_data(), 4)
    with pytest.raises(
        DataError,
        match=r"class 1 \(dog\) of toy has 0 training images, .*; add images to this class",
    ):
        balanced_sample(tiny_data((3, 0, 3), ("cat", "dog", "emu")), 1)
    with pytest.raises(DataError, match=r"class 0 of toy has 3 test images, but 4 were asked for"):
        subset(tiny_data(), 2, 4, seed=0)


@pytest.mark.parametrize("count", [0, -1, 2.5, "2", True, float("nan")])
def test_images_per_class_are_counted_in_whole_numbers(count: int) -> None:
    with pytest.raises(DataError, match=rf"^{count!r} training images .*; ask for at least 1"):
        balanced_sample(tiny_data(), count)
    with pytest.raises(DataError, match=rf"^{count!r} test images .*; ask for at least 1"):
        subset(tiny_data(), None, count, seed=0)


def test_more_images_than_any_memory_holds_are_too_many() -> None:
    with pytest.raises(DataError, match=r"has 3 training images, but 1000000000000000 were asked"):
        balanced_sample(tiny_data(), 10**15)


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 0.0, "0", None])
def test_seeds_are_whole_numbers_that_torch_takes(seed: int) -> None:
    with pytest.raises(DataError, match=rf"seed={seed!r}; give a whole number"):
        balanced_sample(tiny_data(), 1, seed=seed)
    balanced_sample(tiny_data(), 1, seed=2**64 - 1)


def test_subset_is_balanced_ordered_and_seeded(digits: ImageData) -> None:
    part = subset(digits, 20, 7, seed=4)
    assert torch.bincount(part.train_labels).tolist() == [20] * 10
    assert torch.bincount(part.test_labels).tolist() == [7] * 10
    assert (part.name, part.num_classes, part.class_names) == ("digits", 10, digits.class_names)
    positions = {image.numpy().tobytes(): i for i, image in enumerate(digits.train_images)}
    order = [positions[image.numpy().tobytes()] for image in part.train_images]
    assert order == sorted(set(order))
    assert torch.equal(part.train_images, subset(digits, 20, 7, seed=4).train_images)
    assert not torch.equal(part.train_images, subset(digits, 20, 7, seed=5).train_images)


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (noise(2).float(), torch.tensor([0, 1]), 2, "torch.float32 images"),
        (noise(2)[0], torch.tensor([0, 1]), 2, r"images of shape \(3, 32, 32\)"),
        (noise(2), torch.tensor([0, 1, 1]), 2, r"labels of shape \(3,\); give int64 \[2\]"),
        (noise(2), torch.tensor([0.0, 1.0]), 2, "torch.float32 labels"),
        (noise(2), torch.tensor([1, 2]), 2, "labels from 1 to 2, expected 0 to 1"),
        (noise(2), torch.tensor([-1, 0]), 2, "labels from -1 to 0"),
        (noise(0), torch.tensor([], dtype=torch.int64), 2, "is empty"),
    ],
)
def test_image_data_is_checked(images: Tensor, labels: Tensor, classes: int, message: str) -> None:
    with pytest.raises(DataError, match=f"the training part of toy .*{message}"):
        ImageData("toy", images, labels, noise(2), torch.tensor([0, 1]), classes)
    with pytest.raises(DataError, match=f"the test part of toy .*{message}"):
        ImageData("toy", noise(2), torch.tensor([0, 1]), images, labels, max(classes, 2))


def test_class_names_are_all_or_none() -> None:
    with pytest.raises(DataError, match="2 classes, but 1 class names"):
        tiny_data(names=("cat",))
