"""Sphinx configuration of the documentation site: `make docs` builds it into docs/_build.

The source folder is the repository itself, so that every page stays where people read it on the
code host, and a relative link means the same at both places.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import gallery_pages  # noqa: E402

import pruneviz  # noqa: E402

gallery_pages.write()

project = "pruneviz"
author = "the authors of pruneviz"
release = version = pruneviz.__version__
html_title = f"pruneviz {release}"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinx_copybutton",
    "links",
    "pictures",
    "reference",
]
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md"]
include_patterns += ["SECURITY.md", "data/README.md", "figures/README.md"]
exclude_patterns = ["docs/_build", "docs/site", ".venv", ".git"]
nitpicky = True
# No links: types of other packages, whose inventories would have to come from the network, and
# parts of results that are described where they occur.
_OUTSIDE = (
    "torch|nn|numpy|np|pandas|pd|matplotlib|pyarrow|pathlib|Path|collections|concurrent|Optimizer"
)
_PARTS = "Every|Resume|RequestAt|RanksWord|Entry|Caption|AltText|ThinCopy|Cost|Given|FileSum"
_PARTS += "|RunLog|Place"
nitpick_ignore_regex = [("py:class", rf"({_OUTSIDE})\b.*|(pruneviz\..*\.)?({_PARTS})")]

default_role = "name"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_typehints_description_target = "documented"
autodoc_type_aliases = {
    name: name for name in ("AnyMeasure", "AnyNetwork", "Inputs", "Sample", "UnitKind")
}
autodoc_type_aliases["Measure"] = "AnyMeasure"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # notebooks keep the outputs that they are committed with
nb_ipywidgets_js = {}  # no script from outside

html_theme = "furo"
pygments_dark_style = "github-dark"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_extra_path = ["root"]  # index.html, which leads to docs/index.html
html_show_copyright = False
html_copy_source = False
