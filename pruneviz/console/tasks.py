"""Commands for other schedulers: one line of a shell per run, right for any path and name."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from pruneviz.console.command import say
from pruneviz.console.shown_text import visible
from pruneviz.console.words import counted
from pruneviz.errors import PrunevizError

# What makes a command print tasks, or can be done once alone.
_NOT_IN_TASKS = frozenset(("--list", "--as-tasks", "--download"))
_PLAIN = re.compile(rb"[A-Za-z0-9_./:=+,@]")


def tell_tasks(
    command: Sequence[str], runs: Sequence[str], total: int, *, greedy: bool = True
) -> None:
    """Print one command per run to stdout, and how many there are to stderr.

    Args:
        command: The words of the command that lists them.
        runs: Names of the runs that are left to record.
        total: Number of all runs.
        greedy: Whether options of the command take all values up to the next option.

    Raises:
        PrunevizError: If a line cannot hold an argument.
    """
    words = without_option(command, "--run", greedy=greedy)
    words = [word for word in words if word not in _NOT_IN_TASKS]
    for line in task_lines(words, runs, str(Path.cwd())):
        typer.echo(line)  # whole, however long
    say(f"{len(runs)} of {counted(total, 'run')} left to record, one task each")


def task_lines(command: Sequence[str], runs: Sequence[str], folder: str) -> Iterator[str]:
    """One line per run, which any POSIX shell runs from any folder, and in any order.

    Args:
        command: Program, subcommand and arguments; none of these chooses runs by name.
        runs: Names of the runs.
        folder: The working directory, to which paths in the arguments are relative.

    Raises:
        PrunevizError: If a line cannot hold an argument.
    """
    program, subcommand, *arguments = map(quoted, command)
    for run in runs:
        words = [program, subcommand, "--run", quoted(run), *arguments]
        yield f"cd {quoted(folder)} && {' '.join(words)}"


def quoted(argument: str) -> str:
    """An argument as one word of a shell, on one line of characters that can be seen.

    Line breaks, control characters and bytes that are no text are written in octal.

    Args:
        argument: The argument.

    Raises:
        PrunevizError: If it ends in a line break, which shells drop there.
    """
    if visible(argument) == argument and argument.isascii():
        return shlex.quote(argument)
    if argument.endswith("\n"):
        raise PrunevizError(
            f"{argument!r} ends in a line break, which a line of a shell cannot hold; rename it"
        )
    octal = _in_octal(os.fsencode(argument))
    return f"\"$(printf '{octal}')\""


def without_option(arguments: Sequence[str], name: str, *, greedy: bool) -> list[str]:
    """Arguments without an option and its values.

    Args:
        arguments: Arguments as typed.
        name: The option, such as "--run".
        greedy: Whether it takes all values up to the next option, or one.
    """
    kept: list[str] = []
    dropping = 0
    for argument in arguments:
        if argument == name:
            dropping = len(arguments) if greedy else 1
        elif argument.startswith(f"{name}="):
            dropping = len(arguments) if greedy else 0
        elif dropping and not argument.startswith("-"):
            dropping -= 1
        else:
            dropping = 0
            kept.append(argument)
    return kept


def _in_octal(text: bytes) -> str:
    return "".join(
        chr(byte) if _PLAIN.fullmatch(bytes([byte])) else f"\\{byte:03o}" for byte in text
    )
