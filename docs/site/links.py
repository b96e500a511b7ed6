"""Links that the site makes of text in Markdown pages and notebooks.

On the code host a link to a page shows its file, here its title. Code that begins with `pv.` leads
to the reference.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def link_names(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Make public names in the text of Markdown pages links to the reference."""
    known = app.env.domains["py"].objects
    for code in list(tree.findall(nodes.literal)):
        name = re.match(r"pv\.([\w.]*\w)", code.astext())
        entry = known.get(f"pruneviz.{name[1]}") if name else None
        if entry is None or isinstance(code.parent, (nodes.reference, nodes.title)):
            continue
        uri = f"{app.builder.get_relative_uri(docname, entry.docname)}#{entry.node_id}"
        link = nodes.reference("", "", refuri=uri, internal=True, classes=["name-link"])
        code.replace_self(link)
        link += code


def show_titles(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Show the title of a page where a link shows the name of its file."""
    for link in list(tree.findall(nodes.reference)):
        if re.fullmatch(r"[\w/.-]+\.(md|ipynb)", link.astext()):
            address = link.get("refuri", "").partition("#")[0].removesuffix(".html")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(docname), address))
            if target in app.env.titles:
                title = nodes.inline("", app.env.titles[target].astext())
                link.children[:] = []
                link += title


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", link_names)
    app.connect("doctree-resolved", show_titles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
