"""Check a built site: it needs no network, links lead somewhere, pictures say what they show.

`python docs/site/check.py docs/_build/html` prints every fault and exits with 1 if there is one.
Sphinx warns of references that it cannot resolve; this reads what readers get.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}
NOT_LOADED = {"canonical", "author", "license", "next", "prev", "index", "search", "genindex"}


@dataclass
class Page(HTMLParser):
    """What a page loads, where it leads, and the pictures in it.

    Attributes:
        loads: Addresses of scripts, styles and pictures.
        links: Addresses of links.
        anchors: Names of places in the page.
        alts: Address and alt text of every picture.
    """

    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    alts: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect from a tag."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADED and LOADED[tag] in given and given.get("rel") not in NOT_LOADED:
            self.loads.append(given[LOADED[tag]])
        if tag == "img":
            self.alts.append((given.get("src", ""), given.get("alt", "")))


@cache
def read(file: Path) -> Page:
    """The parsed page in a file."""
    page = Page()
    page.feed(file.read_text(encoding="utf-8"))
    return page


def is_outside(address: str) -> bool:
    """Whether an address is on another machine."""
    return bool(urlsplit(address).netloc)


def fault_of(file: Path, address: str) -> str:
    """What is wrong with a link to this site; empty if nothing."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return ""
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not target.is_file():
        return f"{address} does not exist"
    is_place = parts.fragment and target.suffix == ".html"
    if is_place and unquote(parts.fragment) not in read(target).anchors:
        return f"{address} names no place in the page"
    return ""


def faults(root: Path) -> Iterator[str]:
    """All faults of the pages and styles below a folder."""
    for file in sorted(root.rglob("*.html")):
        name, page = file.relative_to(root), read(file)
        yield from (f"{name}: loads {there}" for there in page.loads if is_outside(there))
        addresses = dict.fromkeys([*page.loads, *page.links])
        found = (fault_of(file, address) for address in addresses if address != "#")
        yield from (f"{name}: {fault}" for fault in found if fault)
        for source, alt in page.alts:
            if not alt.strip() or alt == source or alt.endswith(".png"):
                yield f"{name}: {source} has no alt text"
    for file in sorted(root.rglob("*.css")):
        text = file.read_text(encoding="utf-8")
        loads = re.findall(r"(?:url\(|@import\s+)['\"]?((?:https?:)?//[^'\")]+)", text)
        yield from (f"{file.relative_to(root)}: loads {there}" for there in loads)


def main(folder: str) -> int:
    """Print the faults of a site."""
    found = list(faults(Path(folder).resolve()))
    sys.stderr.write("".join(f"{fault}\n" for fault in found))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
