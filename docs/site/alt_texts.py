"""Alt texts of pictures: what `pruneviz` wrote into the PNG files, for readers who cannot see them.

A picture that `pruneviz figures` drew carries in its metadata what it shows, with its main numbers.
Pages name pictures in a few words; the site adds that description. Gallery pictures also lead to
the page of their figure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx

OVERVIEW = "docs/gallery"


def described(file: Path) -> str:
    """What a PNG file says of itself; empty if nothing."""
    if file.suffix != ".png" or not file.exists():
        return ""
    with Image.open(file) as picture:
        return str(picture.info.get("Description", ""))


def add_descriptions(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Add descriptions to alt texts of a page; link pictures of the overview."""
    for image in list(tree.findall(nodes.image)):
        file = Path(app.srcdir) / image["uri"].lstrip("/")
        told = described(file)
        if told:
            image["alt"] = f"{image.get('alt', '').rstrip('.')}. {told}".lstrip(". ")
        if docname == OVERVIEW and told and file.stem.startswith("figure"):
            linked(app, image, f"docs/gallery/{file.stem}", docname)


def linked(app: Sphinx, image: nodes.image, target: str, docname: str) -> None:
    """Make a picture a link to another page."""
    uri = app.builder.get_relative_uri(docname, target)
    link = nodes.reference("", "", refuri=uri, internal=True, classes=["picture-link"])
    image.replace_self(link)
    link += image


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", add_descriptions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
