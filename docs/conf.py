"""Settings of the documentation's site; `make docs` takes every warning for an error."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from docutils import nodes

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import generated  # noqa: E402 - it lies beside this file, which is no package

project = "erase"
release = version = installed("erase-diffusion")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

# Headings have the anchors that GitHub gives them, so that links work in both places.
myst_heading_anchors = 4
# Prompts hold quotation marks and dashes that must be typed as they stand.
smartquotes = False

html_theme = "furo"
html_title = "erase"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
templates_path: list[str] = []
# A prompt is not shell code where it stands between the lines of a session.
highlight_language = "text"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
maximum_signature_line_length = 80
add_module_names = False
napoleon_use_rtype = False
napoleon_use_ivar = True


def _plain(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are read in an editor: only ``code`` in them is markup, no star, bar or
    underscore."""
    for i, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        parts[::2] = (re.sub(r"([*|])|(?<=\w)(_)(?=\W|$)", r"\\\g<0>", part) for part in parts[::2])
        lines[i] = "".join(parts)
    if what == "property":
        lines.insert(0, "")  # of "A share: of what" napoleon would take "A share" for a type


def _dashed(app: Any, tree: nodes.document, name: str) -> None:
    """Sphinx sets two hyphens between a parameter and its text, for smart quotes to join."""
    for text in list(tree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" – "))


def setup(app: Any) -> None:
    """Writes the pages that come from the code, before anything is read."""
    app.connect("autodoc-process-docstring", _plain, priority=100)
    app.connect("doctree-resolved", _dashed)
    generated.write(HERE)
