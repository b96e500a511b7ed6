"""Shared by all commands: help, errors, exit codes, and options that take several values.

Exit codes: 0 done, 1 some results are missing or failed, 2 wrong use, 130 interrupted by Ctrl-C or
another code of `stop_signals`.
"""

from __future__ import annotations

import errno
import importlib
import re
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from pruneviz.console.options import one_by_one
from pruneviz.console.shown_text import visible_line, visible_lines
from pruneviz.console.stop_signals import GO_ON, Stopped, exit_code, raise_stopped, reason
from pruneviz.console.usage import suggestion, swallowed_option, usage_message
from pruneviz.errors import PrunevizError, names_extra

DONE, INCOMPLETE, WRONG_USE = 0, 1, 2
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_GIVEN = "pruneviz.given"  # key for the arguments as typed, in a context
_DEFAULT = re.compile(r"\s*\[default: ([^;\]]+)\]$")
_AT_LEAST = re.compile(r"\s*\[x>=(\d+)\]$")
# Typer's usage errors; it exports only this subclass.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class Incomplete(Exception):  # noqa: N818
    """Work that was started but is not complete; ends the command with exit code 1."""


class Command(TyperCommand):
    """A command whose repeatable options take `--name a b`, `--name a,b` or repeated `--name`.

    `--name a b` works only in commands without positional arguments, where it has one meaning.
    """

    def main(self, *args: Any, standalone_mode: bool = True, **settings: Any) -> Any:
        """Run the command and exit with its code; return it with `standalone_mode` off."""
        return _ended(super().main, standalone_mode, *args, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Run the command function; expected errors become exit codes."""
        raise_stopped()
        return _without_traces(super().invoke, ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat an option's name before each of its values; keep the arguments as typed."""
        ctx.meta[_GIVEN] = list(args)
        self._check_values(ctx, args)
        several = {name for param in self.params if _repeats(param) for name in param.opts}
        positional = any(param.param_type_name == "argument" for param in self.params)
        try:
            return super().parse_args(ctx, list(one_by_one(args, several, greedy=not positional)))
        except _UsageError as error:
            error.ctx = ctx  # type: ignore[attr-defined]  # some come without
            raise

    def _check_values(self, ctx: Any, args: Sequence[str]) -> None:
        options = [param for param in self.params if param.param_type_name == "option"]
        takes_value = [
            name for param in options if not getattr(param, "is_flag", False) for name in param.opts
        ]
        found = swallowed_option(args, takes_value)
        if found:
            ctx.fail(f"option {found[0]} needs a value, but {found[1]} follows it")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, by panel; of several long names only the first."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                usual = f"{param.param_type_name.title()}s"
                panel = getattr(param, "rich_help_panel", None) or usual
                names, text = record
                for further in _further_names(param):
                    names = names.replace(f", {further}", "")
                sections.setdefault(panel, []).append(_as_we_write_it(names, text))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples as they are."""
        formatter.write(f"\n{self.epilog}" if self.epilog else "")


class Group(TyperGroup):
    """A command with subcommands, each the `app` of a module that is loaded on use.

    Subclasses set `modules`: {subcommand: (module, help text)}.
    """

    modules: ClassVar[Mapping[str, tuple[str, str]]]

    def main(self, *args: Any, standalone_mode: bool = True, **settings: Any) -> Any:
        """Run a subcommand and exit with its code; return it with `standalone_mode` off."""
        return _ended(super().main, standalone_mode, *args, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Run a subcommand; expected errors become exit codes."""
        return _without_traces(super().invoke, ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the subcommands."""
        return list(self.modules)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load a subcommand; None if it does not exist."""
        if cmd_name not in self.modules:
            return None
        module, _ = self.modules[cmd_name]
        return typer.main.get_command(importlib.import_module(module).app)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a subcommand, or suggest a name for one that does not exist."""
        if args[0] not in self.modules and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}{suggestion(args[0], self.modules)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the subcommands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in self.modules.items()])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples as they are."""
        formatter.write(f"\n{self.epilog}" if self.epilog else "")


def command_app(
    function: Callable[..., None],
    name: str,
    examples: str,
    words: Mapping[str, Mapping[str, str]] | None = None,
) -> typer.Typer:
    """Build an app with a single command in the common style.

    Args:
        function: Its parameters are the options, its docstring the help.
        name: Name of the `pruneviz` subcommand.
        examples: Lines at the end of the help, printed verbatim.
        words: Glossaries at the end of the help, {title: {word: meaning}}.
    """
    lists = [_explained(title, meanings) for title, meanings in (words or {}).items()]
    epilog = "\n".join([*lists, f"Examples:\n{examples.strip(chr(10))}\n"])
    app = new_app()
    app.command(name, cls=Command, context_settings=SETTINGS, epilog=epilog)(function)
    return app


def new_app(**settings: Any) -> typer.Typer:
    """A typer app with plain help and without pretty stack traces."""
    return typer.Typer(
        **{
            "add_completion": False,
            "rich_markup_mode": None,
            "pretty_exceptions_enable": False,
            **settings,
        }
    )


def command_line(ctx: typer.Context, without: Sequence[str] = ()) -> str:
    """The command line as typed in a shell, such as `pruneviz record --figures 5 16`.

    Args:
        ctx: Context of the running command.
        without: Arguments to leave out.
    """
    return shlex.join(command_words(ctx, without))


def command_words(ctx: typer.Context, without: Sequence[str] = ()) -> list[str]:
    """The words of that command line.

    Args:
        ctx: Context of the running command.
        without: Arguments to leave out.
    """
    given = [argument for argument in ctx.meta[_GIVEN] if argument not in without]
    return ["pruneviz", str(ctx.command.name), *given]


@contextmanager
def may_be_incomplete() -> Iterator[None]:
    """Make errors after the start of the work end the command with exit code 1."""
    try:
        yield
    except PrunevizError as error:
        raise Incomplete(str(error)) from error


def tell(text: str, end: str = "\n") -> None:
    """Print a text to stdout, `visible_lines` of it in the characters that stdout has."""
    typer.echo(_printable(f"{text}{end}", sys.stdout), nl=False)


def say(text: str) -> None:
    """Print a line to stderr; line breaks in it are shown as escapes."""
    typer.echo(_printable(f"{visible_line(text)}\n", sys.stderr), nl=False, err=True)


def tell_damaged(damaged: Collection[str], what: str = "") -> None:
    """Print which runs cannot be read, and end the command with exit code 1 if there are any.

    Args:
        damaged: Why, for each of them, in a sentence that names it.
        what: What was done about it, in front of each.
    """
    for why in damaged:
        say(f"{what}{why}")
    if damaged:
        raise typer.Exit(INCOMPLETE)


def tell_left_out(damaged: Collection[str]) -> None:
    """`tell_damaged` for runs that were left out."""
    tell_damaged(damaged, "left out: ")


def stop(text: str, code: int) -> NoReturn:
    """Print an error, of several lines if it has them, and end the command with an exit code."""
    for line in f"error: {text}".split("\n"):
        say(line)
    raise typer.Exit(code)


def _printable(text: str, stream: Any) -> str:
    """A text without what controls a terminal, or what its encoding lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return visible_lines(text).encode(encoding, "backslashreplace").decode(encoding)


def _ended(main: Callable[..., Any], exits: bool, *args: Any, **settings: Any) -> Any:
    """Run a command; usage errors are printed in the common style."""
    try:
        code = main(*args, standalone_mode=False, **settings)
    except _UsageError as error:
        if not exits:
            raise
        say(f"error: {usage_message(error)}")
        say(f"Try '{error.ctx.command_path} --help'.")  # type: ignore[attr-defined]
        code = WRONG_USE
    if exits:
        sys.exit(code or DONE)
    return code


def _without_traces(invoke: Callable[[Any], Any], ctx: Any) -> Any:
    """Run a command function; expected errors become one line and an exit code."""
    try:
        with names_extra(ctx.command_path):
            return invoke(ctx)
    except PrunevizError as error:
        stop(str(error), WRONG_USE)
    except Incomplete as error:
        stop(str(error), INCOMPLETE)
    except OSError as error:
        if error.errno == errno.EPIPE or error.filename is None:
            raise
        stop(visible_line(f"{error.filename}: {error.strerror}"), INCOMPLETE)
    except Stopped as stopped:
        say(str(stopped))
        raise typer.Exit(stopped.code) from None
    except KeyboardInterrupt:
        say(f"{reason(signal.SIGINT)}. {GO_ON}")
        raise typer.Exit(exit_code(signal.SIGINT)) from None


def _as_we_write_it(name: str, text: str) -> tuple[str, str]:
    """A help line without argument types, with default and minimum as sentences."""
    text = _DEFAULT.sub(r" Default: \1.", text)
    return name.partition(" <list")[0], _AT_LEAST.sub(r" At least \1.", text)


def _explained(title: str, meanings: Mapping[str, str]) -> str:
    """A glossary for the end of the help."""
    width = max(map(len, meanings))
    lines = [
        textwrap.fill(
            meaning,
            width=78,
            initial_indent=f"  {word:{width}}  ",
            subsequent_indent=" " * (width + 4),
        )
        for word, meaning in meanings.items()
    ]
    return "\n".join([f"{title}:", *lines, ""])


def _further_names(param: Any) -> list[str]:
    """Long names of an option after its first."""
    return [name for name in getattr(param, "opts", ()) if name.startswith("--")][1:]


def _repeats(param: Any) -> bool:
    return param.param_type_name == "option" and param.multiple
