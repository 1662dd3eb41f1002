"""How `make docs` makes the site: Sphinx, MyST, the gallery that runs the examples, and six small extensions.

`sphinx-build -t without_gallery` leaves the gallery out, for a quick look at the pages.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the pictures are of any machine

import jaxopt_lectures  # noqa: E402 (the extensions stand in a folder beside this file)

project = "jaxopt_lectures"
version = release = jaxopt_lectures.__version__
copyright = "Apache-2.0"
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "docstrings",
    "links",
    "mathml",
    "reference",
    "stored",
    "scaled",
    "fused",
    "suite",
]
exclude_patterns = ["_build", "stored", "suite", "**/sg_execution_times.rst", "sg_execution_times.rst"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
smartquotes_action = "D"  # dashes only: "..." and quotes in formulas are what they are

nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!jaxopt_lectures\.).*")]  # names of other packages are not links

autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
default_role = "literal"  # docstrings write `code` with single backticks
maximum_signature_line_length = 90
add_module_names = False
python_display_short_literal_types = True

templates_path: list[str] = []
html_theme = "furo"
html_title = "jaxopt_lectures"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_theme_options: dict[str, Any] = {
    "light_css_variables": {"color-brand-primary": "#0072b2", "color-brand-content": "#0072b2"},
    "dark_css_variables": {"color-brand-primary": "#56b4e9", "color-brand-content": "#56b4e9"},
}


def fingerprint() -> str:
    """Of the package's code: pictures made by other code are made again."""
    digest = hashlib.sha256()
    for path in sorted(Path(jaxopt_lectures.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


without_gallery = tags.has("without_gallery")  # type: ignore[name-defined]  # noqa: F821
if without_gallery:
    exclude_patterns.append("gallery")
else:
    extensions.append("sphinx_gallery.gen_gallery")
    stamp = HERE / "gallery" / "made-by.sha256"
    sphinx_gallery_conf: dict[str, Any] = {
        "examples_dirs": "../examples",
        "gallery_dirs": "gallery",
        "filename_pattern": r"/\d\d_\w+\.py$",
        "within_subsection_order": "FileNameSortKey",
        "run_stale_examples": not (stamp.exists() and stamp.read_text() == fingerprint()),
        "backreferences_dir": "gallery/backreferences",
        "doc_module": ("jaxopt_lectures",),
        "reference_url": {"jaxopt_lectures": None},
        "log_level": {"backreference_missing": "info"},
        "reset_modules": ("matplotlib",),
        "capture_repr": (),
        "image_srcset": ["2x"],
        "remove_config_comments": True,
        "show_signature": False,
        "write_computation_times": False,
        "download_all_examples": False,
        "default_thumb_file": str(HERE / "compare-digits.png"),
        "thumbnail_size": (600, 330),
    }


def setup(app: Any) -> None:
    """Remembers by which code the gallery was made."""

    def remember(app: Any, exception: Exception | None) -> None:
        if exception is None and not without_gallery:
            stamp.write_text(fingerprint())

    app.connect("build-finished", remember)
