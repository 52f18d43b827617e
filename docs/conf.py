"""Settings of Sphinx, with which `make docs` makes a site of the repository's pages."""

import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

import reference  # noqa: E402

import snn_lightning  # noqa: E402

project = "snn_lightning"
version = release = snn_lightning.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.mermaid",
]

# The pages lie where they read well in the repository too, so the root is the folder of sources.
root_doc = "README"
include_patterns = ["*.md", "docs/**.md", "docs/**.rst", "docs/**.ipynb", "benchmarks/*.md", "examples/*.md"]
exclude_patterns = [".*", "**/.*", "outputs", "multirun", "site", "cache", "build"]

PAGES = {
    "Start": ["docs/tutorial", "docs/how_it_works", "docs/gallery", "examples/README"],
    "Networks": ["docs/support", "docs/analog", "docs/detection", "docs/segmentation", "docs/lightning"],
    "Calibration": [
        "docs/settings",
        "docs/data",
        "docs/synthesis",
        "docs/budget",
        "docs/cost",
        "docs/cluster",
    ],
    "Reports": ["docs/report", "docs/compare", "docs/figures", "docs/sensitivity"],
    "Measured": ["docs/results", "docs/trials", "benchmarks/README", "docs/papers"],
    "Reference": ["docs/api/index", "docs/extending", "CONTRIBUTING", "CHANGELOG"],
}
"""What the sidebar lists; a page that is missing here fails the build."""

# What GitHub understands.
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 6
myst_fence_as_directive = ["mermaid"]
highlight_language = "none"

nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_output_stderr = "remove"

# Names in docstrings lead to where they are explained, where that is on the site.
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", "(?s).*"),
    ("py:.*", r"(?!snn_lightning\.).*"),
    ("py:class", r"snn_lightning\.(plugins\.Thing|spiking\.checkpoint\.Module)"),  # type variables
    # What fields of `reference.NAMED` are, and nobody makes or gets.
    ("py:class", r"snn_lightning\.(calibration\.walk|graph\.capture|graph\.ir|spiking\.packing)\..*"),
]
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"snn_lightning {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False


def setup(app: Sphinx) -> None:
    """Add what pages of a repository lack: the reference, the sidebar, and an index.html."""
    app.connect("builder-inited", lambda app: reference.write(FOLDER / "api"))
    app.connect("source-read", add_sidebar)
    app.connect("build-finished", add_index)


def add_sidebar(app: Sphinx, page: str, source: list[str]) -> None:
    """Name all pages at the end of the first."""
    if page == root_doc:
        for caption, pages in PAGES.items():
            source[0] += "\n".join(["\n```{toctree}", ":hidden:", f":caption: {caption}", *pages, "```\n"])


def add_index(app: Sphinx, error: Exception | None) -> None:
    """Let the folder open at the first page."""
    if error is None and app.builder.format == "html":
        shutil.copy(Path(app.outdir, f"{root_doc}.html"), Path(app.outdir, "index.html"))
