"""Links that work on a code host and in the site: to an example, to a file of the package, to a public name.

A page in docs/ writes `[Adam](../jaxopt_lectures/optimizers/adam.py)` or `[valleys](../examples/05_valleys.py)`. In the
site the first leads to the highlighted source, and there to a function if its name in code type is the link's text; the
second leads to the page of the gallery. `jol.adam` in code type leads to its reference.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

import jaxopt_lectures

logger = logging.getLogger(__name__)

_PACKAGE = re.compile(r"(?:\.\./)+(jaxopt_lectures/.+)\.py$")
_EXAMPLE = re.compile(r"(?:\.\./)+examples/(\w+)\.py$")
_NAME = re.compile(r"(?:jol|jaxopt_lectures)\.(\w+)\b")


class RepositoryLinks(SphinxTransform):
    """Turns links to files of the repository, which MyST would offer for download, into links to pages."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Replaces them in one page."""
        for node in list(self.document.findall(addnodes.download_reference)):
            text = node.astext()
            code = node.next_node(nodes.literal) is not None
            new = self._resolved(node["reftarget"], text if code and text.isidentifier() else "")
            if new is not None:
                new += nodes.literal(text, text) if code else nodes.inline(text, text)
                node.replace_self(new)

    def _resolved(self, target: str, name: str) -> Any:
        here = self.env.docname
        if example := _EXAMPLE.search(target):
            if "sphinx_gallery.gen_gallery" not in self.app.extensions:
                return nodes.inline()
            doc = {"refdomain": "std", "reftype": "doc", "reftarget": f"/gallery/{example[1]}"}
            return addnodes.pending_xref(refdoc=here, refexplicit=True, refwarn=True, **doc)
        if package := _PACKAGE.search(target):
            page = {"reftarget": f"_modules/{package[1].removesuffix('/__init__')}", "name": name}
            return addnodes.pending_xref(refdoc=here, refdomain="", reftype="package_source", **page)
        return None


class PublicNames(SphinxTransform):
    """Links `jol.NAME` in code type to its reference."""

    default_priority = 401

    def apply(self, **kwargs: Any) -> None:
        """Wraps those of one page."""
        for node in list(self.document.findall(nodes.literal)):
            found = _NAME.match(node.astext())
            inside = isinstance(node.parent, (nodes.reference, nodes.title, addnodes.pending_xref))
            if not found or inside or found[1] not in jaxopt_lectures.__all__:
                continue
            target = f"jaxopt_lectures.{found[1]}"
            link = addnodes.pending_xref(refdomain="py", reftype="obj", reftarget=target, refdoc=self.env.docname)
            node.replace_self(link)
            link += node


def to_source(app: Any, env: Any, node: Any, content: Any) -> Any:
    """The link to a source page, which `viewcode` makes for every module that the reference documents."""
    if node.get("reftype") != "package_source":
        return None
    page, target, name = node["refdoc"], node["reftarget"], node["name"]
    app.source_pages_wanted.add((page, target, name))
    uri = app.builder.get_relative_uri(page, target) + (name and f"#{name}")
    return nodes.reference("", "", content, internal=True, refuri=uri)


def check(app: Any, exception: Exception | None) -> None:
    """Warns of links to source pages that were not made, and to functions that they do not have."""
    if exception is not None or app.builder.format != "html":
        return
    for page, target, name in sorted(app.source_pages_wanted):
        file = Path(app.outdir, f"{target}.html")
        if not file.exists():
            logger.warning("a link to %s.py, of which the reference documents nothing", target, location=page)
        elif name and not hasattr(import_module(target.removeprefix("_modules/").replace("/", ".")), name):
            logger.warning("a link to %s in %s.py, which does not have it", name, target, location=page)


def setup(app: Any) -> dict[str, Any]:
    """Registers the transforms."""
    app.source_pages_wanted = set()
    app.add_transform(RepositoryLinks)
    app.add_transform(PublicNames)
    app.connect("missing-reference", to_source)
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
