"""Columns of recordings of an older schema, under names that say what they are.

Before schema 3 the standard errors of filters assumed that the examples are independent draws. On a
sample that holds every class equally often they are too large, so they are read under names of
their own. Files do not change; a filters file is an older one if it lacks the columns that every
newer one has, so that also the parts of an unfinished run and copies of files say what they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pruneviz.errors import LogError
from pruneviz.log import schema
from pruneviz.log.run_spec import RunSpec

_NAMES_NOW: Mapping[str, str] = {
    "theta_g_se": "theta_g_se_iid",
    "theta_hg_se": "theta_hg_se_given_g_iid",
}


def names_now(table: str, stored: Sequence[str]) -> list[str]:
    """The columns of a file under today's names, in order.

    Args:
        table: Table name.
        stored: Columns of the file.
    """
    is_older = table == "filters" and "theta_g_se_iid" not in stored
    return [_NAMES_NOW.get(name, name) for name in stored] if is_older else list(stored)


def facts_now(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a spec, with its measured columns under today's names."""
    columns = facts.get("columns", ())
    if int(facts["schema_version"]) >= schema.DRAWN_ERRORS_SINCE or isinstance(columns, str):
        return dict(facts)
    return {**facts, "columns": tuple(_NAMES_NOW.get(name, name) for name in columns)}


def same_but_errors(before: RunSpec, now: RunSpec) -> bool:
    """Whether a run measures what one of an older schema did, but for the standard errors."""
    return _has_older_errors(before) and _without_errors(before) == _without_errors(now)


def check_continues(spec: RunSpec, where: object) -> None:
    """Check that epochs that are measured now have the columns of a run's earlier ones.

    Args:
        spec: Facts of the run.
        where: Its run directory.

    Raises:
        LogError: If the run has standard errors of an older schema.
    """
    if _has_older_errors(spec):
        version = spec.versions.get("pruneviz", "the version that began it")
        raise LogError(
            f"{where} has schema {spec.schema_version}, in which theta_g_se is another standard "
            f"error than in schema {schema.SCHEMA_VERSION}, so it cannot go on; finish it with "
            f"pruneviz {version}, or record it again in another folder"
        )


def _has_older_errors(spec: RunSpec) -> bool:
    return spec.schema_version < schema.DRAWN_ERRORS_SINCE and _without_errors(spec) != list(
        spec.columns
    )


def _without_errors(spec: RunSpec) -> list[str]:
    """Measured columns but the standard errors of filters, whose names differ between schemas."""
    errors = {*schema.STANDARD_ERRORS, *_NAMES_NOW.values()}
    return [name for name in spec.columns if name not in errors]
