"""Pictures of the site: their alt texts, and where they lead.

A picture that `pruneviz figures` drew carries in its metadata what it shows, with its main numbers.
Pages name pictures in a few words; the site adds that description, for readers who cannot see them.
A picture leads to itself in full size, which a phone needs; in the overview of the gallery it leads
to the page of its figure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

OVERVIEW = "docs/gallery"


def described(file: Path) -> str:
    """What a PNG file says of itself; empty if nothing."""
    if file.suffix != ".png" or not file.exists():
        return ""
    with Image.open(file) as picture:
        return str(picture.info.get("Description", ""))


def improve_pictures(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Add descriptions to the alt texts of a page, and links to its pictures."""
    for image in list(tree.findall(nodes.image)):
        file = Path(app.srcdir) / image["uri"].lstrip("/")
        told = described(file)
        if told:
            image["alt"] = f"{image.get('alt', '').rstrip('.')}. {told}".lstrip(". ")
        in_card = any(name.startswith("sd-card") for name in image["classes"])
        if not in_card and not isinstance(image.parent, nodes.reference):
            target = target_of(app, image["uri"], docname)
            link = nodes.reference("", "", refuri=target, internal=True, classes=["picture-link"])
            image.replace_self(link)
            link += image


def target_of(app: Sphinx, uri: str, docname: str) -> str:
    """Where a picture leads: the page of its figure, or its own file."""
    name = Path(uri).stem
    if docname == OVERVIEW and name.startswith("figure"):
        return app.builder.get_relative_uri(docname, f"docs/gallery/{name}")
    _, copied = app.env.images[uri]
    return relative_uri(app.builder.get_target_uri(docname), f"_images/{copied}")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", improve_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
