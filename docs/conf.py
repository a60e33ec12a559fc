"""The site: `make docs` builds it from these pages, the README and the docstrings."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

project = "Why gradients vanish or explode"
author = "The authors of the study"
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
root_doc = "index"
# Pages elsewhere in the project that the site has, too.
html_extra_path = ["../figures/explorer.html"]

myst_heading_anchors = 4

autodoc_typehints = "none"  # the docstrings say them, with shapes and units
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
default_role = "py:obj"
# Words of docstrings in backticks need not be names of the reference.
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "pydata_sphinx_theme"
html_title = project
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "logo": {"text": "study"},
}
html_context = {"default_mode": "light"}
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]


def sources(app, page, source):
    """The first page begins with the README, its links as seen from here; the explorer opens."""
    if page == "index":
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        text = text.replace("](docs/", "](").replace("](CHANGELOG.md", "](changelog.md")
        text = re.sub(r"\]\((?=figures|paper|LICENSE|CITATION)", "](../", text)
        source[0] = f"{text}\n#{source[0]}"
    explorer = r"\[explorer\]\(\.\./figures/explorer\.html\)|explorer, `figures/explorer\.html`"
    source[0] = re.sub(explorer, '<a href="explorer.html">explorer</a>', source[0])


def norms(app, what, name, about, options, lines):
    """A norm such as |r| is no substitution."""
    for place, line in enumerate(lines):
        if "`" not in line and not line.lstrip().startswith((">>>", "...")):
            lines[place] = line.replace("|", r"\|")


def setup(app):
    app.connect("autodoc-process-docstring", norms)
    app.connect("source-read", sources)
