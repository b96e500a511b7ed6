from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pruneviz as pv
from pruneviz.errors import LogError, ReportError
from pruneviz.report.__main__ import app
from pruneviz.report.page import json_of, report

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "data" / "cifar-mini" / "vgg13-cifar100-unpruned-s0"


class Elements(HTMLParser):
    """Elements of a page with their attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[int, str] = {}
        self.open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = False

    def handle_data(self, data: str) -> None:
        if self.open:
            place = len(self.found) - 1
            self.texts[place] = self.texts.get(place, "") + data

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (attributes, self.texts.get(place, ""))
            for place, (name, attributes) in enumerate(self.found)
            if name == tag
        ]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = pv.report(RUN, tmp_path_factory.mktemp("report") / "report.html")
    return path.read_text(encoding="utf-8")


def test_it_loads_nothing_from_outside(page: str) -> None:
    elements = Elements(page)
    for _, attributes in elements.found:
        assert not {"src", "srcset", "data", "action"} & set(attributes)
        assert str(attributes.get("href", "#")).startswith(("#", "data:,"))
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    assert [attributes["href"] for attributes, _ in elements.all("link")] == ["data:,"]


def test_its_policy_allows_its_own_scripts_and_styles_alone(page: str) -> None:
    elements = Elements(page)
    policy = next(
        str(attributes["content"])
        for attributes, _ in elements.all("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    assert parts["default-src"] == "'none'" and parts["connect-src"] == "'none'"
    scripts = [text for attributes, text in elements.all("script") if "type" not in attributes]
    styles = [text for _, text in elements.all("style")]
    for texts, name in ((scripts, "script-src"), (styles, "style-src")):
        digests = [base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in texts]
        assert parts[name].split() == [f"'sha256-{digest}'" for digest in digests]
    assert "unsafe" not in policy and "http" not in policy


def test_the_licence_of_the_charts_is_kept_in_it(page: str) -> None:
    assert "The MIT License (MIT)" in page and "Leon Sorokin" in page and "v1.6.32" in page


def test_data_lie_in_elements_that_are_not_run(page: str) -> None:
    held = [attributes for attributes, _ in Elements(page).all("script") if "type" in attributes]
    assert {attributes["type"] for attributes in held} == {"text/plain", "application/json"}
    assert len(held) > 15


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--", "&lt;", "\u2028"])
def test_json_cannot_end_its_element(text: str) -> None:
    found = json_of({"name": text})
    assert not set(found) & set("<>&\u2028")
    assert json.loads(found) == {"name": text}


def test_titles_are_escaped(tmp_path: Path) -> None:
    title = "</title><script>alert('1')</script> $policy \"quoted\""
    text = report(RUN, tmp_path / "a.html", title=title).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert Elements(text).all("title")[0][1] == title


def test_the_same_recordings_give_the_same_file(tmp_path: Path) -> None:
    one, other = (report(RUN, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert one == other


def test_columns_can_be_chosen(tmp_path: Path, page: str) -> None:
    path = report(RUN, tmp_path / "a.html", columns=["theta_g", "theta_hg"])
    scripts = Elements(path.read_text(encoding="utf-8")).all("script")
    facts = next(json.loads(text) for held, text in scripts if held.get("id") == "facts-held")
    assert [column["name"] for column in facts["runs"][0]["columns"]] == ["theta_g", "theta_hg"]
    assert path.stat().st_size < len(page) / 2


def test_a_full_width_run_is_small(tmp_path: Path) -> None:
    run = ROOT / "data" / "paper" / "mobilenetv1-cifar100-unpruned-s0"
    runs = pv.load(run)
    assert runs.filters.groupby("epoch").size().tolist() == [10_944] * 17
    assert report(runs, tmp_path / "a.html").stat().st_size < 12e6


def test_the_scripts_have_no_way_to_run_text(page: str) -> None:
    own = [text for attributes, text in Elements(page).all("script") if "type" not in attributes]
    for text in own[1:]:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text
        )


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"is a folder; name the file"):
        report(RUN, tmp_path)


def test_only_a_page_is_replaced(tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text("{}", encoding="utf-8")
    with pytest.raises(ReportError, match="is there and no page; name another file"):
        report(RUN, spec)
    assert spec.read_text(encoding="utf-8") == "{}"


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no folder"):
        report(tmp_path / "nix", tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_the_command_writes_it_and_tells_its_size(tmp_path: Path) -> None:
    out = tmp_path / "sub" / "r.html"
    result = CliRunner().invoke(app, [str(RUN), "--out", str(out), "--columns", "theta_g,sigma"])
    assert result.exit_code == 0, result.output
    assert re.search(r"r\.html: 0\.\d MiB, 1 run; open it in a browser", result.output)
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_command_needs_recordings() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2 and "name the recordings" in result.output


def test_the_package_is_called_as_a_function(tmp_path: Path) -> None:
    import inspect

    import pruneviz.report.page

    assert inspect.signature(pv.report) == inspect.signature(pruneviz.report.page.report)
    assert pv.report(RUN, tmp_path / "a.html") == tmp_path / "a.html"
    with pytest.raises(AttributeError, match="no attribute 'nix'"):
        _ = pruneviz.report.nix
