"""`spec.json` may come from anyone: it is read as it is, or refused in one clear line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pruneviz.errors import LogError
from pruneviz.log import spec_file
from pruneviz.log.fact_kinds import FACT_KINDS
from pruneviz.log.limits import MOST_BYTES
from pruneviz.log.run_directory import RunLog
from pruneviz.log.run_spec import SPEC_FACTS, RunSpec
from pruneviz.log.runs import load
from pruneviz.log.spec_file import FACTS_DIGEST, is_sealed, read_spec
from tests.support.edited_specs import edit_spec

FACTS: dict[str, Any] = {"run": "r", "schema_version": 3, "sealed": False}


def written(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    (path / "spec.json").write_bytes(data)
    return path


def of(**facts: Any) -> str:
    return json.dumps({**FACTS, **facts})


VERSIONS = ("Infinity", "-Infinity", "NaN", '"2"', "0", "-1", "2.9", "true", "null", "[3]", "1e999")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_that_is_none_is_refused(tmp_path: Path, version: str) -> None:
    text = of().replace('"schema_version": 3', f'"schema_version": {version}')
    with pytest.raises(LogError, match=r"spec\.json is corrupt \((it holds|schema_version is)"):
        read_spec(written(tmp_path, text))


# By name, what is expected; every known fact refuses at least one of these.
WRONG: tuple[Any, ...] = ([{}], {"a": 1}, "text", 2.9, True, -1, None)


@pytest.mark.parametrize("name", sorted(FACT_KINDS))
def test_a_fact_of_another_kind_is_refused_by_name_and_value(tmp_path: Path, name: str) -> None:
    refused = [value for value in WRONG if value is not None and not FACT_KINDS[name].holds(value)]
    assert [{}] in refused
    for value in refused:
        if name == "schema_version":
            continue
        with pytest.raises(LogError, match=r"spec\.json is corrupt") as caught:
            read_spec(written(tmp_path, of(**{name: value})))
        expected = FACT_KINDS[name].expected
        assert f"{name} is {value!r}, expected {expected}" in str(caught.value)


def test_every_fact_of_a_spec_has_a_kind() -> None:
    assert set(SPEC_FACTS) <= set(FACT_KINDS)


HOSTILE: dict[str, tuple[str | bytes, str]] = {
    "nested": ("[" * 100_000 + "]" * 100_000, "nests values more than 16 deep"),
    "nested fact": (of(mine=1).replace("1}", "[" * 17 + "]" * 17 + "}"), "more than 16 deep"),
    "large": (of(mine="x" * MOST_BYTES), f"more than {MOST_BYTES:,} bytes"),
    "twice": ('{"run": "a", "run": "b"}', "it names 'run' twice"),
    "twice inside": (of(mine=1).replace("1}", '{"a": 1, "a": 2}}'), "it names 'a' twice"),
    "not a number": (of(mine=float("nan")), "it holds NaN"),
    "infinite": (of(mine=1).replace("1}", "-1e999}"), "it holds -1e999"),
    "no UTF-8": (b'{"run": "\xff"}', "codec can't decode"),
    "text": ('"spec"', "it holds 'spec', expected facts by name"),
    "no version": ('{"run": "r", "sealed": true}', "schema_version is missing"),
    "half a state": (of(sealed="false"), "sealed is 'false', expected true or false"),
    "no state": ('{"run": "r", "schema_version": 3}', "sealed is missing"),
    "a long value": (of(seed="x" * 100_000), r"seed is 'x{59}\.\.\., expected a whole number"),
}


@pytest.mark.parametrize(("content", "said"), HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_text_is_refused(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(LogError, match=rf"spec\.json is corrupt \(.*{said}") as caught:
        load(written(tmp_path, content))
    assert len(str(caught.value)) < 1000


def test_a_byte_order_mark_of_an_editor_changes_nothing(tmp_path: Path) -> None:
    assert read_spec(written(tmp_path, b"\xef\xbb\xbf" + of(seed=4).encode())).seed == 4


def test_text_that_is_no_unicode_is_read_and_written_as_its_escapes(tmp_path: Path) -> None:
    text = of(command="cat \udcff.png", mine=["\ud83d\ude00", {"\ud800": 1}])
    spec = read_spec(written(tmp_path, text))
    assert spec.command == r"cat \udcff.png"
    assert spec.extra["mine"] == ["\U0001f600", {r"\ud800": 1}]
    log = RunLog.create(tmp_path / "new", RunSpec("new", command="cat \udcff.png"))
    assert read_spec(log.path).command == r"cat \udcff.png"
    assert RunLog.resume(log.path, log.spec).path == log.path


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a value": lambda facts: facts.update(seed=1),
    "one more": lambda facts: facts.update(mine=1),
    "one less": lambda facts: facts.pop("seed"),
    "the digest": lambda facts: facts.update({FACTS_DIGEST: "0" * 64}),
    "the state": lambda facts: facts.update(sealed=True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_changed_fact_is_noticed(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    path = RunLog.create(tmp_path / "r", RunSpec("r", seed=0)).path
    facts = json.loads((path / "spec.json").read_text())
    written(path, json.dumps(dict(reversed(facts.items()))))
    assert read_spec(path).seed == 0, "order and white space are no change"
    change(facts)
    written(path, json.dumps(facts))
    with pytest.raises(LogError, match=rf"was changed .* write null as its {FACTS_DIGEST}"):
        read_spec(path)


def test_the_digest_must_be_there(tmp_path: Path) -> None:
    path = RunLog.create(tmp_path / "r", RunSpec("r", seed=0)).path
    whole = (path / "spec.json").read_bytes()
    begin = whole.index(FACTS_DIGEST.encode())
    for bit in range(8 * begin, 8 * (begin + len(FACTS_DIGEST))):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        (path / "spec.json").write_bytes(content)
        with pytest.raises(LogError, match=f"lacks {FACTS_DIGEST}, which|is corrupt"):
            read_spec(path)
    (path / "spec.json").write_bytes(whole)
    assert read_spec(path).seed == 0


def test_a_change_of_ones_own_is_kept_without_the_digest(tmp_path: Path) -> None:
    path = RunLog.create(tmp_path / "r", RunSpec("r", seed=0)).path
    edit_spec(path, seed=1)
    assert read_spec(path).seed == 1


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        ({"seed": [1]}, r"seed is \[1\], expected a whole number; give it so"),
        ({"threads": "many"}, "threads is 'many', expected a whole number from 0"),
        ({"mine": "x" * MOST_BYTES}, "cannot be stored .*at most 4,194,304 can be read"),
        ({"mine": {1: "a", "1": "b"}}, "cannot be stored .*it names '1' twice"),
        ({"mine": [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}, "cannot be stored .*more than 16 deep"),
    ],
    ids=["a list", "text", "large", "twice", "deep"],
)
def test_what_could_not_be_read_again_is_not_written(
    tmp_path: Path, fact: dict[str, Any], said: str
) -> None:
    with pytest.raises(LogError, match=said):
        RunLog.create(tmp_path / "r", RunSpec.from_dict({"run": "r", **fact}))
    assert not (tmp_path / "r").exists()


NO_FILES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize(("what", "make"), NO_FILES.items(), ids=list(NO_FILES))
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, what: str, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "spec.json")
    for read in (load, is_sealed, read_spec):
        with pytest.raises(LogError, match=f"spec.json is {what}, expected a regular file"):
            read(tmp_path)


def test_a_link_to_a_spec_is_followed_and_one_to_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text(of(seed=3))
    (tmp_path / "run").mkdir()
    link = tmp_path / "run" / "spec.json"
    link.symlink_to(tmp_path / "elsewhere.json")
    assert read_spec(tmp_path / "run").seed == 3
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(LogError, match="is corrupt"):
        read_spec(tmp_path / "run")


def test_a_lost_spec_is_told_where_there_are_tables(tmp_path: Path) -> None:
    (tmp_path / "epochs.parquet").touch()
    with pytest.raises(LogError, match=r"tables of a run but no spec\.json; restore it"):
        load(tmp_path)


@pytest.mark.parametrize("fact", ["lr", "seed", "epochs", "temperatures", "own"])
@pytest.mark.parametrize("digits", [25, 310, 4300, 5000])
def test_whole_numbers_that_nothing_can_hold_are_refused(
    tmp_path: Path, fact: str, digits: int
) -> None:
    number = "9" * digits
    value = f"[1, {number}]" if fact == "temperatures" else number
    text = of().replace('"run"', f'"{fact}": {value}, "run"')
    if digits == 25 and fact in ("lr", "temperatures", "own"):
        read_spec(written(tmp_path, text))
        return
    with pytest.raises(LogError, match=r"spec\.json is corrupt .*(digits|64 bits)"):
        read_spec(written(tmp_path, text))


def test_too_many_facts_are_refused_and_doubled_ones_found_at_once(tmp_path: Path) -> None:
    names = "".join(f', "{place:x}": 1' for place in range(200_000))
    with pytest.raises(LogError, match="facts, at most 10,000 can be read"):
        read_spec(written(tmp_path, of()[:-1] + names + ', "5": 1}'))
    with pytest.raises(LogError, match="it names 'twice' twice"):
        read_spec(written(tmp_path, of()[:-1] + ', "a": 1, "twice": 1, "twice": 2}'))


def test_a_spec_that_may_not_be_read_is_not_called_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(spec_file, "read_regular", refused)
    written(tmp_path, of())
    with pytest.raises(LogError, match="permission denied; make it readable"):
        read_spec(tmp_path)
