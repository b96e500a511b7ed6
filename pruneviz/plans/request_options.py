"""Options of commands that record: columns on request, and the loss without filters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pruneviz.console.options import completing, one_of

if TYPE_CHECKING:
    from pruneviz.log.on_request import OnRequest

# pandas is imported where it is used, so that --help is fast


def _known() -> Iterable[str]:
    from pruneviz.log.on_request import REQUESTABLE

    return REQUESTABLE


Further = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN,...",
        help="Columns on request, besides the default ones, such as theta2_g2.",
        autocompletion=completing(_known),
    ),
]
SampleSeed = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Seed that draws the measurement sample, apart from that of the training. Run names "
        "show it if it is not 0. Default: 0; of `pruneviz remeasure` as recorded.",
    ),
]
Samples = Annotated[
    int,
    typer.Option(
        min=1,
        max=2,
        metavar="<1|2>",
        help="2 also measures two disjoint halves of the sample, for `pruneviz.reliability` (table "
        "halves). A measurement then takes twice as long; the other tables do not change.",
    ),
]
Oracle = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Also measure how the loss changes when a filter is really removed (column "
        "delta_loss), for N filters drawn evenly from all layers. One partial forward pass each.",
    ),
]
RequestAt = Annotated[
    list[int] | None,
    typer.Option(
        min=0,
        metavar="EPOCH,...",
        help="Epochs at which columns on request are measured, delta_loss among them. "
        "Default: all measured ones.",
    ),
]


Errors = Annotated[
    str,
    typer.Option(
        help="Standard errors: those that cost next to nothing (default), or also those of "
        "theta_hg, abs_theta_g and single weights, from random half samples (full), which take "
        "several times as long.",
        **one_of("errors", ("default", "full")),
    ),
]


def on_request(
    columns: Sequence[str] | None,
    oracle: int | None,
    request_at: Sequence[int] | None,
    errors: str = "default",
) -> OnRequest:
    """What these options ask for.

    Raises:
        LogError: If a column is unknown, or there are epochs without filters.
    """
    from pruneviz.log.on_request import OnRequest
    from pruneviz.log.request_columns import FULL_ERRORS

    further = (*(columns or ()), *(FULL_ERRORS if errors == "full" else ()))
    return OnRequest(further, oracle, tuple(request_at) if request_at else None)
