"""How Sphinx builds the site: ``make docs``.

What can be derived from the package is: pages of zoos, methods, commands and the API are written by the modules in
``_ext`` before Sphinx looks for sources, into ``generated/``, which is not kept in git.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import zoobench  # noqa: E402

project = "zoobench"
author = "zoobench developers"
project_copyright = "zoobench developers"
version = release = zoobench.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    # Of this folder.
    "breaks",
    "crosslinks",
    "gallery",
    "generate",
    "links",
    "mathml",
    "navigation",
    "references",
]
# The second is for generated pages: what ends in .md is kept in git, and tested.
source_suffix = {".rst": "restructuredtext", ".md": "markdown", ".markdown": "markdown"}
exclude_patterns = ["_build", "_ext", "_templates", "generated/backreferences", "auto_examples/*.ipynb"]
templates_path = ["_templates"]
add_function_parentheses = False
toc_object_entries_show_parents = "hide"

# References between the objects of this library have to resolve. What names others' (scikit-learn, numpy) is plain
# text, unless the build may use the network: it must not need one.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!zoobench\b).*")]
if os.environ.get("ZOOBENCH_DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
    }

# Pages are read on the code host too, so they are plain Markdown, with links between files.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # the docstrings say more
autodoc_member_order = "bysource"
numpydoc_show_class_members = False


def _without_path(message: Warning | str, category: type[Warning], *_: object) -> str:
    """A warning of an example, without the place on the machine that built the site."""
    return f"{category.__name__}: {message}\n"


warnings.formatwarning = _without_path

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["auto_examples"],
    # What is not run is shown, and says so.
    "filename_pattern": r"/plot_(?!methods)",
    "within_subsection_order": "gallery.InOrder",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("zoobench",),
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 1,
    "image_scrapers": ("matplotlib",),
}

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_context = {"default_mode": "auto"}
# The table of all zoos needs the room; sections of one page have nothing to list.
html_sidebars = {
    page: []
    for page in (
        "generated/zoos/index",
        "getting_started",
        "speed",
        "faq",
        "generated/contributing",
        "generated/changes",
    )
}
html_title = "zoobench"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("sort.js", {"defer": "defer"})]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "back_to_top_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
