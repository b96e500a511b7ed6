"""What the API reference needs beside autodoc: docstrings as they are written, and help texts.

Docstrings are Google style with names in single backticks. A name that the reference holds becomes
a link, with `pv.` or `pruneviz.` in front or without; everything else in backticks is code, and
outside of them `*` and `|` are just characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import typer
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.inspect import TypeAliasForwardRef
from typer.testing import CliRunner

from pruneviz.cli import app as command_line

WIDTH = 80  # columns of help texts


def name_role(
    role: str, rawtext: str, text: str, lineno: int, inliner: Any, *_: object
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Single backticks: a link where the reference has the name, otherwise code."""
    code = nodes.literal(rawtext, text)
    name = re.sub(r"^pv\.", "pruneviz.", text.removesuffix("()"))
    if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", name):
        return [code], []
    env = inliner.document.settings.env
    link = addnodes.pending_xref(
        rawtext, code, refdomain="py", reftype="obj", reftarget=name, refdoc=env.docname
    )
    link["py:module"] = env.ref_context.get("py:module")
    link["py:class"] = env.ref_context.get("py:class")
    link["optional"] = True
    return [link], []


def leave_as_code(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Node
) -> nodes.Node | None:
    """Names in backticks that the reference does not have stay code, without a warning."""
    return content if node.get("optional") else None


def as_written(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Make a docstring reStructuredText before napoleon reads its sections."""
    text = "\n".join(lines)
    if what in ("property", "attribute") and ":" in lines[0]:
        text = f": {text}"  # no type stands before the first colon
    text = re.sub(r"^(Returns|Yields):\n( +)", r"\1:\n\2: ", text, flags=re.MULTILINE)
    parts = re.split(r"(`[^`]+`|^ *>>>.*$|^ *\.\.\. .*$|^ *\*+\w+:)", text, flags=re.MULTILINE)
    parts[::2] = [re.sub(r"([*|])", r"\\\1", part) for part in parts[::2]]
    lines[:] = "".join(parts).split("\n")


class CommandHelp(Directive):
    """The help text of the command line or of one of its subcommands, as a terminal shows it."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The text as a literal block."""
        shown = help_text(self.arguments)
        block = nodes.literal_block(shown, shown, language="text")
        return [block]


def help_text(words: Iterable[str]) -> str:
    """What `pruneviz WORDS --help` prints."""
    result = CliRunner().invoke(
        command_line,
        [*words, "--help"],
        prog_name="pruneviz",
        env={"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH)},
    )
    if result.exit_code:
        raise typer.Exit(result.exit_code)
    return result.output.strip()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    TypeAliasForwardRef.__repr__ = lambda self: self.name  # Sphinx prints its own class otherwise
    app.add_role("name", name_role)
    app.add_directive("command-help", CommandHelp)
    app.connect("autodoc-process-docstring", as_written, priority=100)
    app.connect("missing-reference", leave_as_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
