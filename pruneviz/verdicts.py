"""`pruneviz claims`: a verdict on each claim of the paper, by rules written down before looking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pruneviz.console.command import command_app, say, tell, tell_left_out
from pruneviz.console.options import recordings_given
from pruneviz.errors import LogError

EXAMPLES = """
  # Recordings that ship with the source
  pruneviz claims --data data/cifar-mini

  # Several folders: more seeds, other batch-norm modes
  pruneviz claims data/cifar-mini data/cifar-mini-batch

  # As data, and as Markdown
  pruneviz claims --data data/mine --json claims.json
  pruneviz claims --data data/mine --markdown > claims.md

  # The rules
  pruneviz claims --rules
"""


def claims(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER",
            help="Folders with recordings, of any networks; also as --data FOLDER.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="FOLDER", help="A folder with recordings."),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Also write the verdicts into this file, as records."
        ),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")] = False,
    rules: Annotated[
        bool, typer.Option("--rules", help="Print the rules and end; needs no recordings.")
    ] = False,
) -> None:
    """Judge the claims in the paper's captions against recordings.

    Each claim has a rule: a statistic, its interval over seeds, and the numbers that decide. The
    verdict is supported, not supported, undecided, or not testable with so few seeds. Networks of
    your own are judged too. A verdict does not change the exit code; a run that cannot be read is
    left out and named, with exit code 1.
    """
    from pruneviz.analysis.claim_texts import rules_in_markdown, verdicts_in_words
    from pruneviz.analysis.claims import claims as judged
    from pruneviz.figures.details import records
    from pruneviz.log.files import disk_errors, write_over
    from pruneviz.log.readable_runs import from_readable

    if rules:
        tell(rules_in_markdown(), end="")
        return
    found, damaged = from_readable(recordings_given(folders, data), judged)
    if json_file is not None:
        if not json_file.resolve().parent.is_dir():
            raise LogError(f"there is no folder {json_file.parent} for {json_file.name}; create it")
        if json_file.is_dir():
            raise LogError(f"{json_file} is a folder; give --json the name of a file")
        text = json.dumps(records(found), indent=1, ensure_ascii=False)
        with disk_errors(json_file):
            write_over(json_file, lambda part: part.write_text(f"{text}\n", encoding="utf-8"))
        say(f"wrote {json_file}")
    tell(verdicts_in_words(found, markdown=markdown), end="")
    tell_left_out(damaged)


app = command_app(claims, "claims", EXAMPLES)

if __name__ == "__main__":
    app(prog_name="pruneviz claims")
