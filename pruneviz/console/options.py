"""Command options: names that complete and suggest, several values, options from a dataclass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from pruneviz.errors import LogError, PrunevizError, unknown_name

# Options that several commands share.
ImagesFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder with the data sets. Default: $PRUNEVIZ_IMAGES, else ./images.",
    ),
]
Data = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        hidden=True,
        help="Recordings, as `pruneviz figures` takes them.",
    ),
]
PageColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="COLUMN,...",
        help="Columns of the filters that the page can show. Default: all recorded ones.",
    ),
]
UploadCheckpoints = Annotated[
    bool,
    typer.Option(
        "--upload-checkpoints",
        help="With a URL as --out, upload checkpoints too, to go on when this machine is lost.",
    ),
]
Download = Annotated[
    bool, typer.Option("--download", help="Download a missing data set with torchvision.")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Number of runs in parallel. Default: one per core on a CPU, one on a GPU.",
    ),
]
OnlyRuns = Annotated[
    list[str] | None,
    typer.Option(
        "--run", metavar="NAME...", help="Record only these runs, by their names in --list."
    ),
]
AsTasks = Annotated[
    bool,
    typer.Option(
        "--as-tasks",
        help="With --list: print one command per run that is not recorded, for xargs, GNU "
        "parallel, an array of Slurm or any other scheduler.",
    ),
]


def completing(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Shell completion from names that are looked up on demand, ignoring case."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.lower().startswith(incomplete.lower())]

    return complete


def one_of(what: str, known: Collection[str]) -> dict[str, Any]:
    """Settings for a `typer.Option` that accepts only known names.

    Args:
        what: What a name stands for, such as "row kind".
        known: The names.
    """

    def check(value: str | None) -> str | None:
        if value is not None and value not in known:
            raise typer.BadParameter(unknown_name(what, value, known))
        return value

    return {
        "metavar": f"<{'|'.join(known)}>",
        "callback": check,
        "autocompletion": completing(lambda: known),
    }


def check_listed(as_tasks: bool, list_runs: bool) -> None:
    """Check that tasks are asked for as a list.

    Raises:
        PrunevizError: If not.
    """
    if as_tasks and not list_runs:
        raise PrunevizError("--as-tasks says how to list runs, and records none; add --list")


def recordings_given(given: Sequence[Path] | None, data: Sequence[Path] | None) -> list[Path]:
    """Folders with recordings, as arguments or with --data, the name that other commands use.

    Raises:
        LogError: If there are none.
    """
    folders = [*(given or ()), *(data or ())]
    if not folders:
        raise LogError(
            "name the recordings: run directories, or folders with runs, such as data/cifar-mini"
        )
    return folders


def separated(values: Iterable[str]) -> list[str]:
    """Split values that are joined by commas."""
    parts = (part.strip() for value in values for part in value.split(","))
    return [part for part in parts if part]


def options_of(
    options: type,
    help_of: Callable[[str], str],
    panel: str,
    more: Mapping[str, Mapping[str, Any]],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command function an option for each field of a dataclass.

    The function takes them as `**keywords`: None, or False for a flag, if an option is not given.

    Args:
        options: The dataclass.
        help_of: Help text of a field.
        panel: Title of these options in the help.
        more: Further `typer.Option` settings, by field.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        hints = get_type_hints(options)
        added = [
            _parameter(field.name, hints[field.name], help_of, panel, more.get(field.name, {}))
            for field in fields(options)
        ]
        function.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        return function

    return decorate


def _parameter(
    name: str, hint: Any, help_of: Callable[[str], str], panel: str, more: Mapping[str, Any]
) -> inspect.Parameter:
    """A keyword parameter of a command function; flags get no --no-NAME."""
    flag = hint is bool
    settings = {"help": help_of(name), "rich_help_panel": panel, **more}
    option = typer.Option(f"--{name.replace('_', '-')}", **settings)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if flag else None,
        annotation=Annotated[bool if flag else hint | None, option],
    )


def one_by_one(args: Sequence[str], several: set[str], greedy: bool) -> Iterator[str]:
    """Repeat an option's name before each of its values.

    Args:
        args: Arguments as typed.
        several: Names of options that take several values.
        greedy: Read `--figures 5 16` as two values; `5,16` always is.
    """
    option, taken = None, 0
    for argument in args:
        name, equals, value = argument.partition("=")
        if argument.startswith("-"):
            option, taken = (name if name in several else None), 0
            if option and equals:
                taken = 1
                yield from (f"{option}={part}" for part in separated([value]) or [""])
            else:
                yield argument
        elif option and (greedy or not taken):
            for part in separated([argument]) or [""]:
                if taken:
                    yield option
                yield part
                taken += 1
        else:
            yield argument
