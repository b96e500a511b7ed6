"""Specs as a person edits them: facts replaced, without the digest of what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pruneviz.log.spec_file import FACTS_DIGEST, SPEC_FILE, TABLE_FILES


def edit_spec(run: Path, /, **facts: Any) -> None:
    """Replace facts in the spec of a run directory."""
    file = run / SPEC_FILE
    before = json.loads(file.read_text(encoding="utf-8"))
    edited = {**before, FACTS_DIGEST: None, **facts}
    file.write_text(json.dumps(edited), encoding="utf-8")


def remove_facts(run: Path, /, *names: str) -> None:
    """Remove facts from the spec of a run directory."""
    file = run / SPEC_FILE
    before = json.loads(file.read_text(encoding="utf-8"))
    kept = {name: fact for name, fact in before.items() if name not in names}
    file.write_text(json.dumps({**kept, FACTS_DIGEST: None}), encoding="utf-8")


def forget_sums(run: Path) -> None:
    """Let a finished run be one of schema 3, which does not say what its files held."""
    remove_facts(run, TABLE_FILES)
    edit_spec(run, schema_version=3)
