from __future__ import annotations

import pytest

from pruneviz import errors
from pruneviz.errors import LogError, PrunevizError, unknown_name

NETWORKS = ("vgg13", "resnet56", "mobilenet_v1")


def test_an_unknown_name_is_told_with_the_closest_and_all_known_names() -> None:
    assert unknown_name("network", "vgg31", NETWORKS) == (
        "there is no network 'vgg31'; did you mean 'vgg13'? "
        "Choose one of vgg13, resnet56, mobilenet_v1"
    )


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    assert unknown_name("network", "lenet", NETWORKS) == (
        "there is no network 'lenet'; choose one of vgg13, resnet56, mobilenet_v1"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("VGG13", "vgg13"),
        ("ResNet-56", "resnet56"),
        ("resnet_56", "resnet56"),
        ("mobilenet-v1", "mobilenet_v1"),
        ("MobileNet V1", "mobilenet_v1"),
        ("mobilnet", "mobilenet_v1"),
    ],
)
def test_case_and_separators_do_not_hide_the_name_that_was_meant(name: str, meant: str) -> None:
    assert f"did you mean {meant!r}?" in unknown_name("network", name, NETWORKS)


def test_a_hint_ends_the_message() -> None:
    message = unknown_name("column", "sigm", ["sigma"], hint="record it anew")
    assert message.endswith("Choose one of sigma; record it anew")


def test_one_except_clause_catches_every_error_of_the_package() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    ours = [error for error in classes if error.__module__ == errors.__name__]
    assert len(ours) == 13
    assert all(issubclass(error, PrunevizError) for error in ours)
    assert issubclass(PrunevizError, ValueError)


def test_a_line_break_in_a_name_begins_no_line_of_a_message() -> None:
    assert str(LogError("a\n3 runs: no faults is corrupt")) == r"a\n3 runs: no faults is corrupt"
    assert str(LogError("a\nb is corrupt", "c is corrupt")) == "a\\nb is corrupt\nc is corrupt"
