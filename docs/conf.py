"""The site: `make docs` builds it from this folder into build/site."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import docstrings  # noqa: E402
import repository_links  # noqa: E402

import valuelab  # noqa: E402

project = "valuelab"
author = "The valuelab authors"
copyright = f"2026, {author}"
version = release = valuelab.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.linkcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx-mathjax-offline",  # equations and search need no network
]
exclude_patterns = []
templates_path = ["_templates"]
html_static_path = ["_static"]
# A name such as Config, which several modules have, gets no link.
suppress_warnings = ["ref.python"]

# A fast build, without the pages of modules: sphinx-build -t prose
if tags.has("prose"):  # noqa: F821
    exclude_patterns = ["reference/packages.md", "reference/generated"]

# Pages are Markdown that GitHub shows too. Tests execute the notebooks, which are committed with outputs.
myst_enable_extensions = ["colon_fence", "dollarmath", "html_image"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_merge_streams = True

default_role = "code"
autosummary_generate = True
autosummary_ignore_module_all = True  # a package lists its modules, whatever its __all__ names
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # fields of named tuples are not described twice
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"valuelab {version}"
html_css_files = ["site.css"]
html_show_sphinx = False
html_theme_options = {
    "source_repository": repository_links.HOSTED,
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_exclude = ".linenos, .gp, .go"
linkcheck_timeout = 20
linkcode_resolve = repository_links.source_code


def setup(app):
    """Connects the hooks that prepare docstrings and links."""
    app.connect("autodoc-process-docstring", docstrings.process, priority=400)
    app.connect("source-read", repository_links.rewrite)
    app.extensions["sphinx-mathjax-offline"].parallel_read_safe = True  # it only copies files
